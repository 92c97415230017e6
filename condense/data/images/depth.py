"""Whether an image has more than 8 bits a channel.

Pillow has colours, and gray with transparency, in 8 bits only: of a file that has more, it keeps the upper ones and
says nothing, which leaves 12-bit values nearly black. Its mode does not tell; the header of the file does.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from PIL import Image

TO_8_BITS = (
    "give --window LOW HIGH, the values that become black and white (of images with one channel), or convert them to 8 "
    "bits by the range that matters, for example 255 * value / largest value"
)

_DEEP_MODES = ("I", "F")  # one channel of 16 or 32 bits: Pillow would clip, not scale, its values
_BITS_PER_SAMPLE = 258  # the tag of TIFF
_CODESTREAM = b"\xff\x4f\xff\x51"  # how that of JPEG 2000 begins: SOC, SIZ
_COMPONENTS = 40  # where SIZ tells their number; three bytes for each follow


def to_uint8(dtype: np.dtype) -> str:
    """How arrays of images that are not uint8 become uint8.

    >>> to_uint8(np.dtype("float32"))
    'multiply [0, 1] by 255 and round, or give --window LOW HIGH, the values that become black and white'
    """
    if dtype.kind == "f":
        return "multiply [0, 1] by 255 and round, or give --window LOW HIGH, the values that become black and white"
    if dtype.kind == "b":
        return "255 * images.astype('uint8')"
    return f"images.astype('uint8') if no value is above 255, else {TO_8_BITS}"


def is_deep(image: Image.Image) -> bool:
    """Whether a Pillow image, or the file that it was opened from, has more than 8 bits in some channel.

    Of a copy that Pillow has converted already, nothing can be told.
    """
    if image.mode.startswith(_DEEP_MODES):
        return True
    file: Any = image  # the attributes below are those of images that were opened from a file
    if image.format == "TIFF" and hasattr(file, "tag_v2"):
        return bool(max(file.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8)
    if getattr(file, "tile", None):
        return _is_deep_file(file)
    if not getattr(file, "filename", ""):
        return False
    try:  # once it is decoded, Pillow has forgotten its header
        with Image.open(file.filename) as again:
            return image.format == again.format and bool(again.tile) and _is_deep_file(again)
    except Exception:  # the file may be gone, or be another one
        return False


def has_all_bits(image: Image.Image) -> bool:
    """Whether Pillow gives the values of an image of one channel with more than 8 bits as they are in its file.

    It spreads those of a PGM whose largest is not 65535. Asked before the image is decoded.
    """
    tiles = getattr(image, "tile", None) or [("raw",)]
    return image.mode.startswith(_DEEP_MODES) and (image.format != "PPM" or tiles[0][0] == "raw")


def _is_deep_file(image: Any) -> bool:
    """By the header of a file that is not yet decoded, or by the layout of pixels that Pillow expects in it."""
    layout = image.tile[0][3]
    if image.format == "PNG":
        return ";16" in layout
    if image.format == "PPM":
        return not isinstance(layout, str) and isinstance(layout[1], int) and layout[1] > 255  # the largest value
    if image.format == "SGI":
        return _head(image)[3] == 2  # bytes a channel
    return image.format == "JPEG2000" and _is_deep_codestream(_head(image))


def _head(image: Any) -> bytes:
    position = image.fp.tell()
    image.fp.seek(0)
    head: bytes = image.fp.read(2**16)
    image.fp.seek(position)
    return head


def _is_deep_codestream(head: bytes) -> bool:
    start = head.find(_CODESTREAM)
    if start < 0 or len(head) < start + _COMPONENTS + 2:
        return False
    (count,) = struct.unpack_from(">H", head, start + _COMPONENTS)
    depths = head[start + _COMPONENTS + 2 :][: 3 * count : 3]
    return any((depth & 0x7F) + 1 > 8 for depth in depths)
