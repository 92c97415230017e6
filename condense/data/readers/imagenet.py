"""Subsets of ImageNet-1k, read from the folder that torchvision's `ImageNet` keeps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from condense.data.catalogue import KnownSet
from condense.data.preprocessing import Normalization
from condense.data.raw import RawData, note_on_broken
from condense.data.readers.folders.image_files import broken_files
from condense.data.readers.folders.tree import files_in, is_image, subfolders
from condense.data.reading import Reading
from condense.data.sources import FilePixels, SubsetPixels
from condense.runtime.errors import CondenseError

_PARTS = ("train", "val")


def read_imagenet_subset(entry: KnownSet, reading: Reading) -> RawData:
    """The classes of `entry`, in its order, with the validation images of ImageNet as test split.

    Looks in `reading.data_root`, its folder `imagenet` and its folder NAME for `train` and `val` with a folder for each
    of the classes, called by its WordNet number; other folders are not looked at. Images are cut in their middle to the
    aspect of the image size; the code of MTT, whose subsets these are, squeezes them instead. With
    `reading.skip_broken` those that cannot be decoded are left out.

    Raises `CondenseError` if there is no such folder, or no image size.
    """
    data_root, image_size = reading.data_root, reading.image_size
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
    left_out: tuple[str, ...] = ()
    for part in _PARTS:
        files = [_files(root, folder) for folder in _folders(root / part, entry)]
        if reading.skip_broken:
            broken = broken_files(root, [name for members in files for name in members], torch.get_num_threads())
            files = [[name for name in members if name not in broken] for members in files]
            left_out += tuple(broken)
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
        notes=note_on_broken(left_out),
        files=tuple(root / name for name in names),
        left_out=left_out,
    )


def _folders(part: Path, entry: KnownSet) -> list[Path]:
    """The folders of the classes, in their order."""
    names = {folder.name for folder in subfolders(part)}
    missing = [name for name in entry.imagenet_classes if name not in names]
    if missing:
        raise CondenseError(
            f"{part} has no folders for {len(missing)} of the {len(entry.imagenet_classes)} classes of {entry.name}, "
            f"for example {missing[0]}; classes go by their WordNet numbers, as ImageNet has them"
        )
    return [part / name for name in entry.imagenet_classes]


def _files(root: Path, folder: Path) -> list[str]:
    """The images of a class, relative to `root`, by name."""
    return [(folder / name).relative_to(root).as_posix() for name in files_in(folder) if is_image(name)]


def _class_names(entry: KnownSet) -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights  # here, because importing its networks takes a while

    categories = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(categories[index] for index in entry.imagenet_classes.values())
