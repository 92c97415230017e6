"""What labels cost beside the images they are of."""

from __future__ import annotations

_HEAVY = 10  # times the bytes of the images


def heavy_labels(images: int, labels: int) -> str | None:
    """A sentence for the user where labels take more than ten times the bytes of their images; else None.

    >>> heavy_labels(1_000, 62_000)
    'the labels take 62 times the bytes of the images (62,000 and 1,000)'
    """
    if labels <= _HEAVY * images:
        return None
    return f"the labels take {labels / images:.0f} times the bytes of the images ({labels:,} and {images:,})"
