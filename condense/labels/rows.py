"""Arrays of labels that are read and written by rows: in a file, in memory, or still to be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class RowArray(Protocol):
    """A large array [N, ...]: `condense.runtime.hdf5.reader.Rows` is one in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and the shape of a row."""

    @property
    def dtype(self) -> np.dtype:
        """The type of its numbers."""

    def pieces(self) -> Iterator[np.ndarray]:
        """All rows in order, in pieces of any length."""

    def each(self, *indices: int) -> list[np.ndarray]:
        """Single rows."""


@dataclass(frozen=True, eq=False)
class HeldRows:
    """Rows in memory."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the values."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        """That of the values."""
        return self.values.dtype

    def pieces(self) -> Iterator[np.ndarray]:
        """All at once."""
        yield self.values

    def each(self, *indices: int) -> list[np.ndarray]:
        """Single rows."""
        return [self.values[index] for index in indices]


@dataclass(frozen=True, eq=False)
class RowsToMake:
    """Rows that are made while they are written, and once only; `make` gives them in order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], Iterator[np.ndarray]]

    def pieces(self) -> Iterator[np.ndarray]:
        """They are made now."""
        return self.make()

    def each(self, *indices: int) -> list[np.ndarray]:
        """None are there yet."""
        raise AssertionError("rows that are to be made are written first")

    def held(self) -> HeldRows:
        """All of them, made now."""
        values = np.empty(self.shape, self.dtype)
        start = 0
        for piece in self.pieces():
            values[start : start + len(piece)] = piece
            start += len(piece)
        return HeldRows(values)
