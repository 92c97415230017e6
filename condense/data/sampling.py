"""Drawing indices of training images class by class, without replacement."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from condense.data.budget import Budget
from condense.data.real import TrainingData
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator


def random_indices(data: TrainingData, counts: Sequence[int], seed: int, purpose: str) -> Tensor:
    """So many indices of each class, drawn without replacement, class by class; int64 [sum(counts)].

    A class with fewer images gives all of them, and then the same again in the same order.
    """
    drawn = [
        repeated(sample(data.class_indices(label), count, generator(seed, purpose, label)), count)
        for label, count in enumerate(counts)
    ]
    return torch.cat(drawn)


def check_enough(data: TrainingData, budget: Budget) -> None:
    """Raise `CondenseError` if there are fewer training images than real ones are to be chosen."""
    if not budget.balanced:
        total = budget.total(data.class_counts())
        if total > len(data):
            raise CondenseError(f"{total} images are more than the {len(data)} training images; give a smaller --ipc")
        return
    name, count = smallest_class(data)
    if budget.ipc is not None and count < budget.ipc:
        raise CondenseError(
            f"--ipc {budget.ipc} is more than the {count} training images of class {name!r}; give at most {count}, or "
            "--fraction for a share of every class"
        )


def smallest_class(data: TrainingData) -> tuple[str, int]:
    """The name of the class with the fewest training images, and how many it has."""
    counts = data.class_counts()
    label = min(range(len(counts)), key=counts.__getitem__)
    return data.info.classes[label], counts[label]


def sample(indices: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """`count` of the indices without replacement, or all of them, shuffled, if there are fewer."""
    return indices[torch.randperm(len(indices), generator=draws)[:count]]


def repeated(rows: Tensor, count: int) -> Tensor:
    """The first `count` rows, which begin again where there are fewer; `rows` is not empty unless `count` is 0.

    >>> repeated(torch.tensor([7, 8, 9]), 5).tolist()
    [7, 8, 9, 7, 8]
    """
    times = math.ceil(count / max(1, len(rows)))
    return rows.repeat(times, *[1] * (rows.ndim - 1))[:count]
