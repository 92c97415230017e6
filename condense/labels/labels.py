"""`Labels`: what the images of a set are labelled with, whatever kind of label that is.

Files store the `kind` of the labels, their attributes and their arrays. Nothing outside this room knows the kinds: who
trains asks for the targets of a batch, which bring their loss, and who compares protocols asks whether there are class
indices, probabilities or values to be predicted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.labels.advisers import Advisers
from condense.labels.combined import Weighted
from condense.labels.plain import PlainImages
from condense.labels.rows import RowArray
from condense.labels.shown import ShownImages
from condense.runtime.errors import CondenseError
from condense.training.presentation import Labelled
from condense.training.sources import ImageSource, Targets, TrainingSource

Attributes = dict[str, str | bool | int | float | list[float]]
Stored = Tensor | RowArray  # an array of labels: read at once, or by rows


class Labels(ABC):
    """One label for each of N images; a `TargetSource`.

    `kind` names what they are. `classes` (int64 [N]) is the class index of each image; None where images have none.
    `soft_per` tells whether they are soft labels, and whether there is one for each image or for each view of it.
    `parts` is how many subclasses each class has: networks have an output for each of them. `asks` tells whether labels
    are asked for while a network is trained.
    """

    kind: ClassVar[str]
    soft_per: ClassVar[Literal["image", "view"] | None] = None
    classes: Tensor | None
    parts: int = 1
    asks: ClassVar[bool] = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """What a network trained on these labels is to say of the images `ids` (int64 [n]) in an epoch."""

    @abstractmethod
    def at(self, rows: Tensor) -> Self:
        """The labels of the images `rows` (int64 [n], any image any number of times)."""

    def source(
        self,
        images: ImageSource,
        plain: PlainImages,
        info: DataInfo,
        *,
        weights: Tensor | None = None,
        advisers: Advisers | None = None,
    ) -> TrainingSource:
        """What a training on these labels takes: the images, preprocessed, which are `plain` as pixels.

        `weights` (float32 [N]) say how much each image counts; `advisers` are teachers for labels that are asked for in
        training. Raises `CondenseError` where labels belong to other images, or need other teachers.
        """
        return Labelled(images, self if weights is None else Weighted(self, weights), info)

    def shown(
        self, plain: PlainImages, info: DataInfo, *, weights: Tensor | None = None, advisers: Advisers | None = None
    ) -> ShownImages:
        """`source` of labels of views; raises `CondenseError` for labels of images as they are."""
        raise CondenseError(
            f"labels of the kind {self.kind} are of images as they are, and there are no views of them to be replayed; "
            "train on the set itself, which is a Dataset"
        )

    @property
    def arrays(self) -> dict[str, Stored]:
        """What a file holds of them beside the class indices; large ones may stay in a file and are read by rows."""
        return {}

    @property
    def attributes(self) -> Attributes:
        """The numbers that a file holds beside the arrays."""
        return {}

    @property
    def probabilities(self) -> Tensor | None:
        """The distribution that the cross-entropy of each image is taken of, float32 [N, K]; None for other labels."""
        return None

    @property
    def likeliest(self) -> Tensor | None:
        """The class that the soft label of each image is largest for, int64 [N]; None for other labels."""
        return None

    @property
    def values(self) -> Tensor | None:
        """What is to be predicted of each image by its squared error, float32 [N, D]; None for labels of classes."""
        return None

    @property
    def encoder(self) -> str | None:
        """The hash of the encoder of whom labels are asked in a training, whatever classes it knows; None for none."""
        return None

    @property
    def bytes(self) -> int:
        """What they cost to keep: class indices and arrays at their dtypes."""
        parts = [*self.arrays.values(), *([] if self.classes is None else [self.classes])]
        return sum(math.prod(part.shape) * part.dtype.itemsize for part in parts)

    @abstractmethod
    def describe(self) -> str:
        """What they are, for people."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """The labels of which a file holds these arrays, attributes and class indices; it has this `kind`.

        Raises `CondenseError` for parts that are missing or do not fit.
        """

    def check(self, images: int, classes: int) -> None:
        """Raise `CondenseError` unless they are those of so many images, of so many classes."""
        if len(self) != images:
            raise CondenseError(f"{images} images need as many labels, not {len(self)}")
        if self.classes is None or not len(self.classes):
            return
        lowest, highest = int(self.classes.min()), int(self.classes.max())
        if lowest < 0 or highest >= classes:
            raise CondenseError(f"labels run from {lowest} to {highest} but {classes} classes allow 0 to {classes - 1}")


def settled(values: Tensor, what: str, dtype: torch.dtype, dimensions: int) -> Tensor:
    """A copy on the processor that nothing changes later; raises `CondenseError` for another dtype or shape."""
    if values.dtype != dtype or values.ndim != dimensions:
        raise CondenseError(
            f"{what} must be {str(dtype).removeprefix('torch.')} of {dimensions} dimension(s), not "
            f"{str(values.dtype).removeprefix('torch.')} of shape {list(values.shape)}"
        )
    return values.detach().cpu().clone(memory_format=torch.contiguous_format)


def whole(arrays: Mapping[str, Stored], name: str) -> Tensor:
    """An array that is read at once; raises `CondenseError` where a file lacks it."""
    array = arrays.get(name)
    if not isinstance(array, Tensor):
        raise CondenseError(f"its labels lack {name}; make it again")
    return array


def read_number(attributes: Mapping[str, Any], name: str) -> float:
    """An attribute of labels in a file; raises `CondenseError` unless it is a number."""
    value = attributes.get(name)
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise CondenseError(f"its labels lack the number {name}; make it again")
    return float(value)


def read_text(attributes: Mapping[str, Any], name: str) -> str | None:
    """An attribute of labels in a file that may be absent; raises `CondenseError` unless it is a text."""
    value = attributes.get(name)
    if not isinstance(value, str | None):
        raise CondenseError(f"its labels have {name} {value!r}, which is no text; make it again")
    return value
