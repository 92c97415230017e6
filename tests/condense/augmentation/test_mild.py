"""FRePo's augmentation against scipy's interpolation and plain loops, in float64."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from condense.augmentation.mild import OPERATIONS, MildDraws, augment_mild, draw_mild
from condense.runtime.seeds import generator

SHAPES = [(3, 8, 8), (1, 12, 9)]


def images_of(shape: tuple[int, int, int], count: int = 4) -> Tensor:
    return torch.randn(count, *shape, generator=generator(0, "images"), dtype=torch.float64)


def draws_of(operation: str, count: int = 4, seed: int = 0) -> MildDraws:
    return dataclasses.replace(draw_mild(count, mirror=True, generator=generator(seed, "mild")), operation=operation)


def naive(image: np.ndarray, draws: MildDraws, row: int) -> np.ndarray:
    """What the released code says of one image [C, H, W]: pixel coordinates from the centre, in float64."""
    _, height, width = image.shape
    middle = (height - 1) / 2, (width - 1) / 2
    down, right = np.meshgrid(np.arange(height) - middle[0], np.arange(width) - middle[1], indexing="ij")
    if draws.operation == "crop":
        zoom = draws.zoom[row].item()
        limits = [abs(side * zoom - side) / 2 for side in (height, width)]
        centre = [limit * part for limit, part in zip(limits, draws.centre[row].tolist())]
        seen = (down + centre[0]) / zoom, (right + centre[1]) / zoom
    elif draws.operation == "rotate":
        angle = math.radians(draws.angle[row].item())
        seen = (
            math.cos(angle) * down + math.sin(angle) * right,
            -math.sin(angle) * down + math.cos(angle) * right,
        )
    else:
        moved = draws.shift[row].tolist()
        seen = down - height * moved[0], right - width * moved[1]
    places = [seen[0] + middle[0], seen[1] + middle[1]]
    return np.stack([map_coordinates(channel, places, order=1, mode="nearest") for channel in image])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("operation", ["crop", "rotate", "translate"])
def test_geometry_is_that_of_the_released_code(operation: str, shape: tuple[int, int, int]):
    images, draws = images_of(shape), draws_of(operation)
    found = augment_mild(images, draws)
    expected = np.stack([naive(image.numpy(), draws, row) for row, image in enumerate(images)])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(found, images, atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_color(shape: tuple[int, int, int]):
    images, draws = images_of(shape), draws_of("color")
    for row, (image, found) in enumerate(zip(images, augment_mild(images, draws))):
        bright = image + draws.brightness[row]
        contrast = (bright - bright.mean()) * draws.contrast[row] + bright.mean()
        gray = contrast.mean(0)
        torch.testing.assert_close(found, (contrast - gray) * draws.saturation[row] + gray)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_hole_of_a_quarter_of_either_side_lies_on_the_image(shape: tuple[int, int, int]):
    images, corners = images_of(shape, 200) + 10, set()
    for image, found in zip(images, augment_mild(images, draws_of("cutout", 200))):
        hole = (found == 0).all(0)
        assert torch.equal(found[:, ~hole], image[:, ~hole])
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert (len(rows), len(columns)) == (shape[1] // 4, shape[2] // 4)
        assert hole.sum() == len(rows) * len(columns)
        corners.add((rows[0].item(), columns[0].item()))
    lowest, highest = min(corners), (shape[1] - shape[1] // 4, shape[2] - shape[2] // 4)
    assert lowest[0] == 0
    assert max(row for row, _ in corners) == highest[0]
    assert max(column for _, column in corners) == highest[1]


def test_half_of_the_images_are_mirrored():
    images, draws = images_of((1, 4, 4), 400), draws_of("flip", 400)
    found = augment_mild(images, draws)
    assert torch.equal(found[draws.flip], images[draws.flip].flip(-1))
    assert torch.equal(found[~draws.flip], images[~draws.flip])
    assert 150 < draws.flip.sum() < 250


def test_draws_have_the_published_ranges_and_every_operation_its_turn():
    many = draw_mild(20_000, mirror=True, generator=generator(0, "ranges"))
    ranges = {
        "brightness": (-0.25, 0.25),
        "contrast": (math.exp(-0.25), math.exp(0.25)),
        "saturation": (math.exp(-0.25), math.exp(0.25)),
        "zoom": (0.8, 1.25),
        "centre": (-1, 1),
        "angle": (-15, 15),
        "shift": (-0.125, 0.125),
        "corner": (0, 1),
    }
    for name, (low, high) in ranges.items():
        values = getattr(many, name)
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
    assert many.zoom.log().mean().abs() < 0.005  # log-uniform
    for mirror, allowed in ((True, OPERATIONS), (False, OPERATIONS[:-1])):
        drawn = {draw_mild(1, mirror=mirror, generator=generator(seed, "turns")).operation for seed in range(100)}
        assert drawn == set(allowed)


def test_half_precision_stays_and_draws_follow_their_generator():
    images = images_of((3, 8, 8)).bfloat16()
    for operation in OPERATIONS:
        assert augment_mild(images, draws_of(operation)).dtype == torch.bfloat16
        one, other = (augment_mild(images.float(), draws_of(operation, seed=3)) for _ in range(2))
        assert torch.equal(one, other)
