"""Drawing indices of training images class by class, without replacement."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.data.real import TrainingData
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator


def random_indices(data: TrainingData, ipc: int, seed: int, purpose: str) -> Tensor:
    """`ipc` indices of each class, drawn without replacement, class by class; int64 [C*ipc].

    Raises `CondenseError` if a class is smaller than `ipc`.
    """
    check_class_sizes(data, ipc)
    return torch.cat(
        [
            sample(data.class_indices(label), ipc, generator(seed, purpose, label))
            for label in range(len(data.info.classes))
        ]
    )


def check_class_sizes(data: TrainingData, ipc: int) -> None:
    """Raise `CondenseError` if any class has fewer than `ipc` training images."""
    name, count = smallest_class(data)
    if count < ipc:
        raise CondenseError(
            f"--ipc {ipc} is more than the {count} training images of class {name!r}; give at most {count}"
        )


def smallest_class(data: TrainingData) -> tuple[str, int]:
    """The name of the class with the fewest training images, and how many it has."""
    counts = data.class_counts()
    label = min(range(len(counts)), key=counts.__getitem__)
    return data.info.classes[label], counts[label]


def sample(indices: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """`count` of the indices without replacement, or all of them, shuffled, if there are fewer."""
    return indices[torch.randperm(len(indices), generator=draws)[:count]]
