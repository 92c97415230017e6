"""Which images are recovered together: a layout cuts a set into slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Layout = Literal["ipc-index", "mixed", "per-class"]


@dataclass(frozen=True, eq=False)
class Slice:
    """Images that share batches: the class of each, and its place among the images of that class; int64 [n] both."""

    number: int
    labels: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def slices_of(layout: Layout, classes: int, ipc: int, size: int) -> list[Slice]:
    """All images of a set in slices of at most `size`.

    - `ipc-index`: one image of each of several classes, those of one place: what the released code of SRe2L does.
      Statistics are then those of different classes, and sets of fewer images per class are parts of larger ones.
    - `mixed`: as that, but places go together as far as a slice has room, so that a few classes fill one too.
    - `per-class`: images of one class (LPLD); never of two.

    >>> [part.labels.tolist() for part in slices_of("ipc-index", classes=3, ipc=2, size=2)]
    [[0, 1], [2], [0, 1], [2]]
    >>> [part.labels.tolist() for part in slices_of("mixed", classes=3, ipc=2, size=4)]
    [[0, 1, 2, 0], [1, 2]]
    >>> [part.labels.tolist() for part in slices_of("per-class", classes=2, ipc=3, size=2)]
    [[0, 0], [0], [1, 1], [1]]
    """
    labels, places = torch.arange(classes), torch.arange(ipc)
    if layout == "per-class":
        groups = [(labels.new_full((ipc,), label), places) for label in range(classes)]
    elif layout == "mixed":
        groups = [(labels.repeat(ipc), places.repeat_interleave(classes))]
    else:
        groups = [(labels, places.new_full((classes,), place)) for place in range(ipc)]
    parts = [pair for group in groups for pair in zip(*(values.split(size) for values in group))]
    return [Slice(number, *part) for number, part in enumerate(parts)]
