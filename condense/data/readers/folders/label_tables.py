"""Tables that tell the label of each image file: CSV and its like, as people and programs write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condense.data.names import shown
from condense.runtime.errors import CondenseError
from condense.runtime.inputs import read_text

# Usual names of columns in lower case, `_` for blanks and dashes. Of several the first is taken.
_FILE_COLUMNS = (
    *("file_name", "filename", "file", "image_name", "image_path", "file_path", "filepath", "path", "image", "img"),
    *("image_id", "img_id", "img_name", "img_path", "id", "name"),
)
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "label_name", "target", "category", "y")
_SPLIT_COLUMNS = ("split", "subset", "partition")
TINY_IMAGENET = "val_annotations.txt"  # of Tiny-ImageNet: file, class and the corners of a box, without header
_MOST_BYTES = 256 * 2**20
_WANTED = "a CSV with the columns file_name and label, in UTF-8"


@dataclass(frozen=True)
class Row:
    """What a line says about an image; `split` is empty where nothing is said."""

    file: str
    label: str
    split: str
    line: int


@dataclass(frozen=True)
class LabelTable:
    """The lines of a table that have a label; `unlabelled` counts the others."""

    path: Path
    rows: list[Row]
    unlabelled: int


def read_label_table(path: Path) -> LabelTable:
    """Read a table with a column of files and a column of labels, and perhaps one of splits.

    Columns are found by usual names, in any case; a table of two columns needs no header. They are separated by tabs,
    commas, semicolons or blanks, whichever the first line has. Raises `CondenseError` for a file that is no such table.
    """
    lines = _lines(path)
    if not lines:
        raise CondenseError(f"{path} is empty; give {_WANTED}")
    columns = _columns(path, lines)
    rows, unlabelled = [], 0
    for number, cells in lines[columns.first :]:
        if len(cells) <= max(columns.file, columns.label):
            raise CondenseError(
                f"line {number} of {path} has {len(cells)} column(s), too few for a file and a label; give {_WANTED}"
            )
        split = cells[columns.split] if columns.split is not None and columns.split < len(cells) else ""
        if cells[columns.label] and cells[columns.file]:
            rows.append(Row(cells[columns.file], cells[columns.label], split, number))
        else:
            unlabelled += 1
    if not rows:
        raise CondenseError(f"{path} labels no image; give {_WANTED}")
    _check_classes(path, rows)
    return LabelTable(path, rows, unlabelled)


def has_label_column(path: Path) -> bool:
    """Whether a table can be read and its header has a column of labels: `metadata.csv` may have captions instead."""
    if path.name == TINY_IMAGENET:
        return True
    try:
        lines = _lines(path)
    except CondenseError:
        return False
    return bool(lines) and _index(lines[0][1], _LABEL_COLUMNS) is not None


@dataclass(frozen=True)
class _Columns:
    """The numbers of the columns, and of the first line below the header."""

    file: int
    label: int
    split: int | None
    first: int


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, with their numbers, each as cells without blanks around them."""
    text = read_text(path, _WANTED, _MOST_BYTES).removeprefix("\ufeff")
    first = text.lstrip().partition("\n")[0].strip("\r")
    delimiter = next((character for character in "\t,;" if character in first), " ")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise CondenseError(f"cannot read line {reader.line_num} of {path}: {error}; give {_WANTED}") from error
    return [(number, cells) for number, cells in rows if any(cells)]


def _columns(path: Path, lines: Sequence[tuple[int, list[str]]]) -> _Columns:
    header = lines[0][1]
    file, label = _index(header, _FILE_COLUMNS), _index(header, _LABEL_COLUMNS)
    if file is not None and label is not None:
        return _Columns(file, label, _index(header, _SPLIT_COLUMNS), 1)
    if path.name == TINY_IMAGENET:
        return _Columns(0, 1, None, 0)
    if len(header) == 2 and file is None and label is None:
        return _Columns(0, 1, None, 0)
    lacking = " and ".join(
        f"of {what} ({', '.join(names)})"
        for what, names, index in (("files", _FILE_COLUMNS, file), ("labels", _LABEL_COLUMNS, label))
        if index is None
    )
    raise CondenseError(
        f"{path} has the columns {shown(header, 10)}, and none {lacking}; name them in its first line, for "
        "example file_name and label"
    )


def _index(header: Sequence[str], names: Sequence[str]) -> int | None:
    plain = [cell.lower().replace(" ", "_").replace("-", "_") for cell in header]
    return next((plain.index(name) for name in names if name in plain), None)


def _check_classes(path: Path, rows: Sequence[Row]) -> None:
    """Labels are classes: numbers with a fraction are values to be predicted."""
    for row in rows:
        try:
            whole = float(row.label).is_integer()
        except ValueError:
            return
        if not whole:
            raise CondenseError(
                f"line {row.line} of {path} has the label {row.label}, and condense classifies: values to be predicted "
                "(regression) are not supported"
            )
