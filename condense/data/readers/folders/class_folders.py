"""Trees that sort their images into class folders: which files are of which split and class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch

from condense.data.class_choice import check_chosen
from condense.data.raw import check_names
from condense.data.readers.folders.label_tables import read_label_table
from condense.data.readers.folders.labelled import LabelledFiles, label_files
from condense.data.readers.folders.listing import Listing, Tree
from condense.data.readers.folders.sequences import Place, merged
from condense.data.readers.folders.splits import SplitFolders, choose_splits
from condense.data.readers.folders.tree import files_in, is_image, subfolders, suffix_of, walk
from condense.runtime.errors import CondenseError, near_names

_LAYOUT = "train/CLASS/*.png with test/CLASS/*.png, or CLASS/*.png"
_SHOWN = 4  # names in a note


def list_tree(root: Path, chosen: tuple[str, ...] | None) -> Tree:
    """The files of `train/` and `test/` (or `val/`, `eval/`, ...) with class folders in them, or of class folders.

    Classes are the sorted names of the folders, or those `chosen`; folders are searched to any depth, each real folder
    once. A split whose images lie in no class folders may have a table of labels instead. Raises `CondenseError` for
    another layout, and for names that are not UTF-8.
    """
    splits, name = choose_splits(root), root.resolve().name
    train_folders = [splits.train] if splits.train_table else subfolders(splits.train)
    test_folders = [] if splits.test is None else [splits.test] if splits.test_table else subfolders(splits.test)
    classes = () if splits.train_table else tuple(folder.name for folder in train_folders)
    check_names(name, [*classes, *(folder.name for folder in test_folders)])
    _check_folders(splits, train_folders, test_folders)
    if chosen is not None and not splits.train_table:
        check_chosen(name, chosen, classes)
        train_folders = [splits.train / name for name in chosen]
    if chosen is not None and not splits.test_table:
        test_folders = [folder for name in chosen for folder in test_folders if folder.name == name]
    (train_files, test_files), links = _list_files(root, splits, (train_folders, test_folders))
    train = _label(root, splits.train_table, train_folders, train_files, classes, chosen)
    if not splits.train_table:
        _check_images(root, train_folders, train.listing)
    if not splits.test_table:
        _check_test_classes(splits, test_folders, train.classes)
    parts = [train]
    if splits.test is not None:
        parts.append(_label(root, splits.test_table, test_folders, test_files, train.classes, chosen))
    others = [file for part in parts for file in part.listing.others]
    notes = [*splits.notes, *(note for part in parts for note in part.notes)]
    return Tree(
        root,
        chosen or train.classes,
        train.listing,
        parts[1].listing if len(parts) > 1 else None,
        "" if splits.test is None else f"{splits.test.name}/",
        tuple(table for table in (splits.train_table, splits.test_table) if table is not None),
        tuple(file for part in parts for file in part.missing),
        (*notes, *_notes_on_files(root, splits, others, links)),
    )


def _label(
    root: Path,
    table: Path | None,
    folders: Sequence[Path],
    files: Sequence[Sequence[str]],
    classes: tuple[str, ...],
    chosen: tuple[str, ...] | None,
) -> LabelledFiles:
    """The files of one split with their classes: by its table, or by the folder that each lies in."""
    if table is None:
        return LabelledFiles(classes, _by_folder(root, chosen or classes, folders, files))
    (inside,) = files
    return label_files(root, read_label_table(table), inside, classes, chosen)


def _check_folders(splits: SplitFolders, train: Sequence[Path], test: Sequence[Path]) -> None:
    """Every class folder is a folder of its own."""
    roots = [splits.train] if splits.test is None else [splits.train, splits.test]
    real: dict[str, Path] = {}
    for folder in (*roots, *train, *test):
        other = real.setdefault(os.path.realpath(folder), folder)
        if other != folder:
            raise CondenseError(f"{folder} and {other} are the same folder, by a link; remove one of the two")


def _check_test_classes(splits: SplitFolders, test: Sequence[Path], classes: Sequence[str]) -> None:
    """The class folders of the test split are classes of the training split."""
    unknown = [folder.name for folder in test if folder.name not in classes]
    if unknown:
        raise CondenseError(
            f"{splits.test} has {len(unknown)} class folder(s) that the training split lacks, for example "
            f"{unknown[0]!r}{near_names(unknown[0], classes)}; both need the same classes"
        )


def _list_files(
    root: Path, splits: SplitFolders, parts: Sequence[Sequence[Path]]
) -> tuple[list[list[list[str]]], list[str]]:
    """The files below the folders of each part, and the links to folders that were not followed."""
    links: list[str] = []
    apart = [root, *root.resolve().parents, splits.train, *([] if splits.test is None else [splits.test])]
    folders = [folder for part in parts for folder in part]
    files: list[list[str]] = [[] for _ in folders]
    for number, file in walk(root, folders, apart=apart, repeated=links):
        files[number].append(file)
    remaining = iter(files)
    return [[sorted(next(remaining)) for _ in part] for part in parts], links


def _by_folder(root: Path, classes: Sequence[str], folders: Sequence[Path], files: Sequence[Sequence[str]]) -> Listing:
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
    groups = [place.subfolder for place in places]
    return Listing(names, torch.tensor(labels, dtype=torch.int64), places, groups, others)


def _check_images(root: Path, folders: Sequence[Path], train: Listing) -> None:
    """Every class of the training split has images, and the classes are not those of a folder further down."""
    name = root.resolve().name
    if not train.names:
        left_out = f" (only {_by_suffix(train.others)})" if train.others else ""
        raise CondenseError(
            f"no image files (.png, .jpg, ...) in class folders of {root}{left_out}; use {_LAYOUT}, or give a table of "
            "labels by --labels"
        )
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
    tables = {table.relative_to(root).as_posix() for table in (splits.train_table, splits.test_table) if table}
    others = [file for file in others if file not in tables]
    notes = []
    if others:
        notes.append(
            f"{len(others)} file(s) without the suffix of an image were left out ({_by_suffix(others)}), for example "
            f"{others[0]}"
        )
    read = {table.parent for table in (splits.train_table, splits.test_table) if table}  # not only below class folders
    beside = {folder for folder in (root, splits.train, splits.test) if folder is not None} - read
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
