"""The augmentation of gradient matching before DSA, image by image against numpy and scipy."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from condense.augmentation.classic import ClassicDraws, augment_classic, draw_classic
from condense.data.info import DataInfo
from condense.data.preprocessing import None_
from condense.labels import HardLabels, in_memory
from condense.networks import build_network
from condense.runtime.seeds import generator
from condense.training.loop import train_network
from condense.training.rule import ClassicAugmentation, TrainingRule

SHAPES = [(1, 8, 8), (3, 9, 9), (2, 8, 11)]


def images_of(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(count, *shape, generator=generator(0, "images"))


def draws_of(name: ClassicAugmentation, shape: tuple[int, int, int], count: int, operation: int) -> ClassicDraws:
    """Draws that all have one operation."""
    draws = draw_classic(name, shape, count, generator(1, "draws"))
    return replace(draws, operation=torch.full((count,), operation))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_is_a_window_of_the_image_in_the_colour_of_the_batch(shape: tuple[int, int, int]):
    images = images_of(16, shape)
    draws = draws_of("dc-crop-scale-rotate", shape, 16, operation=0)
    found = augment_classic("dc-crop-scale-rotate", images, draws)
    means = images.numpy().mean((0, 2, 3))
    assert set(draws.corner.unique().tolist()) <= set(range(8))
    for image, row, corner in zip(images.numpy(), found, draws.corner.tolist()):
        padded = np.stack([np.pad(channel, 4, constant_values=mean) for channel, mean in zip(image, means)])
        window = padded[:, corner[0] : corner[0] + shape[1], corner[1] : corner[1] + shape[2]]
        np.testing.assert_allclose(row.numpy(), window, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_scaling_takes_the_nearest_pixels_about_the_middle(shape: tuple[int, int, int]):
    images = images_of(16, shape)
    draws = draws_of("dc-crop-scale-rotate", shape, 16, operation=1)
    found = augment_classic("dc-crop-scale-rotate", images, draws).numpy()
    _, height, width = shape
    assert (draws.scale >= 0.8).all()
    assert (draws.scale <= 1.2).all()
    for image, result, factors in zip(images.numpy(), found, draws.scale.tolist()):
        rows, columns = int(factors[0] * height), int(factors[1] * width)
        side = max(rows, columns, height, width)
        top, left = (side - rows) // 2 - (side - height) // 2, (side - columns) // 2 - (side - width) // 2
        for row in range(height):
            for column in range(width):
                y, x = row - top, column - left
                inside = 0 <= y < rows and 0 <= x < columns
                expected = image[:, y * height // rows, x * width // columns] if inside else 0
                np.testing.assert_array_equal(result[:, row, column], expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_rotation_is_that_of_scipy_cut_to_the_middle(shape: tuple[int, int, int]):
    images = images_of(12, shape)
    draws = draws_of("dc-crop-scale-rotate", shape, 12, operation=2)
    found = augment_classic("dc-crop-scale-rotate", images, draws)
    mean = images.mean((0, 2, 3)).mean().item()
    assert draws.angle.abs().max() <= 45
    for image, result, angle in zip(images.numpy(), found, draws.angle.tolist()):
        turned = ndimage.rotate(image, angle, axes=(1, 2), cval=mean)
        top, left = (turned.shape[1] - shape[1]) // 2, (turned.shape[2] - shape[2]) // 2
        np.testing.assert_allclose(result, turned[:, top : top + shape[1], left : left + shape[2]], atol=1e-5)


def test_noise_is_small_and_of_each_pixel():
    images = images_of(6, (3, 8, 8))
    draws = draws_of("dc-crop-noise", (3, 8, 8), 6, operation=1)
    difference = augment_classic("dc-crop-noise", images, draws) - images
    torch.testing.assert_close(difference, 0.001 * draws.noise, atol=1e-6, rtol=0)
    assert len(difference.unique()) > 1000


@pytest.mark.parametrize("name", get_args(ClassicAugmentation))
def test_every_image_has_an_operation_of_its_own(name: ClassicAugmentation):
    draws = draw_classic(name, (1, 8, 8), 300, generator(0, "draws"))
    shares = draws.operation.bincount() / 300
    assert len(shares) == {"dc-crop-scale-rotate": 3, "dc-crop-noise": 2}[name]
    assert (shares - 1 / len(shares)).abs().max() < 0.1


@pytest.mark.parametrize("name", get_args(ClassicAugmentation))
def test_networks_are_trained_under_it(name: ClassicAugmentation):
    info = DataInfo("toy", ("a", "b"), (1, 8, 8), True, "ab" * 16, None_())
    source = in_memory(images_of(10, (1, 8, 8)), HardLabels(torch.arange(10) % 2), info)

    def trained(augmentation: ClassicAugmentation | None, seed: int = 0) -> Tensor:
        rule = TrainingRule(lr=0.1, batch_size=10, epochs=2, augmentation=augmentation)
        network = build_network("mlp", (1, 8, 8), 2, seed=0)
        train_network(network, source, rule, seed=seed, device=torch.device("cpu"))
        return network.classifier.weight.detach()

    state = torch.random.get_rng_state()
    first = trained(name)
    assert torch.equal(first, trained(name))
    assert not torch.equal(first, trained(name, seed=1))
    assert not torch.equal(first, trained(None))
    assert torch.equal(torch.random.get_rng_state(), state)
