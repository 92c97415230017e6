"""What a synthetic set holds: images, labels and everything one has to know to train on them."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from condense.data.info import DataInfo
from condense.runtime.errors import CondenseError
from condense.sets.decoders import Tiles
from condense.sets.spaces import SPACES, find_space, usual_space

LabelKind = Literal["hard", "probabilities", "logits"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SetContent(Dataset[tuple[Tensor, Tensor]]):
    """What a `SyntheticSet` holds; also a torch `Dataset` of (image, label).

    Args:
        stored: what the file holds, float32 or uint8 [N, C, H, W]; `.images` always gives what networks train on.
        stored_labels: class index of each stored image, int64 [N], in the order of `info.classes`.
        info: the real data it stands for: name, classes, image shape, preprocessing, mirror, fingerprint.
        space: what the stored numbers are, by the name of a `Space`; by default float32 images in preprocessed space
            and uint8 pixels of real images.
        decoder: what makes several training images of each stored one; None if they are the training images.
        stored_targets: the stored images' own soft labels, float32 [N, K] for K classes; None where they are hard.
        label_kind: what the targets are: `probabilities` (rows sum to 1) or `logits`; `hard` without them.
        temperature: logits are divided by it before the softmax; for probabilities, the one they were made with.
        learned_lr: learning rate that was learned with the images, positive; None if none was.
        augmentation: the augmentation it was made for, as JSON-able values; None for none or unknown.
        protocol: name of the evaluation protocol it was made for; None for no particular one.
        provenance: how it was made (configuration, command, versions, ...), JSON-able; neither times nor paths.
        metrics: values recorded while it was made, one float64 series [iterations] for each name.

    Everything called `stored` is what the file holds; `images`, `labels`, `targets` and `len` are about the M images
    that networks train on, M = N without a decoder.

    Raises `CondenseError` where any of this does not fit together. Tensors are moved to the CPU and detached.
    """

    stored: Tensor
    stored_labels: Tensor
    info: DataInfo
    space: str = ""
    decoder: Tiles | None = None
    stored_targets: Tensor | None = None
    label_kind: LabelKind = "hard"
    temperature: float = 1.0
    learned_lr: float | None = None
    augmentation: dict[str, Any] | None = None
    protocol: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._replace(
            stored=_settled(self.stored),
            stored_labels=_settled(self.stored_labels),
            space=self.space or usual_space(self.stored).name,
            stored_targets=None if self.stored_targets is None else _settled(self.stored_targets),
            augmentation=_as_json("augmentation", self.augmentation),
            provenance=_as_json("provenance", self.provenance),
            metrics={name: _settled(series).double() for name, series in self.metrics.items()},
        )
        _check_images(self)
        _check_labels(self.stored_labels, len(self.stored), self.info)
        _check_targets(self)
        _check_numbers(self)

    def _replace(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the way that a frozen dataclass leaves to its own constructor

    def __len__(self) -> int:
        stored = len(self.stored_labels)
        return stored if self.decoder is None else self.decoder.images_in(stored)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image `index`, float32 [C, H, W], and its label: an int64 index, or probabilities [K] if it has its own."""
        probabilities = self.probabilities
        return self.images[index], self.labels[index] if probabilities is None else probabilities[index]

    @functools.cached_property
    def images(self) -> Tensor:
        """Training-ready images, float32 [M, C, H, W] in preprocessed space; decoded and prepared at the first use."""
        return SPACES[self.space].prepared(self._decoded, self.info.preprocessing)

    @property
    def plain_images(self) -> Tensor:
        """The images with their preprocessing undone, float32 [M, C, H, W] in about [0, 1], not clipped."""
        return SPACES[self.space].plain(self._decoded, self.info.preprocessing)

    @property
    def _decoded(self) -> Tensor:
        if self.decoder is None:
            return self.stored
        return self.decoder.decode(self.stored, fill=SPACES[self.space].grey)

    @functools.cached_property
    def labels(self) -> Tensor:
        """Class index of each training image, int64 [M]."""
        return self._repeated(self.stored_labels)

    @property
    def targets(self) -> Tensor | None:
        """Soft labels of the training images as they are stored, float32 [M, K]; None for hard labels."""
        return None if self.stored_targets is None else self._repeated(self.stored_targets)

    def _repeated(self, values: Tensor) -> Tensor:
        return values if self.decoder is None else self.decoder.repeat(values)

    @functools.cached_property
    def probabilities(self) -> Tensor | None:
        """The soft labels as probabilities [M, K], `softmax(logits / temperature)` of logits; None for hard labels."""
        targets = self.targets
        if targets is None or self.label_kind == "probabilities":
            return targets
        return torch.softmax(targets / self.temperature, dim=-1)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Stored images of each class, in the order of the classes."""
        return tuple(torch.bincount(self.stored_labels, minlength=len(self.info.classes)).tolist())

    @property
    def ipc(self) -> int | None:
        """Stored images per class; None if the classes have different numbers (see `class_counts`)."""
        counts = set(self.class_counts)
        return counts.pop() if len(counts) == 1 else None

    @property
    def bytes(self) -> int:
        """What the set costs to keep: stored images at their dtype, labels, soft labels and the decoder."""
        parts = (self.stored, self.stored_labels, self.stored_targets)
        tensors = sum(part.numel() * part.element_size() for part in parts if part is not None)
        return tensors + (0 if self.decoder is None else self.decoder.bytes)

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


def _as_json(name: str, value: Any) -> Any:
    """`value` as a JSON file would give it back, so that a set equals the one loaded from its file."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CondenseError(f"{name} must be values that JSON can hold: {error}") from error


def _check_images(synthetic: SetContent) -> None:
    stored, info, space = synthetic.stored, synthetic.info, find_space(synthetic.space)
    if stored.dtype != space.dtype:
        raise CondenseError(f"images stored as {space.name} are {space.dtype}, not {stored.dtype}; convert them")
    if synthetic.decoder is not None:
        synthetic.decoder.tile_size(*info.image_shape[1:])
        synthetic.decoder.images_in(len(stored))  # refuses parts of classes where these matter
        if not stored.is_floating_point():
            raise CondenseError("pixels of real images have no decoder; store images that are decoded as float32")
    if tuple(stored.shape[1:]) != tuple(info.image_shape) or not len(stored):
        raise CondenseError(
            f"the images have shape {list(stored.shape)} but {info.name} needs N > 0 images of {list(info.image_shape)}"
        )
    broken = int((~torch.isfinite(stored)).flatten(1).any(1).sum())
    if broken:
        raise CondenseError(
            f"{broken} of {len(stored)} images hold values that are not finite; the run that made them diverged: "
            "lower its learning rate"
        )


def _check_labels(labels: Tensor, images: int, info: DataInfo) -> None:
    if labels.dtype != torch.int64 or labels.shape != (images,):
        raise CondenseError(
            f"{images} images need int64 labels of shape [{images}], not {labels.dtype} of {list(labels.shape)}"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= len(info.classes):
        raise CondenseError(
            f"labels run from {lowest} to {highest} but the {len(info.classes)} classes of {info.name} allow "
            f"0 to {len(info.classes) - 1}"
        )


def _check_targets(synthetic: SetContent) -> None:
    targets, kind = synthetic.stored_targets, synthetic.label_kind
    if kind not in ("hard", "probabilities", "logits"):
        raise CondenseError(f"label_kind {kind!r} is unknown; give hard, probabilities or logits")
    if (targets is None) != (kind == "hard"):
        given = "no targets" if targets is None else "targets"
        raise CondenseError(f"label_kind {kind!r} with {given}; soft labels need both targets and what they are")
    if targets is None:
        return
    expected = (len(synthetic.stored), len(synthetic.info.classes))
    if targets.dtype != torch.float32 or targets.shape != expected:
        raise CondenseError(
            f"soft labels must be float32 of shape {list(expected)}, not {targets.dtype} of {list(targets.shape)}"
        )
    if not torch.isfinite(targets).all():
        raise CondenseError("soft labels hold values that are not finite; the run that made them diverged")
    if kind == "probabilities" and ((targets < 0).any() or ((targets.sum(1) - 1).abs() > 1e-3).any()):
        raise CondenseError("soft labels are no probabilities (some are negative or do not sum to 1); are they logits?")


def _check_numbers(synthetic: SetContent) -> None:
    for name, value in (("temperature", synthetic.temperature), ("learned_lr", synthetic.learned_lr)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise CondenseError(f"{name} {value} must be a positive number")
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
