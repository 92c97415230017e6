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
    counts = data.class_counts()
    smallest = min(range(len(counts)), key=counts.__getitem__)
    if counts[smallest] < ipc:
        raise CondenseError(
            f"--ipc {ipc} is more than the {counts[smallest]} training images of class "
            f"{data.info.classes[smallest]!r}; give at most {counts[smallest]}"
        )


def sample(indices: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """`count` of the indices without replacement, or all of them, shuffled, if there are fewer."""
    return indices[torch.randperm(len(indices), generator=draws)[:count]]
