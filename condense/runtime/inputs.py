"""What comes from outside: ordinary files only, and JSON of bounded size and depth."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from condense.runtime.errors import CondenseError

MOST_BYTES = 32 * 2**20  # of a text: the index of 20,000 experts is half as long
DEEPEST = 64  # levels: what condense writes has at most six
MOST_VALUES = 4_000_000  # as many fit in such a text if each is a number; counted as often as they are referred to


def regular_file(path: Path, wanted: str) -> os.stat_result:
    """What the system knows of an ordinary file; a pipe or a device could keep a reader waiting for ever.

    Raises `CondenseError` for everything else; `wanted` says what to give instead.
    """
    try:
        facts = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise CondenseError(f"cannot read {path}: {_reason(error)}; give {wanted}") from error
    if not stat.S_ISREG(facts.st_mode):
        what = os.strerror(errno.EISDIR) if stat.S_ISDIR(facts.st_mode) else "it is no regular file"
        raise CondenseError(f"cannot read {path}: {what}; give {wanted}")
    return facts


def read_text(path: Path, wanted: str, most: int = MOST_BYTES) -> str:
    """The text of an ordinary file in UTF-8; raises `CondenseError`, also for one of more than `most` bytes."""
    size = regular_file(path, wanted).st_size
    if size > most:
        raise CondenseError(f"{path} has {size:,} bytes, and at most {most:,} are read; give {wanted}")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CondenseError(f"cannot read {path}: {_reason(error)}; give {wanted}") from error


def read_json(path: Path, wanted: str) -> Any:
    """The object in a JSON file; raises `CondenseError` if it cannot be read, is no JSON or is nested too deeply."""
    try:
        return parse_json(read_text(path, wanted))
    except json.JSONDecodeError as error:
        raise CondenseError(f"{path} is no JSON (line {error.lineno}: {error.msg}); give {wanted}") from error
    except ValueError as error:
        if isinstance(error, CondenseError):
            raise
        raise CondenseError(f"{path} is no JSON that can be read ({error}); give {wanted}") from error


def as_json(name: str, value: Any) -> Any:
    """`value` as a JSON file would give it back, so that what is made equals what is loaded from its file.

    Raises `CondenseError` for values that JSON cannot hold; `name` is theirs in the error.

    >>> as_json("facts", {"shape": (1, 8)})
    {'shape': [1, 8]}
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CondenseError(f"{name} must be values that JSON can hold: {error}") from error


def json_mapping(name: str, text: str) -> dict[str, Any]:
    """The mapping in a JSON text that a file of ours holds under `name`; raises `CondenseError` for everything else."""
    try:
        value = parse_json(text)
    except ValueError as error:
        raise CondenseError(f"its {name} cannot be read ({error}); make it again") from error
    if not isinstance(value, dict):
        raise CondenseError(f"its {name} is no mapping; make it again")
    return value


def parse_json(text: str | bytes) -> Any:
    """The object that a JSON text describes; raises `ValueError` for every text that is none or nested too deeply."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    check_bounds(value)
    return value


def check_bounds(value: Any, most: int = MOST_VALUES) -> None:
    """Raise `ValueError` if lists, tuples and mappings nest too deeply or in each other, or hold too many values."""
    waiting, seen = [(value, 0)], 1
    while waiting:
        current, depth = waiting.pop()
        if not isinstance(current, dict | list | tuple):
            continue
        seen += len(current)
        if depth == DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        if seen > most:
            raise ValueError(f"it has more than {most:,} values")
        entries = current.values() if isinstance(current, dict) else current
        waiting += [(entry, depth + 1) for entry in entries]


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text file"
    return getattr(error, "strerror", None) or str(error)
