"""Synthetic sets of the reference projects: the `.pt` files of the DC and MTT lineages.

DC, DSA and DM (Zhao et al., ICLR 2021, ICML 2021, WACV 2023) and their descendants write `res_*.pt`: a dict whose
`data` lists one [images, labels] for each experiment, beside accuracies `accs_all_exps`. MTT (Cazenavette et al.,
CVPR 2022) and its descendants write `images_best.pt`, `labels_best.pt` and, in some, `lr_best.pt`; FTD (Du et al., CVPR
2023) its averaged images as `ema_images_best.pt` with `ema_labels_best.pt`; AST (Shen et al., 2023) images alone, class
by class. Images are in the normalised or whitened space of their data set; none says which, nor which class a label
means.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.labels import HardLabels, Labels, LogitLabels, ProbabilityLabels
from condense.runtime.errors import CondenseError
from condense.runtime.progress import say
from condense.runtime.provenance import versions
from condense.runtime.torch_files import load_torch_file, plain_tensor
from condense.sets.synthetic_set import SyntheticSet

_FORMS = (
    "a res_*.pt of the DC lineage, or an images_*.pt or ema_images_*.pt of the MTT lineage with its labels beside it"
)
# how far from 1 the probabilities of an image may sum to, by rounding in the type they are stored in
_ROUNDING = {torch.float16: 4e-3, torch.bfloat16: 4e-3, torch.float32: 1e-5, torch.float64: 1e-5}


def import_reference(
    path: str | Path, info: DataInfo, index: int = -1, learned_lr: float | None = None
) -> SyntheticSet:
    """Read a reference project's file as a set for the data that `info` describes.

    The images are taken to be in the preprocessed space of `info`, so load the data with the normalisation that the
    project used, and the labels to count its classes in the same order. `index` chooses the experiment of a `res_*.pt`,
    by default the last one. Labels are class indices [N], or soft ones [N, K]: probabilities where every row is one
    distribution, else logits. Images of the MTT lineage without labels beside them are taken class by class.
    `learned_lr` is the learning rate that was learned with the images, by default that of the file beside them, if any.
    Nothing in the file is executed.

    Raises `CondenseError` for a file that is unreadable, of another form, or holds anything but tensors and numbers,
    and for images or labels that do not fit `info`.
    """
    path = Path(path)
    content = load_torch_file(path, _FORMS)
    provenance: dict[str, Any] = {"imported from": path.name}
    try:
        if isinstance(content, Tensor):
            images, labels = _images(content), _labels_beside(path)
            learned_lr = _rate_beside(path) if learned_lr is None else learned_lr
        else:
            images, labels = _experiment(content, index)
            provenance["experiment"] = index % len(content["data"])
        return SyntheticSet(
            stored=images,
            stored_labels=_labels_of(labels, len(images), info),
            info=info,
            learned_lr=learned_lr,
            provenance={**provenance, "versions": versions()},
        )
    except CondenseError as error:
        raise CondenseError(f"{path}: {error}") from error


def _experiment(content: Any, index: int) -> tuple[Tensor, Tensor]:
    """Images and labels of experiment `index` of a `res_*.pt`."""
    experiments = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(experiments, list) or not all(_is_pair(entry) for entry in experiments):
        raise CondenseError(f"it is not in a form that can be imported; give {_FORMS}")
    if not -len(experiments) <= index < len(experiments):
        raise CondenseError(f"it has {len(experiments)} experiment(s), so there is no experiment {index}")
    images, labels = experiments[index]
    return _images(images), _usable(labels, "its labels")


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 2


def _usable(value: Any, what: str) -> Tensor:
    try:
        return plain_tensor(value)
    except CondenseError as error:
        raise CondenseError(f"{what} are {error}; give {_FORMS}") from error


def _images(value: Any) -> Tensor:
    images = _usable(value, "its images")
    if images.ndim != 4 or not images.is_floating_point():
        raise CondenseError(
            f"its images have shape {list(images.shape)} and {images.dtype}, not floating-point numbers [N, C, H, W]; "
            f"give {_FORMS}"
        )
    return images.float()


def _labels_of(labels: Tensor | None, images: int, info: DataInfo) -> Labels:
    """Labels of `SyntheticSet`: class indices [N], or soft labels [N, K] with the class that each row belongs to."""
    if labels is None:
        return HardLabels(_by_class_order(images, info))
    if labels.ndim == 1 and not labels.is_floating_point():
        return HardLabels(labels.long())
    if labels.ndim == 2 and labels.is_floating_point() and labels.shape[1] == len(info.classes):
        classes = _classes_of_soft_labels(labels, info)
        if _are_probabilities(labels):
            return ProbabilityLabels(_normalised(labels), classes)
        return LogitLabels(labels.float(), classes)
    raise CondenseError(
        f"its labels have shape {list(labels.shape)} and {labels.dtype}; {info.name} needs integers [N] or soft labels "
        f"[N, {len(info.classes)}]"
    )


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
            f"is {info.name}, with its classes in this order, the data that it was made from?"
        )
    return classes


def _by_class_order(images: int, info: DataInfo) -> Tensor:
    """The class of each of so many images that lie class by class, equally many of each."""
    classes = len(info.classes)
    if images % classes:
        raise CondenseError(f"its {images} images cannot be the same number for each of {classes} classes")
    return torch.arange(classes).repeat_interleave(images // classes)


def _labels_beside(path: Path) -> Tensor | None:
    """The labels of `images_NAME.pt`; None, with a word, where there is no such file."""
    labels = _beside(path, "labels")
    if labels.exists():
        return _usable(load_torch_file(labels, _FORMS), f"the labels in {labels.name}")
    say(f"note: {labels.name} is not beside {path.name}; labels are taken from the order of the images, class by class")
    return None


def _beside(path: Path, part: str) -> Path:
    """The file beside `images_NAME.pt` or `ema_images_NAME.pt` that holds another part of the same set."""
    before, images, after = path.name.rpartition("images")
    if not images:
        raise CondenseError(f"it holds one tensor, but has no `images` in its name; give {_FORMS}")
    if after.startswith("_zca"):
        raise CondenseError(
            f"its images are no longer whitened, so they are not what networks train on; give "
            f"{before}images{after.removeprefix('_zca')}"
        )
    return path.with_name(f"{before}{part}{after}")


def _rate_beside(path: Path) -> float | None:
    """The learning rate that was learned with the images; None, with a word, where there is no such file."""
    rate = _beside(path, "lr")
    if not rate.exists():
        say(
            f"note: {rate.name} is not beside {path.name}, so the set gets no learned learning rate, and protocols "
            "that train at it take their own; --learned-lr gives one"
        )
        return None
    value = load_torch_file(rate, _FORMS)
    try:
        number = value if isinstance(value, float | int) else plain_tensor(value).item()
        return float(number)
    except (CondenseError, RuntimeError, OverflowError) as error:  # several numbers; one too large for a float
        raise CondenseError(f"{rate.name} is no learning rate; correct it or move it away") from error
