"""A tree of class folders with image files, of any size, grayscale or RGB."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from condense.data.decoding import Header, read_header
from condense.data.raw import RawData, split_note, split_off_test
from condense.data.sources import FilePixels, SubsetPixels
from condense.data.splitting import content_key
from condense.runtime.errors import CondenseError, near_names

_TRAIN_FOLDERS = ("train", "training")  # in any case: `Train` taken for a class would go unnoticed
_TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")
_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_LARGE_IMAGE = 128 * 128  # pixels; below, Python's lock makes several threads slower than one
_LAYOUT = "train/CLASS/*.png with test/CLASS/*.png, or CLASS/*.png"


@dataclass(frozen=True)
class _Listing:
    """The files below the class folders of one split, class by class and sorted, relative to the root of the tree."""

    names: list[str]
    labels: Tensor  # int64 [N]
    others: list[str]  # files without an image suffix


def read_folder(root: Path, image_size: tuple[int, int] | None) -> RawData:
    """Read `train/` and `test/` (or `val/`, `validation/`) with class folders in them, or class folders alone.

    Classes are the sorted names of the folders, which are searched to any depth; hidden files are skipped. Without a
    test folder, 20 % of every class become the test split, chosen by the content of the files; a note says so. Pixels
    are decoded when they are read.

    Raises `CondenseError` for another layout, for files that are no images or have more than 8 bits a channel, and
    for several sizes without `image_size` (H, W).
    """
    train_folder, test_folder, notes = _split_folders(root)
    classes = _class_names(train_folder)
    train = _list_files(root, train_folder, classes)
    if not train.names:
        raise CondenseError(f"no image files ({' '.join(_SUFFIXES)}) in class folders of {train_folder}; use {_LAYOUT}")
    if test_folder is None:
        notes += _notes_on_others(train.others)
        return _split_by_content(root, classes, train, image_size, notes)
    _check_test_classes(test_folder, classes)
    test = _list_files(root, test_folder, classes)
    names = train.names + test.names
    pixels, more = _pixels(root, names, image_size)
    train_pixels, test_pixels = (
        SubsetPixels(pixels, part) for part in torch.arange(len(names)).tensor_split([len(train.names)])
    )
    notes += _notes_on_others(train.others + test.others) + more
    name = root.resolve().name
    return RawData(name, classes, train_pixels, train.labels, test_pixels, test.labels, notes=notes)


def _split_by_content(
    root: Path, classes: tuple[str, ...], listing: _Listing, image_size: tuple[int, int] | None, notes: tuple[str, ...]
) -> RawData:
    pixels, more = _pixels(root, listing.names, image_size)
    keys = [content_key((root / name).read_bytes()) for name in listing.names]
    raw = split_off_test(root.resolve().name, classes, pixels, listing.labels, keys)
    return dataclasses.replace(raw, notes=(split_note(raw), *notes, *more))


def _split_folders(root: Path) -> tuple[Path, Path | None, tuple[str, ...]]:
    """The folders of the training and the test split (None: one has to be made), and what to say about it."""
    by_name = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    train = [by_name[name] for name in _TRAIN_FOLDERS if name in by_name]
    test = [by_name[name] for name in _TEST_FOLDERS if name in by_name]
    if not train and not test:
        return root, None, ()
    if not train:
        raise CondenseError(f"{root} has {test[0].name}/ but no train/; add one, or give {test[0]} by itself")
    if not test:
        return train[0], None, ()
    named = test[0].name.lower().startswith("test")
    notes = [] if named else [f"{test[0].name}/ of {root.name} is the test split"]
    notes += [f"{path.name}/ in {root.name} is not used: {test[0].name}/ is the test split" for path in test[1:]]
    return train[0], test[0], tuple(notes)


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def _check_test_classes(folder: Path, classes: tuple[str, ...]) -> None:
    unknown = [name for name in _class_names(folder) if name not in classes]
    if unknown:
        raise CondenseError(
            f"{folder} has {len(unknown)} class folder(s) that the training split lacks, for example {unknown[0]!r}"
            f"{near_names(unknown[0], classes)}; both need the same classes"
        )


def _list_files(root: Path, folder: Path, classes: tuple[str, ...]) -> _Listing:
    names: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    for label, name in enumerate(classes):
        files = _files_below(root, folder / name)
        images = [file for file in files if file.lower().endswith(_SUFFIXES)]
        names += images
        labels += [label] * len(images)
        others += [file for file in files if not file.lower().endswith(_SUFFIXES)]
    return _Listing(names, torch.tensor(labels, dtype=torch.int64), others)


def _files_below(root: Path, folder: Path) -> list[str]:
    files: list[str] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]  # what is left in it is walked next
        files += [(Path(place) / name).relative_to(root).as_posix() for name in names if not name.startswith(".")]
    return sorted(files)


def _notes_on_others(others: Sequence[str]) -> tuple[str, ...]:
    if not others:
        return ()
    return (f"{len(others)} file(s) without the suffix of an image were left out, for example {others[0]}",)


def _pixels(root: Path, names: list[str], image_size: tuple[int, int] | None) -> tuple[FilePixels, tuple[str, ...]]:
    """The files as pixels of the shape that their headers have in common, and what to say about them."""
    headers = [read_header(root / name) for name in names]
    readable = [header for header in headers if header is not None]
    if len(readable) < len(headers):
        raise FilePixels(root, names, (1, 1, 1)).unreadable()
    deep = [name for name, header in zip(names, readable) if header.deep]
    if deep:
        raise CondenseError(
            f"{len(deep)} image file(s) have more than 8 bits a channel, for example {deep[0]}; convert them to 8 bits"
        )
    height, width = image_size or _common_size(names, readable)
    channels = 1 if all(header.gray for header in readable) else 3
    area = sum(header.height * header.width for header in readable) / len(readable)
    threads = torch.get_num_threads() if area >= _LARGE_IMAGE else 1
    return FilePixels(root, names, (channels, height, width), threads), _notes_on_colours(readable)


def _common_size(names: list[str], headers: list[Header]) -> tuple[int, int]:
    sizes = [(header.height, header.width) for header in headers]
    first = sizes[0]
    for name, size in zip(names, sizes):
        if size != first:
            usual = Counter(sizes).most_common(1)[0][0]
            raise CondenseError(
                f"images differ in size (height x width): {names[0]} is {first[0]}x{first[1]}, {name} is "
                f"{size[0]}x{size[1]}; give --image-size, for example {min(usual)}"
            )
    return first


def _notes_on_colours(headers: list[Header]) -> tuple[str, ...]:
    notes = []
    gray = sum(header.gray for header in headers)
    if 0 < gray < len(headers):
        notes.append(f"{gray} of {len(headers)} images are grayscale and became RGB like the others")
    transparent = sum(header.transparent for header in headers)
    if transparent:
        notes.append(f"{transparent} of {len(headers)} images have a transparency channel, which is left out")
    return tuple(notes)
