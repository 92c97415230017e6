"""The IDX files of MNIST and its relatives, plain or gzip."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from condense.runtime.errors import CondenseError


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an IDX file; the format is that of LeCun's MNIST page.

    Raises `CondenseError` if the file is damaged or holds another type.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, dimensions = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise CondenseError(f"cannot read {path}: {error}; install its package again") from error
    start = 4 + 4 * dimensions
    if zero != 0 or kind != 0x08 or len(content) - start != math.prod(shape):
        raise CondenseError(f"{path} is not a complete IDX file of bytes; install its package again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
