"""Some classes of a data set, in an order of one's own: which are meant, and the images that have them."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from condense.data.catalogue import DATA_SETS, find_data_set
from condense.data.names import shown
from condense.data.raw import RawData
from condense.data.sources import PixelSource, SubsetPixels
from condense.runtime.errors import CondenseError, near_names
from condense.runtime.inputs import read_text

_SHOWN = 10  # names in an error


def chosen_classes(choice: str | Path | Sequence[str]) -> tuple[str, ...]:
    """The names in a list, in a text with commas, in a file (one a line), or of a subset of ImageNet (imagefruit).

    A name that has a comma in it goes into double quotes, as in CSV. Raises `CondenseError` for a file that cannot be
    read, for fewer than two names, and for a name given twice.

    >>> chosen_classes('cat, "shark, white"')
    ('cat', 'shark, white')
    >>> chosen_classes("imagefruit")[0]
    'n07753275'
    """
    names, shown = _names(choice)
    if len(names) < 2:
        raise CondenseError(f"--classes {shown} names {len(names)} class(es); it needs at least two, as in cat,dog")
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise CondenseError(f"--classes {shown} has {doubled[0]!r} several times; give each class once")
    return tuple(names)


def _names(choice: str | Path | Sequence[str]) -> tuple[list[str], str]:
    """The names, and how errors call what was given."""
    if not isinstance(choice, str | Path):
        return [str(name) for name in choice], "(a list)"
    if isinstance(choice, str) and "," in choice:
        try:
            (row,) = csv.reader([choice], skipinitialspace=True, strict=True)
        except (csv.Error, ValueError) as error:
            raise CondenseError(f"--classes {choice!r} is no list of names ({error}); give it as in cat,dog") from error
        return [name.strip() for name in row if name.strip()], repr(choice)
    subset = find_data_set(choice) if isinstance(choice, str) else None
    if subset is not None and subset.imagenet_classes:
        return list(subset.imagenet_classes), choice if isinstance(choice, str) else ""
    path = Path(choice).expanduser()
    if isinstance(choice, str) and not os.path.isfile(path):  # noqa: PTH113 (takes names that are too long)
        subsets = [entry.name for entry in DATA_SETS if entry.imagenet_classes]
        raise CondenseError(
            f"--classes {choice!r} is neither a list with commas, as in cat,dog, nor a file with a name in each line, "
            f"nor one of {', '.join(subsets)}{near_names(choice, subsets)}"
        )
    lines = read_text(path, "a text file with the name of a class in each line").removeprefix("\ufeff").splitlines()
    return [line.strip() for line in lines if line.strip()], str(choice)


def classes_word(classes: Sequence[str]) -> str:
    """The value of `--classes` that means these classes.

    >>> classes_word(["cat", "shark, white"])
    'cat,"shark, white"'
    """
    word = io.StringIO()
    csv.writer(word, lineterminator="").writerow(classes)
    return word.getvalue()


def check_chosen(name: str, chosen: Sequence[str], classes: Sequence[str]) -> None:
    """Raise `CondenseError` if the data set `name` lacks one of the classes that were chosen."""
    there = set(classes)
    unknown = [entry for entry in chosen if entry not in there]
    if unknown:
        raise CondenseError(
            f"{name} has no class {unknown[0]!r} (it has: {shown(classes, _SHOWN)})"
            f"{near_names(unknown[0], classes)}; give --classes names of its own"
        )


def select_classes(raw: RawData, chosen: tuple[str, ...] | None) -> RawData:
    """The images of the chosen classes, numbered in this order; all of them for None. Splits stay as they are."""
    if chosen is None or raw.classes is None or chosen == raw.classes:
        return raw
    check_chosen(raw.name, chosen, raw.classes)
    numbers = torch.full((len(raw.classes),), -1, dtype=torch.int64)
    for number, name in enumerate(chosen):
        numbers[raw.classes.index(name)] = number
    train, train_labels = _with_numbers(raw.train, numbers[raw.train_labels])
    test, test_labels = _with_numbers(raw.test, numbers[raw.test_labels])
    return replace(
        raw, classes=chosen, train=train, train_labels=train_labels, test=test, test_labels=test_labels, surveys=None
    )


def _with_numbers(pixels: PixelSource, numbers: Tensor) -> tuple[PixelSource, Tensor]:
    """The images whose class has a number, and these numbers."""
    kept = (numbers >= 0).nonzero().flatten()
    return SubsetPixels(pixels, kept), numbers[kept]
