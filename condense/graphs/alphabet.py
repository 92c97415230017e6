"""What nodes are called: whole numbers in columns become label ids, and ids become features of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError

_MOST_NUMBERS = 2**26  # of a table, 256 MB


@dataclass(frozen=True, eq=False)
class Alphabet:
    """`table` float32 [K, F]: the features of each node label.

    The first `known` labels occur in the training part. Others stand for what does not: a column whose value is new is
    zero, so that a network reads no weight that was never trained. Only they have room in a set.
    """

    table: Tensor
    known: int

    @property
    def features(self) -> int:
        """F."""
        return int(self.table.shape[1])

    @property
    def training(self) -> Tensor:
        """The features of labels of the training part, float32 [known, F]."""
        return self.table[: self.known]


def alphabet_of(columns: np.ndarray, training: np.ndarray) -> tuple[Tensor, Alphabet]:
    """Label ids int64 [N] and their alphabet, of whole numbers [N, C] in columns; `training` bool [N] marks nodes.

    Each column becomes as many features as it has values in the training part, of which one is 1 (published code takes
    the values of all parts, and so lets test graphs decide what networks look like).

    >>> ids, alphabet = alphabet_of(np.array([[7], [5], [7], [9]]), np.array([True, True, True, False]))
    >>> ids, alphabet.table
    (tensor([1, 0, 1, 2]), tensor([[1., 0.],
            [0., 1.],
            [0., 0.]]))
    """
    found = [_positions(column, column[training]) for column in columns.T]
    positions = np.stack([places for places, _ in found], 1)  # (N, C), -1 where the value is new
    sizes = [size for _, size in found]
    rows, ids = np.unique(positions, axis=0, return_inverse=True)
    ids = ids.reshape(-1)
    is_known = np.zeros(len(rows), bool)
    is_known[ids[training]] = True
    order = np.argsort(~is_known, kind="stable")  # those of the training part first
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    table = _one_hot(rows[order], sizes)
    return torch.from_numpy(place[ids]), Alphabet(table, int(is_known.sum()))


def _positions(column: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, int]:
    """Where the values of a column stand among those of the training part, -1 for others; and how many these are."""
    values = np.unique(training)
    places = np.searchsorted(values, column).clip(max=len(values) - 1)
    return np.where(values[places] == column, places, -1), len(values)


def _one_hot(rows: np.ndarray, sizes: Sequence[int]) -> Tensor:
    if len(rows) * sum(sizes) > _MOST_NUMBERS:
        raise CondenseError(
            f"node labels take {len(rows):,} values, whose features would be {len(rows) * sum(sizes):,} numbers, and "
            f"at most {_MOST_NUMBERS:,} are made; give coarser labels, or features"
        )
    table = torch.zeros(len(rows), sum(sizes))
    for row, start in zip(rows.T, np.cumsum([0, *sizes])):
        there = np.flatnonzero(row >= 0)
        table[there, torch.from_numpy(row[there] + start)] = 1
    return table


def binned_degrees(degrees: Tensor) -> Tensor:
    """Degrees in bins that double: 0, 1, 2 to 3, 4 to 7, and so on.

    >>> binned_degrees(torch.tensor([0, 1, 2, 3, 4, 100]))
    tensor([0, 1, 2, 2, 3, 7])
    """
    return torch.frexp(degrees.double())[1].long()
