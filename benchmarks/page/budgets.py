"""Equal budgets: which rows cost about the same, and so may be ranked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TOLERANCE = 0.05  # of the budget


@dataclass(frozen=True)
class EqualBudget:
    """A cost, and who is within 5 % of it."""

    value: float
    members: tuple[str, ...]


def equal_budgets(costs: Mapping[str, float]) -> list[EqualBudget]:
    """The budgets that rows of these costs share, largest groups first; nothing is no budget.

    Of several budgets with the same members it is the middle one.

    >>> [(each.value, each.members) for each in equal_budgets({"a": 100, "b": 104, "c": 8})]
    [(100, ('a', 'b')), (8, ('c',))]
    """
    groups: dict[tuple[str, ...], list[float]] = {}
    for value in sorted({cost for cost in costs.values() if cost > 0}):
        members = tuple(key for key, cost in costs.items() if abs(cost - value) <= TOLERANCE * value)
        groups.setdefault(members, []).append(value)
    found = [EqualBudget(values[(len(values) - 1) // 2], members) for members, values in groups.items()]
    return sorted(found, key=lambda each: (-len(each.members), each.value))


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of those (cost, accuracy) that nothing cheaper or as cheap is better than, by cost.

    >>> front([(3.0, 0.5), (1.0, 0.4), (2.0, 0.3), (3.0, 0.6)])
    [1, 3]
    """
    best: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1])):
        if not best or points[place][1] > points[best[-1]][1]:
            best.append(place)
    return best
