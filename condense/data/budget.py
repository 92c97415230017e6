"""How many images a set may have: so many per class, or a fraction of the training images.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from condense.runtime.errors import CondenseError
from condense.runtime.validation import Closed


class Budget(Closed):
    """The size of a set, one of `ipc` and `fraction`.

    A balanced one is `ipc` images of every class, or the fraction of every class. Without balance only the number of
    images is given (`ipc` times the number of classes, or the fraction), whatever their class.
    """

    ipc: int | None = Field(None, ge=1, description="images per class")
    fraction: float | None = Field(
        None, gt=0, le=1, allow_inf_nan=False, description="part of the training images, instead of --ipc"
    )
    balanced: bool = Field(True, description="the same share of every class")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.ipc is None and self.fraction is None:
            raise ValueError("a set needs a size; give --ipc N images per class, or --fraction F of the images")
        if self.ipc is not None and self.fraction is not None:
            raise ValueError(f"--ipc {self.ipc} and --fraction {self.fraction:g} are two sizes; give one of them")
        return self

    def total(self, class_counts: Sequence[int]) -> int:
        """Images of the set, for data with so many of each class.

        Raises `CondenseError` for a fraction that gives none.

        >>> Budget(fraction=0.1).total([30, 12]), Budget(ipc=5).total([30, 12])
        (4, 10)
        """
        if self.fraction is None:
            assert self.ipc is not None, "the validator wants one of them"
            return self.ipc * len(class_counts)
        total = round(self.fraction * sum(class_counts))
        if total < 1:
            raise CondenseError(
                f"--fraction {self.fraction:g} of {sum(class_counts)} images is none; give at least "
                f"{1 / sum(class_counts):.2g}"
            )
        return total

    def counts(self, class_counts: Sequence[int]) -> tuple[int, ...]:
        """Images of each class of a balanced set, for data with so many of each.

        A fraction goes by largest remainders: every class gets the whole part of its share, and those with the largest
        rest one more, until they sum to `total`; of equal rests the first classes. So no class is rounded away or up
        against the others (published code rounds each share by itself).

        >>> Budget(fraction=0.1).counts([30, 12, 4, 4])
        (3, 1, 1, 0)
        """
        if self.fraction is None:
            assert self.ipc is not None, "the validator wants one of them"
            return (self.ipc,) * len(class_counts)
        shares = [self.fraction * count for count in class_counts]
        counts = [int(share) for share in shares]
        by_rest = sorted(range(len(shares)), key=lambda label: (counts[label] - shares[label], label))
        for label in by_rest[: self.total(class_counts) - sum(counts)]:
            counts[label] += 1
        return tuple(counts)

    @property
    def images_per_class(self) -> int:
        """`ipc`, for methods that learn so many images of every class; raises `CondenseError` for other sizes."""
        if self.ipc is None:
            raise CondenseError(
                f"images that are learned come in whole numbers per class: give --ipc N instead of --fraction "
                f"{self.fraction:g}"
            )
        if not self.balanced:
            raise CondenseError("images that are learned are as many of every class: leave --no-balanced out")
        return self.ipc

    @property
    def recorded(self) -> dict[str, Any]:
        """What it is, as records and commands have it; what is usual is left out.

        >>> Budget(fraction=0.01, balanced=False).recorded
        {'fraction': 0.01, 'balanced': False}
        """
        return self.model_dump(exclude_none=True, exclude_defaults=True)

    @property
    def short(self) -> str:
        """The number alone, for tables.

        >>> Budget(ipc=10).short, Budget(fraction=0.01).short
        ('10', '1 %')
        """
        return f"{self.ipc}" if self.fraction is None else f"{100 * self.fraction:g} %"

    def __str__(self) -> str:
        """In words.

        >>> str(Budget(ipc=10)), str(Budget(fraction=0.01, balanced=False))
        ('10 per class', '1 % of the training images, of any class')
        """
        size = f"{self.ipc} per class" if self.fraction is None else f"{100 * self.fraction:g} % of the training images"
        if self.balanced:
            return size
        return f"as many as {size}, of any class" if self.fraction is None else f"{size}, of any class"
