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


def percent(mean: float, std: float | None) -> str:
    """A mean and its standard deviation, both fractions, in percent.

    >>> percent(0.8213, 0.0041), percent(0.5, None)
    ('82.1 ± 0.4', '50.0')
    """
    return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if std is not None else "")
