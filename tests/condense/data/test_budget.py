"""Budgets: the sizes of sets, against a naive count."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from condense.data.budget import Budget
from condense.runtime.errors import CondenseError
from condense.runtime.validation import validated


def naive_largest_remainder(fraction: Fraction, class_counts: list[int]) -> list[int]:
    """Seats as a parliament gives them: whole quotas, then one more to the largest rests, exactly."""
    quotas = [fraction * count for count in class_counts]
    seats = [quota.numerator // quota.denominator for quota in quotas]
    wanted = round(float(fraction) * sum(class_counts))
    while sum(seats) < wanted:
        rests = [quota - seat if quota - seat < 1 else -1 for quota, seat in zip(quotas, seats)]
        seats[rests.index(max(rests))] += 1
        quotas[rests.index(max(rests))] = Fraction(-1)  # gets no second one
    return seats


@pytest.mark.parametrize("seed", range(30))
def test_fractions_go_by_largest_remainder(seed: int) -> None:
    draws = random.Random(seed)
    counts = [draws.randint(1, 400) for _ in range(draws.randint(2, 12))]
    fraction = Fraction(draws.randint(1, 64), 64)  # exact in binary, so that rests are too
    if round(float(fraction) * sum(counts)) == 0:
        return
    budget = Budget(fraction=float(fraction))
    found = budget.counts(counts)
    assert list(found) == naive_largest_remainder(fraction, counts)
    assert sum(found) == budget.total(counts) == round(float(fraction) * sum(counts))
    assert all(0 <= count <= most for count, most in zip(found, counts))
    assert all(abs(count - float(fraction) * most) < 1 for count, most in zip(found, counts))


def test_whole_numbers_per_class() -> None:
    assert Budget(ipc=3).counts([5, 1, 9]) == (3, 3, 3)
    assert Budget(ipc=3).total([5, 1, 9]) == 9
    assert Budget(fraction=1.0).counts([5, 1, 9]) == (5, 1, 9)


def test_learned_images_take_whole_numbers() -> None:
    assert Budget(ipc=3).images_per_class == 3
    with pytest.raises(CondenseError, match=r"whole numbers per class: give --ipc N instead of --fraction 0\.1"):
        _ = Budget(fraction=0.1).images_per_class
    with pytest.raises(CondenseError, match="as many of every class: leave --no-balanced out"):
        _ = Budget(ipc=3, balanced=False).images_per_class


def test_a_size_of_any_class_is_a_number_of_images() -> None:
    assert Budget(ipc=3, balanced=False).total([5, 1, 9]) == 9
    assert str(Budget(ipc=3, balanced=False)) == "as many as 3 per class, of any class"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give --ipc N images per class, or --fraction F"),
        ({"ipc": 1, "fraction": 0.5}, "--ipc 1 and --fraction 0.5 are two sizes"),
        ({"ipc": 0}, "ipc"),
        ({"fraction": 0.0}, "fraction"),
        ({"fraction": 1.5}, "fraction"),
        ({"fraction": float("nan")}, "fraction"),
    ],
)
def test_what_is_no_size_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(CondenseError, match=message):
        validated(Budget, fields)


def test_a_fraction_of_nothing_is_refused() -> None:
    with pytest.raises(CondenseError, match=r"--fraction 0.001 of 30 images is none; give at least 0.033"):
        Budget(fraction=0.001).total([20, 10])
