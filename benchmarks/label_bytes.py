"""Labels in a report: accuracy against the bytes of set and labels, where columns differ in the labels of sets.

One series is one kind of labels under one protocol, with its temperature and loss. They are shown beside one another
and never ranked: another temperature, loss or protocol is another training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.plot import Series, draw_lines


def compares_labels(lines: Sequence[dict[str, Any]]) -> bool:
    """Whether the lines of a table (`benchmarks.table.as_dicts`) are of one method's sets in several labels."""
    labelled = any(line.get("labels") for line in lines)
    return labelled and len({line["method"] for line in lines}) == 1 < len({_series(line) for line in lines})


def draw(lines: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against bytes: a panel for each data set, a series for each kind, a point for each size."""
    panels: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    of_one = len({line["network"] for line in lines}) == 1
    for line in lines:
        title = f"{line['data']}, {line['method']} images" + (f", {line['network']}" if of_one else "")
        points = panels.setdefault(title, {}).setdefault(_series(line, with_network=not of_one), [])
        points.append((line["bytes"], line["mean"], line["std"] or 0.0))
    shown = {name: [Series(label, points) for label, points in series.items()] for name, series in panels.items()}
    return draw_lines(shown, "bytes of images, labels and whatever training needs")


def _series(line: dict[str, Any], *, with_network: bool = True) -> str:
    """Labels and protocol, and perhaps the network."""
    under = ", ".join([line["protocol"], *([line["network"]] if with_network else [])])
    return f"{line.get('labels') or 'class indices'} ({under})"
