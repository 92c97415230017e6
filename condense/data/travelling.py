"""Real data for jobs that run elsewhere: one packed file, which they name by its path."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from condense.data.load import load_data
from condense.data.packing import pack
from condense.data.real import RealData
from condense.runtime.errors import CondenseError
from condense.runtime.places import cache_directory


def packed_file(data: RealData) -> Path:
    """The data as one file in the cache, written once: an absolute path."""
    path = cache_directory().resolve() / "packed" / f"{data.info.identity}" / f"{data.name}.h5"
    if path.exists():
        try:
            load_data(path)
            return path
        except CondenseError:  # damaged, or of a later version: it can be made again
            pass
    return pack(data, path)


@lru_cache(maxsize=1)
def read_packed(path: str, memory_limit: int | None) -> RealData:
    """The data in such a file, read once for all jobs of a process; a limit of None is the usual one of `load_data`.

    A subset comes back with another fingerprint, that of its content alone.
    """
    return load_data(path) if memory_limit is None else load_data(path, memory_limit=memory_limit)
