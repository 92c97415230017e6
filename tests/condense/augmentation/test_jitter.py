"""Jitter: one draw for a batch, against torchvision's own crops and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import hflip, resized_crop

from condense.augmentation.jitter import Jitter, draw_jitter, jittered
from condense.runtime.seeds import generator

SHAPE = (3, 20, 16)


def drawn(count: int, **options) -> list[Jitter]:
    usual = {"least": 0.3, "flip": True, "shift": 3, "seed": 0, "purpose": "test"} | options
    return [draw_jitter(SHAPE, **usual, indices=(4, number)) for number in range(count)]


def test_images_are_cropped_then_mirrored_then_shifted_around():
    images = torch.randn(2, *SHAPE, generator=generator(0, "images"))
    for draw in drawn(20):
        top, left, rows, columns = draw.box
        expected = resized_crop(images, top, left, rows, columns, [20, 16], antialias=False)
        expected = hflip(expected) if draw.flip else expected
        down, right = draw.shift
        found = jittered(images, draw)
        for row in range(20):
            for column in range(16):
                other = found[:, :, (row + down) % 20, (column + right) % 16]
                torch.testing.assert_close(other, expected[:, :, row, column], atol=1e-5, rtol=0)


def test_a_draw_depends_on_its_seed_purpose_and_indices_only():
    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(5, seed=1)
    assert drawn(5) != drawn(5, purpose="another")
    assert [draw.shift for draw in drawn(5)] == [draw.shift for draw in drawn(5, least=None)]


def test_what_is_switched_off_does_not_happen():
    for draw in drawn(50, least=None, flip=False, shift=0):
        assert draw == Jitter(None, False, (0, 0))
    images = torch.randn(2, *SHAPE)
    assert jittered(images, Jitter(None, False, (0, 0))) is images
    assert {draw.box for draw in draws_of_whole_images()} == {(0, 0, 16, 16)}


def draws_of_whole_images() -> list[Jitter]:
    return [
        draw_jitter((3, 16, 16), least=1.0, flip=False, shift=0, seed=0, purpose="test", indices=(number,))
        for number in range(50)
    ]


def test_shifts_and_mirror_images_are_even():
    draws = drawn(4000)
    assert 0.46 < np.mean([draw.flip for draw in draws]) < 0.54
    for axis in range(2):
        counts = np.bincount([draw.shift[axis] for draw in draws], minlength=4)
        assert len(counts) == 4
        assert counts.min() > 850


@pytest.mark.parametrize("least", [0.08, 0.5, 0.95])
def test_crops_are_distributed_as_torchvisions(least: float):
    """Among them the whole images that are left where ten attempts fail, which is where a curriculum begins."""
    count = 1500
    own = [
        draw_jitter((3, 64, 64), least=least, flip=False, shift=0, seed=1, purpose="test", indices=(n,)).box
        for n in range(count)
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = [
            RandomResizedCrop.get_params(torch.empty(3, 64, 64), [least, 1.0], [3 / 4, 4 / 3]) for _ in range(count)
        ]
    for quantity in (
        lambda box: box[2] * box[3],
        lambda box: box[2] / box[3],
        lambda box: box[0],
        lambda box: box[1],
    ):
        assert stats.ks_2samp([*map(quantity, own)], [*map(quantity, other)]).pvalue > 1e-3
    whole = [sum(box[2:] == (64, 64) for box in map(tuple, boxes)) / count for boxes in (own, other)]
    assert whole[0] == pytest.approx(whole[1], abs=0.06)


def test_gradients_go_through():
    images = torch.randn(1, *SHAPE, requires_grad=True)
    jittered(images, drawn(1)[0]).sum().backward()
    assert images.grad.abs().sum() > 0
