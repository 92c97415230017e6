"""Arrays in a file: `.npz`, or `.h5` that may be larger than memory."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from condense.data.depth import to_uint8
from condense.data.labels import class_indices, numbered_classes
from condense.data.preprocessing import Preprocessing, preprocessing_from_arrays
from condense.data.raw import RawData, reason
from condense.data.sources import Hdf5Pixels, PixelSource, TensorPixels, channels_first
from condense.runtime.errors import CondenseError

KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def read_npz(path: Path, memory_limit: int) -> RawData:
    """Read an `.npz` with `KEYS` and, optionally, `classes`; images are (N, H, W) or (N, H, W, C), uint8.

    Raises `CondenseError` for a damaged file, wrong arrays, and arrays above `memory_limit` bytes.
    """
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
    return _raw(path, path.stem, arrays, train, test)


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
    arrays = {}
    for key, entry in wanted.items():
        with archive.open(entry) as stream:
            arrays[key] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def read_h5(path: Path) -> RawData:
    """Read an `.h5` of the same arrays; what `pack` stored beside them (name, mirror, preprocessing) is taken over.

    Images stay in the file until they are read. Raises `CondenseError` for a damaged file and wrong arrays.
    """
    try:
        with h5py.File(path) as file:
            _check_keys(path, file)
            for key in ("train_images", "test_images"):
                _check_images(path, key, file[key])
            arrays = {key: np.asarray(file[key][()]) for key in ("train_labels", "test_labels")}
            if "classes" in file:
                arrays["classes"] = np.asarray(file["classes"][()])
            name, mirror = file.attrs.get("name", path.stem), file.attrs.get("mirror")
            preprocessing = _stored_preprocessing(file)
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise CondenseError(f"cannot read {path}: {reason(error)}; pack the data again") from error
    train, test = Hdf5Pixels(path, "train_images"), Hdf5Pixels(path, "test_images")
    mirror = None if mirror is None else bool(mirror)
    return _raw(path, _text(name), arrays, train, test, mirror=mirror, preprocessing=preprocessing)


def _stored_preprocessing(file: h5py.File) -> Preprocessing | None:
    if "preprocessing" not in file:
        return None
    group = file["preprocessing"]
    return preprocessing_from_arrays(group.attrs["kind"], {key: group[key][()] for key in group})


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
            f"{path} lacks {', '.join(missing)} (it has: {', '.join(sorted(present)) or 'nothing'}); it needs "
            f"{', '.join(KEYS)} and may have classes"
        )


def _check_images(path: Path, key: str, images: Any) -> None:
    """`images` is an array or an HDF5 dataset; only its dtype and shape are looked at."""
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
