"""Images whose labels lie in a table: which files are of which split and class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch

from condense.data.class_choice import check_chosen
from condense.data.labels import sorted_classes
from condense.data.names import shown
from condense.data.raw import check_names
from condense.data.readers.folders.label_matching import MatchedRows, match_rows
from condense.data.readers.folders.label_tables import LabelTable, Row, read_label_table
from condense.data.readers.folders.listing import Listing, Tree
from condense.data.readers.folders.sequences import Place
from condense.data.readers.folders.splits import TEST_NAMES, TRAIN_NAMES
from condense.data.readers.folders.tree import is_image, walk
from condense.runtime.errors import CondenseError, near_names


def list_labelled(root: Path, labels: Path, chosen: tuple[str, ...] | None) -> Tree:
    """The images anywhere below `root` that the table `labels` (a path from here, or from `root`) gives a class.

    Splits are those of its column of splits, else folders called like training and test splits where both have labels.
    Raises `CondenseError` for a table that cannot be read or fits no file, and for splits of unknown names.
    """
    name = root.resolve().name
    path = next((place for place in (labels, root / labels) if os.path.isfile(place)), labels)  # noqa: PTH113
    table = read_label_table(path)
    files = sorted(file for _, file in walk(root, [root], apart=root.resolve().parents) if is_image(file))
    if not files:
        raise CondenseError(f"no image files (.png, .jpg, ...) in {root}; give the folder that has those of {path}")
    matched = match_rows(table, root, files)
    if not matched.by_file:
        raise CondenseError(
            f"no file in {root} fits a line of {path}, whose first names {table.rows[0].file!r}; name files by their "
            "paths in the folder"
        )
    all_classes = _classes(name, matched.by_file, chosen)
    classes = chosen or all_classes
    rows = {file: row for file, row in matched.by_file.items() if row.label in classes}
    train, test, test_name, notes = _splits(name, table, rows)
    listings = [_listing(rows, part, classes) for part in (train, test)]
    missing = [row.file for row in matched.missing if chosen is None or row.label in classes]
    notes += _note_on_unlabelled(name, table, matched)
    return Tree(
        root, classes, listings[0], listings[1] if test else None, test_name, (path,), tuple(missing), tuple(notes)
    )


@dataclass(frozen=True)
class LabelledFiles:
    """The images of one split with their labels.

    `classes` are all that there are, whichever were chosen; `missing` are files that a table names and that are not
    there.
    """

    classes: tuple[str, ...]
    listing: Listing
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def label_files(
    root: Path, table: LabelTable, files: Sequence[str], classes: tuple[str, ...], chosen: tuple[str, ...] | None
) -> LabelledFiles:
    """Label the `files` (relative to `root`) of a split that has a table in its folder.

    `classes` are those that there can be, by default those of the table. Raises `CondenseError` for others.
    """
    name, folder = root.resolve().name, table.path.parent
    prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    matched = match_rows(table, folder, [file.removeprefix(prefix) for file in files if is_image(file)])
    if not matched.by_file:
        raise CondenseError(f"no image file in {folder} fits a line of {table.path}; name files as they are there")
    for row in matched.by_file.values():
        if classes and row.label not in classes:
            raise CondenseError(
                f"line {row.line} of {table.path} has the class {row.label!r}, which the training split lacks"
                f"{near_names(row.label, classes)}; both need the same classes"
            )
    classes = classes or _classes(name, matched.by_file, chosen)
    wanted = chosen or classes
    rows = {prefix + file: row for file, row in matched.by_file.items() if row.label in wanted}
    others = [file for file in files if not is_image(file)]
    missing = tuple(prefix + row.file for row in matched.missing if row.label in wanted)
    listing = replace(_listing(rows, list(rows), wanted), others=others)
    return LabelledFiles(classes, listing, missing, _note_on_unlabelled(name, table, matched))


def _note_on_unlabelled(name: str, table: LabelTable, matched: MatchedRows) -> tuple[str, ...]:
    files = matched.unlabelled
    if not files:
        return ()
    return (
        f"{len(files)} of {len(files) + len(matched.by_file)} image files in {name} have no label in {table.path.name} "
        f"and were left out: {shown(files, 3)}",
    )


def _classes(name: str, rows: dict[str, Row], chosen: tuple[str, ...] | None) -> tuple[str, ...]:
    """All classes of these rows, which must have those that were chosen."""
    classes = sorted_classes(row.label for row in rows.values())
    check_names(name, classes)
    check_chosen(name, chosen or (), classes)
    return classes


def _splits(name: str, table: LabelTable, rows: dict[str, Row]) -> tuple[list[str], list[str], str, list[str]]:
    """The files of the training and of the test split (none: one has to be made), its name, and what to say."""
    if any(row.split for row in rows.values()):
        by_split = _by_column(table, rows)
    else:
        by_split = {}
        for file in rows:
            by_split.setdefault(file.partition("/")[0].lower(), []).append(file)
        if not by_split.keys() <= {*TRAIN_NAMES, *TEST_NAMES} or not by_split.keys() & set(TRAIN_NAMES):
            return list(rows), [], "", []
    train = [file for split in TRAIN_NAMES for file in by_split.get(split, ())]
    tests = [split for split in TEST_NAMES if split in by_split]
    if not train:
        raise CondenseError(f"{table.path} has no images of the split train, only of {', '.join(by_split)}; add some")
    if not tests:
        return train, [], "", []
    notes = [] if tests[0].startswith("test") else [f"the split {tests[0]} of {name} is the test split"]
    notes += [
        f"the split {split} of {name}, {len(by_split[split])} images, is not used: {tests[0]} is the test split"
        for split in tests[1:]
    ]
    return train, by_split[tests[0]], f"the split {tests[0]}", notes


def _by_column(table: LabelTable, rows: dict[str, Row]) -> dict[str, list[str]]:
    by_split: dict[str, list[str]] = {}
    for file, row in rows.items():
        split = row.split.lower()
        if split not in (*TRAIN_NAMES, *TEST_NAMES):
            raise CondenseError(
                f"line {row.line} of {table.path} has the split {row.split!r}; give train, val or test in every line"
            )
        by_split.setdefault(split, []).append(file)
    return by_split


def _listing(rows: dict[str, Row], files: Sequence[str], classes: Sequence[str]) -> Listing:
    """Class by class and sorted, as class folders would be."""
    numbers = {name: label for label, name in enumerate(classes)}
    ordered = sorted((numbers[rows[file].label], file) for file in files)
    names = [file for _, file in ordered]
    paths = [PurePosixPath(file) for file in names]
    return Listing(
        names,
        torch.tensor([label for label, _ in ordered], dtype=torch.int64),
        [Place(".", path) for path in paths],
        [None if path.parent == PurePosixPath() else path.parent.as_posix() for path in paths],
    )
