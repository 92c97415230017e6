"""IDC against a naive reference: mosaics cut by hand, gradients of gradients by autograd, torch's optimisers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import condense
from condense.augmentation.cutmix import draw_mix
from condense.augmentation.dsa import Augmentation, Draws, augment, draw_per_image
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.matching import match_convolutions_absolute, match_convolutions_squared
from condense.methods.interface import Job
from condense.networks import Network, build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed, generator
from condense.sets.tiles import Tiles
from condense.synthesizers.multi_formation import MultiFormation

CPU = torch.device("cpu")
QUICK = {"network": "convnet-d2-w4-in", "real_batch": 5, "network_images": 20}


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def synthesizer(data: TrainingData, ipc: int = 1, **settings) -> MultiFormation:
    return MultiFormation(Job(data, Budget(ipc=ipc), 0, CPU), MultiFormation.Settings(**QUICK | settings))


def fresh_network(number: int) -> Network:
    return build_network(QUICK["network"], (1, 8, 8), 10, derive_seed(0, "network", number))


def values_of(network: Network) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def naive_decode(images: Tensor, factor: int, decoding: str = "uniform") -> Tensor:
    if decoding == "multi":
        return torch.cat([images, *(naive_decode(images, each) for each in range(2, factor + 1))])
    if decoding == "bound":  # of two images and at most six training images, one can be a mosaic
        assert (len(images), factor) == (2, 2)
        return torch.cat([naive_decode(images[:1], 2), images[1:]])
    side = images.shape[2] // factor
    tiles = [
        images[:, :, side * row : side * (row + 1), side * column : side * (column + 1)]
        for row in range(factor)
        for column in range(factor)
    ]
    return torch.cat([F.interpolate(tile, size=images.shape[2:], mode="bilinear") for tile in tiles])


def normalized(images: Tensor, data: TrainingData) -> Tensor:
    (mean,), (std,) = data.info.preprocessing.mean, data.info.preprocessing.std
    return (images - mean) / std


def colour_crop_cutout(images: Tensor, draws: Draws, label: int) -> Tensor:
    """All three operations, one after the other, with the one draw of the class."""
    row = draws.expand(torch.tensor([label]))
    for operation in ("color", "crop", "cutout"):
        images = augment(Augmentation((operation,)), images, replace(row, operation=torch.tensor([0])))
    return images


def naive_distance(network: Network, real: Tensor, synthetic: Tensor, label: int, distance: str) -> Tensor:
    """Sums over the entries of the gradients of convolution weights."""
    weights = [part.weight for part in network.modules() if isinstance(part, torch.nn.Conv2d)]
    gradients = []
    for images in (real, synthetic):
        loss = -network(images).log_softmax(1)[:, label].mean()
        gradients.append(torch.autograd.grad(loss, weights, create_graph=True))
    return sum(
        ((left.detach() - right) ** 2).sum() if distance == "l2" else (left.detach() - right).abs().sum()
        for left, right in zip(*gradients)
    )


@pytest.mark.parametrize(
    ("distance", "factor", "ipc", "image_lr", "changes"),
    [
        ("l2", 2, 1, 0.1, {}),
        ("l1", 2, 2, 1e-3, {}),
        ("l2", 1, 2, 0.1, {}),
        ("l2", 2, 1, 0.1, {"flip_closure": True}),
        ("l2", 2, 2, 0.1, {"decoding": "multi"}),
        ("l2", 2, 2, 0.1, {"decoding": "bound", "synthetic_batch": 6}),
    ],
)
def test_iterations_against_double_backward_and_one_optimizer(
    digits, distance: str, factor: int, ipc: int, image_lr: float, changes: dict[str, object]
):
    """Class by class, every step on the whole tensor: momentum moves the classes whose turn it is not."""
    settings = {"distance": distance, "factor": factor, "image_lr": image_lr} | changes
    made = synthesizer(digits.train, ipc, matching_steps=9, image_momentum=0.5, **settings)
    images = made.images.detach().clone().requires_grad_()
    start = images.detach().clone()
    optimizer = torch.optim.SGD([images], lr=image_lr, momentum=0.5)
    network = fresh_network(0)
    for iteration in range(3):
        total, draws = 0.0, made.class_draws(iteration)
        for label in range(10):
            real = digits.train.images(made.real_batch(iteration, label))
            decoded = naive_decode(images[label * ipc : (label + 1) * ipc], factor, changes.get("decoding", ""))
            if "flip_closure" in changes:
                decoded = torch.cat([decoded, decoded.flip(3)])
            seen = [colour_crop_cutout(each, draws, label) for each in (real, normalized(decoded, digits.train))]
            loss = naive_distance(network, *seen, label, distance)
            optimizer.zero_grad()
            (images.grad,) = torch.autograd.grad(loss, images)
            optimizer.step()
            total += loss.item()
        assert made.step(iteration)["loss"] == pytest.approx(total, rel=1e-4)
        torch.testing.assert_close(made.images.detach() - start, images.detach() - start, rtol=1e-3, atol=1e-5)
        network.load_state_dict(made.network.state_dict())
    assert (images.detach() - start).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("decoding", "decoder"),
    [
        (None, Tiles(3)),
        ("uniform", Tiles(3)),
        ("multi", Tiles(3, "multi")),
        ("bound", Tiles(3, "bound", (3, 2, 1, 1))),
    ],
)
def test_sets_are_decoded_as_they_were_matched(digits, decoding: str | None, decoder: Tiles):
    made = synthesizer(digits.train, 4, factor=3, decoding=decoding, synthetic_batch=16)
    assert made.decoder == decoder
    assert len(made.presented_class(0)[1]) == decoder.images_in(4)
    settings = {"iterations": 1, "decoding": decoding, "synthetic_batch": 16, **QUICK}
    learned = condense.distill("idc", digits, 4, factor=3, **settings)
    assert learned.decoder == decoder
    assert len(learned.images) == decoder.images_in(40)
    assert torch.equal(learned.labels.bincount(), torch.full((10,), decoder.images_in(4)))


def test_momentum_moves_classes_in_the_turns_of_others(digits):
    """A step on each class alone would end elsewhere than one optimiser of all images does."""
    made = [synthesizer(digits.train, image_lr=0.1, image_momentum=momentum) for momentum in (0.5, 0.0)]
    start = made[0].images.detach().clone()
    for each in made:
        each.step(0)
    moved, alone = (each.images.detach() - start for each in made)
    # no other class sees an image of class 0 before its turn: lr g (1 + 1/2 + ... + 1/2^9) against lr g
    torch.testing.assert_close(moved[0], alone[0] * (2 - 0.5**9), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(moved[9], alone[9], rtol=1e-3, atol=1e-6)


def test_distances_against_loops_and_blind_to_all_but_convolutions():
    draws = torch.Generator().manual_seed(0)
    shapes = {"conv.weight": (3, 2, 2, 2), "conv.bias": (3,), "norm.weight": (3,), "classifier.weight": (4, 6)}
    real, synthetic = (
        {name: torch.randn(shape, generator=draws, dtype=torch.float64) for name, shape in shapes.items()}
        for _ in range(2)
    )
    pairs = list(zip(real["conv.weight"].flatten().tolist(), synthetic["conv.weight"].flatten().tolist()))
    found = match_convolutions_squared(real, synthetic), match_convolutions_absolute(real, synthetic)
    assert found[0].item() == pytest.approx(sum((a - b) ** 2 for a, b in pairs))
    assert found[1].item() == pytest.approx(sum(abs(a - b) for a, b in pairs))
    others = {name: value + 5 for name, value in synthetic.items() if name != "conv.weight"}
    assert match_convolutions_squared(real, synthetic | others) == found[0]
    assert match_convolutions_absolute(real, synthetic | others) == found[1]


def naive_training(network: Network, optimizer, data: TrainingData, iteration: int, count: int, cutmix: float):
    """One pass over `count` real images in batches of 64, image by image augmented, half of the batches mixed."""
    seed = derive_seed(0, "inner training", iteration)
    chosen = torch.randperm(len(data), generator=generator(0, "inner images", iteration))[:count]
    mixed = 0
    for number, rows in enumerate(torch.randperm(count, generator=generator(seed, "order", 0)).split(64)):
        images, targets = data.images(chosen[rows]), torch.eye(10)[data.labels[chosen[rows]]]
        strategy = Augmentation.named("color-crop", mirror=False)
        assert (strategy.before, strategy.after) == (("color",), ())
        assert strategy.operations == ("crop",)
        drawn = draw_per_image(strategy, (1, 8, 8), len(rows), generator(seed, "augmentation", 0, number))
        images = augment(Augmentation(("color",)), images, replace(drawn, operation=torch.zeros_like(drawn.operation)))
        images = augment(Augmentation(strategy.operations), images, drawn)
        mix = draw_mix((1, 8, 8), len(rows), cutmix, generator(seed, "cutmix", 0, number))
        if mix is not None:
            rows_of, columns = slice(*mix.rows), slice(*mix.columns)
            share = (mix.rows[1] - mix.rows[0]) * (mix.columns[1] - mix.columns[0]) / 64
            given, mixed = images[mix.partner], mixed + 1
            images = images.clone()
            images[:, :, rows_of, columns] = given[:, :, rows_of, columns]
            targets = (1 - share) * targets + share * targets[mix.partner]
        loss = -(targets * network(images).log_softmax(1)).sum() / len(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return mixed


def test_networks_are_trained_on_real_images_between_matches_with_their_momentum(digits):
    made = synthesizer(digits.train, matching_steps=4, network_images=100, cutmix=0.5, network_lr=0.05)
    network = fresh_network(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    mixed = 0
    for iteration in range(3):
        made.step(iteration)
        mixed += naive_training(network, optimizer, digits.train, iteration, 100, 0.5)
        torch.testing.assert_close(values_of(made.network), values_of(network), rtol=1e-4, atol=1e-6)
    assert 0 < mixed < 6
    assert (values_of(network) - values_of(fresh_network(0))).abs().max() > 0.01


def test_training_does_not_depend_on_the_synthetic_images(digits):
    made = [synthesizer(digits.train, matching_steps=3, initialization=start) for start in ("tiles", "noise")]
    for each in made:
        each.step(0)
        each.step(1)
    assert not torch.equal(made[0].images, made[1].images)
    assert torch.equal(values_of(made[0].network), values_of(made[1].network))


def test_a_new_network_after_so_many_matches_begins_without_momentum(digits):
    made = synthesizer(digits.train, matching_steps=2, network_lr=0.05)
    states = []
    for iteration in range(4):
        made.step(iteration)
        states.append((values_of(made.network), dict(made.inner.state())))
    first, second = fresh_network(0), fresh_network(1)
    assert not torch.equal(states[0][0], values_of(first))  # trained after the first match
    assert torch.equal(states[0][0], states[1][0])  # not after the last one
    for iteration, network in ((0, first), (2, second)):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        naive_training(network, optimizer, digits.train, iteration, 20, 0.5)
        torch.testing.assert_close(states[iteration][0], values_of(network), rtol=1e-4, atol=1e-6)
    made.step(4)
    fresh = synthesizer(digits.train, matching_steps=1, network_lr=0.05)
    fresh.step(2)
    assert torch.equal(values_of(fresh.network), values_of(fresh_network(2)))


def test_images_are_clamped_when_a_network_begins_and_when_they_are_stored(digits):
    made = synthesizer(digits.train, image_lr=1.0, matching_steps=3)
    assert made.images.min() >= 0
    assert made.images.max() <= 1
    for iteration in range(3):
        made.step(iteration)
    before = made.images.detach().clone()
    assert before.min() < 0
    assert before.max() > 1
    assert torch.equal(made.stored(), before.clamp(0, 1))
    made.begin_network(1)
    assert torch.equal(made.images.detach(), before.clamp(0, 1))


def test_at_most_so_many_training_images_of_a_class_take_part(digits):
    """Chosen anew in every iteration, without any twice; the others get no gradient."""
    made = synthesizer(digits.train, 3, synthetic_batch=5, augmentation="none", image_momentum=0.0, image_lr=0.1)
    chosen = []
    for iteration in range(2):
        decoded = torch.arange(12.0).view(12, 1, 1, 1)
        part = made.part(decoded, iteration, 4).flatten().tolist()
        assert len(part) == len(set(part)) == 5
        chosen.append(part)
        other = made.part(decoded, iteration, 5).flatten().tolist()
        assert sorted(other) != sorted(part)
        start = made.images.detach().clone()
        made.step(iteration)
        moved = (made.images.detach() - start)[12:15]  # images of class 4
        expected = {int(number) for number in part}
        for number in range(12):
            tile, image = divmod(number, 3)
            row, column = divmod(tile, 2)
            inside = moved[image, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert bool(inside.any()) == (number in expected)
    assert sorted(chosen[0]) != sorted(chosen[1])
    all_of_them = synthesizer(digits.train, 3, synthetic_batch=12).part(torch.arange(12.0), 0, 0)
    assert sorted(all_of_them.tolist()) == list(range(12))


def test_factor_one_stores_whole_images(digits):
    made = condense.distill("idc", digits, 2, factor=1, iterations=2, **QUICK)
    assert made.decoder is None
    assert made.space == "unit"
    assert len(made) == 20
    torch.testing.assert_close(made.images, normalized(made.stored, digits.train))
    start = synthesizer(digits.train, 2, factor=1).images.detach()
    everything = digits.train.pixels(torch.arange(len(digits.train))).float() / 255
    assert all((everything == image).flatten(1).all(1).any() for image in start)


def test_a_mosaic_holds_different_real_images_each_made_smaller(digits):
    """`tiles`: every second pixel of a real image of the class, in [0, 1]; no image twice."""
    made = synthesizer(digits.train, 3)
    for label in range(10):
        small = digits.train.pixels(digits.train.class_indices(label))[:, :, ::2, ::2].float() / 255
        seen = set()
        for image in made.images.detach()[3 * label : 3 * label + 3]:
            for row in (0, 4):
                for column in (0, 4):
                    same = (small == image[:, row : row + 4, column : column + 4]).flatten(1).all(1)
                    assert same.any()
                    seen.add(int(same.nonzero()[0]))
        assert len(seen) == 12


@pytest.mark.parametrize("initialization", ["tiles", "noise", "real"])
def test_a_factor_that_cuts_tiles_of_nothing_is_refused_in_one_line(tmp_path, initialization: str):
    labels = np.arange(30) % 3
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6), dtype=np.uint8)
    path = tmp_path / "small.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:6], test_labels=labels[:6])
    with pytest.raises(CondenseError, match="images of 6x6 cannot be cut into 7 x 7 tiles") as error:
        condense.distill(
            "idc",
            condense.load_data(path),
            1,
            factor=7,
            iterations=1,
            initialization=initialization,
            network="convnet-d1-w4",
            network_images=8,
        )
    assert "\n" not in str(error.value)


def test_it_lowers_its_loss_and_beats_random_on_digits(digits, gain_over_random, loss_left):
    options = {"network": "convnet-d2-w8", "real_batch": 16, "matching_steps": 8, "network_images": 64}
    made = condense.distill("idc", digits, 1, iterations=25, image_lr=0.03, **options)
    assert made.stored.shape == (10, 1, 8, 8)
    assert loss_left(made, digits, **options) < 0.95
    assert gain_over_random(made, digits) > 0.03


@pytest.mark.parametrize(
    ("asked", "cutmix", "used"),
    [
        ("color-crop-cutout", 0.5, "color-crop"),
        ("color-crop-cutout", 0.0, "color-crop-cutout"),
        ("dsa", 0.5, "dsa"),
        ("none", 0.5, None),
    ],
)
def test_networks_are_trained_under_the_augmentation_of_the_match(asked: str, cutmix: float, used: str | None):
    """Without its cutout where CutMix stands for it."""
    rule = MultiFormation.inner_rule(MultiFormation.Settings(augmentation=asked, cutmix=cutmix))
    assert (rule.augmentation, rule.cutmix) == (used, cutmix)
