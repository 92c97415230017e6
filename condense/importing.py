"""Synthetic sets of the reference projects: the `.pt` files of the DC and MTT lineages.

DC, DSA and DM (Zhao et al., ICLR 2021, ICML 2021, WACV 2023) and their descendants write `res_*.pt`: a dict whose
`data` lists one [images, labels] for each experiment, beside accuracies `accs_all_exps`. MTT (Cazenavette et al.,
CVPR 2022) and its descendants write `images_best.pt`, `labels_best.pt` and, in some, `lr_best.pt`. Images are in the
normalised or whitened space of their data set; neither says which, nor which class a label means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.runtime.errors import CondenseError
from condense.runtime.provenance import versions
from condense.synthetic_set import SyntheticSet

_FORMS = "a res_*.pt of the DC lineage, or an images_*.pt of the MTT lineage with its labels_*.pt beside it"


def import_reference(path: str | Path, info: DataInfo, index: int = -1) -> SyntheticSet:
    """Read a reference project's file as a set for the data that `info` describes.

    The images are taken to be in the preprocessed space of `info`, so load the data with the normalisation that the
    project used, and the labels to count its classes in the same order. `index` chooses the experiment of a `res_*.pt`,
    by default the last one. Labels are class indices [N], or logits [N, K], which are kept as soft labels. Nothing in
    the file is executed.

    Raises `CondenseError` for a file that is unreadable, of another form, or holds anything but tensors and numbers,
    and for images or labels that do not fit `info`.
    """
    path = Path(path)
    content = load_tensors(path)
    learned_lr = None
    provenance: dict[str, Any] = {"imported from": path.name}
    if isinstance(content, Tensor):
        images, labels = content, load_tensors(_beside(path, "labels"))
        learned_lr = _learned_lr(_beside(path, "lr"))
    else:
        images, labels = _experiment(path, content, index)
        provenance["experiment"] = index % len(content["data"])
    try:
        return SyntheticSet(
            stored=_images(images),
            info=info,
            learned_lr=learned_lr,
            provenance={**provenance, "versions": versions()},
            **_label_arguments(labels, info),
        )
    except CondenseError as error:
        raise CondenseError(f"{path}: {error}") from error


def _experiment(path: Path, content: Any, index: int) -> tuple[Any, Any]:
    """Images and labels of experiment `index` of a `res_*.pt`."""
    experiments = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(experiments, list) or not all(_is_pair(entry) for entry in experiments):
        raise CondenseError(f"{path} is not in a form that can be imported; give {_FORMS}")
    if not -len(experiments) <= index < len(experiments):
        raise CondenseError(f"{path} has {len(experiments)} experiment(s), so there is no experiment {index}")
    images, labels = experiments[index]
    return images, labels


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 2


def _images(images: Any) -> Tensor:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise CondenseError(f"its images are no floating-point tensor; give {_FORMS}")
    return images.float()


def _label_arguments(labels: Any, info: DataInfo) -> dict[str, Any]:
    """Labels of `SyntheticSet`: class indices [N], or logits [N, K] with the class that each row belongs to."""
    if not isinstance(labels, Tensor):
        raise CondenseError(f"its labels are no tensor; give {_FORMS}")
    if labels.ndim == 1 and not labels.is_floating_point():
        return {"stored_labels": labels.long()}
    if labels.ndim == 2 and labels.is_floating_point() and labels.shape[1] == len(info.classes):
        return {
            "stored_labels": _classes_of_logits(labels, info),
            "stored_targets": labels.float(),
            "label_kind": "logits",
        }
    raise CondenseError(
        f"its labels have shape {list(labels.shape)} and {labels.dtype}; {info.name} needs integers [N] or logits "
        f"[N, {len(info.classes)}]"
    )


def _classes_of_logits(logits: Tensor, info: DataInfo) -> Tensor:
    """The class of each row: these projects lay sets out class by class, with equally many images.

    The largest logit is not always the class, but if it seldom is, the file counts the classes otherwise.
    """
    classes = len(info.classes)
    if len(logits) % classes:
        raise CondenseError(f"its {len(logits)} images cannot be the same number for each of {classes} classes")
    labels = torch.arange(classes).repeat_interleave(len(logits) // classes)
    agreeing = int((logits.argmax(1) == labels).sum())
    if 3 * agreeing < len(logits):
        raise CondenseError(
            f"its logits are largest at the image's class for only {agreeing} of {len(logits)} images; "
            f"is {info.name}, with its classes in this order, the data that it was made from?"
        )
    return labels


def _beside(path: Path, part: str) -> Path:
    """The file beside `images_NAME.pt` that holds another part of the same set."""
    if not path.name.startswith("images"):
        raise CondenseError(f"{path} holds one tensor, but its name does not begin with images; give {_FORMS}")
    return path.with_name(part + path.name.removeprefix("images"))


def _learned_lr(path: Path) -> float | None:
    if not path.exists():
        return None
    value = load_tensors(path)
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, int | float):
        raise CondenseError(f"{path} is no learning rate; correct it or move it away")
    return float(value)


def load_tensors(path: Path, forms: str = _FORMS) -> Any:
    """The content of a `.pt` file, if it is made of tensors, numbers, text and plain containers.

    Raises `CondenseError` for every other file; `forms` says what to give instead.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise CondenseError(f"cannot read {path}: {error.strerror or error}; give {forms}") from error
    try:
        with file, torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # over foreign bytes the unpickler raises nearly anything
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise CondenseError(f"{path} is damaged or no file of torch.save; give {forms}") from error
        raise CondenseError(
            f"{path} is refused because reading it could run code ({refused[1]!r}); give one of plain tensors"
        ) from error


def _numpy_scalars() -> list[Any]:
    """What the accuracies in a `res_*.pt` need: numpy's numbers, under the names of numpy 1 and 2."""
    major = int(np.__version__.split(".")[0])
    scalar = import_module("numpy._core.multiarray" if major >= 2 else "numpy.core.multiarray").scalar
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i8"))]
