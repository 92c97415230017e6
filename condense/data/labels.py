"""Class indices from the labels that people have, and what to do about labels that are none."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError

_NUMBER_THEM = "np.unique(labels, return_inverse=True) gives the names and the class indices"


def class_indices(labels: np.ndarray, what: str) -> Tensor:
    """An array of labels, (N,) or (N, 1) as MedMNIST has them, as int64 [N]; `what` names it in errors.

    Raises `CondenseError` for labels of another kind or shape.
    """
    if labels.dtype.kind not in "iu":
        raise CondenseError(f"{what} is {_kind(labels)}; labels must be integers from 0{_way_out(labels)}")
    if labels.ndim == 0 or labels.size != len(labels):
        raise CondenseError(f"{what} has shape {labels.shape}; labels must be (N,), one class index an image")
    return torch.from_numpy(labels.reshape(-1).astype(np.int64))


def _kind(labels: np.ndarray) -> str:
    return "text" if labels.dtype.kind in "USO" else str(labels.dtype)


def _way_out(labels: np.ndarray) -> str:
    if labels.dtype.kind in "USO":
        return f": {_NUMBER_THEM}, and the names can be stored as classes"
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
