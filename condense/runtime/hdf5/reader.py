"""HDF5 files that know whether they are whole: arrays and attributes under one checksum, large arrays row by row.

Such a file holds nothing but groups, datasets and attributes, so plain h5py reads it. The same contents always give the
same bytes: no timestamps, a fixed HDF5 version, little-endian numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pydantic import BaseModel, ConfigDict

from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.objects import Hdf5File, Version, check_chunks, open_hdf5, version_of

CHECKSUMS = "checksums"  # the group of the checksums of rows
DIGEST_BYTES = 16
_PIECE_BYTES = 2**20
MAKE_AGAIN = "copy or make it again"


@dataclass(frozen=True, eq=False)
class Rows:
    """A large array [N, ...] of a file, which is read by rows.

    `offset` is where it begins in the file, None if it lies there in chunks; `checksums` uint8 [N, 16] are those of its
    rows, None if it has none; `version` tells the file from one that has taken its place.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int | None
    checksums: np.ndarray | None
    version: Version

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, *spans: tuple[int, int]) -> np.ndarray:
        """The rows from `start` to below `stop` of each span (start, stop), one after the other; they are verified.

        Raises `CondenseError` where they are damaged, and where the file is gone or has been replaced.
        """
        lengths = [stop - start for start, stop in spans]
        values = np.empty((sum(lengths), *self.shape[1:]), self.dtype)
        self._fill(spans, np.split(values, np.cumsum(lengths)[:-1]))
        return values

    def pieces(self) -> Iterator[np.ndarray]:
        """All rows in order, about a MiB at a time."""
        step = max(1, _PIECE_BYTES * len(self) // max(1, math.prod(self.shape) * self.dtype.itemsize))
        for start in range(0, len(self), step):
            yield self.read((start, min(start + step, len(self))))

    def each(self, *indices: int) -> list[np.ndarray]:
        """Single rows, in memory of their own; otherwise as `read`."""
        rows = [np.empty(self.shape[1:], self.dtype) for _ in indices]
        self._fill([(index, index + 1) for index in indices], [row[None] for row in rows])
        return rows

    def _fill(self, spans: Sequence[tuple[int, int]], parts: Sequence[np.ndarray]) -> None:
        try:
            if self.offset is None:
                self._read_chunks(spans, parts)
            else:
                self._read_bytes(spans, parts, self.offset)
        except OSError as error:
            raise CondenseError(
                f"cannot read {self.name} of {self.path}: {error.strerror or error}; {MAKE_AGAIN}"
            ) from error
        for (start, _), part in zip(spans, parts):
            self._verify(start, part)

    def _read_bytes(self, spans: Sequence[tuple[int, int]], parts: Sequence[np.ndarray], offset: int) -> None:
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        with self.path.open("rb") as file:
            self._check_version(os.fstat(file.fileno()))
            for (start, _), part in zip(spans, parts):
                file.seek(offset + start * row)
                if file.readinto(part.reshape(-1).view(np.uint8).data) != part.nbytes:
                    raise CondenseError(f"{self.path} is cut short in {self.name}; {MAKE_AGAIN}")

    def _read_chunks(self, spans: Sequence[tuple[int, int]], parts: Sequence[np.ndarray]) -> None:
        with open_hdf5(self.path, "the file that was opened", MAKE_AGAIN) as file:
            self._check_version(self.path.stat())
            dataset = file.seen_before(self.name)
            for (start, stop), part in zip(spans, parts):
                check_chunks(dataset, start, stop)
                part[:] = dataset[start:stop]

    def _check_version(self, now: os.stat_result) -> None:
        if version_of(now) != self.version:
            raise CondenseError(f"{self.path} has changed since it was opened; start again")

    def _verify(self, start: int, part: np.ndarray) -> None:
        if self.checksums is not None and not np.array_equal(
            checksums_of_rows(part), self.checksums[start : start + len(part)]
        ):
            raise CondenseError(
                f"{self.path} was altered: rows of {self.name} do not fit their checksums; {MAKE_AGAIN}"
            )


class Facts(BaseModel):
    """Attributes of an object, of the types that they are written with; others are not looked at."""

    model_config = ConfigDict(strict=True)


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds, by the path of each object (`metrics/loss`; `/` is the file itself).

    Attributes are strings, booleans, integers, floats and lists of one of these. A path without an array is a group.
    `rows` are arrays that are too large to be read at once.
    """

    arrays: dict[str, np.ndarray]
    attributes: dict[str, dict[str, Any]]
    rows: dict[str, Rows] = field(default_factory=dict)


def read_contents(path: str | Path, *, kind: str, schema: int) -> Contents:
    """Read a file of this kind, up to this schema version; `checksum` attributes stay out.

    Every checksum is verified, that of a row when it is read. Raises `CondenseError` in one line for a file that is
    missing, a folder, not HDF5, of another kind, of a newer schema, cut short or altered, or that leads into other
    files.
    """
    path = Path(path)
    with open_hdf5(path, f"a {kind} (.h5)", MAKE_AGAIN) as file:
        _check_kind(file, kind, schema)
        items = dict(file.walk())
        attributes = {name: file.attributes(item) for name, item in items.items()}
        _check_attributes(path, attributes)
        datasets = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
        if sum(dataset.nbytes for dataset in datasets.values()) > file.size:
            raise CondenseError(f"{path} declares more bytes than it has; {MAKE_AGAIN}")
        by_rows = {name for name in datasets if f"{CHECKSUMS}/{name}" in datasets}
        arrays = {name: file.array(name) for name in datasets.keys() - by_rows}
        tables = {name: arrays.pop(f"{CHECKSUMS}/{name}") for name in by_rows}
        rows = {name: open_rows(file, name, table) for name, table in tables.items()}
        for name, array in arrays.items():  # within the block: what is forged can be of any type and shape
            _check(path, name, attributes, checksum_of_array(array))
        for name, each in rows.items():
            _check(path, name, attributes, checksum_of_table(each.dtype, each.shape, tables[name]))
            if tables[name].shape != (len(each), DIGEST_BYTES) or tables[name].dtype != np.uint8:
                raise CondenseError(f"{path} has no checksum for each row of {name}; {MAKE_AGAIN}")
    return Contents(arrays, {name: attributes[name] for name in attributes if not _is_checksum(name)}, rows)


def kind_of(path: Path) -> str | None:
    """What the file at `path` says that it is; None where there is none, or one that says nothing that can be read."""
    try:
        with open_hdf5(path, "an HDF5 file", MAKE_AGAIN) as file:
            stored = file.attribute(file.item("/"), "format")
    except CondenseError:
        return None
    return stored if isinstance(stored, str) else None


def open_rows(file: Hdf5File, name: str, checksums: np.ndarray | None = None) -> Rows:
    """A dataset of an open file, to be read by rows when the file is closed again."""
    dataset = file.dataset(name)
    offset = dataset.id.get_offset() if dataset.chunks is None else None
    return Rows(file.path.absolute(), name, dataset.shape, dataset.dtype, offset, checksums, file.version)


def _check_kind(file: Hdf5File, kind: str, schema: int) -> None:
    path, root = file.path, file.item("/")
    stored, version = file.attribute(root, "format"), file.attribute(root, "schema")
    if stored != kind:
        what = f"a {stored}" if isinstance(stored, str) else "damaged, or an HDF5 file of another program"
        raise CondenseError(f"{path} is {what}; give a {kind}")
    if not isinstance(version, int) or version < 1:
        raise CondenseError(f"{path} does not tell its schema; {MAKE_AGAIN}")
    if version > schema:
        raise CondenseError(f"{path} has schema {version} but this condense reads up to {schema}; upgrade condense")


def _check_attributes(path: Path, attributes: dict[str, dict[str, Any]]) -> None:
    stored = attributes["/"].pop("checksum", None)
    if stored != checksum_of_attributes(attributes):
        raise CondenseError(f"{path} was altered: its attributes do not fit their checksum; {MAKE_AGAIN}")


def _check(path: Path, name: str, attributes: dict[str, dict[str, Any]], checksum: str) -> None:
    if attributes[name].pop("checksum", None) != checksum:
        raise CondenseError(f"{path} was altered: {name} does not fit its checksum; {MAKE_AGAIN}")


def _is_checksum(name: str) -> bool:
    return name == CHECKSUMS or name.startswith(f"{CHECKSUMS}/")


def checksums_of_rows(rows: np.ndarray) -> np.ndarray:
    """Uint8 [N, 16]: the digest of the bytes of each row."""
    content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
    step = len(content) // max(1, len(rows))
    digests = (
        hashlib.blake2b(content[start : start + step], digest_size=DIGEST_BYTES).digest()
        for start in range(0, step * len(rows), step)
    )
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(rows), DIGEST_BYTES)


def checksum_of_attributes(attributes: dict[str, dict[str, Any]]) -> str:
    """The checksum of a file; `attributes` by path, its own left out."""
    text = json.dumps(attributes, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def checksum_of_array(array: np.ndarray) -> str:
    """Covers dtype, shape and bytes."""
    return _checksum(array.dtype, array.shape, array)


def checksum_of_table(dtype: np.dtype, shape: tuple[int, ...], checksums: np.ndarray) -> str:
    """That of an array which is read by rows: covers dtype, shape and the checksums of the rows."""
    return _checksum(dtype, shape, checksums)


def _checksum(dtype: np.dtype, shape: tuple[int, ...], content: np.ndarray) -> str:
    digest = hashlib.blake2b(f"{dtype.str} {shape}".encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(content).reshape(-1).view(np.uint8).data)  # no copy: it may be large
    return digest.hexdigest()
