"""Arrays in a file: `.npz`, or `.h5` that may be larger than memory."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from condense.data.images.depth import to_uint8
from condense.data.labels import class_indices, numbered_classes
from condense.data.packing import KIND, SCHEMA
from condense.data.preprocessing import Preprocessing, preprocessing_from_arrays
from condense.data.raw import RawData, reason
from condense.data.sources import Hdf5Pixels, PixelSource, TensorPixels, channels_first
from condense.data.survey import Survey
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.objects import Hdf5File, open_hdf5
from condense.runtime.hdf5.reader import CHECKSUMS, Rows, open_rows, read_contents
from condense.runtime.inputs import regular_file

KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def read_npz(path: Path, memory_limit: int) -> RawData:
    """Read an `.npz` with `KEYS` and, optionally, `classes`; images are (N, H, W) or (N, H, W, C), uint8.

    Raises `CondenseError` for a damaged file, wrong arrays, and arrays above `memory_limit` bytes.
    """
    regular_file(path, "a folder, an .npz or an .h5 of images")
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = _unpack(path, archive, memory_limit)
    except CondenseError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each have their own errors for damage and for pickled objects
        raise CondenseError(f"cannot read {path}: {reason(error)}; save plain number and text arrays") from error
    for split in ("train", "test"):
        _check_images(path, f"{split}_images", arrays[f"{split}_images"])
    train, test = (TensorPixels(channels_first(arrays[key])) for key in ("train_images", "test_images"))
    return _raw(path, path.stem, arrays, train, test, files=(path,))


def _unpack(path: Path, archive: zipfile.ZipFile, memory_limit: int) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` that are wanted, all of them measured before the first is read."""
    entries = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist() if name.endswith(".npy")}
    _check_keys(path, entries)
    wanted = {key: entries[key] for key in (*KEYS, "classes") if key in entries}
    size = sum(entry.file_size for entry in wanted.values())  # zipfile gives no more than this of an entry
    if size > memory_limit:
        raise CondenseError(
            f"the arrays of {path} take {size / 1e9:.2f} GB, above the memory limit of {memory_limit / 1e9:.2f} GB, "
            "and an .npz is read whole; give a larger --memory-limit once, to pack it into an .h5, which is read piece "
            "by piece"
        )
    return {key: _read_entry(archive, entry) for key, entry in wanted.items()}


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """An array of an `.npz`; raises `ValueError` if it declares more than its entry has."""
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize > entry.file_size:
            raise ValueError(f"{entry.filename} declares more than it has")
    with archive.open(entry) as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))


def read_h5(path: Path, memory_limit: int) -> RawData:
    """Read an `.h5` of the same arrays; what `pack` stored beside them (name, mirror, preprocessing) is taken over.

    Images stay in the file until they are read. Raises `CondenseError` for a damaged file and wrong arrays.
    """
    with open_hdf5(path, "an .h5 of images", "pack the data again") as file:
        if file.attribute(file.item("/"), "format") != KIND and CHECKSUMS not in file.names():
            return _read_others(file, memory_limit)
    return _read_packed(path)


def _read_packed(path: Path) -> RawData:
    """A file of `pack`, which vouches for itself."""
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    arrays, root = contents.arrays, contents.attributes["/"]
    _check_keys(path, arrays | contents.rows)
    train, test = (_rows_of_images(path, key, contents.rows.get(key)) for key in ("train_images", "test_images"))
    try:
        kind = contents.attributes["preprocessing"]["kind"]
        numbers = {name.removeprefix("preprocessing/"): array for name, array in arrays.items()}
        surveys = _stored_survey(arrays, "train"), _stored_survey(arrays, "test")
        stored = {"mirror": bool(root["mirror"]), "preprocessing": preprocessing_from_arrays(kind, numbers)}
        return _raw(path, _text(root["name"]), arrays, train, test, files=(path,), surveys=surveys, **stored)
    except KeyError as error:
        raise CondenseError(f"{path} lacks {error}; pack the data again") from error


def _stored_survey(arrays: Mapping[str, np.ndarray], split: str) -> Survey:
    return Survey(arrays[f"survey/{split}_digest"].tobytes(), arrays[f"survey/{split}_histogram"])


def _read_others(file: Hdf5File, memory_limit: int) -> RawData:
    """A file that another program made, or an earlier version of `pack`: nothing in it vouches for the rest."""
    names, root = file.names(), file.item("/")
    _check_keys(file.path, names)
    train, test = (_rows_of_images(file.path, key, open_rows(file, key)) for key in ("train_images", "test_images"))
    whole = [key for key in (*KEYS, "classes") if key in names and not key.endswith("images")]
    arrays = {key: file.array(key, memory_limit) for key in whole}
    mirror = file.attribute(root, "mirror")
    return _raw(
        file.path,
        _text(file.attribute(root, "name", file.path.stem)),
        arrays,
        train,
        test,
        files=(file.path,),
        mirror=None if mirror is None else bool(mirror),
        preprocessing=_stored_preprocessing(file, memory_limit),
    )


def _stored_preprocessing(file: Hdf5File, memory_limit: int) -> Preprocessing | None:
    group = file.item("preprocessing")
    if group is None:
        return None
    names = [name for name in ("mean", "std", "matrix", "eps") if file.item(f"preprocessing/{name}") is not None]
    arrays = {name: file.array(f"preprocessing/{name}", memory_limit) for name in names}
    return preprocessing_from_arrays(file.attribute(group, "kind"), arrays)


def _rows_of_images(path: Path, key: str, rows: Rows | None) -> Hdf5Pixels:
    if rows is None:
        raise CondenseError(f"{path} has no checksums for {key}; pack the data again")
    _check_images(path, key, rows)
    return Hdf5Pixels(rows)


def _raw(
    path: Path, name: str, arrays: Mapping[str, np.ndarray], train: PixelSource, test: PixelSource, **stored: Any
) -> RawData:
    train_labels, test_labels = (
        class_indices(arrays[key], f"{key} of {path}") for key in ("train_labels", "test_labels")
    )
    if "classes" in arrays:
        classes = tuple(_text(name) for name in arrays["classes"].ravel())
    else:
        classes = numbered_classes(name, train_labels) if len(train_labels) else ()
    return RawData(name, classes, train, train_labels, test, test_labels, **stored)


def _text(name: Any) -> str:
    """A name as text; bytes that are not UTF-8 become what the names of such files become."""
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def _check_keys(path: Path, present: Any) -> None:
    missing = [key for key in KEYS if key not in present]
    if missing:
        raise CondenseError(
            f"{path} lacks {', '.join(missing)} (it has: {', '.join(sorted(present)[:20]) or 'nothing'}); it needs "
            f"{', '.join(KEYS)} and may have classes"
        )


def _check_images(path: Path, key: str, images: Any) -> None:
    """`images` is an array or rows of one; only its dtype and shape are looked at."""
    if images.dtype != np.uint8:
        raise CondenseError(
            f"{key} of {path} is {images.dtype}; images must be uint8, 0 to 255 ({to_uint8(images.dtype)})"
        )
    shape = tuple(images.shape)
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
        turn = " (images.transpose(0, 2, 3, 1) puts it there)" if len(shape) == 4 and shape[1] in (1, 3) else ""
        raise CondenseError(
            f"{key} of {path} has shape {shape}; give (N, H, W), or (N, H, W, C) with C 1 or 3 last{turn}"
        )
    if 0 in shape[1:]:
        raise CondenseError(f"{key} of {path} has shape {shape}; images need at least one pixel")
