"""Which side of a picture is up: cameras store pixels as they lie on the sensor, and beside them how to turn them."""

from __future__ import annotations

import struct
from typing import Any

from PIL import Image
from PIL.Image import Transpose

_ORIENTATION = 0x0112  # the tag of EXIF and of TIFF
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_METADATA_CHUNKS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")


def upright(image: Image.Image) -> Image.Image:
    """The image as viewers show it, turned by its EXIF orientation; decodes it."""
    image.load()  # some metadata come after the pixels
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of `upright(image)` for an image that was opened and not decoded; decodes it only if it must."""
    if image.format == "PNG" and _metadata_follow_pixels(image):
        image.load()
    if image.format == "TIFF":
        tags: Any = image
        width, height = tags.tag_v2[256], tags.tag_v2[257]
        sideways = tags.tag_v2.get(_ORIENTATION) in _SIDEWAYS
    else:
        width, height = image.size
        sideways = _orientation(image) in _SIDEWAYS
    return (width, height) if sideways else (height, width)


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF numbers them; 1, as it is, where nothing valid is said."""
    if image.format == "TIFF":  # Pillow turns these itself when it decodes them
        return 1
    try:
        orientation = Image.Image.getexif(image).get(_ORIENTATION)  # that of PNG would decode the image
    except Exception:  # Pillow raises anything from SyntaxError to struct.error on damaged metadata
        return 1
    return orientation if orientation in _TURNS else 1


def _metadata_follow_pixels(image: Any) -> bool:
    """Whether a PNG that is not decoded yet has metadata behind its pixels, where Pillow has not seen them."""
    file = image.fp
    position = file.tell()
    file.seek(8)  # the signature
    pixels = False
    try:
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            pixels |= kind == b"IDAT"
            if pixels and kind in _METADATA_CHUNKS:
                return True
            file.seek(length + 4, 1)  # its content and checksum
    finally:
        file.seek(position)
    return False
