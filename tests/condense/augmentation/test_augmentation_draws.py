from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest
import torch

from condense.augmentation.dsa import Augmentation, Draws, draw_per_class
from condense.runtime.seeds import generator


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 9, 64)])
def test_draws_fill_their_ranges(shape: tuple[int, int, int]) -> None:
    draws = draw_per_class(Augmentation(), shape, 20000, generator(0, "draws"))
    ranges = {
        "brightness": (-0.5, 0.5),
        "saturation": (0.0, 2.0),
        "contrast": (0.5, 1.5),
        "scale": (1 / 1.2, 1.2),
        "angle": (-15.0, 15.0),
    }
    for name, (low, high) in ranges.items():
        values = getattr(draws, name)
        assert values.dtype == torch.float64
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.02 * (high - low)
    assert abs(draws.flip.double().mean() - 0.5) < 0.02
    shares = torch.bincount(draws.operation, minlength=6) / len(draws)
    assert (shares - 1 / 6).abs().max() < 0.015


@pytest.mark.parametrize(
    ("side", "reach", "last_centre"),
    [(32, 4, 32), (28, 4, 28), (64, 8, 64), (8, 1, 8), (9, 1, 8), (10, 1, 9)],
)
def test_integer_draws_include_both_ends_on_each_axis(side: int, reach: int, last_centre: int) -> None:
    draws = draw_per_class(Augmentation(), (3, side, 32), 5000, generator(0, "draws"))
    for values, low, high in (
        (draws.shift[:, 0], -reach, reach),
        (draws.shift[:, 1], -4, 4),
        (draws.centre[:, 0], 0, last_centre),
        (draws.centre[:, 1], 0, 32),
    ):
        counts = Counter(values.tolist())
        assert sorted(counts) == list(range(low, high + 1))
        expected = 5000 / len(counts)
        assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


def test_axes_are_drawn_independently() -> None:
    draws = draw_per_class(Augmentation(), (3, 32, 32), 20000, generator(0, "draws"))
    for pair in (draws.shift, draws.centre, draws.scale):
        assert abs(torch.corrcoef(pair.double().T)[0, 1]) < 0.03


def test_draws_depend_on_the_generator_only() -> None:
    first = draw_per_class(Augmentation(), (3, 8, 8), 5, generator(0, "draws"))
    torch.set_default_dtype(torch.float64)
    try:
        again = draw_per_class(Augmentation(), (3, 8, 8), 5, generator(0, "draws"))
    finally:
        torch.set_default_dtype(torch.float32)
    other = draw_per_class(Augmentation(), (3, 8, 8), 5, generator(1, "draws"))
    assert all(torch.equal(getattr(first, field.name), getattr(again, field.name)) for field in fields(Draws))
    assert not torch.equal(first.angle, other.angle)
