"""What a synthetic set holds: images, labels and everything one has to know to train on them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from condense.data.info import DataInfo
from condense.data.preprocessing import Whitening
from condense.labels import HardLabels, Labels
from condense.labels.plain import PlainImages
from condense.runtime.errors import CondenseError
from condense.runtime.inputs import as_json
from condense.sets.decoders import Decoder
from condense.sets.large import Images, StoredRows, in_memory
from condense.sets.spaces import SPACES, find_space, usual_space

OF_IMAGES = {"weights": torch.float32, "source_indices": torch.int64, "scores": torch.float64}  # [N] each


@dataclass(frozen=True, kw_only=True, eq=False)
class SetContent(Dataset[tuple[Tensor, Tensor]]):
    """What a `SyntheticSet` holds; also a torch `Dataset` of (image, label).

    Args:
        stored: what the file holds, float32 or uint8 [N, C, H, W] (or what the decoder says), in memory or, where it is
            large, read from files; `.images` always gives what networks train on.
        stored_labels: the label of each stored image, or of each training image that a decoder makes of them (see
            `condense.labels`); class indices alone may be given as int64 [N]. Indices are in the order of
            `info.classes`.
        info: the real data it stands for: name, classes, image shape, preprocessing, mirror, fingerprint.
        space: what the stored numbers are, by the name of a `Space`; by default float32 images in preprocessed space
            and uint8 pixels of real images.
        decoder: what makes the training images, often several, of each stored one; None if they are the same.
        weights: how much each stored image counts in training, float32 [N], not negative; None if all count alike.
        source_indices: of which training image of the real data each stored one is a copy, int64 [N]; None if none is.
        scores: what each stored image was chosen by, float64 [N]; None if by no score.
        learned_lr: learning rate that was learned with the images, positive; None if none was.
        mirrored: whether mirror images of the training images stood beside them while they were learned.
        augmentation: the augmentation it was made for, as JSON-able values; None for none or unknown.
        protocol: name of the evaluation protocol it was made for; None for no particular one.
        provenance: how it was made (configuration, command, versions, ...), JSON-able; neither times nor paths.
        metrics: values recorded while it was made, one float64 series [iterations] for each name.

    Everything called `stored` is what the file holds; `images`, `labels`, `training_labels` and `len` are about the M
    images that networks train on, M = N without a decoder.

    Raises `CondenseError` where any of this does not fit together. Tensors are moved to the CPU and detached.
    """

    stored: Images
    stored_labels: Labels
    info: DataInfo
    space: str = ""
    decoder: Decoder | None = None
    weights: Tensor | None = None
    source_indices: Tensor | None = None
    scores: Tensor | None = None
    learned_lr: float | None = None
    mirrored: bool = False
    augmentation: dict[str, Any] | None = None
    protocol: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = self.stored_labels
        self._replace(
            stored=self.stored if isinstance(self.stored, StoredRows) else _settled(self.stored),
            stored_labels=HardLabels(labels) if isinstance(labels, Tensor) else labels,
            space=self.space or usual_space(self.stored).name,
            augmentation=as_json("augmentation", self.augmentation),
            provenance=as_json("provenance", self.provenance),
            metrics={name: _settled(series).double() for name, series in self.metrics.items()},
            **{name: None if value is None else _settled(value) for name, value in self._of_images().items()},
        )
        _check_images(self)
        self.stored_labels.check(len(self) if self._labels_decoded else len(self.stored), len(self.info.classes))
        _check_values_of_images(self)
        _check_numbers(self)

    def _replace(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the way that a frozen dataclass leaves to its own constructor

    def _of_images(self) -> dict[str, Tensor | None]:
        """What there may be of each stored image beside its label."""
        return {name: getattr(self, name) for name in OF_IMAGES}

    def __len__(self) -> int:
        stored = len(self.stored)
        return stored if self.decoder is None else self.decoder.images_in(stored)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image `index`, float32 [C, H, W], and its label: an int64 index, or what its loss compares with, [K].

        Raises `CondenseError` for labels of views, which belong to no image as it is (see `SyntheticSet.replay`).
        """
        image = self.images[index]  # raises IndexError where there is none
        return image, self.training_labels.for_batch(0, torch.tensor([index])).values[0]

    @functools.cached_property
    def images(self) -> Tensor:
        """Training-ready images, float32 [M, C, H, W] in preprocessed space; decoded and prepared at the first use."""
        return SPACES[self.space].prepared(self._decoded, self.info.preprocessing)

    @property
    def plain_images(self) -> Tensor:
        """The images with their preprocessing undone, float32 [M, C, H, W] in about [0, 1], not clipped."""
        return SPACES[self.space].plain(self._decoded, self.info.preprocessing)

    def pixels_at(self, indices: Tensor) -> Tensor:
        """The training images at `indices` (int64 [n]), preprocessing undone and clipped: float32 [n, C, H, W].

        What teachers and views are shown; an image is the same bits in whatever batch it is asked for.
        """
        if self._rows is None and not self.stored.is_floating_point():
            return self.pictures_at(indices)
        if self._by_rows and not isinstance(self.info.preprocessing, Whitening):  # which depends on what is beside
            return self.pictures_at(indices).clamp(0, 1)
        return self._clipped[indices]

    def images_at(self, indices: Tensor) -> Tensor:
        """The training-ready images at `indices` (int64 [n]), float32 [n, C, H, W]; of a large set, these are read."""
        if self._by_rows:
            return SPACES[self.space].prepared(self.stored[indices], self.info.preprocessing)
        return self.images[indices]

    @property
    def _by_rows(self) -> bool:
        """Whether images stay in files, each training image one of them."""
        return isinstance(self.stored, StoredRows) and self._rows is None

    def pictures_at(self, rows: Tensor) -> Tensor:
        """The stored images at `rows` (int64 [n]), preprocessing undone: float32 [n, C, H, W] in about [0, 1].

        They are decoded only where each is one training image: a mosaic of several is shown as it is.
        """
        stored = self.stored[rows]
        if self.decoder is not None and self._rows is None:
            stored = self.decoder.at(rows).decode(stored, fill=SPACES[self.space].grey)
        return SPACES[self.space].plain(stored, self.info.preprocessing)

    @functools.cached_property
    def plain(self) -> PlainImages:
        """The training images as `pixels_at` gives them."""
        return PlainImages(len(self), self.pixels_at)

    @functools.cached_property
    def _clipped(self) -> Tensor:
        return self.plain_images.clamp(0, 1)

    @property
    def _decoded(self) -> Tensor:
        if self.decoder is None:
            return in_memory(self.stored)
        return self.decoder.decode(in_memory(self.stored), fill=SPACES[self.space].grey)

    @functools.cached_property
    def training_labels(self) -> Labels:
        """The labels of the training images."""
        if self._rows is None or self._labels_decoded:
            return self.stored_labels
        return self.stored_labels.at(self._rows)

    @property
    def _labels_decoded(self) -> bool:
        """Whether there is a label for each training image, and not for each of the fewer stored ones."""
        return self._rows is not None and len(self.stored_labels) == len(self)

    @functools.cached_property
    def stored_classes(self) -> Tensor | None:
        """Class index of each stored image, int64 [N]; None where images have none."""
        classes = self.stored_labels.classes
        if classes is None or self._rows is None or not self._labels_decoded:
            return classes
        stored = torch.zeros(len(self.stored), dtype=torch.int64)
        stored[self._rows] = classes
        return stored

    @property
    def training_weights(self) -> Tensor | None:
        """The weights of the training images, float32 [M]; None if all count alike."""
        return self.of_training_images().get("weights")

    def of_training_images(self) -> dict[str, Tensor]:
        """Weights, source indices and scores of the training images, [M] each, as far as there are any, by name.

        Those of an image that is decoded to several are those of each of them.
        """
        values = {name: value for name, value in self._of_images().items() if value is not None}
        return values if self._rows is None else {name: value[self._rows] for name, value in values.items()}

    @functools.cached_property
    def _rows(self) -> Tensor | None:
        """The stored image that each training image is made of; None if each is made of its own, in this order."""
        decoder, stored = self.decoder, len(self.stored)
        if decoder is None or (not decoder.by_place and decoder.images_in(stored) == stored):
            return None
        return decoder.rows(stored)

    @property
    def labels(self) -> Tensor:
        """Class index of each training image, int64 [M]; raises `CondenseError` where images have none."""
        classes = self.training_labels.classes
        if classes is None:
            raise CondenseError(f"the images have no class index, only labels of the kind {self.label_kind}")
        return classes

    @property
    def label_kind(self) -> str:
        """What the labels are, such as `hard`, `logits` or `views`."""
        return self.stored_labels.kind

    @property
    def targets(self) -> Tensor | None:
        """What training images are labelled with beside class indices, as it is stored: float32 [M, K]; None for none.

        None, too, for labels that are not one row for each image.
        """
        values = self.training_labels.arrays.get("values")
        return values if isinstance(values, Tensor) else None

    @property
    def probabilities(self) -> Tensor | None:
        """Soft labels of the training images as probabilities, float32 [M, K]; None for other labels."""
        return self.training_labels.probabilities

    @property
    def configuration(self) -> dict[str, Any]:
        """What it was made by: method, settings, seed and more; empty where its provenance does not tell."""
        match self.provenance.get("configuration"):
            case dict() as found if isinstance(found.get("settings", {}), dict):
                return found
            case _:
                return {}

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Stored images of each class, in the order of the classes; empty where images have no class index."""
        classes = self.stored_classes
        if classes is None:
            return ()
        return tuple(torch.bincount(classes, minlength=len(self.info.classes)).tolist())

    @property
    def ipc(self) -> int | None:
        """Stored images per class; None if there is no such number (see `class_counts`)."""
        counts = set(self.class_counts)
        return counts.pop() if len(counts) == 1 else None

    @property
    def bytes(self) -> int:
        """What the set costs to keep: stored images at their dtype, labels, weights and the decoder.

        Source indices and scores are not counted: no training needs them.
        """
        tensors = [part for part in (self.stored, self.weights) if part is not None]
        decoder = 0 if self.decoder is None else self.decoder.bytes
        return sum(part.numel() * part.element_size() for part in tensors) + self.stored_labels.bytes + decoder

    def first(self, count: int) -> Self:
        """The first `count` stored images of each class: a smaller set, for methods that choose in a good order.

        A class without images stays without. Raises `CondenseError` where another has fewer, where images have no
        class, where they are decoded by their place in a class, and where labels are of these images only.
        """
        classes = self.stored_classes
        if classes is None:
            raise CondenseError("images without class index have no first ones of a class")
        if self._labels_decoded:
            raise CondenseError(
                f"--first {count}: the labels are those of the decoded images; take the first images of the set that "
                "was relabelled, and relabel those"
            )
        if self.decoder is not None and self.decoder.by_place:
            raise CondenseError(
                f"--first {count}: images are decoded by their place in a class ({self.decoder.kind}), so that a part "
                "of them cannot be; leave it out"
            )
        fewest = min(number for number in self.class_counts if number)
        if not 1 <= count <= fewest:
            raise CondenseError(f"--first {count}: the smallest class has {fewest} stored images; give 1 to {fewest}")
        places = [(classes == label).nonzero().flatten()[:count] for label in range(len(self.info.classes))]
        rows = torch.cat(places).sort().values
        changes: dict[str, Any] = {name: value[rows] for name, value in self._of_images().items() if value is not None}
        changes["decoder"] = None if self.decoder is None else self.decoder.at(rows)
        changes["provenance"] = {**self.provenance, "first of each class": count}
        return replace(self, stored=self.stored[rows], stored_labels=self.stored_labels.at(rows), **changes)

    def check_matches(self, info: DataInfo) -> str | None:
        """Make sure that the set can be used with the data that `info` describes.

        Returns a sentence for the user if the data is the same in kind but not in its images (another fingerprint),
        else None. Raises `CondenseError` for other classes, another order of classes or another image shape. The
        preprocessing may differ: test images must always get the set's own.
        """
        _check_same_classes(self.info, info)
        if self.info.image_shape != info.image_shape:
            raise CondenseError(
                f"the set has images of shape {list(self.info.image_shape)} but {info.name} has "
                f"{list(info.image_shape)}; load the data at that --image-size, or {_way_out(self.info)}"
            )
        if self.info.fingerprint == info.fingerprint:
            return None
        return (
            f"the set was made from {self.info.name} with fingerprint {self.info.fingerprint[:12]}, but this "
            f"{info.name} has {info.fingerprint[:12]}: same classes, other images or another split"
        )


def _settled(tensor: Tensor) -> Tensor:
    """A copy that no optimiser changes later and that keeps no larger tensor alive."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _check_images(synthetic: SetContent) -> None:
    stored, info, space = synthetic.stored, synthetic.info, find_space(synthetic.space)
    if stored.dtype != space.dtype:
        raise CondenseError(f"images stored as {space.name} are {space.dtype}, not {stored.dtype}; convert them")
    shape: tuple[int, ...] = info.image_shape
    if synthetic.decoder is not None:
        synthetic.decoder.check(info.image_shape, len(stored))
        if stored.dtype not in synthetic.decoder.dtypes:
            names = " or ".join(str(dtype).removeprefix("torch.") for dtype in synthetic.decoder.dtypes)
            raise CondenseError(
                f"images that are decoded as {synthetic.decoder.kind} are stored as {names}; convert them"
            )
        shape = synthetic.decoder.stored_shape(info.image_shape)
    if tuple(stored.shape[1:]) != tuple(shape) or not len(stored):
        raise CondenseError(
            f"the images have shape {list(stored.shape)} but {info.name} needs N > 0 images of {list(shape)}"
        )
    if isinstance(stored, StoredRows):  # as runs write them, which guard every update
        return
    broken = int((~torch.isfinite(stored)).flatten(1).any(1).sum())
    if broken:
        raise CondenseError(
            f"{broken} of {len(stored)} images hold values that are not finite; the run that made them diverged: "
            "lower its learning rate"
        )


def _check_values_of_images(synthetic: SetContent) -> None:
    count = len(synthetic.stored)
    for name, dtype in OF_IMAGES.items():
        value = getattr(synthetic, name)
        if value is None:
            continue
        if value.dtype != dtype or value.shape != (count,):
            raise CondenseError(
                f"{name} of {count} images must be {dtype} of shape [{count}], not {value.dtype} of {list(value.shape)}"
            )
        if not torch.isfinite(value).all():
            raise CondenseError(f"{name} hold values that are not finite")
        if name != "scores" and (value < 0).any():
            raise CondenseError(f"{name} are negative for some images")
    if synthetic.weights is not None and not synthetic.weights.any():
        raise CondenseError("every weight is zero, so that nothing would be trained on")


def _check_numbers(synthetic: SetContent) -> None:
    rate = synthetic.learned_lr
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise CondenseError(f"learned_lr {rate} must be a positive number")
    for name, series in synthetic.metrics.items():
        if series.ndim != 1 or not name or "/" in name or name == ".":
            raise CondenseError(f"metric {name!r} of shape {list(series.shape)} must be one series with a plain name")


def _check_same_classes(mine: DataInfo, other: DataInfo) -> None:
    if mine.classes == other.classes:
        return
    if len(mine.classes) != len(other.classes):
        raise CondenseError(
            f"the set has {len(mine.classes)} classes but {other.name} has {len(other.classes)}; {_way_out(mine)}"
        )
    label = next(i for i, (a, b) in enumerate(zip(mine.classes, other.classes)) if a != b)
    what = "another order of classes" if sorted(mine.classes) == sorted(other.classes) else "other classes"
    raise CondenseError(
        f"{other.name} has {what} than the set: label {label} is {mine.classes[label]!r} in the set and "
        f"{other.classes[label]!r} in {other.name}; {_way_out(mine)}"
    )


def _way_out(info: DataInfo) -> str:
    return f"give the data that the set was made from ({info.name})"
