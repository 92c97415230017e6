"""Which image files a tree has: for each split the files, their classes and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from condense.data.readers.folders.sequences import Place


@dataclass(frozen=True)
class Listing:
    """The image files of one split, class by class and sorted; names are relative to the root of the tree.

    `labels` is int64 [N]; `others` are files without an image suffix; `places` (empty where there are no labels) and
    `groups` are those of the images: images of one group (a sub-folder of a class, the folder of a file in a table)
    come to one side of a split that is made by groups, None being a group of its own.
    """

    names: list[str]
    labels: Tensor
    places: list[Place]
    groups: list[str | None]
    others: list[str] = field(default_factory=list)

    def kept(self, positions: Sequence[int]) -> Listing:
        """Those at these positions."""
        return Listing(
            [self.names[position] for position in positions],
            self.labels[torch.tensor(positions, dtype=torch.int64)],
            [self.places[position] for position in positions] if self.places else [],
            [self.groups[position] for position in positions],
            self.others,
        )


@dataclass(frozen=True)
class Tree:
    """What a tree has: `test` None if a split has to be made, `test_name` what holds the test images.

    `classes` is None where images are read without labels.

    `tables` are the files that labels come from, `missing` the files that they name and that are not there.
    """

    root: Path
    classes: tuple[str, ...] | None
    train: Listing
    test: Listing | None
    test_name: str = ""
    tables: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """That of its root, which is the name of the data set; Tiny-ImageNet has the one that recipes know."""
        name = self.root.resolve().name
        return "tiny-imagenet" if name == "tiny-imagenet-200" else name
