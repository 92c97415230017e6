"""Images that belong together: clips, bursts and patients, told by sub-folders and by the names of files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_FRAME = re.compile(r"(.*[0-9].*[^0-9])([0-9]+)")  # what names the sequence has a digit too: clip03_0001
_LARGEST_STEP = 10  # between the numbers of frames, on average


@dataclass(frozen=True)
class Place:
    """Where an image lies: its class folder and its path inside it."""

    folder: str
    path: PurePosixPath

    @property
    def subfolder(self) -> str | None:
        """The sub-folder of the class folder that the image is in, if it is in one."""
        return self.path.parts[0] if len(self.path.parts) > 1 else None


def merged(places: Sequence[Place]) -> dict[str, list[str]]:
    """The class folders with images in several sub-folders, or in a sub-folder and beside it: their sub-folders."""
    parts: dict[str, set[str | None]] = {}
    for place in places:
        parts.setdefault(place.folder, set()).add(place.subfolder)
    return {folder: sorted(part for part in inside if part) for folder, inside in parts.items() if len(inside) > 1}


def frames(places: Sequence[Place]) -> tuple[str, str] | None:
    """Two files that look like frames of one sequence, if the names of most of the files look like that.

    >>> names = ["clip03_1.png", "clip03_2.png", "clip12_1.png", "clip12_2.png"]
    >>> frames([Place("walk", PurePosixPath(name)) for name in names])
    ('walk/clip03_1.png', 'walk/clip03_2.png')
    >>> frames([Place("walk", PurePosixPath(f"walk_{number}.png")) for number in range(4)])
    """
    sequences = list(_sequences(places))
    in_a_class = Counter(sequence[0].folder for sequence in sequences)  # one is nothing but the name of the class
    if max(in_a_class.values(), default=0) < 2 or 2 * sum(map(len, sequences)) < len(places):
        return None
    first, second = sequences[0][:2]
    return f"{first.folder}/{first.path}", f"{second.folder}/{second.path}"


def _sequences(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Images of one folder whose names differ in the last number only, and these lie close together."""
    numbers: dict[tuple[str, PurePosixPath, str], list[tuple[int, Place]]] = {}
    for place in places:
        if match := _FRAME.fullmatch(place.path.stem):
            numbers.setdefault((place.folder, place.path.parent, match[1]), []).append((int(match[2]), place))
    for frames_of_one in numbers.values():
        ordered = sorted(frames_of_one, key=lambda numbered: numbered[0])
        if len(ordered) > 1 and ordered[-1][0] - ordered[0][0] <= _LARGEST_STEP * len(ordered):
            yield [place for _, place in ordered]
