"""The formats of image files that are read, and the suffixes of their names."""

from __future__ import annotations

import functools

from PIL import Image

# What Pillow decodes by itself. Others that it knows are documents, data or stubs, or run another program (EPS).
_READ = (
    *("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "AVIF", "JPEG2000"),
    *("DIB", "PCX", "QOI", "SGI", "SUN", "TGA"),
)


@functools.cache
def formats() -> tuple[str, ...]:
    """Those that the installed Pillow knows, by its names for them."""
    Image.init()
    return tuple(name for name in _READ if name in Image.OPEN)


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes, in lower case, that files of these formats have.

    >>> {".png", ".jpg", ".jfif", ".gif", ".jp2"} <= suffixes()
    True
    """
    names = (*formats(), "MPO")  # several JPEGs in one file, which Pillow opens as one
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in names)
