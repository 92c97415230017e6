"""Labels of sets from elsewhere: what they are, and which class each image is of."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.labels import HardLabels, Labels, LogitLabels, ProbabilityLabels
from condense.runtime.errors import CondenseError

# how far from 1 the probabilities of an image may sum to, by rounding in the type they are stored in
_ROUNDING = {torch.float16: 4e-3, torch.bfloat16: 4e-3, torch.float32: 1e-5, torch.float64: 1e-5}


def imported_labels(labels: Tensor | None, targets: Tensor | None, images: int, info: DataInfo) -> Labels:
    """The labels of so many images.

    `labels` are class indices [N] or [N, 1] in any order of the images, one-hot rows [N, K], or soft labels [N, K] of
    images that lie class by class; `targets` are soft labels of images whose classes `labels` has. Without either, the
    images lie class by class. Soft labels are probabilities where every row is one distribution, else logits.

    Raises `CondenseError` where they are none of these, or do not fit `info`.
    """
    if labels is None:
        return HardLabels(_by_class_order(images, info))
    if targets is not None and _are_soft(labels, info):
        labels, targets = targets, labels  # which of the two names has which, differs
    if _are_soft(labels, info) and targets is None:
        return _soft_labels(_classes_of_soft_labels(labels, info), labels)
    classes = _class_indices(labels, info)
    if targets is None:
        return HardLabels(classes)
    if not _are_soft(targets, info):
        raise CondenseError(
            f"its targets have shape {list(targets.shape)} and {targets.dtype}; {info.name} needs soft labels [N, "
            f"{len(info.classes)}] beside class indices"
        )
    return _soft_labels(classes, targets)


def _class_indices(labels: Tensor, info: DataInfo) -> Tensor:
    if _are_one_hot(labels, info):
        return labels.long().argmax(1)
    if labels.is_floating_point() or not labels.ndim or tuple(labels.shape) not in ((len(labels),), (len(labels), 1)):
        raise CondenseError(
            f"its labels have shape {list(labels.shape)} and {labels.dtype}; {info.name} needs integers [N] or soft "
            f"labels [N, {len(info.classes)}]"
        )
    return labels.flatten().long()


def _are_one_hot(labels: Tensor, info: DataInfo) -> bool:
    """Whether labels [N, K] are 1 at the image's class and 0 elsewhere: class indices, written out."""
    if labels.ndim != 2 or labels.shape[1] != len(info.classes) or not len(labels):
        return False
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())


def _are_soft(labels: Tensor, info: DataInfo) -> bool:
    shaped = labels.ndim == 2 and labels.shape[1] == len(info.classes)
    return shaped and labels.is_floating_point() and not _are_one_hot(labels, info)


def _soft_labels(classes: Tensor, labels: Tensor) -> Labels:
    if _are_probabilities(labels):
        return ProbabilityLabels(_normalised(labels), classes)
    return LogitLabels(labels.float(), classes)


def _are_probabilities(labels: Tensor) -> bool:
    """Whether soft labels [N, K] are probabilities: no number is negative, and every row sums to 1.

    Projects store either kind and say nowhere which (TESLA: probabilities; DATM: logits). Raises `CondenseError` where
    some rows are distributions and others are not.
    """
    exact = labels.double()
    distributions = (exact >= 0).all(1) & ((exact.sum(1) - 1).abs() <= _ROUNDING[labels.dtype])
    count = int(distributions.sum())
    if 0 < count < len(labels):
        raise CondenseError(
            f"{count} of its {len(labels)} soft labels are probabilities and the others are not; store either "
            "probabilities or logits"
        )
    return count > 0


def _normalised(labels: Tensor) -> Tensor:
    """Probabilities in float32; those of a shorter type sum to 1 only roughly, and are made to."""
    wide = labels.float()
    return wide if labels.dtype in (torch.float32, torch.float64) else wide / wide.sum(1, keepdim=True)


def _classes_of_soft_labels(labels: Tensor, info: DataInfo) -> Tensor:
    """The class of each row: these projects lay sets out class by class, with equally many images.

    The largest value is not always that of the class, but if it seldom is, the file counts the classes otherwise.
    """
    classes = _by_class_order(len(labels), info)
    agreeing = int((labels.argmax(1) == classes).sum())
    if 3 * agreeing < len(labels):
        raise CondenseError(
            f"its soft labels are largest at the image's class for only {agreeing} of {len(labels)} images; "
            f"is {info.name}, with its classes in this order, the data that it was made from, and do images lie class "
            "by class (else store class indices as labels and soft ones as targets)?"
        )
    return classes


def _by_class_order(images: int, info: DataInfo) -> Tensor:
    """The class of each of so many images that lie class by class, equally many of each."""
    classes = len(info.classes)
    if images % classes:
        raise CondenseError(f"its {images} images cannot be the same number for each of {classes} classes")
    return torch.arange(classes).repeat_interleave(images // classes)
