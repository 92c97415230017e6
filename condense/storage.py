"""HDF5 files that know whether they are whole: arrays and attributes under one checksum.

Such a file holds nothing but groups, chunked datasets and attributes, so plain h5py reads it. The same contents always
give the same bytes: no timestamps, a fixed HDF5 version, little-endian numbers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from condense.runtime.errors import CondenseError
from condense.runtime.files import atomic_write

# HDF5 1.10 is the first version that keeps a checksum of its own metadata and attributes beyond 64 KiB; h5py has had it
# for years. A fixed version keeps the bytes the same on every machine.
_LIBRARY_VERSION = ("v110", "v110")
_CHUNK_BYTES = 2**20
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Contents:
    """What a file holds, by the path of each object (`metrics/loss`; `/` is the file itself).

    Attributes are strings, booleans, integers, floats and lists of one of these. A path without an array is a group.
    """

    arrays: dict[str, np.ndarray]
    attributes: dict[str, dict[str, Any]]


def write_contents(path: str | Path, contents: Contents, *, kind: str, schema: int) -> None:
    """Write `contents` atomically as a file of this kind and schema version.

    Raises `CondenseError` if `path` is a folder or cannot be written.
    """
    if Path(path).is_dir():
        raise CondenseError(f"cannot write {path}: it is a folder; give the name of a file, for example {path}/set.h5")
    with atomic_write(path) as temporary:
        temporary.write_bytes(_as_bytes(contents, kind, schema))


def _as_bytes(contents: Contents, kind: str, schema: int) -> bytes:
    # HDF5 writes to memory, because a disk that is full while it writes leaves it in a state that crashes the process.
    with h5py.File(kind, "w", driver="core", backing_store=False, libver=_LIBRARY_VERSION) as file:
        for name, array in contents.arrays.items():
            _write_array(file, name, array)
        for name, attributes in contents.attributes.items():
            _write_attributes(file[name] if name in file else file.create_group(name), attributes)
        _write_attributes(file, {"format": kind, "schema": schema})
        _write_attributes(file, {"checksum": _checksum_of_attributes(_attributes(file))})
        file.flush()
        return file.id.get_file_image()


def _write_array(file: h5py.File, name: str, array: np.ndarray) -> None:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes)) if array.ndim else 0
    chunks = (min(rows, len(array)), *array.shape[1:]) if array.size and array.ndim else None
    dataset = file.create_dataset(name, data=array, chunks=chunks, track_times=False)
    _write_attributes(dataset, {"checksum": _checksum_of_array(array)})


def _write_attributes(item: h5py.Group | h5py.Dataset, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        item.attrs.create(name, _fixed_length(value))


def _fixed_length(value: Any) -> Any:
    """A text or a list of texts as fixed-length UTF-8; other values as they are.

    HDF5 keeps text of variable length in a heap without checksums, and over one damaged byte there it can loop forever.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return value
    encoded = [text.encode() for text in texts]
    dtype = h5py.string_dtype("utf-8", max(map(len, encoded), default=1) or 1)
    return np.array(encoded[0] if isinstance(value, str) else encoded, dtype)


def read_contents(path: str | Path, *, kind: str, schema: int) -> Contents:
    """Read a file of this kind, up to this schema version, and verify every checksum; `checksum` attributes stay out.

    Raises `CondenseError` in one line for a file that is missing, a folder, not HDF5, of another kind, of a newer
    schema, cut short or altered.
    """
    path = Path(path)
    _check_signature(path, kind)
    try:
        with h5py.File(path, "r") as file:
            _check_kind(file, path, kind, schema)
            attributes = _attributes(file)
            arrays = {name: file[name][()] for name in attributes if isinstance(file[name], h5py.Dataset)}
            stored_checksum = _plain(file.attrs["checksum"])
    except CondenseError:
        raise
    except Exception as error:  # over damaged bytes HDF5 and h5py raise nearly anything
        raise CondenseError(f"{path} is damaged or cut short; copy or make it again") from error
    if _checksum_of_attributes(attributes) != stored_checksum:
        raise CondenseError(f"{path} was altered: its attributes do not fit their checksum; copy or make it again")
    for name, array in arrays.items():
        if attributes[name].pop("checksum", None) != _checksum_of_array(np.asarray(array)):
            raise CondenseError(f"{path} was altered: {name} does not fit its checksum; copy or make it again")
    return Contents({name: np.asarray(array) for name, array in arrays.items()}, attributes)


def _check_signature(path: Path, kind: str) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_SIGNATURE))
    except OSError as error:
        raise CondenseError(f"cannot read {path}: {error.strerror or error}; give a {kind} (.h5)") from error
    if start != _SIGNATURE:
        raise CondenseError(f"{path} is not an HDF5 file; give a {kind} (.h5)")


def _check_kind(file: h5py.File, path: Path, kind: str, schema: int) -> None:
    found = _plain(file.attrs.get("format"))
    if found != kind:
        what = f"a {found}" if isinstance(found, str) else "damaged, or an HDF5 file of another program"
        raise CondenseError(f"{path} is {what}; give a {kind}")
    if file.attrs["schema"] > schema:
        raise CondenseError(
            f"{path} has schema {file.attrs['schema']} but this condense reads up to {schema}; upgrade condense"
        )


def _attributes(file: h5py.File) -> dict[str, dict[str, Any]]:
    """The attributes of every object, as plain Python values, without the checksum of the file."""
    found = {"/": {name: _plain(value) for name, value in file.attrs.items() if name != "checksum"}}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found[name] = {key: _plain(value) for key, value in item.attrs.items()}

    file.visititems(visit)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.decode() if isinstance(value, bytes) else value


def _checksum_of_attributes(attributes: dict[str, dict[str, Any]]) -> str:
    text = json.dumps(attributes, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _checksum_of_array(array: np.ndarray) -> str:
    head = f"{array.dtype.str} {array.shape}"
    return hashlib.blake2b(head.encode() + array.tobytes(), digest_size=16).hexdigest()
