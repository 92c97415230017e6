"""A tree of class folders with image files, of any size, grayscale or RGB."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from condense.data.raw import RawData, check_names, split_note, split_off_test
from condense.data.readers.folders.image_files import open_images
from condense.data.readers.folders.sequences import Place, frames, merged
from condense.data.readers.folders.splits import SplitFolders, choose_splits
from condense.data.readers.folders.tree import files_in, is_image, subfolders, suffix_of, walk
from condense.data.remembering import remembered_keys
from condense.data.sources import SubsetPixels
from condense.data.splitting import content_key
from condense.runtime.errors import CondenseError, near_names

_LAYOUT = "train/CLASS/*.png with test/CLASS/*.png, or CLASS/*.png"
_SHOWN = 4  # names in a note


@dataclass(frozen=True)
class _Listing:
    """The files of one split, class by class and sorted; names are relative to the root of the tree."""

    names: list[str]
    labels: Tensor  # int64 [N]
    others: list[str]  # files without an image suffix
    places: list[Place]  # of the images


def read_folder(root: Path, image_size: tuple[int, int] | None, *, group_by_folder: bool = False) -> RawData:
    """Read `train/` and `test/` (or `val/`, `eval/`, ...) with class folders in them, or class folders alone.

    Classes are the sorted names of the folders, which are searched to any depth, each real folder once; hidden files
    and what systems leave behind are skipped. Without a test split that has labels, 20 % of every class become one,
    chosen by the content of the files; with `group_by_folder` whole sub-folders of class folders, those of one name in
    several classes together. Notes say what was done. Pixels are decoded when they are read.

    Raises `CondenseError` for another layout, for names that are not UTF-8, for files that are no images or have more
    than 8 bits a channel, for several sizes without `image_size` (H, W), and for `group_by_folder` where no test split
    is made or no class folder has sub-folders.
    """
    splits, name = choose_splits(root), root.resolve().name
    train_folders = subfolders(splits.train)
    classes = tuple(folder.name for folder in train_folders)
    test_folders = [] if splits.test is None else subfolders(splits.test)
    check_names(name, [*classes, *(folder.name for folder in test_folders)])
    _check_classes(splits, train_folders, test_folders)
    (train, test), links = _list_files(root, splits, classes, (train_folders, test_folders))
    _check_images(root, train_folders, train)
    notes = splits.notes + _notes_on_files(root, splits, train.others + test.others, links)
    if splits.test is None:
        return _split_by_content(root, classes, train, image_size, notes, group_by_folder=group_by_folder)
    if group_by_folder:
        raise CondenseError(f"{name} has a test split, {splits.test.name}/, of its own: leave --group-by-folder out")
    pixels, more = open_images(root, train.names + test.names, image_size)
    indices = torch.arange(len(pixels))
    train_pixels, test_pixels = (SubsetPixels(pixels, part) for part in indices.tensor_split([len(train.names)]))
    notes += _note_on_merging(train.places + test.places) + more
    files = tuple(root / file for file in train.names + test.names)
    return RawData(name, classes, train_pixels, train.labels, test_pixels, test.labels, notes=notes, files=files)


def _split_by_content(
    root: Path,
    classes: tuple[str, ...],
    listing: _Listing,
    image_size: tuple[int, int] | None,
    notes: tuple[str, ...],
    *,
    group_by_folder: bool,
) -> RawData:
    name, places = root.resolve().name, listing.places
    if group_by_folder and not any(place.subfolder for place in places):
        raise CondenseError(f"the class folders of {name} have no sub-folders: leave --group-by-folder out")
    pixels, more = open_images(root, listing.names, image_size)
    files = tuple(root / file for file in listing.names)
    keys = remembered_keys(files, lambda: [content_key(file.read_bytes()) for file in files])
    groups = [place.subfolder or file for place, file in zip(places, listing.names)] if group_by_folder else None
    raw = split_off_test(name, classes, pixels, listing.labels, keys, groups=groups)
    if not group_by_folder:
        notes += _note_on_merging(places) + _note_on_sharing(places)
    notes = (split_note(raw, grouped=group_by_folder), *notes, *more)
    return dataclasses.replace(raw, notes=notes, files=files)


def _check_classes(splits: SplitFolders, train: Sequence[Path], test: Sequence[Path]) -> None:
    """Every class folder is a folder of its own, and those of the test split are classes of the training split."""
    roots = [splits.train] if splits.test is None else [splits.train, splits.test]
    real: dict[str, Path] = {}
    for folder in (*roots, *train, *test):
        other = real.setdefault(os.path.realpath(folder), folder)
        if other != folder:
            raise CondenseError(f"{folder} and {other} are the same folder, by a link; remove one of the two")
    classes = [folder.name for folder in train]
    unknown = [folder.name for folder in test if folder.name not in classes]
    if unknown:
        raise CondenseError(
            f"{splits.test} has {len(unknown)} class folder(s) that the training split lacks, for example "
            f"{unknown[0]!r}{near_names(unknown[0], classes)}; both need the same classes"
        )


def _list_files(
    root: Path, splits: SplitFolders, classes: Sequence[str], parts: Sequence[Sequence[Path]]
) -> tuple[list[_Listing], list[str]]:
    """The files below the class folders of each part, and the links to folders that were not followed."""
    links: list[str] = []
    apart = [root, *root.resolve().parents, splits.train, *([] if splits.test is None else [splits.test])]
    folders = [folder for part in parts for folder in part]
    files: list[list[str]] = [[] for _ in folders]
    for number, file in walk(root, folders, apart=apart, repeated=links):
        files[number].append(file)
    remaining = iter(files)
    return [_listing(root, classes, part, [sorted(next(remaining)) for _ in part]) for part in parts], links


def _listing(root: Path, classes: Sequence[str], folders: Sequence[Path], files: Sequence[Sequence[str]]) -> _Listing:
    numbers = {name: label for label, name in enumerate(classes)}
    names: list[str] = []
    labels: list[int] = []
    places: list[Place] = []
    for folder, inside in zip(folders, files):
        images = [file for file in inside if is_image(file)]
        place = folder.relative_to(root).as_posix()
        names += images
        labels += [numbers[folder.name]] * len(images)
        places += [Place(place, PurePosixPath(file[len(place) + 1 :])) for file in images]
    others = [file for inside in files for file in inside if not is_image(file)]
    return _Listing(names, torch.tensor(labels, dtype=torch.int64), others, places)


def _check_images(root: Path, folders: Sequence[Path], train: _Listing) -> None:
    """Every class of the training split has images, and the classes are not those of a folder further down."""
    name = root.resolve().name
    if not train.names:
        left_out = f" (only {_by_suffix(train.others)})" if train.others else ""
        raise CondenseError(f"no image files (.png, .jpg, ...) in class folders of {root}{left_out}; use {_LAYOUT}")
    counts = train.labels.bincount(minlength=len(folders)).tolist()
    for folder in (folder for folder, count in zip(folders, counts) if not count):
        others = [file for file in train.others if (root / file).is_relative_to(folder)]
        if others:
            raise CondenseError(
                f"class {folder.name!r} of {name} has no training image, only {_by_suffix(others)}; convert them to "
                ".png, or leave the folder out"
            )
    if len(folders) == 1 and merged(train.places):
        raise CondenseError(
            f"{name} has only one class, {folders[0].name!r}; if its sub-folders are the classes, give {folders[0]}"
        )


def _notes_on_files(root: Path, splits: SplitFolders, others: Sequence[str], links: Sequence[str]) -> tuple[str, ...]:
    """What to say about files and folders that were left out."""
    notes = []
    if others:
        notes.append(
            f"{len(others)} file(s) without the suffix of an image were left out ({_by_suffix(others)}), for example "
            f"{others[0]}"
        )
    beside = {folder for folder in (root, splits.train, splits.test) if folder is not None}
    loose = [
        (folder / file).relative_to(root).as_posix()
        for folder in sorted(beside)
        for file in files_in(folder)
        if is_image(file)
    ]
    if loose:
        notes.append(f"{len(loose)} image file(s) beside the class folders were left out, for example {loose[0]}")
    if links:
        notes.append(
            f"{len(links)} link(s) to folders that are read elsewhere were not followed, for example {links[0]}"
        )
    return tuple(notes)


def _by_suffix(files: Sequence[str]) -> str:
    """How many files have each suffix, the most frequent first.

    >>> _by_suffix(["a.heic", "b.txt", "c.HEIC", "d"])
    '2 .heic, 1 .txt, 1 without any'
    """
    counts = Counter(suffix_of(file) or "without any" for file in files)
    rest = sum(count for _, count in counts.most_common()[_SHOWN:])
    shown = [f"{count} {suffix}" for suffix, count in counts.most_common(_SHOWN)]
    return ", ".join([*shown, f"{rest} others"] if rest else shown)


def _note_on_merging(places: Sequence[Place]) -> tuple[str, ...]:
    inside = merged(places)
    if not inside:
        return ()
    folder, names = next(iter(inside.items()))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"the sub-folders of {len(inside)} class folder(s) were merged, for example {folder} has "
        f"{', '.join(names[:_SHOWN])}{more}; if these are the classes, move them up",
    )


def _note_on_sharing(places: Sequence[Place]) -> tuple[str, ...]:
    """What to say where training and a test split that was made may share clips, bursts or patients."""
    if merged(places):
        return (
            "if these sub-folders are clips, bursts or patients, training and the made test split share them, so "
            "accuracy will be too high; give --group-by-folder to keep each on one side",
        )
    pair = frames(places)
    if pair is None:
        return ()
    return (
        f"file names look like frames of sequences, for example {pair[0]} and {pair[1]}; if they are, training and the "
        "made test split share them, so accuracy will be too high: put each sequence into a sub-folder of its class "
        "and give --group-by-folder",
    )
