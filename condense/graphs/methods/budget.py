"""How large a condensed set of graphs may be. This module does not import torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from condense.data.budget import Budget
from condense.runtime.errors import CondenseError


class GraphBudget(Budget):
    """The size of a set of graphs: so many graphs or nodes per class, a fraction of the real ones, or bytes.

    Bytes compare what is stored, and only they do so fairly: a learned graph of a few nodes can weigh more than all the
    real ones. No size at all is for methods that find theirs.
    """

    bytes: int | None = Field(None, ge=1, description="what the set may take, as it is stored")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        sizes = {"ipc": self.ipc, "fraction": self.fraction, "bytes": self.bytes}
        given = [f"--{name} {value:g}" for name, value in sizes.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are sizes of two kinds; give one of them")
        return self

    @property
    def given(self) -> bool:
        """Whether there is a size."""
        return bool(self.recorded)

    def check_given(self) -> None:
        """Raise `CondenseError` where there is no size."""
        if not self.given:
            raise CondenseError("a set needs a size: give --ipc N of each class, --fraction F of all, or --bytes N")

    def shares(self, class_counts: Sequence[int], total: int | None = None, *, learned: bool = False) -> list[int]:
        """How many of each class, for real data with so many of each; more than a class has only if `learned`.

        A fraction is that of `total`, by default the sum of `class_counts`, shared as these are: every class gets its
        share of the number rounded down, at least one, and the largest class what is left over (released code of GCond,
        which rounds the part of each class; that can be one more or less).

        Raises `CondenseError` for a fraction that is less than one of each class, and for other sizes.

        >>> GraphBudget(fraction=0.1).shares([100, 51, 3])
        [10, 4, 1]
        >>> GraphBudget(ipc=4).shares([100, 51, 3])
        [4, 4, 3]
        """
        if self.ipc is not None:
            return [self.ipc if learned else min(self.ipc, count) for count in class_counts]
        assert self.fraction is not None, "bytes are no number of graphs; each method fits its own"
        whole = sum(class_counts) if total is None else total
        wanted = math.floor(self.fraction * whole)
        if wanted < len(class_counts):
            raise CondenseError(
                f"--fraction {self.fraction:g} of {whole} is {wanted}, less than one of each of {len(class_counts)} "
                f"classes; give at least {len(class_counts) / whole:.2g}"
            )
        return shared(wanted, class_counts, learned=learned)

    @property
    def short(self) -> str:
        """The number alone, for tables.

        >>> GraphBudget(ipc=10).short, GraphBudget(bytes=5000).short
        ('10', '5,000 bytes')
        """
        if not self.given:
            return "its own"
        return super().short if self.bytes is None else f"{self.bytes:,} bytes"

    def __str__(self) -> str:
        """In words.

        >>> str(GraphBudget(ipc=5)), str(GraphBudget(bytes=5000))
        ('5 per class', '5,000 bytes')
        """
        if not self.given:
            return "a size of its own"
        if self.fraction is not None:
            return f"{100 * self.fraction:g} % of the real ones"
        return super().__str__() if self.bytes is None else f"{self.bytes:,} bytes"


def shared(total: int, class_counts: Sequence[int], *, learned: bool = False) -> list[int]:
    """`total`, at least one for each class, shared as the classes are; more than a class has only if `learned`.

    >>> shared(15, [100, 51, 3])
    [10, 4, 1]
    """
    counts = [max(1, total * size // sum(class_counts)) for size in class_counts]
    largest = max(range(len(counts)), key=lambda label: class_counts[label])
    counts[largest] = max(1, counts[largest] + total - sum(counts))
    return counts if learned else [min(count, size) for count, size in zip(counts, class_counts)]
