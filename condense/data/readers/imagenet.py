"""Subsets of ImageNet-1k, read from the folder that torchvision's `ImageNet` keeps."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from condense.data.catalogue import KnownSet
from condense.data.preprocessing import Normalization
from condense.data.raw import RawData
from condense.data.readers.folders.tree import files_in, is_image, subfolders
from condense.data.sources import FilePixels, SubsetPixels
from condense.runtime.errors import CondenseError

_ALL = 1000  # classes; the name of class i is the i-th of the folders by name
_PARTS = ("train", "val")


def read_imagenet_subset(entry: KnownSet, data_root: Path, image_size: tuple[int, int] | None) -> RawData:
    """The classes of `entry`, in its order, with the validation images of ImageNet as test split.

    Looks in `data_root`, `data_root/imagenet` and `data_root/NAME` for `train` and `val` with a folder for each of the
    1,000 classes, or for those of the subset only, each called by its WordNet number. Images are cut in their middle to
    the aspect of `image_size` (H, W); the code of MTT, whose subsets these are, squeezes them instead.

    Raises `CondenseError` if there is no such folder, or no `image_size`.
    """
    places = [data_root, data_root / "imagenet", data_root / entry.name]
    root = next((place for place in places if all((place / part).is_dir() for part in _PARTS)), None)
    if root is None:
        raise CondenseError(
            f"{entry.name} is a part of ImageNet, and there is no train/ and val/ in {', '.join(map(str, places))}; "
            "give the --data-root (or $CONDENSE_DATA) under which torchvision has put it"
        )
    if image_size is None:
        raise CondenseError(f"images of {entry.name} differ in size; give --image-size, for example 128")
    names: list[str] = []
    labels: list[Tensor] = []
    for part in _PARTS:
        files = [_files(root, folder) for folder in _folders(root / part, entry)]
        names += [name for members in files for name in members]
        labels.append(torch.arange(len(files)).repeat_interleave(torch.tensor([len(members) for members in files])))
    pixels = FilePixels(root, names, (3, *image_size), torch.get_num_threads())
    train, test = torch.arange(len(names)).tensor_split([len(labels[0])])
    constants = entry.constants
    return RawData(
        entry.name,
        _class_names(entry),
        SubsetPixels(pixels, train),
        labels[0],
        SubsetPixels(pixels, test),
        labels[1],
        mirror=entry.mirror,
        preprocessing=Normalization(constants.mean, constants.std) if constants else None,
        files=tuple(root / name for name in names),
    )


def _folders(part: Path, entry: KnownSet) -> list[Path]:
    """The folders of the classes, in their order."""
    folders = [folder for folder in subfolders(part) if re.fullmatch(r"n[0-9]{8}", folder.name)]
    if len(folders) == _ALL:
        return [folders[index] for index in entry.imagenet_classes]
    if len(folders) == len(entry.imagenet_classes):
        return [folders[sorted(entry.imagenet_classes).index(index)] for index in entry.imagenet_classes]
    raise CondenseError(
        f"{part} has {len(folders)} folders called by a WordNet number, so it is not known which are those of "
        f"{entry.name}; it needs all {_ALL:,} of ImageNet, or the {len(entry.imagenet_classes)} of the subset"
    )


def _files(root: Path, folder: Path) -> list[str]:
    """The images of a class, relative to `root`, by name."""
    return [(folder / name).relative_to(root).as_posix() for name in files_in(folder) if is_image(name)]


def _class_names(entry: KnownSet) -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights  # here, because importing its networks takes a while

    categories = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(categories[index] for index in entry.imagenet_classes)
