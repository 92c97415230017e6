"""NCFM against naive references: characteristic functions by sums, torch's AdamW, and its networks and frequencies."""

from __future__ import annotations

import cmath
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

import condense
from condense.augmentation.dsa import Augmentation, Draws, augment, draw_per_class
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.labels import classified
from condense.matching import characteristic_function, match_characteristic_functions
from condense.methods.interface import Job
from condense.networks import build_network
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.characteristic_matching import CharacteristicMatching, pretraining_rule
from condense.training.loop import train_network

CPU = torch.device("cpu")
QUICK = {"network": "convnet-d2-w4-in", "real_batch": 6, "frequencies": 12, "networks": 1, "network_epochs": 1}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """60 images in three classes of different brightness."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "small.npz"
    labels = np.arange(60) % 3
    images = (draws.integers(0, 128, (60, 8, 8)) + 50 * labels[:, None, None]).astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def synthesizer(data: TrainingData, ipc: int = 1, seed: int = 0, **settings) -> CharacteristicMatching:
    return CharacteristicMatching(
        Job(data, Budget(ipc=ipc), seed, CPU), CharacteristicMatching.Settings(**QUICK | settings)
    )


def vectors(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_phi(features: Tensor, frequencies: Tensor) -> list[complex]:
    """mean_n exp(i <t, z_n>) at every frequency t."""
    values = []
    for t in frequencies.tolist():
        terms = [cmath.exp(1j * sum(a * b for a, b in zip(t, z))) for z in features.tolist()]
        values.append(sum(terms) / len(terms))
    return values


def amplitude_and_phase(left: complex, right: complex) -> tuple[float, float]:
    amplitude = (abs(left) - abs(right)) ** 2
    cosine = math.cos(cmath.phase(left) - cmath.phase(right))
    return amplitude, 2 * abs(left) * abs(right) * (1 - cosine)


def test_the_characteristic_function_against_a_loop():
    features, frequencies = vectors(7, 5, 0), vectors(9, 5, 1)
    found, expected = characteristic_function(features, frequencies), naive_phi(features, frequencies)
    assert found.shape == (2, 9)
    assert found[0].tolist() == pytest.approx([value.real for value in expected])
    assert found[1].tolist() == pytest.approx([value.imag for value in expected])
    assert (found.square().sum(0) <= 1).all()
    at_zero = characteristic_function(features, torch.zeros(1, 5, dtype=torch.float64))
    assert at_zero.flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.9, 0.1), (1.0, 0.0), (0.0, 1.0)])
def test_the_distance_against_a_loop(alpha: float, beta: float):
    frequencies = vectors(9, 5, 2)
    batches = vectors(7, 5, 3), vectors(4, 5, 4)
    expected = 0.0
    for left, right in zip(*(naive_phi(features, frequencies) for features in batches)):
        amplitude, phase = amplitude_and_phase(left, right)
        assert amplitude + phase == pytest.approx(abs(left - right) ** 2)
        expected += math.sqrt(alpha * amplitude + beta * phase) / 9
    functions = [characteristic_function(features, frequencies) for features in batches]
    assert match_characteristic_functions(*functions, alpha, beta).item() == pytest.approx(expected, rel=1e-5)


def test_with_equal_weights_it_is_the_distance_of_the_two_functions():
    """A + P = |phi_r - phi_s|^2, so sqrt(A/2 + P/2) is the distance times sqrt(1/2)."""
    frequencies = vectors(20, 6, 5)
    functions = [characteristic_function(vectors(count, 6, count), frequencies) for count in (8, 5)]
    distance = (functions[0] - functions[1]).square().sum(0).sqrt().mean().item()
    assert match_characteristic_functions(*functions).item() == pytest.approx(distance * math.sqrt(0.5))
    assert match_characteristic_functions(*functions, 1.0, 1.0).item() == pytest.approx(distance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_batches_have_next_to_no_distance_and_a_finite_gradient(dtype: torch.dtype):
    frequencies = vectors(50, 6, 6).to(dtype)
    features = vectors(8, 6, 7).to(dtype)
    found = features[torch.randperm(8, generator=torch.Generator().manual_seed(0))].requires_grad_()
    for weights in ((0.5, 0.5), (0.0, 1.0)):
        functions = [characteristic_function(each, frequencies) for each in (features, found)]
        loss = match_characteristic_functions(*functions, *weights)
        assert 0 <= loss.item() < 1e-3
        (gradient,) = torch.autograd.grad(loss, found)
        assert torch.isfinite(gradient).all()


def naive_decode(images: Tensor) -> Tensor:
    tiles = [images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] for row in (0, 1) for column in (0, 1)]
    return torch.cat([F.interpolate(tile, size=(8, 8), mode="bilinear") for tile in tiles])


def normalized(images: Tensor, data: TrainingData) -> Tensor:
    (mean,), (std,) = data.info.preprocessing.mean, data.info.preprocessing.std
    return (images - mean) / std


def colour_crop_cutout(images: Tensor, draws: Draws, label: int) -> Tensor:
    row = draws.expand(torch.tensor([label]))
    for operation in ("color", "crop", "cutout"):
        images = augment(Augmentation((operation,)), images, replace(row, operation=torch.tensor([0])))
    return images


class Reference:
    """Images, torch's optimiser of them, and the two sweeps over the classes; phi as complex numbers.

    `found` may have the gradients that are to come out. They are compared and then used themselves: AdamW moves every
    pixel about equally far, those with next to no gradient in a direction that rounding decides.
    """

    def __init__(self, made: CharacteristicMatching, ipc: int, optimizer: str) -> None:
        self.made, self.ipc, self.data = made, ipc, made.data
        self.images = made.images.detach().clone().requires_grad_()
        if optimizer == "adamw":
            self.optimizer = torch.optim.AdamW([self.images], lr=0.1, weight_decay=5e-4)
        else:
            self.optimizer = torch.optim.SGD([self.images], lr=0.01, momentum=0.5)
        self.network = build_network(made.settings.network, (1, 8, 8), 3, 0).eval()
        self.found: list[Tensor] = []

    def down(self, loss: Tensor) -> float:
        (gradient,) = torch.autograd.grad(loss, self.images)
        if self.found:
            found = self.found.pop(0)
            assert (found - gradient).norm() < 2e-3 * gradient.norm()  # phase is a small difference of large numbers
            gradient = found
        self.images.grad = gradient
        self.optimizer.step()
        return loss.item()

    def seen(self, label: int, draws: Draws) -> Tensor:
        decoded = naive_decode(self.images[label * self.ipc : (label + 1) * self.ipc])
        if self.made.settings.flip_closure:
            decoded = torch.cat([decoded, decoded.flip(3)])
        return colour_crop_cutout(normalized(decoded, self.data), draws, label)

    def phi(self, images: Tensor, frequencies: Tensor) -> Tensor:
        features = self.network.features(images).flatten(1)
        features = features / (features**2).sum(1, keepdim=True).sqrt()
        return torch.stack([torch.exp(1j * (features @ t)).mean() for t in frequencies])

    def match(self, iteration: int, parameters: dict[str, Tensor]) -> float:
        self.images.data.clamp_(0, 1)
        self.network.load_state_dict(parameters, strict=False)
        total, draws = 0.0, self.made.class_draws(iteration)
        width = self.network.classifier.in_features
        for label in range(3):
            frequencies = torch.randn(12, width, generator=generator(0, "frequencies", iteration, label))
            real = colour_crop_cutout(self.data.images(self.made.real_batch(iteration, label)), draws, label)
            left, right = self.phi(real, frequencies).detach(), self.phi(self.seen(label, draws), frequencies)
            amplitude = (left.abs() - right.abs()) ** 2
            phase = 2 * (left.abs() * right.abs() - left.real * right.real - left.imag * right.imag)
            total += self.down(300 * (0.5 * amplitude + 0.5 * phase.clamp(min=1e-12)).sqrt().mean())
        return total

    def calibrate(self, iteration: int, parameters: dict[str, Tensor], weight: float = 1.0) -> float:
        self.network.load_state_dict(parameters, strict=False)
        draws = generator(0, "calibration", iteration)
        drawn = draw_per_class(self.made.augmentation, (1, 8, 8), 3, draws)
        return sum(
            self.down(-weight * self.network(self.seen(label, drawn)).log_softmax(1)[:, label].mean())
            for label in range(3)
        )


def network_of_iteration(made: CharacteristicMatching, iteration: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mixed and final values: l initial + (1 - l) final, l and the network drawn."""
    draws = generator(0, "network", iteration)
    chosen = made.pretrained[int(torch.randint(len(made.pretrained), (1,), generator=draws))]
    share = torch.rand(1, generator=draws).item()
    return {
        name: share * chosen.initial[name] + (1 - share) * chosen.final[name] for name in chosen.final
    }, chosen.final


@pytest.mark.parametrize(
    ("optimizer", "ipc", "closure"), [("adamw", 1, False), ("adamw", 2, False), ("sgd", 1, False), ("sgd", 1, True)]
)
def test_iterations_against_a_naive_reference(small, optimizer: str, ipc: int, closure: bool):
    """Two sweeps of steps on the whole tensor: momenta and decay act in the turns of other classes as well."""
    image_lr = {"adamw": 0.1, "sgd": 0.01}[optimizer]
    settings = {"image_lr": image_lr, "image_optimizer": optimizer, "flip_closure": closure}
    made = synthesizer(small.train, ipc, networks=2, network_epochs=4, **settings)
    reference = Reference(made, ipc, optimizer)
    descend = made.descend_class

    def noted(label: int, gradient: Tensor) -> None:
        everything = torch.zeros_like(made.images)
        everything[made.rows(label)] = gradient
        reference.found.append(everything)
        descend(label, gradient)

    made.descend_class = noted
    for iteration in range(3):
        mixed, final = network_of_iteration(made, iteration)
        found = made.step(iteration)
        assert len(reference.found) == 6
        expected = reference.match(iteration, mixed), reference.calibrate(iteration, final)
        assert (found["loss"], found["calibration"]) == pytest.approx(expected, rel=1e-3)
        torch.testing.assert_close(made.images.detach(), reference.images.detach())
    assert made.images.min() < 0 or made.images.max() > 1  # and the next iteration begins by clamping


def test_images_are_clamped_before_an_iteration_and_when_they_are_stored(small):
    made = synthesizer(small.train, image_lr=1e-9)
    with torch.no_grad():
        made.images.mul_(4).sub_(1)
    before = made.images.detach().clone()
    assert before.min() < 0
    assert before.max() > 1
    assert torch.equal(made.stored(), before.clamp(0, 1))
    made.step(0)
    torch.testing.assert_close(made.images.detach(), before.clamp(0, 1), atol=1e-6, rtol=0)


def test_frequencies_are_new_for_every_class_and_iteration(small):
    made = synthesizer(small.train, frequencies=400)
    drawn = [made._frequencies(iteration, label, 16) for iteration in (0, 1) for label in (0, 1)]
    for number, values in enumerate(drawn):
        assert values.shape == (400, 16)
        assert abs(values.mean().item()) < 0.1
        assert abs(values.std().item() - 1) < 0.1
        assert not any(torch.equal(values, other) for other in drawn[:number])


def test_networks_lie_between_their_initial_and_their_final_state(small):
    """One share for all parameters, another one in every iteration, and each of the networks has its turn."""
    made = synthesizer(small.train, networks=2, network_epochs=2, calibration=0.0)
    features, seen = made.engine.features, []

    def noted(parameters, images):
        seen.append(parameters)
        return features(parameters, images)

    made.engine.features = noted
    turns, shares = [], []
    for iteration in range(12):
        seen.clear()
        made.step(iteration)
        assert all(parameters is seen[0] for parameters in seen)
        for number, network in enumerate(made.pretrained):
            far = {name: network.initial[name] - value for name, value in network.final.items()}
            flat = torch.cat([value.flatten() for value in far.values()])
            come = torch.cat([(seen[0][name] - value).flatten() for name, value in network.final.items()])
            share = (come @ flat / (flat @ flat)).item()
            if torch.allclose(come, share * flat, atol=1e-5):
                turns.append(number)
                shares.append(share)
    assert len(turns) == 12  # every iteration fits exactly one of the networks
    assert set(turns) == {0, 1}
    assert 0 <= min(shares) < 0.35
    assert 0.65 < max(shares) <= 1
    assert len({round(share, 4) for share in shares}) == 12


@pytest.mark.parametrize("network", ["convnet-d2-w4-in", "convnet-d2-w4-bn"])
def test_calibration_is_the_cross_entropy_in_the_trained_network(small, network: str):
    """With BatchNorm: by the statistics of its training."""
    made = synthesizer(small.train, network=network, network_epochs=5, image_lr=1e-9, calibration=0.25)
    trained = build_network(network, (1, 8, 8), 3, derive_seed(0, "pretrained", 0))
    rule = pretraining_rule(made.settings)
    train_network(trained, classified(small.train), rule, seed=derive_seed(0, "pretraining", 0), device=CPU)
    reference = Reference(made, 1, "sgd")
    expected = reference.calibrate(0, trained.state_dict(), 0.25)
    assert made.step(0)["calibration"] == pytest.approx(expected, rel=1e-3)


def test_without_calibration_there_is_one_sweep(small):
    made = synthesizer(small.train, calibration=0.0)
    assert made.step(0).keys() == {"loss"}
    assert made.optimizer.state[made.blocks[0]]["step"] == 3
    made = synthesizer(small.train)
    assert made.step(0).keys() == {"loss", "calibration"}
    assert made.optimizer.state[made.blocks[0]]["step"] == 6


def test_pretraining_drops_its_learning_rate_twice_and_mixes():
    rule = pretraining_rule(CharacteristicMatching.Settings())
    rates = [rule.learning_rate(epoch) for epoch in range(60)]
    assert rates == pytest.approx([0.01] * 40 + [0.002] * 10 + [0.0004] * 10)
    assert (rule.momentum, rule.weight_decay, rule.augmentation, rule.cutmix) == (0.9, 5e-4, "color-crop", 0.5)
    assert rule.epochs == 60


def test_pretraining_augments_as_the_match_but_for_cutout():
    for asked, used in (("color-crop-cutout", "color-crop"), ("dsa", "dsa"), ("none", None)):
        assert pretraining_rule(CharacteristicMatching.Settings(augmentation=asked)).augmentation == used


@pytest.mark.parametrize(("epochs", "rates"), [(1, [0.01]), (2, [0.01, 4e-4]), (4, [0.01, 0.01, 0.002, 4e-4])])
def test_short_pretraining_does_not_begin_with_a_lowered_rate(epochs: int, rates: list[float]):
    rule = pretraining_rule(CharacteristicMatching.Settings(network_epochs=epochs))
    assert [rule.learning_rate(epoch) for epoch in range(epochs)] == pytest.approx(rates)


def test_networks_are_trained_once_and_their_seconds_count_in_every_run(small, tmp_path: Path, own_cache: Path):
    first = synthesizer(small.train, networks=3)
    files = sorted((own_cache / "networks").iterdir())
    assert len(files) == 3
    assert first.earlier_seconds == 0
    content = [file.read_bytes() for file in files]
    second = synthesizer(small.train, networks=3)
    saved = 0.0
    for file in files:
        with safe_open(file, framework="pt") as opened:
            saved += float(opened.metadata()["seconds"])
    assert saved > 0
    assert second.earlier_seconds == pytest.approx(saved)
    assert [file.read_bytes() for file in files] == content
    for left, right in zip(first.pretrained, second.pretrained):
        for name, value in left.final.items():
            assert torch.equal(value, right.final[name])
            assert torch.equal(left.initial[name], right.initial[name])
    finals = [torch.cat([value.flatten() for value in network.final.values()]) for network in first.pretrained]
    assert not torch.equal(finals[0], finals[1])
    assert synthesizer(small.train, networks=1).earlier_seconds < saved
    first.step(0)
    second.step(0)
    assert torch.equal(first.images, second.images)
    files[0].write_bytes(content[0][:1000])  # damaged: trained again
    third = synthesizer(small.train, networks=3)
    assert 0 < third.earlier_seconds < saved
    third.step(0)
    assert torch.equal(third.images, first.images)


def test_other_networks_rules_and_seeds_are_trained_anew(small, own_cache: Path):
    synthesizer(small.train)
    for number, changes in enumerate(({"network": "convnet-d1-w4"}, {"network_epochs": 2}, {"network_lr": 0.02})):
        assert synthesizer(small.train, **changes).earlier_seconds == 0
        assert len(list((own_cache / "networks").iterdir())) == number + 2
    assert synthesizer(small.train, seed=1).earlier_seconds == 0
    assert len(list((own_cache / "networks").iterdir())) == 5
    assert synthesizer(small.train, 2, image_lr=0.5, frequencies=3).earlier_seconds > 0  # nothing to do with networks


def naive_sampler(state: dict[str, Tensor], width: int) -> nn.Sequential:
    """Three layers of linear, BatchNorm and LeakyReLU 0.2, LeakyReLU 0.2, tanh."""
    layers = []
    for activation in (nn.LeakyReLU(0.2), nn.LeakyReLU(0.2), nn.Tanh()):
        layers += [nn.Linear(width, width), nn.BatchNorm1d(width), activation]
    network = nn.Sequential(*layers)
    network.load_state_dict(state)
    return network.train()


def test_learned_frequencies_climb_the_loss_as_torch_would(small):
    made = synthesizer(small.train, sampling="learned", frequencies=70, sampler_lr=0.01)
    width = made.network.classifier.in_features
    state = {name: value.clone() for name, value in made.sampler.network.state_dict().items()}
    network = naive_sampler(state, width)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.5, maximize=True)
    real, synthetic = (F.normalize(vectors(count, width, count).float().abs()) for count in (9, 4))

    def loss_of(frequencies: Tensor) -> Tensor:
        left, right = (torch.exp(1j * (each @ frequencies.T)).mean(0) for each in (real, synthetic))
        amplitude = (left.abs() - right.abs()) ** 2
        phase = 2 * (left.abs() * right.abs() - left.real * right.real - left.imag * right.imag)
        return 300 * (0.5 * amplitude + 0.5 * phase.clamp(min=1e-12)).sqrt().mean()

    losses = []
    for _ in range(20):
        frequencies = made.sampler.sample(70, generator(0, "test"))
        noise = torch.randn(4, width, generator=generator(0, "test"))  # 70 / 16 rows of noise
        outputs = network(noise)
        expected = torch.stack([outputs[number % 4] for number in range(70)])
        torch.testing.assert_close(frequencies, expected, rtol=1e-4, atol=1e-5)
        loss = loss_of(expected)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found = loss_of(frequencies)
        losses.append(found.item())
        made.sampler.ascend(found)
    assert losses[-1] > 1.05 * losses[0]


def test_a_step_with_learned_frequencies_trains_them_after_the_images(small):
    """The images move by the frequencies as they were, and every class trains them once."""
    made = synthesizer(small.train, sampling="learned", frequencies=32, calibration=0.0)
    assert not any("sampler.training" in name for name in made.state())
    before = {name: value.clone() for name, value in made.sampler.network.state_dict().items()}
    losses, ascend = [], made.sampler.ascend

    def noted(loss: Tensor) -> None:
        losses.append(loss.item())
        ascend(loss)

    made.sampler.ascend = noted
    found = made.step(0)["loss"]
    assert len(losses) == 3
    assert sum(losses) == pytest.approx(found, rel=1e-5)
    after = made.sampler.network.state_dict()
    assert not torch.equal(before["0.weight"], after["0.weight"])
    state = {name: value.clone() for name, value in made.state().items()}
    assert "sampler.training.0.momentum_buffer" in state
    resumed = synthesizer(small.train, sampling="learned", frequencies=32, calibration=0.0)
    resumed.load_state(state)
    made.sampler.ascend = ascend
    for iteration in (1, 2):
        assert made.step(iteration) == resumed.step(iteration)
    assert torch.equal(made.images, resumed.images)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_optimisers_that_share_the_classes_move_their_own_only(small, optimizer: str):
    """Three classes for two optimisers, the first has one: each is torch's for the images of its classes."""
    settings = {"image_optimizer": optimizer, "image_lr": 0.01, "calibration": 1.0}
    made = synthesizer(small.train, 2, image_optimizers=2, **settings)
    taken: list[tuple[int, Tensor]] = []
    descend = made.descend_class

    def noted(label: int, gradient: Tensor) -> None:
        taken.append((label, gradient.clone()))
        descend(label, gradient)

    made.descend_class = noted
    blocks = [made.images.detach()[:2].clone(), made.images.detach()[2:].clone()]
    if optimizer == "adamw":
        own = [torch.optim.AdamW([block], lr=0.01, weight_decay=5e-4) for block in blocks]
    else:
        own = [torch.optim.SGD([block], lr=0.01, momentum=0.5) for block in blocks]
    for iteration in range(3):
        for block in blocks:
            block.clamp_(0, 1)
        taken.clear()
        made.step(iteration)
        for label, gradient in taken:
            which, rows = (0, slice(0, 2)) if label == 0 else (1, slice(2 * label - 2, 2 * label))
            blocks[which].grad = torch.zeros_like(blocks[which])
            blocks[which].grad[rows] = gradient
            own[which].step()
        assert torch.equal(made.images.detach(), torch.cat(blocks))
    coupled = synthesizer(small.train, 2, **settings)
    for iteration in range(3):
        coupled.step(iteration)
    assert not torch.equal(coupled.images, made.images)


def test_a_run_with_several_optimisers_goes_on(small):
    settings = {"image_optimizers": 2, "image_lr": 0.01}
    whole = synthesizer(small.train, **settings)
    whole.step(0)
    state = {name: value.clone() for name, value in whole.state().items()}
    resumed = synthesizer(small.train, **settings)
    resumed.load_state(state)
    for iteration in (1, 2):
        assert whole.step(iteration) == resumed.step(iteration)
    assert torch.equal(whole.images, resumed.images)


def test_the_learning_rate_halves_on_a_plateau_and_a_run_goes_on_with_it(small):
    """After more than 500 iterations without a smaller loss, as torch's scheduler does it."""
    settings = {"image_lr": 0.01}
    made = synthesizer(small.train, **settings)
    made.step(0)
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=500)
    lowest = 1e-6  # no iteration is better
    for loss in [lowest, *[1.0] * 700]:
        made.plateau.step(loss)
        scheduler.step(loss)
    assert optimizer.param_groups[0]["lr"] == made.optimizer.param_groups[0]["lr"] == 0.005
    state = {name: value.clone() for name, value in made.state().items()}
    resumed = synthesizer(small.train, **settings)
    resumed.load_state(state)
    assert resumed.optimizer.param_groups[0]["lr"] == 0.005
    for iteration in (1, 2):
        assert made.step(iteration) == resumed.step(iteration)
        assert torch.equal(made.images, resumed.images)
    for each in (made, resumed):
        for _ in range(299):
            each.plateau.step(1.0)
        assert each.optimizer.param_groups[0]["lr"] == 0.005  # 199 before, 2 iterations, 299: not more than 500
        each.plateau.step(1.0)
        assert each.optimizer.param_groups[0]["lr"] == 0.0025


def test_an_iteration_counts_for_the_plateau_and_a_new_run_has_no_loss_yet(small):
    made = synthesizer(small.train)
    state = {name: value.clone() for name, value in made.state().items()}
    assert all(torch.isfinite(value).all() for value in state.values())  # or the loop would call it diverged
    resumed = synthesizer(small.train)
    resumed.load_state(state)
    for each in (made, resumed):
        each.step(0)
        assert each.plateau.num_bad_epochs == 0
        each.plateau.best = 0.0
        each.step(1)
        assert each.plateau.num_bad_epochs == 1
    assert torch.equal(made.images, resumed.images)


def test_it_lowers_its_loss_and_beats_random_on_digits(gain_over_random, loss_left):
    digits = condense.load_data("digits")
    options = {"network": "convnet-w16", "real_batch": 64, "frequencies": 256, "networks": 2, "network_epochs": 5}
    made = condense.distill("ncfm", digits, 1, iterations=35, image_lr=0.01, **options)
    assert made.stored.shape == (10, 1, 8, 8)
    assert loss_left(made, digits, **options) < 0.95
    assert gain_over_random(made, digits) > 0.03
