"""The learning rates of Adam for RCIG's two inner problems, which find themselves."""

from __future__ import annotations

import itertools
from dataclasses import astuple, dataclass
from typing import Self

import torch
from torch import Tensor

from condense.linearized import Problem, adam

_SLOWER, _FASTER = 0.9, 1.05
_MANY_FAILED, _MOST_FELL = 0.29, 0.7  # parts of the runs
_GROWTH, _BACK = 1.2, 0.84  # while rates are searched for, and from the first one that is too fast


@dataclass
class AdamRates:
    """`inner` for L, `inverse` for H^-1; how many inner `runs` there were, and how many of them fell or failed."""

    inner: float
    inverse: float
    runs: int = 0
    fell: int = 0
    failed: int = 0

    def count(self, values: list[float]) -> None:
        """Of an inner run with these values: whether it fell all the way, or ended above its start."""
        self.runs += 1
        if falls(values):
            self.fell += 1
        elif values[-1] > values[0]:
            self.failed += 1

    def adapt(self) -> None:
        """A slower inner rate where many runs failed, a faster one where most fell; then count anew."""
        if self.failed >= _MANY_FAILED * self.runs:
            self.inner *= _SLOWER
        elif self.fell >= _MOST_FELL * self.runs:
            self.inner *= _FASTER
        self.runs = self.fell = self.failed = 0

    def state(self) -> Tensor:
        """All of it, float64."""
        return torch.tensor(astuple(self), dtype=torch.float64)

    @classmethod
    def of_state(cls, state: Tensor) -> Self:
        """What `state` gave."""
        inner, inverse, *counts = state.tolist()
        return cls(inner, inverse, *map(int, counts))


def falls(values: list[float]) -> bool:
    """Whether every value is below the one before it.

    >>> falls([3.0, 2.0, 1.0]), falls([3.0, 2.0, 2.0])
    (True, False)
    """
    return all(after < before for before, after in itertools.pairwise(values))


def fastest(problem: Problem, start: Tensor, first: float, steps: int) -> float:
    """A little less than the smallest rate, of those that grow by a fifth from `first`, at which values do not fall."""
    rate = first
    while falls(adam(problem, start, rate, steps)[1]):
        rate *= _GROWTH
    return rate * _BACK
