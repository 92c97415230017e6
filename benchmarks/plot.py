"""Plots of a benchmark: bars grouped by method, a panel for each data set and column; and accuracy against a cost."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from benchmarks.table import Column, Row, Table
from condense.data.budget import Budget
from condense.graphs.methods.budget import GraphBudget
from condense.runtime.printing import for_plot

_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7")  # Okabe & Ito
_BAR = 0.19  # inches
_LINES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#333333", "#999933")  # after Okabe & Ito
_MARKS = "osD^vP*X"


def save(figure: Figure, path: Path, ending: str) -> None:
    """Write a figure as `ending` (png or svg), the same bytes for the same figure."""
    metadata: dict[str, Any] = {"Date": None} if ending == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "condense"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of names in letters that the font lacks
        figure.savefig(path, format=ending, dpi=150, metadata=metadata)


def draw(table: Table) -> Figure:
    """Bars are means, whiskers sample standard deviations, in percent; a dashed line marks the full data.

    The figure belongs to no window, as all of them here.
    """
    data, columns = table.data, table.columns
    methods = list(dict.fromkeys(row.method for row in table.rows))
    sizes = sorted({row.size for row in table.rows}, key=_in_order)
    height = 0.9 + _BAR * len(methods) * (len(sizes) + 0.6)
    width = 1.4 + 0.07 * max(map(len, methods)) + 4.2 * len(columns)
    figure = Figure(figsize=(width, 0.5 + height * len(data)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(data), len(columns), squeeze=False, sharey=True)
    for name, line in zip(data, panels, strict=True):
        for column, axes in zip(columns, line, strict=True):
            _panel(axes, table, name, column, methods, sizes)
    handles = {text: bars for axes in panels.flat for bars, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    side_by_side = max(1, min(3, int(width / (0.6 + 0.08 * max(map(len, handles), default=0)))))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=side_by_side, frameon=False, fontsize=9
    )
    return figure


def _in_order(size: Budget) -> tuple[float, float, float]:
    of_bytes = size.bytes if isinstance(size, GraphBudget) else None
    return size.ipc or 0, size.fraction or 0.0, of_bytes or 0


def _in_words(size: Budget, modalities: Sequence[str]) -> str:
    if size.ipc is None or list(modalities) != ["images"]:
        return str(size)
    return f"{size.ipc} image{'s' if size.ipc > 1 else ''} per class"


def _panel(
    axes: Axes, table: Table, data: str, column: Column, methods: Sequence[str], sizes: Sequence[Budget]
) -> None:
    thickness = 1 / (len(sizes) + 0.6)
    for index, size in enumerate(sizes):
        found = [(place, table.scores.get((Row(data, size, method), column))) for place, method in enumerate(methods)]
        spreads = [(place, score.spread) for place, score in found if score is not None]
        if not spreads:
            continue
        bars = axes.barh(
            [place + (index - (len(sizes) - 1) / 2) * thickness for place, _ in spreads],
            [100 * spread.mean for _, spread in spreads],
            0.92 * thickness,
            xerr=[100 * (spread.std or 0.0) for _, spread in spreads],
            capsize=2,
            error_kw={"elinewidth": 1, "ecolor": "#333333"},
            color=_COLOURS[index % len(_COLOURS)],
            label=_in_words(size, table.modalities),
        )
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=7)
    full = table.full.get((data, replace(column, labels="")))
    if full is not None:
        reference = 100 * (full.mean or 0.0)
        axes.axvline(reference, color="#333333", linestyle="--", linewidth=1, label="full data (reference)", zorder=0)
    axes.set_yticks(range(len(methods)), [*map(for_plot, methods)], fontsize=8)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, % (mean ± standard deviation)", fontsize=9)
    axes.set_xlim(0, 105)
    axes.spines[["top", "right"]].set_visible(False)
    title = f"{data}: {column.protocol} ({table.hashes[column]}), {column.net}"
    axes.set_title("\n".join(map(for_plot, [title, *textwrap.wrap(column.labels, 60)])), fontsize=9)


@dataclass(frozen=True)
class Series:
    """Points of one line: a cost, a mean accuracy and its standard deviation, both fractions."""

    label: str
    points: list[tuple[float, float, float]]
    dashed: bool = False


def draw_lines(panels: Mapping[str, Sequence[Series]], cost: str) -> Figure:
    """Accuracy against a cost on a logarithmic scale, a panel for each data set, as a figure that belongs to no window.

    Series of one name look alike in all panels.
    """
    names = list(dict.fromkeys(series.label for shown in panels.values() for series in shown))
    height = 0.4 + max(4.2, 0.7 + 0.22 * len(names)) * len(panels)
    figure = Figure(figsize=(10.0, height), layout="constrained")
    FigureCanvasAgg(figure)
    for name, axes in zip(panels, figure.subplots(len(panels), 1, squeeze=False)[:, 0], strict=True):
        for series in panels[name]:
            index = names.index(series.label)
            costs, means, deviations = zip(*sorted(series.points), strict=True)
            axes.errorbar(
                costs,
                [100 * mean for mean in means],
                yerr=[100 * deviation for deviation in deviations],
                label=for_plot(series.label),
                color=_LINES[index % len(_LINES)],
                marker=_MARKS[(index + index // len(_LINES)) % len(_MARKS)],
                linestyle="--" if series.dashed else "-",
                markersize=5,
                linewidth=1.4,
                capsize=2,
                elinewidth=0.8,
            )
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            which(EngFormatter(sep=""))
        axes.tick_params(axis="x", which="both", labelsize=8)
        axes.set_xlabel(cost, fontsize=9)
        axes.set_ylabel("test accuracy, % (mean ± standard deviation)", fontsize=9)
        axes.set_title(for_plot(name), fontsize=9)
        axes.grid(which="both", color="#dddddd", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
