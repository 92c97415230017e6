"""Image files as pixels of the shape that their headers have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from condense.data.images.decoding import Header, quiet_pillow, read_header
from condense.data.images.depth import TO_8_BITS
from condense.data.sources import FilePixels
from condense.runtime.errors import CondenseError

_LARGE_IMAGE = 128 * 128  # pixels; below, Python's lock makes several threads slower than one


def open_images(root: Path, names: list[str], image_size: tuple[int, int] | None) -> tuple[FilePixels, tuple[str, ...]]:
    """The files `names` below `root`, decoded when they are read, and what to say about them.

    Raises `CondenseError` for files that cannot be read or have more than 8 bits a channel, and for several sizes
    without `image_size` (H, W).
    """
    with quiet_pillow():
        headers = {name: read_header(root / name) for name in names}
    problems = {name: header for name, header in headers.items() if isinstance(header, str)}
    if problems:
        raise FilePixels(root, names, (1, 1, 1)).unreadable(problems)
    readable = [header for header in headers.values() if not isinstance(header, str)]
    deep = [name for name, header in zip(names, readable) if header.deep]
    if deep:
        raise CondenseError(
            f"{len(deep)} image file(s) have more than 8 bits a channel, for example {deep[0]}; {TO_8_BITS}"
        )
    height, width = image_size or _common_size(names, readable)
    channels = 1 if all(header.gray for header in readable) else 3
    area = sum(header.height * header.width for header in readable) / len(readable)
    threads = torch.get_num_threads() if area >= _LARGE_IMAGE else 1
    return FilePixels(root, names, (channels, height, width), threads), _notes(names, readable)


def _common_size(names: Sequence[str], headers: Sequence[Header]) -> tuple[int, int]:
    sizes = [(header.height, header.width) for header in headers]
    first = sizes[0]
    for name, size in zip(names, sizes):
        if size != first:
            usual = Counter(sizes).most_common(1)[0][0]
            raise CondenseError(
                f"images differ in size (height x width): {names[0]} is {first[0]}x{first[1]}, {name} is "
                f"{size[0]}x{size[1]}; give --image-size, for example {min(usual)}"
            )
    return first


def _notes(names: Sequence[str], headers: Sequence[Header]) -> tuple[str, ...]:
    notes = []
    gray = sum(header.gray for header in headers)
    if 0 < gray < len(headers):
        notes.append(f"{gray} of {len(headers)} images are grayscale and became RGB like the others")
    transparent = sum(header.transparent for header in headers)
    if transparent:
        notes.append(f"{transparent} of {len(headers)} images have a transparency channel, which is left out")
    animated = [name for name, header in zip(names, headers) if header.animated]
    if animated:
        notes.append(
            f"{len(animated)} of {len(headers)} image files have several frames, for example {animated[0]}; the first "
            "one is used"
        )
    most = Image.MAX_IMAGE_PIXELS or math.inf
    large = [name for name, header in zip(names, headers) if header.height * header.width > most]
    if large:
        notes.append(
            f"{len(large)} of {len(headers)} image files have more than {most / 1e6:.0f} megapixels, for example "
            f"{large[0]}; they take long to decode, so better make them smaller first"
        )
    return tuple(notes)
