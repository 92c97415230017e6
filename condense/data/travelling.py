"""Real data for jobs that run elsewhere: one packed file, which they name by its path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from condense.data.load import load_data
from condense.data.packing import pack
from condense.data.real import RealData
from condense.runtime.errors import CondenseError
from condense.runtime.places import cache_directory


@dataclass(frozen=True)
class PackedData:
    """A packed file by its path, and whether its images stay on the disk until they are needed.

    They do where those of the data that was packed do: what is too large for the memory here is so for its workers.
    """

    path: str
    streamed: bool

    @classmethod
    def of(cls, data: RealData) -> PackedData:
        """The data as one file in the cache, written once; its path is absolute."""
        path = cache_directory().resolve() / "packed" / f"{data.info.identity}" / f"{data.name}.h5"
        packed = cls(str(path), streamed=data.train.source.streamed or data.test.source.streamed)
        try:
            packed.read()
        except CondenseError:  # not there, damaged, or of a later version: it can be made again
            pack(data, path)
        return packed

    def read(self) -> RealData:
        """The data; a subset comes back with another fingerprint, that of its content alone."""
        return load_data(self.path, memory_limit=0) if self.streamed else load_data(self.path)


@lru_cache(maxsize=1)
def read_once(packed: PackedData) -> RealData:
    """The data, read once for all jobs of a process."""
    return packed.read()
