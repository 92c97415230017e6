"""The heaps in which HDF5 keeps texts of variable length, which files of others and of earlier versions have.

They have no checksum, and over a damaged one HDF5 can loop for ever: so their structure is looked at first. It is
described in the HDF5 File Format Specification, section III.E (Global Heap).
"""

from __future__ import annotations

import struct
from pathlib import Path

_LOOKED_AT = 16 * 2**20  # bytes at the start and at the end: files have their texts before or after their images
_HEAD = b"GCOL\x01\0\0\0"
_ENTRY = struct.Struct("<HHIQ")  # index, references, reserved, size


def check_heaps(path: Path, size: int) -> None:
    """Raise `ValueError` for a heap with an entry that does not lead on to the next one."""
    with path.open("rb") as file:
        for start in {0, max(0, size - _LOOKED_AT)}:
            file.seek(start)
            content = file.read(_LOOKED_AT)
            place = content.find(_HEAD)
            while place >= 0:
                _check_heap(content[place:])
                place = content.find(_HEAD, place + 1)


def _check_heap(content: bytes) -> None:
    """`content` begins with a heap."""
    if len(content) < 16:
        return
    end = min(int.from_bytes(content[8:16], "little"), len(content))
    place = 16
    while place + _ENTRY.size <= end:
        index, _, _, size = _ENTRY.unpack_from(content, place)
        step = _ENTRY.size + (size + 7) // 8 * 8 if index else size  # that of free space counts its own head
        if not step:
            raise ValueError("a heap of texts is damaged")
        place += step
