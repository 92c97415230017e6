"""Class indices from the labels that people have, and what to do about labels that are none."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError, near_names

_NUMBER_THEM = "np.unique(labels, return_inverse=True) gives the names and the class indices"


def class_indices(labels: np.ndarray, what: str) -> Tensor:
    """An array of labels, (N,) or (N, 1) as MedMNIST has them, as int64 [N]; `what` names it in errors.

    Raises `CondenseError` for labels of another kind or shape.
    """
    if labels.dtype.kind not in "iu":
        raise CondenseError(f"{what} is {labels.dtype}; labels must be integers from 0, or text{_way_out(labels)}")
    _check_shape(labels, what)
    return torch.from_numpy(labels.reshape(-1).astype(np.int64))


def plain_text(value: object) -> str:
    """A name as text; bytes that are not UTF-8 become what the names of such files become."""
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def labels_of_arrays(
    name: str, given: Mapping[str, np.ndarray], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[Tensor]]:
    """The classes of the data set `name` and the labels of its splits as int64 [N].

    `given` has the labels of the training and perhaps of the test images, by what errors call them; `classes` names
    those of integers, by default their numbers. Texts are classes by themselves: those of the training images, sorted,
    or in the order of `classes`. Raises `CondenseError` for labels of other kinds, and for texts that are no class.
    """
    if not any(_is_text(labels) for labels in given.values()):
        numbers = [class_indices(labels, what) for what, labels in given.items()]
        if classes is None:
            classes = numbered_classes(name, numbers[0]) if len(numbers[0]) else ()
        return tuple(classes), numbers
    texts: list[list[str]] = []
    for what, labels in given.items():
        if not _is_text(labels):
            raise CondenseError(f"{what} is {labels.dtype} and others are text; give all labels in one form")
        _check_shape(labels, what)
        texts.append([plain_text(label) for label in labels.reshape(-1)])
    ordered = tuple(classes) if classes is not None else sorted_classes(texts[0])
    places = {text: place for place, text in enumerate(ordered)}
    for what, labels_of_split in zip(given, texts):
        unknown = next((text for text in labels_of_split if text not in places), None)
        if unknown is not None:
            where = "the training images have no such class" if classes is None else "classes has no such name"
            raise CondenseError(f"{what} has the label {unknown!r}, but {where}{near_names(unknown, ordered)}")
    return ordered, [torch.tensor([places[text] for text in part], dtype=torch.int64) for part in texts]


def sorted_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes that labels name, each once: numbers by their value, others by their letters.

    >>> sorted_classes(["10", "9", "10"]), sorted_classes(["dog", "cat", "10"])
    (('9', '10'), ('10', 'cat', 'dog'))
    """
    names = set(labels)
    if all(name.isdecimal() and name.isascii() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name) if len(name) < 20 else math.inf, name)))
    return tuple(sorted(names))


def _is_text(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "USO"


def _check_shape(labels: np.ndarray, what: str) -> None:
    if labels.ndim == 0 or labels.size != len(labels):
        raise CondenseError(f"{what} has shape {labels.shape}; labels must be (N,), one class index an image")


def _way_out(labels: np.ndarray) -> str:
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.round(labels))).all():
        return ", because condense classifies: values to be predicted (regression) are not supported"
    return ", for example labels.astype('int64')"


def numbered_classes(name: str, labels: Tensor) -> tuple[str, ...]:
    """The names of classes that have none, `0`, `1`, ...; `labels` (int64 [N], N > 0) are those of all training images.

    Raises `CondenseError` unless the labels are all numbers from 0 to the highest, however high that is.

    >>> numbered_classes("shapes", torch.tensor([1, 0, 1]))
    ('0', '1')
    """
    used = labels.unique()  # ascending
    lowest, highest = int(used[0]), int(used[-1])
    if lowest < 0:
        raise CondenseError(
            f"a training image of {name} has label {lowest}; labels must be integers from 0: leave images out that "
            "have none"
        )
    if highest - lowest + 1 == len(used) and lowest > 0:
        raise CondenseError(
            f"the training labels of {name} are {lowest} to {highest}; they must start at 0: subtract {lowest} from all"
        )
    if highest + 1 != len(used):
        missing = int((used != torch.arange(len(used))).nonzero()[0])
        raise CondenseError(
            f"class '{missing}' of {name} has no training image, though labels go up to {highest}; add some, or number "
            f"the classes that there are: {_NUMBER_THEM}"
        )
    return tuple(str(label) for label in range(len(used)))
