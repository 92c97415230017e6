"""What every reader hands on: pixels and labels of two splits, checked, before resizing and preprocessing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from condense.data.names import shown
from condense.data.preprocessing import Preprocessing
from condense.data.sources import PixelSource, SubsetPixels
from condense.data.splitting import TEST_FRACTION, grouped_split, stratified_split
from condense.data.survey import Survey
from condense.runtime.errors import CondenseError


@dataclass(frozen=True)
class RawData:
    """Two splits as a reader found them.

    `mirror` and `preprocessing` are None where the source does not say, `surveys` (of training and test images) where
    it has none that can be trusted; `files` are all that decide the images and their order, empty where nobody can
    tell; `left_out` names the images that could not be read. `classes` None are those of images that were read without
    labels, which then are all 0. Raises `CondenseError` for data that cannot be classified: a single class, two classes
    of one name, names that are not UTF-8, an empty split, a class without training images, a label without class.
    """

    name: str
    classes: tuple[str, ...] | None
    train: PixelSource
    train_labels: Tensor  # int64 [N]
    test: PixelSource
    test_labels: Tensor
    mirror: bool | None = None
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    surveys: tuple[Survey, Survey] | None = None
    files: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names(self.name, self.classes or ())
        splits = (("train", self.train, self.train_labels), ("test", self.test, self.test_labels))
        for split, pixels, labels in splits:
            self._check_counts(split, len(pixels), len(labels))
        if self.classes is not None:
            self._check_classes(self.classes)

    def _check_classes(self, classes: tuple[str, ...]) -> None:
        if len(classes) < 2:
            found = f"only one class, {classes[0]!r}" if classes else "no class"
            raise CondenseError(f"{self.name} has {found}; it needs at least two")
        doubled = [name for name, count in Counter(classes).items() if count > 1]
        if doubled:
            raise CondenseError(f"{self.name} has several classes called {doubled[0]!r}; give each class its own name")
        for split, labels in (("train", self.train_labels), ("test", self.test_labels)):
            self._check_labels(split, labels, len(classes))
        counts = self.train_labels.bincount(minlength=len(classes))
        if not counts.all():
            missing = classes[int(counts.argmin())]
            raise CondenseError(f"class {missing!r} of {self.name} has no training image; add some or leave it out")

    def _check_counts(self, split: str, images: int, labels: int) -> None:
        if images == 0:
            raise CondenseError(f"the {split} split of {self.name} is empty; it needs at least one image")
        if images != labels:
            raise CondenseError(
                f"the {split} split of {self.name} has {images} images but {labels} labels; give every image one label"
            )

    def _check_labels(self, split: str, labels: Tensor, classes: int) -> None:
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest >= 0 and highest < classes:
            return
        wrong = lowest if lowest < 0 else highest
        hint = ""
        if (lowest, highest) == (1, classes):
            hint = "; they seem to start at 1: subtract 1"
        elif lowest == -1:
            hint = "; -1 usually says that an image has no label: leave such images out"
        raise CondenseError(
            f"the {split} split of {self.name} has label {wrong}, but its {classes} classes are numbered 0 "
            f"to {classes - 1}{hint}"
        )


def check_names(name: str, classes: Sequence[str]) -> None:
    """Raise `CondenseError` unless the name of a data set and those of its classes can be stored in files.

    Names of folders are bytes; Python marks those that are not UTF-8 by lone surrogates.
    """
    for what, text in (("data set", name), *(("class", text) for text in classes)):
        if not _is_text(text):
            shown = ascii(text).replace("\\udc", "\\x")
            raise CondenseError(
                f"the name {shown} of a {what} is not UTF-8 text, so it cannot be stored; rename it (convmv -f latin1 "
                "-t utf8 -r --notest does it for a whole tree)"
            )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def split_off_test(
    name: str,
    classes: tuple[str, ...] | None,
    pixels: PixelSource,
    labels: Tensor,
    keys: Sequence[bytes],
    *,
    groups: Sequence[Hashable] | None = None,
    mirror: bool | None = None,
) -> RawData:
    """Data that comes in one piece: 20 % of every class, chosen by content (`keys`), becomes the test split.

    With `groups`, one for each image, all images of a group come to one side.
    """
    if groups is None:
        kept, held_out = stratified_split(labels, keys, TEST_FRACTION)
    else:
        kept, held_out = grouped_split(labels, keys, groups, TEST_FRACTION)
    if len(labels) and not len(held_out):
        reason = "every class has a single image" if groups is None else "no class can spare a sub-folder"
        reason = "there is a single image" if classes is None else reason
        raise CondenseError(
            f"{name} has no test split, and none can be split off because {reason}; add a test split or more images"
        )
    return RawData(
        name,
        classes,
        SubsetPixels(pixels, kept),
        labels[kept],
        SubsetPixels(pixels, held_out),
        labels[held_out],
        mirror,
    )


def without_labels(raw: RawData) -> RawData:
    """The same images as if nobody had said what they are."""
    nothing = (torch.zeros(len(part), dtype=torch.int64) for part in (raw.train, raw.test))
    train_labels, test_labels = nothing
    return dataclasses.replace(raw, classes=None, train_labels=train_labels, test_labels=test_labels)


def split_note(raw: RawData, *, grouped: bool = False) -> str:
    """The sentence that tells about such a split."""
    test, total = len(raw.test), len(raw.train) + len(raw.test)
    share = "whole sub-folders, near 20 % of every class" if grouped else "20 % of every class, at least one"
    share = "20 %" if raw.classes is None else share
    return f"{raw.name} has no test split; {test} of its {total} images ({share}) became one"


def note_on_broken(names: Sequence[str]) -> tuple[str, ...]:
    """What to say about images that were left out because they cannot be read."""
    if not names:
        return ()
    lists = "; condense pack lists all of them" if len(names) > 5 else ""
    return (f"{len(names)} image(s) that cannot be read were left out: {shown(names)}{lists}",)


def reason(error: Exception) -> str:
    """What another package's exception says, on one line.

    >>> reason(RuntimeError("no file:\\n  a.gz"))
    'no file: a.gz'
    """
    return " ".join(str(error).split()) or type(error).__name__
