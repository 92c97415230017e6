"""Views: where windows, crops and squares may lie, strips in order, and the same bits in any batch."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torchvision.transforms.functional import resized_crop

from condense.augmentation.views import ViewRule, draw_views, see, square_crop
from condense.runtime.seeds import generator

SHAPE = (3, 24, 16)
IDS = torch.arange(40)
RULES = [ViewRule(), ViewRule(crop="resized", least=0.2), ViewRule(crop="none"), ViewRule(crop="resized", shuffle=2)]


def images(count: int = 40) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=generator(0, "images"))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_view_is_the_same_bits_in_whatever_batch(rule: ViewRule):
    seen = see(images(), draw_views(rule, SHAPE, 0, 3, IDS))
    some = torch.tensor([31, 2, 17])
    assert torch.equal(see(images()[some], draw_views(rule, SHAPE, 0, 3, some)), seen[some])
    assert not torch.equal(see(images(), draw_views(rule, SHAPE, 0, 4, IDS)), seen)
    assert not torch.equal(see(images(), draw_views(rule, SHAPE, 1, 3, IDS)), seen)


def test_padded_windows_show_what_is_around_as_asked():
    views, fill = draw_views(ViewRule(flip=False), SHAPE, 0, 0, IDS), torch.tensor([0.1, 0.2, 0.3])
    seen = see(images(), views, fill)
    for image, view, (top, left, rows, columns) in zip(images(), seen, views.box.tolist()):
        assert (rows, columns) == (24, 16)
        assert 0 <= top <= 6
        assert 0 <= left <= 4
        for row, column in itertools.product(range(24), range(16)):
            from_row, from_column = top + row - 3, left + column - 2
            inside = 0 <= from_row < 24 and 0 <= from_column < 16
            assert torch.equal(view[:, row, column], image[:, from_row, from_column] if inside else fill)


def test_resized_crops_are_those_of_torchvision():
    views = draw_views(ViewRule(crop="resized", least=0.1, flip=False), SHAPE, 0, 0, IDS)
    for image, view, box in zip(images(), see(images(), views), views.box.tolist()):
        torch.testing.assert_close(view, resized_crop(image, *box, [24, 16], antialias=False), atol=1e-6, rtol=0)
        top, left, rows, columns = box
        assert 0 <= top <= 24 - rows
        assert 0 <= left <= 16 - columns
        assert rows * columns >= 0.1 * 24 * 16 - 24


def test_flips_come_last_and_only_if_asked():
    with_flips, without = (draw_views(ViewRule(flip=flip), SHAPE, 0, 0, IDS) for flip in (True, False))
    assert not without.flip.any()
    assert 5 < with_flips.flip.sum() < 35
    expected = torch.where(
        with_flips.flip[:, None, None, None], see(images(), without).flip(-1), see(images(), without)
    )
    assert torch.equal(see(images(), with_flips), expected)


@pytest.mark.parametrize(("side", "shape"), [(2, (1, 6, 4)), (3, (1, 7, 9))])
def test_strips_change_places_and_what_none_covers_stays(side: int, shape: tuple[int, int, int]):
    count = 30
    pixels = torch.arange(shape[1] * shape[2]).float().view(1, *shape).repeat(count, 1, 1, 1)
    views = draw_views(ViewRule(crop="none", flip=False, shuffle=side), shape, 0, 0, torch.arange(count))
    seen = see(pixels, views)
    orders = set()
    for view, order in zip(seen, views.order.tolist()):
        lines = []
        for strips, length in zip(order, shape[1:]):
            size = length // side
            assert sorted(strips) == list(range(side))
            lines.append(
                [strip * size + line for strip in strips for line in range(size)] + [*range(side * size, length)]
            )
        assert torch.equal(view[0], pixels[0, 0][lines[0]][:, lines[1]])
        orders.add(str(order))
    assert len(orders) > math.factorial(side), "rows and columns have orders of their own"


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 30, 12), (3, 5, 50)])
@pytest.mark.parametrize("least", [0.08, 1.0])
def test_square_crops_lie_within_and_are_large_enough_or_as_large_as_fits(shape: tuple[int, int, int], least: float):
    boxes = [square_crop(shape, least, 0, "test", number) for number in range(200)]
    for top, left, rows, columns in boxes:
        assert rows == columns
        assert 0 <= top <= shape[1] - rows
        assert 0 <= left <= shape[2] - columns
        smallest = math.sqrt(least * shape[1] * shape[2])
        assert rows >= min(round(smallest), *shape[1:])
    assert boxes == [square_crop(shape, least, 0, "test", number) for number in range(200)]
    if least < 1 and shape == (3, 24, 24):
        sides = [rows for _, _, rows, _ in boxes]
        assert min(sides) <= 9
        assert max(sides) >= 23
        areas = sum(side**2 for side in sides) / 200 / 576
        assert areas == pytest.approx(0.54, abs=0.06), "areas are even, not sides"
