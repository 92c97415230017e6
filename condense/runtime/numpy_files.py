"""Files of numpy from elsewhere: read without running anything, and without believing what they declare."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.inputs import regular_file
from condense.runtime.limits import refuse_limits

MOST_BYTES = 4 * 10**9  # of what is unpacked: as much as of real data by default, and sets are far smaller


class NpzFile:
    """An `.npz` whose arrays are read one by one; raises `CondenseError` for every file that is none.

    `names` are those of its arrays. `wanted` says what to give instead, in sentences about what cannot be read.
    """

    def __init__(self, path: Path, wanted: str) -> None:
        self._path, self._wanted = path, wanted
        regular_file(path, wanted)
        try:
            with zipfile.ZipFile(path) as archive:
                self._entries = {entry.filename: entry for entry in archive.infolist()}
        except Exception as error:  # over foreign bytes zipfile raises nearly anything
            raise CondenseError(f"{path} is damaged or no .npz; give {wanted}") from error
        self.names = [name.removesuffix(".npy") for name in self._entries if name.endswith(".npy")]

    def array(self, name: str) -> np.ndarray:
        """The array called `name`; raises `CondenseError` for pickled objects, damage and too many bytes."""
        entry = self._entries[f"{name}.npy"]
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(entry) as stream:
                _check_header(stream, entry.file_size)  # zipfile gives no more than this of an entry
            with zipfile.ZipFile(self._path) as archive, archive.open(entry) as stream:
                return np.asarray(npy.read_array(stream, allow_pickle=False))
        except Exception as error:
            refuse_limits(error)
            raise _unreadable(f"its {name}", self._wanted, error) from error


def read_npy(path: Path, wanted: str) -> np.ndarray:
    """The array of an `.npy`; raises `CondenseError` as `NpzFile` does."""
    size = regular_file(path, wanted).st_size
    try:
        with path.open("rb") as stream:
            _check_header(stream, size)
            stream.seek(0)
            return np.asarray(npy.read_array(stream, allow_pickle=False))
    except Exception as error:
        refuse_limits(error)
        raise _unreadable(str(path), wanted, error) from error


def array_tensor(array: np.ndarray) -> Tensor:
    """Numbers of numpy as a tensor, in the machine's order of bytes; raises `CondenseError` for what is no number."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise CondenseError(f"an array of {array.dtype}")
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))


def only_names(names: Sequence[str], most: int = 8) -> str:
    """At most so many names, none of them long, for a sentence about a file.

    >>> only_names(["x", "y"]), only_names("abc", most=2), only_names([])
    ('x, y', 'a, b, ...', 'nothing')
    """
    return ", ".join([*(name[:40] for name in names[:most]), *(["..."] if len(names) > most else [])]) or "nothing"


def declared_array(stream: IO[bytes]) -> tuple[np.dtype[Any], int]:
    """The type and the bytes that the header of an `.npy` declares; raises `ValueError` where there is no header."""
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    return dtype, math.prod(shape) * dtype.itemsize


def _check_header(stream: IO[bytes], stored: int) -> None:
    """Raise `CondenseError` for an array that declares more than the `stored` bytes of it, or more than is read."""
    dtype, declared = declared_array(stream)
    if dtype.hasobject:
        raise CondenseError("it has Python objects")
    if declared > stored:
        raise CondenseError(f"it declares {declared:,} bytes of which the file has {stored:,}")
    if declared > MOST_BYTES:
        raise CondenseError(f"it has {declared:,} bytes, and at most {MOST_BYTES:,} are read")


def _unreadable(what: str, wanted: str, error: Exception) -> CondenseError:
    reason = str(error) if isinstance(error, CondenseError) else "it is damaged or no array of numpy"
    return CondenseError(f"{what} cannot be read: {reason}; give {wanted}")
