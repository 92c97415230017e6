"""Arrays in a file: `.npz`, or `.h5` that may be larger than memory."""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy

from condense.data.labels import labels_of_arrays, plain_text
from condense.data.packing import KIND, SCHEMA
from condense.data.preprocessing import Preprocessing, preprocessing_from_arrays
from condense.data.raw import RawData, reason, split_note, split_off_test
from condense.data.readers.array_images import ArrayForm, array_form
from condense.data.readers.array_names import CLASSES, SplitNames, array_names
from condense.data.reading import Reading
from condense.data.remembering import remembered_keys
from condense.data.sources import Hdf5Pixels, PixelSource, TensorPixels, channels_first
from condense.data.splitting import content_key
from condense.data.survey import Survey
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.objects import Hdf5File, open_hdf5
from condense.runtime.hdf5.reader import CHECKSUMS, Rows, open_rows, read_contents
from condense.runtime.inputs import regular_file
from condense.runtime.numpy_files import declared_array

_PIECE = 16 * 2**20  # bytes of rows that are hashed at once


def read_npz(path: Path, reading: Reading) -> RawData:
    """Read an `.npz` of images and labels in usual names and forms; see `array_names` and `array_form`.

    Labels are integers, or texts, whose classes are sorted; `classes` names those of integers. Without a test split one
    is made. Raises `CondenseError` for a damaged file, wrong arrays, and arrays above the memory limit.
    """
    regular_file(path, "a folder, an .npz or an .h5 of images")
    try:
        with zipfile.ZipFile(path) as archive:
            splits, arrays = _unpack(path, archive, reading)
    except CondenseError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each have their own errors for damage and for pickled objects
        raise CondenseError(f"cannot read {path}: {reason(error)}; save plain number and text arrays") from error
    forms = [array_form(path, split.images, arrays[split.images], reading.window) for split in splits]
    keys = None
    if len(splits) == 1:
        stored = arrays[splits[0].images]
        keys = remembered_keys((path,), lambda: [content_key(np.ascontiguousarray(row)) for row in stored])
    pixels = [TensorPixels(channels_first(form.apply(arrays[split.images]))) for form, split in zip(forms, splits)]
    return _raw(path, path.stem, splits, arrays, pixels, forms, keys)


def _unpack(path: Path, archive: zipfile.ZipFile, reading: Reading) -> tuple[list[SplitNames], dict[str, np.ndarray]]:
    """The splits of an `.npz` and the arrays that are wanted, all of them measured before the first is read."""
    entries = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist() if name.endswith(".npy")}
    splits, memory_limit = _splits(path, entries, reading), reading.memory_limit
    wanted = {key: entries[key] for key in _wanted(splits, entries)}
    size = sum(entry.file_size for entry in wanted.values())  # zipfile gives no more than this of an entry
    if size > memory_limit:
        raise CondenseError(
            f"the arrays of {path} take {size / 1e9:.2f} GB, above the memory limit of {memory_limit / 1e9:.2f} GB, "
            "and an .npz is read whole; give a larger --memory-limit once, to pack it into an .h5, which is read piece "
            "by piece"
        )
    return splits, {key: _read_entry(archive, entry) for key, entry in wanted.items()}


def _splits(path: Path, present: Any, reading: Reading) -> list[SplitNames]:
    """The training split, or all images, and the test split if there is one."""
    names = array_names(path, present, labelled=not reading.unlabelled)
    return [split for split in names if split is not None]


def _wanted(splits: list[SplitNames], present: Any) -> list[str]:
    names = [name for split in splits for name in (split.images, split.labels) if name]
    return [*names, *([CLASSES] if CLASSES in present else [])]


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """An array of an `.npz`; raises `ValueError` if it declares more than its entry has."""
    with archive.open(entry) as stream:
        dtype, declared = declared_array(stream)
        if not dtype.hasobject and declared > entry.file_size:
            raise ValueError(f"{entry.filename} declares more than it has")
    with archive.open(entry) as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))


def read_h5(path: Path, reading: Reading) -> RawData:
    """Read an `.h5` of the same arrays; what `pack` stored beside them (name, mirror, preprocessing) is taken over.

    Images stay in the file until they are read. Raises `CondenseError` for a damaged file and wrong arrays.
    """
    with open_hdf5(path, "an .h5 of images", "pack the data again") as file:
        if file.attribute(file.item("/"), "format") != KIND and CHECKSUMS not in file.names():
            return _read_others(file, reading)
    return _read_packed(path, reading)


def _read_packed(path: Path, reading: Reading) -> RawData:
    """A file of `pack`, which vouches for itself."""
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    arrays, root = contents.arrays, contents.attributes["/"]
    splits = _splits(path, arrays | contents.rows, reading)
    forms, pixels = [], []
    for split in splits:
        rows = contents.rows.get(split.images)
        if rows is None:
            raise CondenseError(f"{path} has no checksums for {split.images}; pack the data again")
        forms.append(array_form(path, split.images, rows, reading.window))
        pixels.append(Hdf5Pixels(rows))
    try:
        kind = contents.attributes["preprocessing"]["kind"]
        numbers = {name.removeprefix("preprocessing/"): array for name, array in arrays.items()}
        surveys = _stored_survey(arrays, "train"), _stored_survey(arrays, "test")
        stored = {"mirror": bool(root["mirror"]), "preprocessing": preprocessing_from_arrays(kind, numbers)}
        return _raw(path, plain_text(root["name"]), splits, arrays, pixels, forms, None, surveys=surveys, **stored)
    except KeyError as error:
        raise CondenseError(f"{path} lacks {error}; pack the data again") from error


def _stored_survey(arrays: Mapping[str, np.ndarray], split: str) -> Survey:
    return Survey(arrays[f"survey/{split}_digest"].tobytes(), arrays[f"survey/{split}_histogram"])


def _read_others(file: Hdf5File, reading: Reading) -> RawData:
    """A file that another program made, or an earlier version of `pack`: nothing in it vouches for the rest."""
    path, names, root = file.path, file.names(), file.item("/")
    splits = _splits(path, names, reading)
    rows = [open_rows(file, split.images) for split in splits]
    forms = [array_form(path, split.images, images, reading.window) for split, images in zip(splits, rows)]
    pixels = [Hdf5Pixels(images, form.image_shape, form.apply) for images, form in zip(rows, forms)]
    images = {split.images for split in splits}
    arrays = {key: file.array(key, reading.memory_limit) for key in _wanted(splits, names) if key not in images}
    mirror = file.attribute(root, "mirror")
    name = plain_text(file.attribute(root, "name", path.stem))
    stored = {
        "mirror": None if mirror is None else bool(mirror),
        "preprocessing": _stored_preprocessing(file, reading.memory_limit),
    }
    keys = None
    if len(splits) == 1:
        keys = remembered_keys((path,), lambda: [content_key(row) for row in _each_row(rows[0])])
    return _raw(path, name, splits, arrays, pixels, forms, keys, **stored)


def _each_row(rows: Rows) -> Iterator[np.ndarray]:
    step = max(1, _PIECE // max(1, math.prod(rows.shape[1:]) * rows.dtype.itemsize))
    for start in range(0, len(rows), step):
        yield from np.ascontiguousarray(rows.read((start, min(start + step, len(rows)))))


def _stored_preprocessing(file: Hdf5File, memory_limit: int) -> Preprocessing | None:
    group = file.item("preprocessing")
    if group is None:
        return None
    names = [name for name in ("mean", "std", "matrix", "eps") if file.item(f"preprocessing/{name}") is not None]
    arrays = {name: file.array(f"preprocessing/{name}", memory_limit) for name in names}
    return preprocessing_from_arrays(file.attribute(group, "kind"), arrays)


def _raw(
    path: Path,
    name: str,
    splits: list[SplitNames],
    arrays: Mapping[str, np.ndarray],
    pixels: list[Any],
    forms: list[ArrayForm],
    keys: list[bytes] | None,
    **stored: Any,
) -> RawData:
    """Pixels and labels of both splits, or of all images with the `keys` to split them by."""
    names = [plain_text(entry) for entry in arrays[CLASSES].ravel()] if CLASSES in arrays else None
    given = {f"{split.labels} of {path}": arrays[split.labels] for split in splits if split.labels}
    classes: tuple[str, ...] | None = None
    if given:
        classes, labels = labels_of_arrays(name, given, names)
    else:
        labels = [torch.zeros(len(part), dtype=torch.int64) for part in pixels]
    notes = tuple(form.note for form in forms if form.note)
    if len(splits) == 2:
        split = splits[1].split
        if not split.startswith(("test", "tst")):
            notes = (f"the split {split} of {path.name} is the test split", *notes)
        train, test = pixels
        return RawData(name, classes, train, labels[0], test, labels[1], notes=notes, files=(path,), **stored)
    source: PixelSource = pixels[0]
    if len(source) != len(labels[0]):
        raise CondenseError(f"{path} has {len(source)} images but {len(labels[0])} labels; give every image one label")
    assert keys is not None, "without a test split there are keys to make one by"
    raw = split_off_test(name, classes, source, labels[0], keys)
    return dataclasses.replace(raw, notes=(split_note(raw), *notes), files=(path,), **stored)
