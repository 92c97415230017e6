"""The synthetic set as its user holds it: its content, and its ways into files and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from condense.labels.advisers import Advisers
from condense.runtime.errors import CondenseError
from condense.sets.content import SetContent
from condense.sets.description import describe_set
from condense.sets.exporting import export_set
from condense.sets.file import read_set, write_set
from condense.sets.pictures import brought_into_range, picture_rows
from condense.sets.replay import ReplayDataset, ReplaySampler

if TYPE_CHECKING:
    from PIL import Image

_GRID_ROWS = 100  # a picture of all classes of a large data set would be too tall for any viewer


class SyntheticSet(SetContent):
    """A small set of images that stands for a large one: a `SetContent` that can be saved, loaded, exported and seen.

    It is made from the arguments of `SetContent`, which has its images and labels.
    """

    def save(self, path: str | Path) -> None:
        """Write the set to an HDF5 file (see docs/format.md), atomically; the same set always gives the same bytes.

        Raises `CondenseError` if the file cannot be written.
        """
        write_set(path, self)

    @classmethod
    def load(cls, path: str | Path) -> SyntheticSet:
        """Read a set and verify it.

        Raises `CondenseError` for a file that is missing, no synthetic set, cut short, altered or too new.
        """
        arguments = read_set(path)
        try:
            return cls(**arguments)
        except CondenseError as error:
            raise CondenseError(f"{path}: {error}") from error

    def replay(
        self, *, teacher: Advisers | None = None, seed: int = 0, epoch: int = 0
    ) -> tuple[ReplayDataset, ReplaySampler]:
        """Its views with their labels, and a sampler that goes through them, for a `DataLoader` (see `sets.replay`).

        `teacher` is the committee that online labels ask for, `seed` that of the order of images, `epoch` the first
        one. Raises `CondenseError` for labels that are not of views, and for images that do not count alike.
        """
        if self.weights is not None:
            raise CondenseError("the images of the set have weights, which are not replayed; train on the set itself")
        source = self.training_labels.shown(self.plain, self.info, advisers=teacher)
        return ReplayDataset(source), ReplaySampler(source, seed, epoch)

    def export(self, path: str | Path, to: str, *, overwrite: bool = False) -> None:
        """Write the set in a form that other programs read: `folder`, `torch` or `huggingface`.

        Raises `CondenseError` for an unknown form, for a form whose package is missing, and for a `path` that exists
        unless `overwrite` allows to replace it.
        """
        export_set(self, path, to, overwrite=overwrite)

    def grid(self, per_class: int = 10) -> Image.Image:
        """A picture with a row for each class and at most `per_class` stored images in it, preprocessing undone.

        Images without class index stand in rows as they come. For display only, images that leave [0, 1] get less
        contrast. At most the first 100 rows are shown.
        """
        indices = self.stored_classes
        classes: tuple[str, ...] = ()
        if indices is None:
            rows = list(torch.arange(len(self.stored)).split(per_class))[:_GRID_ROWS]
        else:
            classes = self.info.classes[:_GRID_ROWS]
            rows = [torch.nonzero(indices == label).flatten()[:per_class] for label in range(len(classes))]
        images = [brought_into_range(self.pictures_at(row)) for row in rows]
        return picture_rows(images, names=classes)

    def describe(self) -> dict[str, str]:
        """What the set is and how it was made, as rows of name and text for people to read."""
        return describe_set(self)
