"""A folder of image files, of any size, grayscale or RGB, in class folders or with a table of labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from condense.data.names import shown
from condense.data.raw import RawData, split_note, split_off_test
from condense.data.readers.folders.class_folders import list_tree
from condense.data.readers.folders.image_files import open_images
from condense.data.readers.folders.labelled import list_labelled
from condense.data.readers.folders.listing import Listing, Tree
from condense.data.readers.folders.sequences import Place, frames, merged
from condense.data.readers.folders.unlabelled import list_unlabelled
from condense.data.reading import Reading
from condense.data.remembering import remembered_keys
from condense.data.sources import FilePixels, SubsetPixels
from condense.data.splitting import content_key
from condense.runtime.errors import CondenseError

_SHOWN = 4  # names in a note


def read_folder(root: Path, reading: Reading) -> RawData:
    """Read class folders, or images with a table of labels: `reading.labels`, or one of a usual name in the folder; or
    all images without labels.

    Hidden files and what systems leave behind are skipped. Without a test split that has labels, 20 % of every class
    become one, chosen by the content of the files; with `group_by_folder` whole sub-folders of class folders (of
    labelled files: whole folders), those of one name in several classes together. With `skip_broken` images that cannot
    be decoded, and lines of a table without a file, are left out before that. Notes say what was done. Pixels are
    decoded when they are read.

    Raises `CondenseError` for another layout, for names that are not UTF-8, for files that are no images or have more
    than 8 bits a channel without a window, for several sizes without an image size, and for `group_by_folder` where no
    test split is made or nothing lies in sub-folders.
    """
    if reading.unlabelled:
        tree = list_unlabelled(root)
    elif reading.labels is None:
        tree = list_tree(root, reading.classes)
    else:
        tree = list_labelled(root, reading.labels, reading.classes)
    if tree.missing and not reading.skip_broken:
        raise CondenseError(
            f"{len(tree.missing)} file(s) that {tree.tables[0].name} names are not in {root}: {shown(tree.missing)}; "
            "add them, or give --skip-broken to leave them out"
        )
    if reading.group_by_folder:
        _check_groups(tree)
    names = tree.train.names + ([] if tree.test is None else tree.test.names)
    opened = open_images(root, names, reading)
    boundary = len(tree.train.names)
    train = tree.train.kept([position for position in opened.kept if position < boundary])
    if tree.test is None:
        test, raw = None, _split_by_content(tree, train, opened.pixels, grouped=reading.group_by_folder)
    else:
        test = tree.test.kept([position - boundary for position in opened.kept if position >= boundary])
        raw = _with_own_test(tree, train, test, opened.pixels)
    left_out = (*tree.missing, *opened.left_out)
    missing = f"{len(tree.missing)} line(s) without a file were left out: {shown(tree.missing)}"
    notes = (*raw.notes, *tree.notes, *([missing] if tree.missing else []))
    if test is not None or not reading.group_by_folder:
        notes += _notes_on_places(tree, train, test)
    kept = train.names + ([] if test is None else test.names)
    files = (*(root / file for file in kept), *tree.tables)
    return dataclasses.replace(raw, notes=(*notes, *opened.notes), files=files, left_out=left_out)


def _check_groups(tree: Tree) -> None:
    if tree.test is not None:
        raise CondenseError(f"{tree.name} has a test split, {tree.test_name}, of its own: leave --group-by-folder out")
    if not any(tree.train.groups):
        where = "files" if tree.tables else "class folders"
        raise CondenseError(f"the {where} of {tree.name} have no sub-folders: leave --group-by-folder out")


def _with_own_test(tree: Tree, train: Listing, test: Listing, pixels: FilePixels) -> RawData:
    train_pixels, test_pixels = (
        SubsetPixels(pixels, part) for part in torch.arange(len(pixels)).tensor_split([len(train.names)])
    )
    return RawData(tree.name, tree.classes, train_pixels, train.labels, test_pixels, test.labels)


def _split_by_content(tree: Tree, listing: Listing, pixels: FilePixels, *, grouped: bool) -> RawData:
    files = [tree.root / file for file in listing.names]
    keys = remembered_keys(files, lambda: [content_key(file.read_bytes()) for file in files])
    groups = [group or file for group, file in zip(listing.groups, listing.names)] if grouped else None
    raw = split_off_test(tree.name, tree.classes, pixels, listing.labels, keys, groups=groups)
    return dataclasses.replace(raw, notes=(split_note(raw, grouped=grouped),))


def _notes_on_places(tree: Tree, train: Listing, test: Listing | None) -> tuple[str, ...]:
    """What to say about sub-folders, and where a test split that was made may share clips, bursts or patients."""
    places = train.places + ([] if test is None else test.places)
    notes = () if tree.tables else _note_on_merging(places)
    if test is not None:
        return notes
    return notes + (_note_on_frames(places, "a folder") if tree.tables else _note_on_sharing(places))


def _note_on_merging(places: Sequence[Place]) -> tuple[str, ...]:
    inside = merged(places)
    if not inside:
        return ()
    folder, names = next(iter(inside.items()))
    return (
        f"the sub-folders of {len(inside)} class folder(s) were merged, for example {folder} has "
        f"{shown(names, _SHOWN)}; if these are the classes, move them up",
    )


def _note_on_sharing(places: Sequence[Place]) -> tuple[str, ...]:
    if merged(places):
        return (
            "if these sub-folders are clips, bursts or patients, training and the made test split share them, so "
            "accuracy will be too high; give --group-by-folder to keep each on one side",
        )
    return _note_on_frames(places, "a sub-folder of its class")


def _note_on_frames(places: Sequence[Place], folder: str) -> tuple[str, ...]:
    pair = frames(places)
    if pair is None:
        return ()
    return (
        f"file names look like frames of sequences, for example {pair[0]} and {pair[1]}; if they are, training and the "
        f"made test split share them, so accuracy will be too high: put each sequence into {folder} and give "
        "--group-by-folder",
    )
