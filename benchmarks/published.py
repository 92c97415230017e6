"""What others print: accuracies of papers, repositories and a leaderboard, each with its source and its evidence.

`published.yaml` holds them. Numbers that nobody has looked up are in that file as well, so that it is known what is
missing; `published` never returns them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from condense.data.catalogue import find_data_set
from condense.methods.registry import methods
from condense.recipes.yaml12 import load_yaml
from condense.runtime.errors import CondenseError
from condense.runtime.registry import plain
from condense.runtime.validation import Closed, validated

FILE = Path(__file__).with_name("published.yaml")

Tag = Literal["authors", "board", "second-hand", "memory"]
TAGS: tuple[Tag, ...] = get_args(Tag)  # from the strongest evidence to none


class Entry(Closed):
    """One accuracy that others print."""

    data: str = Field(min_length=1, description="the data set, as condense calls it")
    ipc: int | None = Field(None, ge=1, strict=True, description="images per class")
    fraction: float | None = Field(None, gt=0, le=1, strict=True, description="of all training images, in place of ipc")
    method: str = Field(
        min_length=1, description="as condense calls it, full for all training images, else the paper's name"
    )
    accuracy: float = Field(ge=0, le=100, strict=True, description="percent, on test images")
    deviation: float | None = Field(None, ge=0, le=100, strict=True, description="what is printed after ±, percent")
    network: str | None = Field(None, description="that was trained and scored, as printed; None where it is not told")
    protocol: str | None = Field(None, description="what is known of it, in words")
    source: str = Field(min_length=1, description="where it is printed, with the column if there are several")
    tag: Tag = Field(
        description="evidence: read where its authors print it, on a leaderboard, in a later document, or nowhere"
    )
    selected_on_test: bool = Field(
        False, strict=True, description="is the best of several evaluations on test images; false: not known to be"
    )

    @model_validator(mode="after")
    def _has_one_size(self) -> Entry:
        if (self.ipc is None) == (self.fraction is None):
            raise ValueError("give either ipc or fraction")
        return self


def read_published(path: Path = FILE) -> tuple[Entry, ...]:
    """All entries of a file, those from memory included.

    The file is a list of groups; whatever a group says beside `entries` holds for each of them. Raises `CondenseError`
    for everything else.
    """
    groups = load_yaml(path)
    found: list[Entry] = []
    for place, group in enumerate(groups if isinstance(groups, list) else [None]):
        rows = group.get("entries") if isinstance(group, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise CondenseError(f"{path.name}: {place}: every group needs a list of entries; correct it")
        shared = {name: value for name, value in group.items() if name != "entries"}
        for number, row in enumerate(rows):
            if twice := sorted(shared.keys() & row.keys()):
                raise CondenseError(f"{path.name}: {place}.{number}: {twice[0]} is given twice; correct it")
            found.append(validated(Entry, shared | row, origin=f"{path.name}: {place}.{number}: "))
    return tuple(found)


@cache
def _shown() -> dict[tuple[str, int | None, str], list[Entry]]:
    """The entries with evidence, the strongest first, by data, images per class and method."""
    found: dict[tuple[str, int | None, str], list[Entry]] = {}
    for entry in sorted(read_published(), key=lambda entry: TAGS.index(entry.tag)):
        if entry.tag != "memory":
            found.setdefault((entry.data, entry.ipc, plain(entry.method)), []).append(entry)
    return found


def published(data: str, ipc: int | None, method: str) -> list[Entry]:
    """What is printed of a method, the strongest evidence first, then in the order of the file.

    Networks, labels and protocols differ between entries: compare these before the accuracies.

    Args:
        data: a data set, by any of its names.
        ipc: images per class; None for entries of a fraction of all images, whatever it is.
        method: by any of its names; those that condense does not have by their paper's; `full` for all images.

    Returns:
        Entries; never those from memory, and none if nothing is known.

    >>> [(entry.accuracy, entry.deviation, entry.tag) for entry in published("fashion-mnist", 10, "dsa")]
    [(84.6, 0.3, 'authors')]
    >>> for entry in published("CIFAR-10", 1, "idc"):
    ...     print(entry.accuracy, entry.tag, entry.source, sep="; ")
    50.6; authors; IDC repository, readme
    51.1; board; DC-BENCH leaderboard, best of the augmentations
    50.0; second-hand; AutoPalette, Table 1
    >>> published("fashion-mnist", 10, "frepo")
    []
    """
    return list(_shown().get((_data_name(data), ipc, _method_name(method)), []))


def _data_name(name: str) -> str:
    known = find_data_set(name)
    return known.name if known else plain(name)


def _method_name(name: str) -> str:
    wanted = plain(name)
    return next((known.name for known in methods() if wanted in map(plain, known.aliases)), wanted)
