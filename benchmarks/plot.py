"""The plot of a benchmark: one panel for each data set and column, bars grouped by images per class."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.table import Column, Row, Table

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#999999")  # Okabe & Ito
_MOST_LABELLED_BARS = 16


def write_plot(table: Table, path: Path, ending: str) -> None:
    """Write the plot as `ending` (png or svg): bars are means, whiskers sample standard deviations, in percent.

    A dashed line marks the full data. The SVG is the same for the same table.
    """
    figure = draw(table)
    metadata: dict[str, Any] = {"Date": None} if ending == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "condense"}):
        figure.savefig(path, format=ending, dpi=150, metadata=metadata)


def draw(table: Table) -> Figure:
    """The plot as a figure that belongs to no window."""
    data, columns = table.data, table.columns
    figure = Figure(figsize=(1.2 + 5.6 * len(columns), 0.6 + 3.6 * len(data)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(data), len(columns), squeeze=False)
    for name, line in zip(data, panels, strict=True):
        for column, axes in zip(columns, line, strict=True):
            _panel(axes, table, name, column)
    methods = _methods(table)
    handles = {text: bars for axes in panels.flat for bars, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    named = [method for method in [*methods, *sorted(handles.keys() - set(methods))] if method in handles]
    ncols = math.ceil(len(named) / math.ceil(len(named) / 5))
    figure.legend(
        [handles[name] for name in named],
        named,
        loc="outside lower center",
        ncols=ncols,
        frameon=False,
        fontsize=9,
    )
    return figure


def _methods(table: Table) -> list[str]:
    return list(dict.fromkeys(row.method for row in table.rows))


def _panel(axes: Axes, table: Table, data: str, column: Column) -> None:
    methods = _methods(table)
    sizes = sorted({row.ipc for row in table.rows if row.data == data})
    width = 0.8 / len(methods)
    for index, method in enumerate(methods):
        found = [(place, table.scores.get((Row(data, ipc, method), column))) for place, ipc in enumerate(sizes)]
        spreads = [(place, score.spread) for place, score in found if score is not None]
        if not spreads:
            continue
        bars = axes.bar(
            [place + (index - (len(methods) - 1) / 2) * width for place, _ in spreads],
            [100 * spread.mean for _, spread in spreads],
            0.92 * width,
            yerr=[100 * (spread.std or 0.0) for _, spread in spreads],
            capsize=2.5,
            error_kw={"elinewidth": 1, "ecolor": "#333333"},
            color=_COLOURS[index % len(_COLOURS)],
            label=method,
        )
        if len(methods) * len(sizes) <= _MOST_LABELLED_BARS:
            axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
    if (data, column) in table.full:
        reference = 100 * (table.full[data, column].mean or 0.0)
        axes.axhline(reference, color="#333333", linestyle="--", linewidth=1, label="full data (reference)", zorder=0)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("images per class")
    axes.set_ylabel("test accuracy, % (mean ± standard deviation)", fontsize=9)
    axes.set_ylim(0, 105)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{data}: {column.protocol} ({table.hashes[column]}), {column.net}", fontsize=10)
