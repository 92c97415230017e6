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
    """Raise `ValueError` for a heap with an entry that does not lead on to the next one.

    And where there are more heaps and entries than the bytes can hold, which are then within one another: to look at
    all of them could take hours.
    """
    with path.open("rb") as file:
        for start in {0, max(0, size - _LOOKED_AT)}:
            file.seek(start)
            _check_part(file.read(_LOOKED_AT))


def _check_part(content: bytes) -> None:
    """All heaps in a part of the file."""
    left, view = len(content) // _ENTRY.size, memoryview(content)
    place = content.find(_HEAD)
    while place >= 0:
        left = _check_heap(view[place:], left - 1)
        place = content.find(_HEAD, place + 1)


def _check_heap(content: memoryview, left: int) -> int:
    """`content` begins with a heap; returns how many heaps and entries may still come, of so many."""
    end = min(int.from_bytes(content[8:16], "little"), len(content))
    place = 16
    while place + _ENTRY.size <= end:
        index, _, _, size = _ENTRY.unpack_from(content, place)
        step = _ENTRY.size + (size + 7) // 8 * 8 if index else size  # that of free space counts its own head
        left -= 1
        if not step or left < 0:
            raise ValueError("a heap of texts is damaged")
        place += step
    if left < 0:
        raise ValueError("heaps of texts are within one another")
    return left
