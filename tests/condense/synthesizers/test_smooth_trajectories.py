"""AST against a naive reference: momentum, weights, targets on the way and perturbed starts written out."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

import condense
from buffers import ExpertBuffer, ExpertRule, record_experts
from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.data import RealData
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.networks import build_network
from condense.runtime.seeds import derive_seed, generator
from condense.selection.kmeans import nearest_to_centres
from condense.synthesizers.chosen_images import chosen_images
from condense.synthesizers.expert_opinions import ExpertOpinions
from condense.synthesizers.smooth_trajectories import SmoothTrajectoryMatching, balanced_weight

CPU = torch.device("cpu")
NET, EPOCHS = "convnet-d2-w4-in", 5
QUICK = {
    "network": NET,
    "inner_steps": 7,
    "span": 3,
    "min_start": 0,
    "max_start": 3,
    "inner_lr": 0.02,
    "inner_lr_lr": 1e-5,
    "image_lr": 10.0,
    "synthetic_batch": None,
    "initialization": "real",
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def digits() -> RealData:
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def buffer(digits, tmp_path_factory) -> ExpertBuffer:
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(folder / "cache"))
        record_experts(digits, NET, 2, EPOCHS, folder / "experts", rule=ExpertRule(lr=0.05, batch_size=64))
    return ExpertBuffer.open(folder / "experts")


def row(buffer: ExpertBuffer, expert: int, epoch: int) -> Tensor:
    with h5py.File(buffer.folder / f"expert-{expert:04d}.h5") as file:
        return torch.from_numpy(file["snapshots"][epoch].astype(np.float64))


def drawn(iteration: int, max_start: int = 3) -> tuple[int, int]:
    draws = generator(0, "expert", iteration)
    return int(torch.randint(2, (1,), generator=draws)), int(torch.randint(max_start, (1,), generator=draws))


def synthesizer(data: RealData, buffer: ExpertBuffer, ipc: int = 1, seed: int = 0, **settings):
    job = Job(data.train, Budget(ipc=ipc), seed, CPU, buffer=buffer)
    return SmoothTrajectoryMatching(job, SmoothTrajectoryMatching.Settings(**QUICK | settings))


def pieces(vector: Tensor) -> dict[str, Tensor]:
    found, done = {}, 0
    for name, value in build_network(NET, (1, 8, 8), 10, seed=0).named_parameters():
        found[name] = vector[done : done + value.numel()].reshape(value.shape)
        done += value.numel()
    assert done == len(vector)
    return found


# --- weights, targets and starts


@pytest.mark.parametrize("max_start", [1, 2, 3, 20, 21])
def test_the_inner_loss_weighs_more_the_later_the_start(max_start: int):
    half = math.floor(max_start / 2)
    for epoch in range(max_start):
        if epoch >= half:
            expected = math.log(epoch - half + 8) / math.log(5)
            assert expected >= 1.29
        else:
            expected = 1 / (math.log(half - epoch + 8) / math.log(5))
            assert expected <= 1 / 1.29
        assert balanced_weight(epoch, max_start) == pytest.approx(expected)


def test_the_inner_training_is_told_the_weight_and_the_momentum(digits, buffer):
    made = synthesizer(digits, buffer)
    for iteration in range(8):
        window = made.window(iteration)
        scale = {0: 1 / math.log(9, 5), 1: math.log(8, 5), 2: math.log(9, 5)}[window.epoch]
        assert made.inner_options(window) == {"momentum": 0.9, "loss_scale": pytest.approx(scale)}
    plain = synthesizer(digits, buffer, balanced=False, inner_momentum=0.0)
    assert plain.inner_options(plain.window(0)) == {"momentum": 0.0, "loss_scale": 1.0}


@pytest.mark.parametrize(
    ("steps", "span", "intermediate", "expected"),
    [
        (7, 3, "equal", [(2, 1.0), (4, 1.0)]),
        (7, 3, "growing", [(2, 1 / 3), (4, 2 / 3)]),
        (6, 2, "equal", [(3, 1.0)]),
        (6, 2, "growing", [(3, 0.5)]),
        (7, 2, "growing", [(3, 0.5)]),
        (3, 3, "growing", [(1, 1 / 3), (2, 2 / 3)]),
        (6, 1, "equal", []),
        (7, 3, "none", []),
    ],
)
def test_targets_on_the_way(digits, buffer, steps: int, span: int, intermediate: str, expected):
    """The expert's epoch i after the start, at step i floor(T / M)."""
    made = synthesizer(digits, buffer, inner_steps=steps, span=span, intermediate=intermediate)
    for iteration in range(4):
        window = made.window(iteration)
        expert, epoch = drawn(iteration)
        assert [step for step, _, _ in window.between] == [step for step, _ in expected]
        assert [weight for _, _, weight in window.between] == pytest.approx([weight for _, weight in expected])
        for number, (_, vector, _) in enumerate(window.between, 1):
            assert torch.equal(vector.double(), row(buffer, expert, epoch + number))
        assert torch.equal(window.target.double(), row(buffer, expert, epoch + span))


def test_fewer_steps_than_epochs_leave_no_targets_on_the_way(digits, buffer):
    made = synthesizer(digits, buffer, inner_steps=2, span=3)
    assert made.window(0).between == ()
    assert math.isfinite(made.step(0)["loss"])


def test_only_convolution_weights_are_perturbed_by_their_relative_size(digits, buffer):
    """w'/w - 1 is normal noise whose norm over a tensor is the size that was asked for."""
    noises = []
    for size in (1.0, 0.25):
        made = synthesizer(digits, buffer, perturbation=size)
        for iteration in range(2):
            expert, epoch = drawn(iteration)
            before, after = pieces(row(buffer, expert, epoch)), pieces(made.window(iteration).start.double())
            convolutions = {name for name, value in before.items() if value.dim() == 4}
            assert len(convolutions) == 2
            for name, value in before.items():
                if name not in convolutions:
                    assert torch.equal(after[name], value), name
                    continue
                relative = after[name] / value - 1
                assert relative.norm().item() == pytest.approx(size, rel=1e-2)
                assert (relative > 0).any()
                assert (relative < 0).any()
                noises.append(relative / size)
    first, second, _, _, third, *_ = noises
    assert first.shape != second.shape
    torch.testing.assert_close(first, third, rtol=1e-2, atol=1e-3)  # the same draw, of another size
    assert (first - noises[2]).abs().max() > 1e-2  # another one in the next iteration
    still = synthesizer(digits, buffer, perturbation=0.0)
    assert torch.equal(still.window(0).start.double(), row(buffer, *drawn(0)))


def test_draws_of_the_perturbation_depend_on_the_seed(digits, buffer):
    noises = []
    for seed in (0, 0, 1):
        window = synthesizer(digits, buffer, seed=seed).window(3)
        relative = window.start.double() / row(buffer, window.expert, window.epoch) - 1
        noises.append(next(value for value in pieces(relative).values() if value.dim() == 4))
    assert torch.equal(noises[0], noises[1])
    assert (noises[0] - noises[2]).abs().max() > 1e-2


# --- whole iterations


def naive_loss(made: SmoothTrajectoryMatching, buffer: ExpertBuffer, images: Tensor, rate: Tensor, iteration: int):
    settings = made.settings
    expert, epoch = drawn(iteration)
    network = build_network(NET, (1, 8, 8), 10, seed=7).double().train()
    labels = torch.arange(10).repeat_interleave(made.job.ipc)
    draws, changed = generator(0, "perturbation", iteration), []
    for value in pieces(row(buffer, expert, epoch)).values():
        if value.dim() == 4:
            noise = torch.randn(value.shape, generator=draws).double()
            value = value * (1 + settings.perturbation * noise / noise.square().sum().sqrt())
        changed.append(value.flatten())
    start = torch.cat(changed)
    half = settings.max_start // 2
    scale = math.log(epoch - half + 8, 5) if epoch >= half else 1 / math.log(half - epoch + 8, 5)
    strategy = Augmentation.dsa(mirror=False, align_corners=True)
    theta, momentum, total = start.clone().requires_grad_(), torch.zeros_like(start), 0.0

    def distance(expert_epoch: int) -> Tensor:
        vector = row(buffer, expert, expert_epoch)
        return (theta - vector).square().sum() / (start - vector).square().sum()

    for step in range(settings.inner_steps):
        drawn_once = draw_per_image(strategy, (1, 8, 8), len(images), generator(0, "augmentation", iteration, step))
        logits = functional_call(network, pieces(theta), (augment(strategy, images, drawn_once),))
        inner = scale * F.cross_entropy(logits, labels)
        (gradient,) = torch.autograd.grad(inner, theta, create_graph=True)
        momentum = 0.9 * momentum + gradient
        theta = theta - rate * momentum
        for number in range(1, settings.span):
            if step + 1 == number * (settings.inner_steps // settings.span):
                weight = 1.0 if settings.intermediate == "equal" else number / settings.span
                total = total + weight * distance(epoch + number)
    return total + distance(epoch + settings.span)


@pytest.mark.parametrize("mode", ["adjoint", "unrolled"])
@pytest.mark.parametrize("intermediate", ["equal", "growing"])
def test_two_iterations_against_autograd_through_every_step(digits, buffer, intermediate: str, mode: str):
    made = synthesizer(digits, buffer, 2, intermediate=intermediate, gradient=mode)
    images = made.images.detach().double().requires_grad_()
    start = images.detach().clone()
    rate = torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
    groups = [{"params": [images], "lr": 10.0}, {"params": [rate], "lr": 1e-5}]
    optimizer = torch.optim.SGD(groups, momentum=0.5)
    for iteration in range(2):
        loss = naive_loss(made, buffer, images, rate, iteration)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert made.step(iteration)["loss"] == pytest.approx(loss.item(), rel=1e-4)
    moved = images.detach() - start
    assert moved.abs().max() > 1e-2
    assert (made.images.detach().double() - start - moved).norm() < 2e-3 * moved.norm()
    assert abs(rate.item() - 0.02) > 1e-6
    assert made.inner_lr.item() - 0.02 == pytest.approx(rate.item() - 0.02, rel=1e-2)


def test_a_frozen_gradient_meets_the_targets_on_the_way_too(digits, buffer):
    """The loss is the same, the gradient is another."""
    results = []
    for mode, intermediate in (("adjoint", "equal"), ("frozen", "equal"), ("frozen", "none")):
        made = synthesizer(digits, buffer, gradient=mode, intermediate=intermediate)
        start = made.images.detach().clone()
        results.append((made.step(0)["loss"], made.images.detach() - start))
    (exact_loss, exact), (loss, frozen), (final_loss, final) = results
    assert loss == exact_loss > final_loss
    assert (frozen - exact).norm() > 0.01 * exact.norm()
    assert (frozen - final).norm() > 0.01 * final.norm()


# --- what images start from


@pytest.mark.parametrize("ipc", [1, 3, 12])
def test_images_start_from_real_ones_that_represent_their_class(digits, buffer, ipc: int):
    """As many clusters as images, of the logits that one expert has after its last epoch; no image twice."""
    made = synthesizer(digits, buffer, ipc, initialization="representative")
    expert = int(torch.randint(2, (1,), generator=generator(0, "representing expert")))
    network = build_network(NET, (1, 8, 8), 10, seed=5).eval()
    torch.nn.utils.vector_to_parameters(row(buffer, expert, EPOCHS).float(), network.parameters())
    images = made.images.detach().split(ipc)
    assert len(images) == 10
    for label in range(10):
        members = digits.train.class_indices(label)
        with torch.no_grad():
            logits = network(digits.train.images(members))
        chosen = nearest_to_centres(logits, ipc, derive_seed(0, "representative images", label))
        assert len(set(chosen.tolist())) == ipc
        assert torch.equal(images[label], digits.train.images(members[chosen]))
        if ipc == 1:  # one cluster: the image nearest to the mean
            assert chosen.item() == (logits - logits.mean(0)).norm(dim=1).argmin().item()


def test_a_class_with_too_few_images_starts_several_from_one(digits, buffer):
    few = digits.train.subset(torch.cat([digits.train.class_indices(label)[:3] for label in range(10)]))
    job = Job(few, Budget(ipc=5), 0, CPU, buffer=buffer)
    images = chosen_images("representative", job, ExpertOpinions(buffer, few.info, CPU)).view(10, 5, -1)
    for label, chosen in enumerate(images):
        own = few.images(few.class_indices(label)).flatten(1)
        places = [(own == image).all(1).nonzero().item() for image in chosen]
        assert sorted(places[:3]) == [0, 1, 2]
        assert places[3:] == places[:2]


def test_the_usual_settings_and_a_whole_run(digits, buffer):
    usual = SmoothTrajectoryMatching.Settings()
    assert (usual.inner_momentum, usual.balanced, usual.perturbation) == (0.9, True, 1.0)
    assert (usual.intermediate, usual.initialization, usual.gradient) == ("equal", "real", "adjoint")
    made = condense.distill("ast", digits, 1, buffer=buffer, iterations=2, **QUICK)
    assert made.stored.shape == (10, 1, 8, 8)
    assert made.label_kind == "hard"
    assert made.learned_lr == pytest.approx(0.02, rel=0.5)
    assert made.learned_lr != pytest.approx(0.02, rel=1e-5)
