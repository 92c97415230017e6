"""Real data as everybody uses it: a training split and a test split of different types."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from condense.data.images.decoding import ImageShape
from condense.data.info import DataInfo
from condense.data.preprocessing import Preprocessing
from condense.data.sources import PixelSource, SubsetPixels
from condense.data.splitting import stratified_split
from condense.data.survey import fingerprint, survey
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator


class Split(ABC):  # noqa: B024 (a base of two types that differ by what may be done with them)
    """Images: `source` holds the pixels, `labels` is int64 [N] or None, `info` describes the whole data set.

    `part_of` is the fingerprint of the data set that the images belong to: that of `info`, but for a subset, whose
    `info` has a fingerprint of its own.
    """

    def __init__(
        self, source: PixelSource, labels: Tensor | None, info: DataInfo, *, part_of: str | None = None
    ) -> None:
        if labels is not None and len(source) != len(labels):
            raise CondenseError(f"{info.name} has {len(source)} images but {len(labels)} labels in one split")
        self.source = source
        self._labels = labels
        self.info = info
        self.part_of = part_of or info.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self._labels is not None

    @property
    def labels(self) -> Tensor:
        """The class index of each image, int64 [N]; raises `CondenseError` where they were read without labels."""
        if self._labels is None:
            raise CondenseError(
                f"{self.info.name} was read without labels, and this needs them; leave --labels none out"
            )
        return self._labels

    def pixels(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n]) as uint8 [n, C, H, W]; decoded from disk for a streamed split."""
        return self.source.read(indices)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [n]), preprocessed: float32 [n, C, H, W]."""
        return self.info.preprocessing.apply(self.pixels(indices).to(torch.float32).div_(255))

    def class_indices(self, label: int) -> Tensor:
        """Where the images of one class are: int64, ascending."""
        return self._indices_by_class[label]

    def class_counts(self) -> tuple[int, ...]:
        """How many images each class has."""
        return tuple(len(indices) for indices in self._indices_by_class)

    @cached_property
    def _indices_by_class(self) -> tuple[Tensor, ...]:
        counts = torch.bincount(self.labels, minlength=len(self.info.classes))
        parts: tuple[Tensor, ...] = self.labels.argsort(stable=True).split(counts.tolist())
        return parts

    def subset(self, indices: Tensor) -> Self:
        """The images at `indices` (int64 [n]) as a split of the same type; no pixels are copied.

        Its fingerprint is a digest of this one's and of the indices, so nothing that was computed for other images, and
        is kept by their fingerprint, is taken for these.
        """
        pixels, labels = SubsetPixels(self.source, indices), None if self._labels is None else self._labels[indices]
        part = _digest(self.info.fingerprint.encode(), indices.numpy().tobytes())
        return type(self)(pixels, labels, dataclasses.replace(self.info, fingerprint=part), part_of=self.part_of)


class TrainingData(Split):
    """Images to learn from; the only real images that synthesizers and selectors accept."""


class TestData(Split):
    """Images to measure accuracy on, and nothing else."""

    __test__ = False  # pytest would collect a class of this name


@dataclass(frozen=True)
class RealData:
    """A data set: its description, its two splits, and `notes`, sentences about it that its user should read.

    `reading_options` are the options of a command, beside name, size, normalisation and mirroring, that read the same
    images again, in JSON's types; `left_out` names the images that could not be read. Where a split is a subset of that
    of a data set, the fingerprint is a digest of those of both splits.
    """

    info: DataInfo
    train: TrainingData
    test: TestData
    notes: tuple[str, ...] = ()
    reading_options: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        splits = (self.train, self.test)
        if any(split.info.fingerprint != split.part_of for split in splits):
            part = _digest(*(split.info.fingerprint.encode() for split in splits))
            object.__setattr__(self, "info", dataclasses.replace(self.info, fingerprint=part))

    @property
    def name(self) -> str:
        """Base name, never a path."""
        return self.info.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.info.classes

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W)."""
        return self.info.image_shape

    @property
    def mirror(self) -> bool:
        """Whether a mirrored image keeps its class."""
        return self.info.mirror

    @property
    def fingerprint(self) -> str:
        """Digest of classes, pixels and labels."""
        return self.info.fingerprint

    @property
    def preprocessing(self) -> Preprocessing:
        """What `images` applies to pixels in [0, 1]."""
        return self.info.preprocessing

    def holdout(self, fraction: float = 0.1, seed: int = 0) -> RealData:
        """For tuning: the training split in two, stratified; `fraction` of every class becomes the test split.

        The real test split takes no part. The preprocessing stays; the fingerprint is that of the new splits.
        Raises `CondenseError` unless 0 < `fraction` < 1.
        """
        if not 0 < fraction < 1:
            raise CondenseError(f"holdout fraction {fraction} must lie between 0 and 1, for example 0.1")
        keys = torch.randperm(len(self.train), generator=generator(seed, "holdout")).tolist()
        kept, held_out = stratified_split(self.train.labels, keys, fraction)
        train, test = self.train.subset(kept), self.train.subset(held_out)
        content = fingerprint(
            self.classes, self.image_shape, (survey(train.source), train.labels), (survey(test.source), test.labels)
        )
        info = dataclasses.replace(self.info, fingerprint=content)
        return dataclasses.replace(
            self,
            info=info,
            train=TrainingData(train.source, train.labels, info),
            test=TestData(test.source, test.labels, info),
        )


def _digest(*parts: bytes) -> str:
    return hashlib.blake2b(b" ".join(parts), digest_size=16).hexdigest()
