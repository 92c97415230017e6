"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from condense.runtime.printing import printable


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown_table(["a", "b"], [["1", "x|y"]]))
    | a | b |
    | --- | --- |
    | 1 | x\\|y |
    """
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(printable(text).replace('|', chr(92) + '|') for text in row)} |" for row in rows)
