"""Minutes in a report: accuracy against the time that methods were given, where they were given several.

A line is one method with its settings, a point its sets of one time. The front is the best that there is in so much
time or less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from matplotlib.figure import Figure

from benchmarks.cells import SetDescription
from benchmarks.plot import Series, draw_lines
from benchmarks.table import Column, Row, Table

FRONT = "best in so many minutes or less"

Points = dict[str, dict[str, list[tuple[float, float, float]]]]


def draw(table: Table) -> Figure | None:
    """Accuracy against minutes, a panel for each data set, size and column; None where no panel has two times."""
    panels = _points(table)
    shown = {
        title: [*(Series(label, points) for label, points in lines.items()), front(lines)]
        for title, lines in panels.items()
        if len({minutes for points in lines.values() for minutes, *_ in points}) > 1
    }
    return draw_lines(shown, "minutes that a set was given") if shown else None


def front(lines: Mapping[str, list[tuple[float, float, float]]]) -> Series:
    """The best mean of all lines up to each time.

    >>> front({"a": [(3.0, 0.5, 0.0), (8.0, 0.6, 0.0)], "b": [(3.0, 0.7, 0.1)]}).points
    [(3.0, 0.7, 0.0), (8.0, 0.7, 0.0)]
    """
    best: dict[float, float] = {}
    for minutes, mean, _ in (point for points in lines.values() for point in points):
        best[minutes] = max(mean, best.get(minutes, 0.0))
    times = sorted(best)
    highest = accumulate((best[time] for time in times), max)
    return Series(FRONT, [(time, mean, 0.0) for time, mean in zip(times, highest)], dashed=True)


def _points(table: Table) -> Points:
    """(minutes, mean, deviation) by panel and line."""
    panels: Points = {}
    timed = [made for place in table.places if (made := _timed(table, place)) is not None]
    names = _names([(made.method, made.parts) for made in timed])
    for row, column in table.places:
        made = _timed(table, (row, column))
        if made is None or made.minutes is None:
            continue
        title = f"{row.data}, {row.size}: {column.protocol} ({table.hashes[column]}), {column.net}"
        spread = table.scores[row, column].spread
        lines = panels.setdefault(title, {})
        lines.setdefault(names[made.method, made.parts], []).append((made.minutes, spread.mean, spread.std or 0.0))
    return panels


def _timed(table: Table, place: tuple[Row, Column]) -> SetDescription | None:
    """How the sets of a place were made, if in a given time."""
    made = table.scores[place].records[0].configuration.made
    return None if made is None or made.minutes is None else made


def _names(entries: Sequence[tuple[str, tuple[str, ...]]]) -> dict[tuple[str, tuple[str, ...]], str]:
    """Each method, with what its entries do not have in common.

    >>> list(_names([("dm", ("recipe desk",)), ("dm", ("recipe desk", "factor 2"))]).values())
    ['dm', 'dm (factor 2)']
    """
    of_method: dict[str, list[set[str]]] = {}
    for method, parts in entries:
        of_method.setdefault(method, []).append(set(parts))
    common = {method: set.intersection(*found) for method, found in of_method.items()}
    own = {entry: ", ".join(part for part in entry[1] if part not in common[entry[0]]) for entry in entries}
    return {(method, parts): f"{method} ({said})" if said else method for (method, parts), said in own.items()}
