"""Which file a line of a table of labels means: by its path, by the end of it, or by an id without suffix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from condense.data.readers.folders.label_tables import LabelTable, Row
from condense.data.readers.folders.tree import is_image
from condense.runtime.errors import CondenseError


@dataclass
class MatchedRows:
    """The rows of a table by the files that they label, the rows without a file, and the files without a row."""

    by_file: dict[str, Row] = field(default_factory=dict)
    missing: list[Row] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)


def match_rows(table: LabelTable, root: Path, files: Sequence[str]) -> MatchedRows:
    """Find the file of every row; `files` are images relative to `root`.

    Only these are looked at, so no path in a table leads out of the tree. Raises `CondenseError` for a row that may
    mean several files, and for a file with several labels.
    """
    finder = _Finder(root, files)
    matched = MatchedRows()
    for row in table.rows:
        file = finder.find(row, table.path)
        if file is None:
            matched.missing.append(row)
            continue
        other = matched.by_file.setdefault(file, row)
        if (other.label, other.split) != (row.label, row.split):
            raise CondenseError(
                f"lines {other.line} and {row.line} of {table.path} say different things of {file}; condense needs one "
                "label for each image"
            )
    matched.unlabelled = [file for file in files if file not in matched.by_file]
    return matched


class _Finder:
    """Files by every end of their paths, with and without suffix; None where several files end so."""

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        self._prefix = root.resolve().name
        self._files = set(files)
        self._ends: dict[str, str | None] = {}
        for file in files:
            for end in _ends(file):
                for key in (end, _without_suffix(end)):
                    self._ends[key] = file if self._ends.setdefault(key, file) == file else None

    def find(self, row: Row, table: Path) -> str | None:
        """The file of a row, None if there is none."""
        name = row.file.replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        plain = "/".join(parts)
        if plain in self._files:
            return plain
        if plain in self._ends:
            file = self._ends[plain]
            if file is None:
                raise CondenseError(
                    f"{row.file!r} in line {row.line} of {table} may be any of several files; give the path of each in "
                    "the table"
                )
            return file
        if name.startswith("/") or ".." in parts or parts[:1] == [self._prefix] or plain[1:2] == ":":
            return next((end for end in _ends(plain) if end in self._files), None)  # a path from another place
        return None


def _ends(path: str) -> Iterator[str]:
    """A path, and what is left of it without its first folder, its first two, and so on."""
    while True:
        yield path
        _, slash, rest = path.partition("/")
        if not slash:
            return
        path = rest


def _without_suffix(path: str) -> str:
    return path.rpartition(".")[0] if is_image(path) else path
