"""Which folders of a tree are its training and its test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from condense.data.readers.folders.label_tables import TINY_IMAGENET, has_label_column
from condense.data.readers.folders.tree import files_in, has_images, subfolders, suffix_of
from condense.runtime.errors import CondenseError, near_names

# In any case: `Train` taken for a class would go unnoticed. The first that is there, and for a test split has labels,
# is used.
TRAIN_NAMES = ("train", "training", "trn")
TEST_NAMES = (
    *("test", "testing", "tst", "val", "valid", "validation", "validate"),
    *("eval", "evaluation", "dev", "holdout", "hold-out", "hold_out"),
)
_TABLES = frozenset({".csv", ".json", ".tsv", ".txt", ".xml", ".parquet", ".mat", ".xlsx"})  # that may hold labels
_LABEL_TABLES = ("metadata.csv", TINY_IMAGENET)  # the first as Hugging Face's imagefolder has it


@dataclass(frozen=True)
class SplitFolders:
    """The folders that hold the class folders of each split (`test` None: one has to be made), and what to say.

    Where a split has a table of labels instead, it is `train_table` or `test_table`.
    """

    train: Path
    test: Path | None
    notes: tuple[str, ...] = ()
    train_table: Path | None = None
    test_table: Path | None = None


def choose_splits(root: Path) -> SplitFolders:
    """The split folders of the tree at `root`: by their usual names, or the class folders of `root` alone.

    A folder that wraps the splits is looked through. A test folder without labels, as competitions have it, loses to
    one with class folders or a table of labels; if there is no other, a split has to be made. Raises `CondenseError`
    for a test split without a training split, and for a test folder whose labels lie in a file of another name.
    """
    place, notes = _look_through(root)
    splits = _splits_in(place)
    folders = [folder for folder in (splits.train, splits.test) if folder is not None]
    notes += splits.notes + tuple(note for folder in folders for note in _note_on_table(folder))
    return replace(splits, notes=notes)


def _splits_in(place: Path) -> SplitFolders:
    notes: tuple[str, ...] = ()
    by_name = _split_names(place)
    train = [by_name[name] for name in TRAIN_NAMES if name in by_name]
    tests = [by_name[name] for name in TEST_NAMES if name in by_name]
    if not train and not tests:
        return SplitFolders(place, None, notes, table_in(place))
    if not train:
        raise CondenseError(f"{place} has {tests[0].name}/ but no train/; add one, or give {tests[0]} by itself")
    test = _labelled(tests, [folder.name for folder in subfolders(train[0])])
    if test is None:
        _check_no_label_file(tests, train[0])
    elif not test.name.lower().startswith("test"):
        notes += (f"{test.name}/ of {place.resolve().name} is the test split",)
    unused = [folder for folder in subfolders(place) if folder not in (train[0], test)]
    notes += tuple(_note_on_unused(folder, tests, test) for folder in unused if _may_have_images(folder))
    return SplitFolders(train[0], test, notes, table_in(train[0]), None if test is None else table_in(test))


def _note_on_table(folder: Path) -> list[str]:
    return [
        f"{name} in {folder.resolve().name} is not read, because its images lie in class folders; give --labels for "
        "its labels"
        for name in files_in(folder)
        if name in _LABEL_TABLES and table_in(folder) is None and has_label_column(folder / name)
    ]


def table_in(folder: Path) -> Path | None:
    """The table that labels the images of a folder: by its usual name, where they do not lie in class folders."""
    names = [name for name in files_in(folder) if name in _LABEL_TABLES and has_label_column(folder / name)]
    if not names or sum(map(has_images, subfolders(folder))) > 1:
        return None
    return folder / names[0]


def _look_through(root: Path) -> tuple[Path, tuple[str, ...]]:
    """Where the splits are: `root`, or a folder that wraps them and is alone in it; and what to say about that."""
    place, entered = root, set()
    while not _split_names(place):
        inner = subfolders(place)
        entered.add(place.resolve())
        if len(inner) != 1 or inner[0].resolve() in entered:
            return root, ()
        place = inner[0]
    if place == root or not set(_split_names(place)) & set(TRAIN_NAMES):
        return root, ()
    return place, (f"the splits of {root.resolve().name} are in its folder {place.relative_to(root).as_posix()}/",)


def _split_names(folder: Path) -> dict[str, Path]:
    """The folders in `folder` that are called like a split, by their names in lower case."""
    by_name = {path.name.lower(): path for path in subfolders(folder)}
    return {name: path for name, path in by_name.items() if name in TRAIN_NAMES + TEST_NAMES}


def _labelled(tests: Sequence[Path], classes: Sequence[str]) -> Path | None:
    """The first of these folders that has labels, one with images if there is any; None if none has."""
    labelled = [
        folder
        for folder in tests
        if _are_classes([path.name for path in subfolders(folder)], classes) or table_in(folder) is not None
    ]
    return next((folder for folder in labelled if has_images(folder)), labelled[0] if labelled else None)


def _are_classes(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether folders of these names are meant for `classes`, maybe misspelt, and are not one heap of images."""
    return len(names) > 1 or any(name in classes or near_names(name, classes) for name in names)


def _check_no_label_file(tests: Sequence[Path], train: Path) -> None:
    for folder in tests:
        for name in files_in(folder):
            if suffix_of(name) in _TABLES and not name.lower().startswith(("readme", "license")):
                raise CondenseError(
                    f"{folder} has no class folders, and {name} is not looked into for labels; call it metadata.csv if "
                    f"it has the columns file_name and label, or give {train} by itself to have a test split made"
                )


def _may_have_images(folder: Path) -> bool:
    try:
        return has_images(folder)
    except CondenseError:  # locked, which is nobody's concern as long as it is not used
        return True


def _note_on_unused(folder: Path, tests: Sequence[Path], test: Path | None) -> str:
    note = f"{folder.name}/ in {folder.parent.resolve().name} is not used"
    if folder not in tests:
        return note
    if test is not None and tests.index(folder) > tests.index(test):
        return f"{note}: {test.name}/ is the test split"
    return f"{note}: it has no class folders, so its images have no labels"
