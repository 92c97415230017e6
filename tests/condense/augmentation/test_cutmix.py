"""CutMix: mixing against loops over pixels, and the window's distribution."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

import condense
from condense.augmentation.cutmix import Mix, draw_mix, mix_images
from condense.labels import HardLabels, ProbabilityLabels, in_memory
from condense.networks import build_network
from condense.runtime.seeds import generator
from condense.training.loop import train_network
from condense.training.rule import TrainingRule

CPU = torch.device("cpu")
SHAPES = [(1, 8, 8), (3, 12, 7)]


@pytest.fixture(scope="module")
def source():
    """26 digits: three full batches of 8 and one of 2."""
    digits = condense.load_data("digits")
    indices = torch.arange(26)
    return in_memory(digits.train.images(indices), HardLabels(digits.train.labels[indices]), digits.info)


def naive_mix(images: Tensor, labels: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Pixel by pixel, and the labels by counting pixels."""
    mixed, targets = images.clone(), labels.clone()
    height, width = images.shape[2:]
    for row in range(len(images)):
        other, taken = int(mix.partner[row]), 0
        for y in range(height):
            for x in range(width):
                if mix.rows[0] <= y < mix.rows[1] and mix.columns[0] <= x < mix.columns[1]:
                    mixed[row, :, y, x] = images[other, :, y, x]
                    taken += 1
        share = taken / (height * width)
        for label in range(labels.shape[1]):
            targets[row, label] = (1 - share) * labels[row, label] + share * labels[other, label]
    return mixed, targets


@pytest.mark.parametrize("shape", SHAPES)
def test_mixing_against_a_loop_over_pixels(shape: tuple[int, int, int]):
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(5, *shape, generator=draws), torch.rand(5, 4, generator=draws).softmax(1)
    kept = images.clone()
    windows = set()
    for _ in range(10):
        mix = draw_mix(shape, 5, 1.0, draws)
        found, expected = mix_images(images, labels, mix), naive_mix(images, labels, mix)
        for left, right in zip(found, expected):
            torch.testing.assert_close(left, right)
        torch.testing.assert_close(found[1].sum(1), torch.ones(5))
        windows.add((mix.rows, mix.columns))
    assert len(windows) > 5
    assert torch.equal(images, kept)


def test_the_weight_of_a_label_is_the_area_that_came_with_it():
    """Images of one colour: their mean colour is their mixed label."""
    draws = torch.Generator().manual_seed(1)
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 10, 6)
    for _ in range(20):
        mix = draw_mix((1, 10, 6), 2, 1.0, draws)
        mixed, labels = mix_images(images, torch.eye(2), mix)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), labels[:, 1])


def test_an_empty_and_a_full_window():
    draws = torch.Generator().manual_seed(2)
    images, labels = torch.randn(3, 1, 4, 4, generator=draws), torch.eye(3)
    partner = torch.tensor([2, 0, 1])
    for rows, expected in (((0, 4), partner), ((2, 2), torch.arange(3))):
        mixed, targets = mix_images(images, labels, Mix(partner, rows, (0, 4)))
        assert torch.equal(mixed, images[expected])
        assert torch.equal(targets, labels[expected])


def test_as_many_batches_are_mixed_as_the_probability_says():
    draws = torch.Generator().manual_seed(3)
    counts = {
        probability: sum(draw_mix((1, 8, 8), 4, probability, draws) is not None for _ in range(1000))
        for probability in (0.0, 0.5, 1.0)
    }
    assert counts[0.0] == 0
    assert counts[1.0] == 1000
    assert abs(counts[0.5] - 500) < 60


def test_partners_are_a_permutation_of_the_batch():
    draws = torch.Generator().manual_seed(4)
    partners = [draw_mix((1, 8, 8), 6, 1.0, draws).partner for _ in range(20)]
    assert all(partner.sort().values.tolist() == list(range(6)) for partner in partners)
    assert len({tuple(partner.tolist()) for partner in partners}) > 10


@pytest.mark.parametrize(("height", "width"), [(200, 200), (200, 120)])
def test_the_share_of_the_window_is_uniform(height: int, width: int):
    """Before it is cut off: sides sqrt(share) of the image's around a pixel that is uniform as well."""
    draws = torch.Generator().manual_seed(5)
    found, rows, columns = [], [], []
    for _ in range(3000):
        mix = draw_mix((1, height, width), 2, 1.0, draws)
        rows.append(mix.rows[1] - mix.rows[0])
        columns.append(mix.columns[1] - mix.columns[0])
        found.append(rows[-1] * columns[-1] / (height * width))
        assert 0 <= mix.rows[0] <= mix.rows[1] <= height
        assert 0 <= mix.columns[0] <= mix.columns[1] <= width

    fraction = torch.rand(3000, generator=draws).sqrt()
    lengths = []
    for side in (height, width):
        length, centre = (side * fraction).int(), torch.randint(side, (3000,), generator=draws)
        last, first = (centre + length // 2).clamp(max=side), (centre - length // 2).clamp(min=0)
        lengths.append(last - first)
    expected = (lengths[0] * lengths[1] / (height * width)).tolist()
    assert ks_2samp(found, expected).pvalue > 0.01
    assert ks_2samp(rows, lengths[0].tolist()).pvalue > 0.01
    assert ks_2samp(columns, lengths[1].tolist()).pvalue > 0.01
    assert ks_2samp(found, [value**0.5 for value in expected]).pvalue < 1e-6  # the test would see another law


def test_windows_keep_the_proportion_of_the_sides():
    draws = torch.Generator().manual_seed(6)
    seen = 0
    for _ in range(500):
        mix = draw_mix((1, 300, 100), 2, 1.0, draws)
        inside = mix.rows[0] > 0 and mix.rows[1] < 300 and mix.columns[0] > 0 and mix.columns[1] < 100
        if inside:
            rows, columns = mix.rows[1] - mix.rows[0], mix.columns[1] - mix.columns[0]
            assert abs(rows - 3 * columns) <= 8  # rounded down, twice, on either side
            seen += 1
    assert seen > 50


def rule(**changes) -> TrainingRule:
    return TrainingRule(**{"lr": 0.05, "weight_decay": 5e-4, "batch_size": 8, "epochs": 3} | changes)


def weights(network) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def trained(source, rule: TrainingRule, seed: int = 7) -> Tensor:
    network = build_network("convnet-d2-w4-in", (1, 8, 8), 10, 0)
    return weights(train_network(network, source, rule, seed=seed, device=CPU))


@pytest.mark.parametrize("soft", [False, True])
def test_training_with_cutmix_against_a_loop(source, soft: bool):
    """Mixed by hand, cross-entropy with probabilities by hand, torch's SGD."""
    if soft:
        probabilities = torch.randn(26, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
        source = in_memory(source.base.values, ProbabilityLabels(probabilities), source.info)
    network = build_network("convnet-d2-w4-in", (1, 8, 8), 10, 0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    mixed = 0
    for epoch in range(3):
        order = torch.randperm(26, generator=generator(7, "order", epoch))
        for number, indices in enumerate(order.split(8)):
            images = source.base.values[indices]
            targets = probabilities[indices] if soft else torch.eye(10)[source.labels.indices[indices]]
            mix = draw_mix((1, 8, 8), len(indices), 0.5, generator(7, "cutmix", epoch, number))
            if mix is not None:
                images, targets = naive_mix(images, targets, mix)
                mixed += 1
            loss = -(targets * network(images).log_softmax(1)).sum() / len(indices)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert 0 < mixed < 12
    torch.testing.assert_close(trained(source, rule(cutmix=0.5)), weights(network), atol=1e-5, rtol=1e-4)


def test_training_with_cutmix_is_reproducible(source):
    first = trained(source, rule(cutmix=0.5, augmentation="color-crop"))
    before = torch.random.get_rng_state()
    assert torch.equal(first, trained(source, rule(cutmix=0.5, augmentation="color-crop")))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(first, trained(source, rule(cutmix=0.5, augmentation="color-crop"), seed=8))
    assert not torch.equal(first, trained(source, rule(augmentation="color-crop")))
