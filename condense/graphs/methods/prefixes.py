"""Orders of which every beginning is a choice: classes take turns, and what fits into bytes is a beginning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TypeVar

from condense.runtime.errors import CondenseError

EntryT = TypeVar("EntryT")


def taking_turns(classes: Sequence[Sequence[EntryT]]) -> list[EntryT]:
    """The first of each class, then the second of each, and so on, as far as they go.

    >>> taking_turns([["a", "b", "c"], ["d"]])
    ['a', 'd', 'b', 'c']
    """
    nothing = object()
    rounds = zip_longest(*classes, fillvalue=nothing)
    return [entry for each in rounds for entry in each if entry is not nothing]  # type: ignore[misc]


def longest_fitting(size: Callable[[int], int], count: int, budget: int, least: int, entry: str = "graph") -> int:
    """The largest number of entries, from `least` to `count`, whose `size` is within the budget, by bisection.

    Raises `CondenseError` where not even the least number fits, and says what that takes; `entry` names one of them.

    >>> longest_fitting(lambda entries: 10 * entries, 7, 45, 2)
    4
    """
    smallest = size(least)
    if smallest > budget:
        raise CondenseError(f"--bytes {budget:,}: one {entry} of each class takes {smallest:,}; give as many or more")
    return last_within(size, least, count, budget)


def last_within(size: Callable[[int], int], low: int, high: int, limit: int) -> int:
    """The largest number from `low` to `high` whose `size` is within the limit, by bisection; that of `low` must be.

    Where sizes do not always grow, it is one whose successor is beyond the limit.

    >>> last_within(lambda number: number**2, 1, 9, 50)
    7
    """
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(middle) <= limit else (low, middle - 1)
    return low
