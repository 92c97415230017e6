"""Writing HDF5 files so that a full disk is an error and nothing worse.

HDF5 never writes to a disk: over one that is full it leaves the process in a state that crashes. It writes the
structure of a file to memory, where the place of a large array costs nothing; then the bytes of the whole file are
reserved, and structure and large arrays are written to it piece by piece.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from condense.runtime.errors import CondenseError
from condense.runtime.files import atomic_write
from condense.runtime.hdf5.objects import plain_value
from condense.runtime.hdf5.reader import (
    CHECKSUMS,
    DIGEST_BYTES,
    Contents,
    checksum_of_array,
    checksum_of_attributes,
    checksum_of_table,
    checksums_of_rows,
)

# HDF5 1.10 is the first version that keeps a checksum of its own metadata and attributes beyond 64 KiB; h5py has had it
# for years. A fixed version keeps the bytes the same on every machine.
_LIBRARY_VERSION = ("v110", "v110")
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class Pieces:
    """A large array to be written: its shape [N, ...], its dtype and its rows in order, in pieces of any length."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: Iterable[np.ndarray]


def write_contents(
    path: str | Path, contents: Contents, *, kind: str, schema: int, rows: Mapping[str, Pieces] | None = None
) -> None:
    """Write `contents`, and large arrays with a checksum for each of their rows, atomically.

    Arrays of `contents` may be filled while `rows` are taken: values are looked at when these are written.
    Raises `CondenseError` if `path` is a folder or cannot be written, before anything is taken where the disk has too
    little space.
    """
    if Path(path).is_dir():
        raise CondenseError(f"cannot write {path}: it is a folder; give the name of a file, for example {path}/set.h5")
    rows = rows or {}
    tables = {name: np.zeros((each.shape[0], DIGEST_BYTES), np.uint8) for name, each in rows.items()}
    structure = _structure(contents, rows, tables, kind, schema)
    with atomic_write(path) as temporary, temporary.open("r+b") as file:
        _reserve(file, structure.size)
        for name, each in rows.items():
            tables[name] = _write_rows(file, structure.places[name], each)
        if rows:
            structure = _structure(contents, rows, tables, kind, schema)
        structure.write_to(file)


class _Structure(io.RawIOBase):
    """A file in memory, for HDF5 to write to: what was written, in order, and nothing for what was not.

    `places` tells where the large arrays belong.
    """

    def __init__(self) -> None:
        self.size = 0
        self.places: dict[str, int] = {}
        self._written: list[tuple[int, bytes]] = []
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, content: Any) -> int:
        content = bytes(content)
        self._written.append((self._position, content))
        self._position += len(content)
        self.size = max(self.size, self._position)
        return len(content)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start, stop = self._position, min(self._position + len(view), self.size)
        view[: stop - start] = bytes(stop - start)
        for offset, content in self._written:
            first, last = max(start, offset), min(stop, offset + len(content))
            if first < last:
                view[first - start : last - start] = content[first - offset : last - offset]
        self._position = stop
        return stop - start

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def write_to(self, file: BinaryIO) -> None:
        """Write it to a file in which nothing else lies where it was written."""
        for offset, content in self._written:
            file.seek(offset)
            file.write(content)


def _structure(
    contents: Contents, rows: Mapping[str, Pieces], tables: Mapping[str, np.ndarray], kind: str, schema: int
) -> _Structure:
    """The file without the large arrays; its layout does not depend on any value."""
    structure = _Structure()
    with h5py.File(structure, "w", libver=_LIBRARY_VERSION) as file:
        for name, each in rows.items():
            structure.places[name] = _place(file, name, each)
            _write_array(file, f"{CHECKSUMS}/{name}", tables[name])
            _write_attributes(file[name], {"checksum": checksum_of_table(each.dtype, each.shape, tables[name])})
        for name, array in contents.arrays.items():
            _write_array(file, name, array)
        for name, attributes in contents.attributes.items():
            _write_attributes(file[name] if name in file else file.create_group(name), attributes)
        _write_attributes(file, {"format": kind, "schema": schema})
        _write_attributes(file, {"checksum": checksum_of_attributes(_attributes(file))})
    return structure


def _place(file: h5py.File, name: str, rows: Pieces) -> int:
    """Make a dataset that lies in the file in one piece, and say where."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    kind = h5py.h5t.py_create(rows.dtype.newbyteorder("<"), logical=True)
    link = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    link.set_create_intermediate_group(True)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(rows.shape), plan, link)
    return int(dataset.get_offset())


def _reserve(file: BinaryIO, size: int) -> None:
    """Give a file its size and, where the file system can, its space on the disk."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        os.truncate(file.fileno(), size)


def _write_rows(file: BinaryIO, offset: int, rows: Pieces) -> np.ndarray:
    """Write the rows from `offset` on, and return their checksums."""
    checksums = []
    file.seek(offset)
    for piece in rows.pieces:
        piece = np.ascontiguousarray(piece, rows.dtype.newbyteorder("<"))
        file.write(piece.reshape(-1).view(np.uint8).data)
        checksums.append(checksums_of_rows(piece))
    table = np.concatenate(checksums)
    assert len(table) == rows.shape[0], "the pieces make another number of rows"
    return table


def _write_array(file: h5py.File, name: str, array: np.ndarray) -> None:
    array = np.ascontiguousarray(array, _stored_type(array.dtype)).reshape(array.shape)
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes)) if array.ndim else 0
    chunks = (min(rows, len(array)), *array.shape[1:]) if array.size and array.ndim else None
    dataset = file.create_dataset(name, data=array, chunks=chunks, track_times=False)
    _write_attributes(dataset, {"checksum": checksum_of_array(array)})


def _stored_type(dtype: np.dtype) -> np.dtype:
    """Little-endian; texts are UTF-8."""
    return h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype.newbyteorder("<")


def _write_attributes(item: h5py.Group | h5py.Dataset, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        item.attrs.create(name, fixed_length(value))


def fixed_length(value: Any) -> Any:
    """A text or a list of texts as fixed-length UTF-8; other values as they are.

    HDF5 keeps text of variable length in a heap without checksums, and over one damaged byte there it can loop forever.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return value
    encoded = [text.encode() for text in texts]
    dtype = h5py.string_dtype("utf-8", max(map(len, encoded), default=1) or 1)
    return np.array(encoded[0] if isinstance(value, str) else encoded, dtype)


def _attributes(file: h5py.File) -> dict[str, dict[str, Any]]:
    """The attributes of every object, as they will be read."""
    attributes = {"/": {name: plain_value(value) for name, value in file.attrs.items()}}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        attributes[name] = {key: plain_value(value) for key, value in item.attrs.items()}

    file.visititems(visit)
    return attributes
