"""Synthetic sets from elsewhere: files of the reference projects and of people, and what `condense export` wrote.

DC, DSA and DM (Zhao et al., ICLR 2021, ICML 2021, WACV 2023) and their descendants, IDM (Zhao et al., CVPR 2023) among
them, write `res_*.pt`: a dict whose `data` lists one [images, labels] for each experiment, beside accuracies
`accs_all_exps`. MTT (Cazenavette et al., CVPR 2022) and its descendants write `images_best.pt`, `labels_best.pt` and,
in some, `lr_best.pt`; FTD (Du et al., CVPR 2023) its averaged images as `ema_images_best.pt` with `ema_labels_best.pt`;
AST (Shen et al., 2023) images alone, class by class. Their images are in the normalised or whitened space of their data
set. IDC (Kim et al., ICML 2022) writes `data.pt` and NCFM (Wang et al., CVPR 2025) `data_*.pt`, each [images, labels];
their images are mosaics with values in about [0, 1], normalised when they are used. No file says which of these it is,
nor which class a label means.

`imported_labels` has what labels may be, `exported` what exports are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.data.preprocessing import None_
from condense.runtime.errors import CondenseError
from condense.runtime.numpy_files import NpzFile, array_tensor, only_names
from condense.runtime.progress import say
from condense.runtime.provenance import versions
from condense.runtime.torch_files import PickledArray, load_torch_file, plain_tensor
from condense.sets.exported import is_export, read_exported_folder, read_exported_tensors
from condense.sets.imported_labels import imported_labels
from condense.sets.synthetic_set import SyntheticSet
from condense.sets.tiles import Tiles

FORMS = (
    "a res_*.pt of the DC lineage, an images_*.pt or ema_images_*.pt of the MTT lineage with its labels beside it, a "
    ".pt of [images, labels], a .pt or .npz that has images and labels by name, or what condense export wrote"
)
# what people call the parts of a set, in any case of the letters; the first that a file has is taken
_NAMES = {
    "images": ("images", "x", "data", "image_syn"),
    "labels": ("labels", "y", "label_syn", "targets"),
    "targets": ("targets",),
    "rate": ("lr", "syn_lr"),
}
# Values of pictures in [0, 1]: nearly all, since an optimiser takes some of them a little beyond. Of images whose mean
# was subtracted, about half are below 0.
_MOST, _BEYOND = 0.95, 0.05

ImportSpace = Literal["preprocessed", "unit"]


@dataclass(frozen=True)
class _Parts:
    """What a file has of a set, as it has it: images of some type and layout, and labels; None is what it lacks."""

    images: Tensor
    labels: Tensor | None
    targets: Tensor | None = None
    rate: float | None = None
    experiment: int | None = None


def import_synthetic(
    path: str | Path,
    info: DataInfo,
    *,
    index: int = -1,
    learned_lr: float | None = None,
    space: ImportSpace | None = None,
    factor: int | None = None,
) -> SyntheticSet:
    """Read a file or folder of another program, or of `condense export`, as a set for the data that `info` describes.

    Floating-point images are taken to be in the preprocessed space of `info`, so load the data with the normalisation
    that the project used; with `space` "unit" they are pictures in [0, 1]. Images of uint8 are pixels. `factor` says
    that each image is a mosaic of so many tiles on a side. Labels must count the classes of `info` in the same order:
    class indices [N], or soft labels [N, K], which are probabilities where every row is one distribution, else logits.
    Images of the MTT lineage without labels beside them are taken class by class. `index` chooses the experiment of a
    `res_*.pt`, by default the last one. `learned_lr` is the learning rate that was learned with the images, by default
    what the file says, or one beside it.

    What `condense export` wrote explains itself: it comes back with its own `info`, which must match.

    Nothing in a file is executed. Raises `CondenseError` for a file that is unreadable, of another form, or holds
    anything but tensors, arrays and numbers, and for images or labels that do not fit `info`.
    """
    path = Path(path)
    content = _content(path)
    try:
        if content is None or is_export(content):
            if space is not None or factor is not None:
                raise CondenseError("an export says itself what its images are: leave --space and --factor out")
            arguments = read_exported_folder(path, info) if content is None else read_exported_tensors(content)
            return _exported(arguments, info, learned_lr, path.resolve().name)
        parts = _parts(content, path, index)
        rate = parts.rate if learned_lr is None else learned_lr
        if rate is None and _is_tensor(content):
            rate = _rate_beside(path)
        return _assembled(parts, info, rate, space, factor, path.name)
    except CondenseError as error:
        raise CondenseError(f"{path}: {error}") from error


def _content(path: Path) -> Any:
    """What is in a file; None for a folder."""
    if path.is_dir():
        return None
    return NpzFile(path, FORMS) if path.suffix.lower() == ".npz" else load_torch_file(path, FORMS)


def _exported(arguments: dict[str, Any], info: DataInfo, learned_lr: float | None, name: str) -> SyntheticSet:
    """The set of an export, which must fit the data."""
    if learned_lr is not None:
        arguments["learned_lr"] = learned_lr
    arguments["provenance"] = {**arguments["provenance"], "imported from": name}
    synthetic = SyntheticSet(**arguments)
    note = synthetic.check_matches(info)
    if note is not None:
        say(f"note: {note}")
    return synthetic


def _assembled(
    parts: _Parts, info: DataInfo, rate: float | None, space: ImportSpace | None, factor: int | None, name: str
) -> SyntheticSet:
    experiment = {} if parts.experiment is None else {"experiment": parts.experiment}
    stored, stored_space = _stored(_channels_first(parts.images, info), info, space, factor)
    return SyntheticSet(
        stored=stored,
        info=info,
        space=stored_space,
        decoder=None if factor is None else Tiles(factor),
        learned_lr=rate,
        provenance={"imported from": name, **experiment, "versions": versions()},
        stored_labels=imported_labels(parts.labels, parts.targets, len(stored), info),
    )


def _channels_first(images: Tensor, info: DataInfo) -> Tensor:
    """Images as [N, C, H, W] where they fit the data as [N, H, W, C] or, of one channel, as [N, H, W]."""
    channels, height, width = info.image_shape
    if tuple(images.shape[1:]) == (height, width) and channels == 1:
        images = images[:, None]
    elif tuple(images.shape[1:]) == (height, width, channels) != info.image_shape:
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or not (images.is_floating_point() or images.dtype == torch.uint8):
        raise CondenseError(
            f"its images have shape {list(images.shape)} and {images.dtype}, not floating-point numbers [N, C, H, W] "
            f"or uint8 pixels; give {FORMS}"
        )
    return images


def _stored(
    images: Tensor, info: DataInfo, space: ImportSpace | None, factor: int | None
) -> tuple[Tensor, Literal["preprocessed", "unit", "pixels"]]:
    """Images as a set stores them, and what the numbers are."""
    if images.dtype == torch.uint8:  # a mosaic is enlarged, and so needs numbers between those of pixels
        return (images, "pixels") if factor is None else (images.float() / 255, "unit")
    images = images.float()
    plain = float(((images >= -_BEYOND) & (images <= 1 + _BEYOND)).float().mean())
    if space == "unit":
        if plain < 0.5:
            low, high = map(float, images.aminmax())
            raise CondenseError(
                f"its images have values from {low:.3g} to {high:.3g}, and --space unit is of pictures in [0, 1]; "
                "leave it out for preprocessed images, and divide pixels by 255"
            )
        return images, "unit"
    if space is None and plain >= _MOST and not isinstance(info.preprocessing, None_):
        say(
            "note: the values of its images lie in [0, 1], as those of pictures do, but they are taken for "
            "preprocessed ones; --space unit takes them for pictures"
        )
    return images, "preprocessed"


def _parts(content: Any, path: Path, index: int) -> _Parts:
    """What is in a file, by the first form that its content has."""
    for read in _READERS:
        parts = read(content, path, index)
        if parts is not None:
            return parts
    raise CondenseError(f"{_described(content)} is not in a form that can be imported; give {FORMS}")


def _of_one_tensor(content: Any, path: Path, index: int) -> _Parts | None:
    """The MTT lineage: images alone, labels and rate in files beside them."""
    if not _is_tensor(content):
        return None
    return _Parts(_usable(content, "its images"), _labels_beside(path))


def _of_experiments(content: Any, path: Path, index: int) -> _Parts | None:
    """The DC lineage: [images, labels] of each experiment."""
    experiments = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(experiments, list) or not all(_is_pair(entry) for entry in experiments):
        return None
    if not -len(experiments) <= index < len(experiments):
        raise CondenseError(f"it has {len(experiments)} experiment(s), so there is no experiment {index}")
    images, labels = experiments[index]
    return _Parts(_usable(images, "its images"), _usable(labels, "its labels"), experiment=index % len(experiments))


def _of_pair(content: Any, path: Path, index: int) -> _Parts | None:
    """IDC and NCFM: [images, labels]."""
    if not _is_pair(content) or isinstance(content[0], list | tuple):
        return None
    return _Parts(_usable(content[0], "its images"), _usable(content[1], "its labels"))


def _of_names(content: Any, path: Path, index: int) -> _Parts | None:
    """A dict or an `.npz` that has images and labels by one of their usual names."""
    if isinstance(content, NpzFile):
        names: Iterable[Any] = content.names
    elif isinstance(content, Mapping):
        names = content
    else:
        return None
    chosen = _chosen_names(names)
    if not {"images", "labels"} <= chosen.keys():
        return None
    rate = chosen.pop("rate", None)
    tensors = {part: _usable(_named(content, name), f"its {part} ({name})") for part, name in chosen.items()}
    return _Parts(
        tensors["images"],
        tensors["labels"],
        tensors.get("targets"),
        rate=None if rate is None else _rate(_named(content, rate), rate),
    )


def _chosen_names(names: Iterable[Any]) -> dict[str, str]:
    """The names that a file has for parts of a set; soft `targets` are a part of their own beside class indices."""
    present = {name.lower(): name for name in names if isinstance(name, str)}
    chosen: dict[str, str] = {}
    for part, usual in _NAMES.items():
        name = next((present[name] for name in usual if name in present), None)
        if name is not None and name not in chosen.values():
            chosen[part] = name
    return chosen


def _named(content: Any, name: str) -> Any:
    if not isinstance(content, NpzFile):
        return content[name]
    array = content.array(name)
    try:
        return array_tensor(array)
    except CondenseError as error:
        raise CondenseError(f"its {name} are {error}; give {FORMS}") from error


_READERS: tuple[Callable[[Any, Path, int], _Parts | None], ...] = (_of_one_tensor, _of_experiments, _of_pair, _of_names)


def _described(content: Any) -> str:
    """What a file has, for a sentence about one that is in no form.

    >>> _described({"state_dict": 1}), _described([1, 2, 3]), _described("text")
    ('a dict of state_dict', 'a list of 3', 'a str')
    """
    if isinstance(content, NpzFile):
        return f"an .npz of {only_names(content.names)}"
    if isinstance(content, Mapping):
        return f"a dict of {only_names([name for name in content if isinstance(name, str)])}"
    size = f" of {len(content)}" if isinstance(content, list | tuple) else ""
    return f"a {type(content).__name__}{size}"


def _is_tensor(content: Any) -> bool:
    return isinstance(content, Tensor | PickledArray)


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 2


def _usable(value: Any, what: str) -> Tensor:
    try:
        return plain_tensor(value)
    except CondenseError as error:
        raise CondenseError(f"{what} are {error}; give {FORMS}") from error


def _labels_beside(path: Path) -> Tensor | None:
    """The labels of `images_NAME.pt`; None, with a word, where there is no such file."""
    labels = _beside(path, "labels")
    if labels.exists():
        return _usable(load_torch_file(labels, FORMS), f"the labels in {labels.name}")
    say(f"note: {labels.name} is not beside {path.name}; labels are taken from the order of the images, class by class")
    return None


def _beside(path: Path, part: str) -> Path:
    """The file beside `images_NAME.pt` or `ema_images_NAME.pt` that holds another part of the same set."""
    before, images, after = path.name.rpartition("images")
    if not images:
        raise CondenseError(f"it holds one tensor, but has no `images` in its name; give {FORMS}")
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
    return _rate(load_torch_file(rate, FORMS), rate.name)


def _rate(value: Any, name: str) -> float:
    try:
        number = value if isinstance(value, float | int | np.floating | np.integer) else plain_tensor(value).item()
        return float(number)
    except (CondenseError, RuntimeError, OverflowError) as error:  # several numbers; one too large for a float
        raise CondenseError(f"{name} is no learning rate; correct it or move it away") from error
