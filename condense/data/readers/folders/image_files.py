"""Image files as pixels of the shape that their headers have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from condense.data.images.decoding import Header, quiet_pillow, read_header
from condense.data.images.depth import TO_8_BITS
from condense.data.images.unreadable import Problem, unreadable_files
from condense.data.raw import note_on_broken
from condense.data.reading import Reading
from condense.data.remembering import remembered_problems
from condense.data.sources import FilePixels
from condense.runtime.errors import CondenseError

_LARGE_IMAGE = 128 * 128  # pixels; below, Python's lock makes several threads slower than one


@dataclass(frozen=True)
class OpenedFiles:
    """The files that can be read, by their positions among all (`kept`), their pixels, and what was left out."""

    pixels: FilePixels
    kept: list[int]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def open_images(root: Path, names: list[str], reading: Reading) -> OpenedFiles:
    """The files `names` below `root`, decoded when they are read, and what to say about them.

    With `reading.skip_broken` each is decoded once before, and those that cannot be are left out as if they were not
    there. Raises `CondenseError` for other files that cannot be read, for files of more than 8 bits a channel without a
    window, for others with one, and for several sizes without an image size.
    """
    with quiet_pillow():
        headers = {name: read_header(root / name) for name in names}
    problems = {name: header for name, header in headers.items() if isinstance(header, str)}
    threads = _threads([header for header in headers.values() if not isinstance(header, str)])
    if reading.skip_broken:
        problems = broken_files(root, names, threads)
    elif problems:
        raise FilePixels(root, names, (1, 1, 1)).unreadable(problems)
    readable = {
        name: header for name, header in headers.items() if not isinstance(header, str) and name not in problems
    }
    if not readable:
        raise unreadable_files(root, len(names), problems, skipped=True)
    kept, found = list(readable), list(readable.values())
    _check_depth(kept, found, windowed=reading.window is not None)
    height, width = reading.image_size or _common_size(kept, found)
    channels = 1 if reading.window or all(header.gray for header in found) else 3
    pixels = FilePixels(root, kept, (channels, height, width), threads, reading.window)
    positions = [position for position, name in enumerate(names) if name in readable]
    return OpenedFiles(pixels, positions, tuple(problems), (*note_on_broken(list(problems)), *_notes(kept, found)))


def _threads(headers: Sequence[Header]) -> int:
    area = sum(header.height * header.width for header in headers) / max(1, len(headers))
    return torch.get_num_threads() if area >= _LARGE_IMAGE else 1


def broken_files(root: Path, names: list[str], threads: int) -> dict[str, Problem]:
    """The files that cannot be decoded to their end, in their order, and why; that is remembered.

    Raises `CondenseError` for those that may not be read, which says nothing about them.
    """

    def try_all() -> dict[str, Problem]:
        problems = FilePixels(root, names, (1, 1, 1), threads).problems()
        locked = {name: problem for name, problem in problems.items() if problem == "locked"}
        if locked:
            raise unreadable_files(root, len(names), locked, skipped=True)
        return problems

    return remembered_problems(root, names, f"{Image.MAX_IMAGE_PIXELS}", try_all)


def _check_depth(names: Sequence[str], headers: Sequence[Header], *, windowed: bool) -> None:
    deep = [name for name, header in zip(names, headers) if header.deep]
    if deep and not windowed:
        raise CondenseError(
            f"{len(deep)} image file(s) have more than 8 bits a channel, for example {deep[0]}; {TO_8_BITS}"
        )
    if not windowed:
        return
    shallow = [name for name, header in zip(names, headers) if not header.deep]
    if shallow:
        raise CondenseError(
            f"{len(shallow)} of {len(names)} image files have 8 bits a channel, for example {shallow[0]}, and --window "
            "is for values of more bits; leave it out, or convert the others to 8 bits"
        )
    colour = [name for name, header in zip(names, headers) if not header.windowable]
    if colour:
        raise CondenseError(
            f"{len(colour)} of {len(names)} image files cannot be read with more than 8 bits, for example {colour[0]}; "
            "--window is for PNG and TIFF of one channel: convert them to that, or to 8 bits"
        )


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
