"""Names of files and classes in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def shown(names: Sequence[str], most: int = 5) -> str:
    """The first names of many on one line; those that cannot be printed are quoted.

    >>> shown(["a", "b\\n", "c"], 2)
    "a, 'b\\\\n' and 1 more"
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name if name.isprintable() else ascii(name) for name in names[:most]) + more
