"""Files of Arrow from elsewhere: their columns of numbers, and no more memory than the files are large."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense._version import DISTRIBUTION
from condense.runtime.errors import CondenseError
from condense.runtime.inputs import regular_file
from condense.runtime.limits import refuse_limits

# Fields by their place in the tables of Arrow's format (Message.fbs)
_HEADER_OF_MESSAGE, _COMPRESSION_OF_BATCH = 2, 3


class ArrowTable:
    """The table in several files of Arrow's stream format.

    `rows` is their number. Raises `CondenseError` where pyarrow is not installed, and for files that are damaged,
    compressed, or use dictionaries; `wanted` says what to give instead.
    """

    def __init__(self, files: Sequence[Path], wanted: str) -> None:
        try:
            import pyarrow
        except ImportError as error:
            raise CondenseError(
                "reading files of Arrow needs the package datasets, which is not installed; "
                f"pip install '{DISTRIBUTION}[huggingface]', or give {wanted} in another form"
            ) from error
        for file in files:
            regular_file(file, wanted)
        self._wanted = wanted
        try:
            self._table = pyarrow.concat_tables([_read(file) for file in files])
            self._table.validate(full=True)
        except Exception as error:  # over foreign bytes pyarrow raises nearly anything
            refuse_limits(error)
            raise CondenseError(f"its files of Arrow are damaged or compressed; give {wanted}") from error
        self.rows = int(self._table.num_rows)

    def numbers(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Tensor:
        """A column of numbers, or of lists of lists of them, as a tensor of `shape`; raises `CondenseError`.

        A length of -1 is the one that the column says of its lists.
        """
        try:
            column = self._table.column(name).combine_chunks()
            column = getattr(column, "storage", column)  # of the types that datasets adds to those of Arrow
            for depth in range(1, len(shape)):
                if shape[depth] < 0:
                    shape = (*shape[:depth], column.type.list_size, *shape[depth + 1 :])
                column = column.flatten()
                if len(column) != math.prod(shape[: depth + 1]):
                    raise ValueError(name)
            return torch.from_numpy(np.array(column.to_numpy(zero_copy_only=False), dtype).reshape(shape))
        except Exception as error:  # of pyarrow and numpy, for columns that are missing or of another type
            raise CondenseError(f"its column {name} has no numbers {list(shape)}; give {self._wanted}") from error


def _read(file: Path) -> Any:
    import pyarrow
    import pyarrow.ipc

    with pyarrow.memory_map(str(file)) as source:
        kinds = [(message.type, message.metadata) for message in pyarrow.ipc.MessageReader.open_stream(source)]
        for kind, metadata in kinds[1:]:  # the first is the schema
            if kind != "record batch" or _is_compressed(bytes(metadata)):
                raise ValueError(f"a compressed batch or one of a kind that sets do not have ({kind})")
        source.seek(0)
        return pyarrow.ipc.open_stream(source).read_all()


def _is_compressed(metadata: bytes) -> bool:
    """Whether the batch that a message of Arrow describes is compressed: then nothing bounds what it unpacks to."""
    message = struct.unpack_from("<I", metadata)[0]
    header = message + _place(metadata, message, _HEADER_OF_MESSAGE)
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    return _place(metadata, batch, _COMPRESSION_OF_BATCH) != 0


def _place(metadata: bytes, table: int, field: int) -> int:
    """Where a field lies in a table of flatbuffers, counted from its start; 0 if it is absent."""
    fields = table - struct.unpack_from("<i", metadata, table)[0]
    size = struct.unpack_from("<H", metadata, fields)[0]
    entry = 4 + 2 * field
    return struct.unpack_from("<H", metadata, fields + entry)[0] if entry < size else 0
