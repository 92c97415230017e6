"""Charts of a page: plotly figures, each with the numbers that it is drawn from as a table."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from benchmarks.page.budgets import front
from benchmarks.page.comparing import COSTS, Comparison, Entry
from condense.evaluation.statistics import deviation
from condense.runtime.printing import printable

_COLOURS = ("#2f86c1", "#d98a00", "#129b77", "#d2601a", "#b7659b", "#7a7fd6", "#8a8a2d", "#c94f6d")  # on light and dark
_MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross", "bowtie")
_FRONT = "#808080"
_LEAST = 0.01  # on axes of minutes, which are logarithmic: choosing at random takes none
_DIMENSIONS = 9  # of parallel coordinates, at most: more cannot be read


@dataclass(frozen=True)
class Line:
    """A line of a chart's table: the key of the row that it is about, and its numbers as text."""

    key: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """`figure` is what plotly draws, in JSON's types; `text` says how to read it."""

    title: str
    text: str
    figure: dict[str, Any]
    head: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Charts:
    """Those of all tables of one data set, protocol and network, and the names of those for which nothing is stored."""

    title: str
    charts: tuple[Chart, ...]
    missing: tuple[str, ...]


def charts(tables: Sequence[Comparison]) -> list[Charts]:
    """The charts of all tables, those of one data set, protocol and network together."""
    alike: dict[tuple[str, str], list[Comparison]] = {}
    for table in tables:
        alike.setdefault((table.data, table.rule), []).append(table)
    return [_charts(f"{data}: {rule}", found) for (data, rule), found in alike.items()]


def _charts(title: str, tables: Sequence[Comparison]) -> Charts:
    curves, classes = list(_curves(tables)), list(_classes(tables))
    missing = [name for name, found in (("learning curves", curves), ("accuracy by class", classes)) if not found]
    return Charts(title, (*_costs(tables), *_settings(tables), *curves, *classes), tuple(missing))


def _costs(tables: Sequence[Comparison]) -> Iterator[Chart]:
    per_class = [table for table in tables if table.size.ipc is not None]
    if len(per_class) > 1:
        yield _against("images per class", per_class, lambda _, table: table.size.ipc, of_sizes=True)
    parts = [table for table in tables if table.size.fraction is not None]
    if len(parts) > 1:
        yield _against("part of the training images, %", parts, lambda _, table: _percent(table), of_sizes=True)
    yield _against("bytes of a set", tables, lambda entry, _: COSTS["bytes"](entry), tickformat="~s")
    yield _against("minutes of making a set", tables, lambda entry, _: _minutes(entry))


def _percent(table: Comparison) -> float | None:
    return None if table.size.fraction is None else 100 * table.size.fraction


def _minutes(entry: Entry) -> float | None:
    minutes = entry.minutes
    return None if minutes is None else max(minutes, _LEAST)


@dataclass(frozen=True)
class _Point:
    entry: Entry
    table: Comparison
    cost: float

    @property
    def spread(self) -> float:
        return deviation(self.entry.accuracies) or 0.0

    def line(self, *, on_front: bool) -> Line:
        numbers = (f"{self.cost:,.6g}", f"{100 * self.entry.mean:.2f}", f"{100 * self.spread:.2f}")
        return Line(self.entry.key, (self.entry.title, str(self.table.size), *numbers, "yes" if on_front else "no"))


def _against(
    cost: str,
    tables: Sequence[Comparison],
    read: Callable[[Entry, Comparison], float | None],
    *,
    of_sizes: bool = False,
    tickformat: str = "~g",
) -> Chart:
    points = [
        _Point(entry, table, value)
        for table in tables
        for entry in table.entries
        if (value := read(entry, table)) is not None
    ]
    best = [points[place] for place in front([(point.cost, point.entry.mean) for point in points])]
    axis: dict[str, Any] = {"title": {"text": cost}, "type": "log", "tickformat": tickformat, "tickangle": 0}
    if of_sizes:
        axis["tickvals"] = sorted({point.cost for point in points})
    figure = _with_front(points, best)
    _lay_out(figure, axis, {"title": {"text": "test accuracy, %"}})
    return Chart(
        f"Accuracy against {cost}",
        "Whiskers are standard deviations over all networks on all sets. The dotted line joins the rows that nothing "
        "cheaper is better than. A click on a point opens its row.",
        _json(figure),
        ("row", "size", cost, "accuracy, %", "deviation", "on the front"),
        tuple(point.line(on_front=point in best) for point in points),
    )


def _with_front(points: Sequence[_Point], best: Sequence[_Point]) -> go.Figure:
    """A line for each method, and a dotted one through the best points."""
    lines: dict[str, list[_Point]] = {}
    for point in points:
        lines.setdefault(point.entry.title, []).append(point)
    figure = go.Figure()
    for number, (name, of_method) in enumerate(lines.items()):
        found = sorted(of_method, key=lambda point: point.cost)
        figure.add_scatter(
            **_places(found),
            error_y={"type": "data", "array": [100 * point.spread for point in found], "thickness": 1, "width": 3},
            name=text(name),
            mode="lines+markers",
            **_look(number),
        )
    figure.add_scatter(
        **_places(best),
        name="best for so much or less",
        mode="lines",
        line={"color": _FRONT, "dash": "dot", "shape": "hv", "width": 2},
    )
    return figure


def _places(points: Sequence[_Point]) -> dict[str, Any]:
    """Where points are, and the keys of their rows."""
    return {
        "x": [point.cost for point in points],
        "y": [100 * point.entry.mean for point in points],
        "customdata": [point.entry.key for point in points],
    }


@dataclass(frozen=True)
class Curve:
    """What was recorded in equal parts of a run: of the set of a row, or of one without a row (then `key` is empty)."""

    key: str
    title: str
    size: str
    values: tuple[float, ...]


def _curves(tables: Sequence[Comparison]) -> Iterator[Chart]:
    """One chart for each series that was recorded, of the first set of each row."""
    found: dict[str, list[Curve]] = {}
    for table in tables:
        for entry in table.entries:
            for series, values in entry.first.curves.items():
                found.setdefault(series, []).append(Curve(entry.key, entry.title, table.size.short, values))
    for series, of_series in found.items():
        yield learning_curves(series, of_series)


def learning_curves(series: str, curves: Sequence[Curve]) -> Chart:
    """A series that was recorded in several runs."""
    figure = go.Figure()
    for number, curve in enumerate(curves):
        figure.add_scatter(
            x=_parts(len(curve.values)),
            y=list(curve.values),
            customdata=[curve.key] * len(curve.values),
            name=text(", ".join(filter(None, [curve.title, curve.size]))),
            mode="lines",
            line=_look(number)["line"],
        )
    _lay_out(figure, {"title": {"text": "part of the run, %"}}, {"title": {"text": text(series)}})
    longest = max(len(curve.values) for curve in curves)
    return Chart(
        f"Learning curve: {series}",
        "Means of at most a hundred equal parts of the run that made the set, the first one of a row. Methods may mean "
        "different things by one name.",
        _json(figure),
        ("row", "size", *(f"{part:g} %" for part in _parts(longest))),
        tuple(
            Line(curve.key, (curve.title, curve.size, *(f"{value:.4g}" for value in curve.values))) for curve in curves
        ),
    )


def _parts(count: int) -> list[float]:
    """Where so many equal parts end, in percent.

    >>> _parts(4)
    [25.0, 50.0, 75.0, 100.0]
    """
    return [round(100 * (part + 1) / count, 1) for part in range(count)]


def _classes(tables: Sequence[Comparison]) -> Iterator[Chart]:
    for table in tables:
        found = [(entry, entry.first.class_accuracies) for entry in table.entries if entry.first.class_accuracies]
        if not found:
            continue
        names = list(dict.fromkeys(name for _, known in found for name in known))
        values = [[100 * known[name] if name in known else None for name in names] for _, known in found]
        figure = go.Figure()
        figure.add_heatmap(
            x=[text(name) for name in names],
            y=[text(entry.title) for entry, _ in found],
            z=values,
            customdata=[[entry.key] * len(names) for entry, _ in found],
            colorscale="Cividis",
            zmin=0,
            zmax=100,
            colorbar={"title": {"text": "%"}, "thickness": 12},
            hovertemplate="%{y}, %{x}: %{z:.1f} %<extra></extra>",
        )
        _lay_out(figure, {"type": "category"}, {"type": "category", "autorange": "reversed", "automargin": True})
        yield Chart(
            f"Accuracy by class: {table.size}",
            "Mean over the networks of the first set of a row, in percent of the test images of a class.",
            _json(figure),
            ("row", *names),
            tuple(
                Line(entry.key, (entry.title, *("" if value is None else f"{value:.1f}" for value in row)))
                for (entry, _), row in zip(found, values, strict=True)
            ),
        )


def _settings(tables: Sequence[Comparison]) -> Iterator[Chart]:
    """Parallel coordinates: what rows were asked to do, and what became of it."""
    rows = [(table, entry) for table in tables for entry in table.entries]
    columns = _varying([_asked(table, entry) for table, entry in rows])
    accuracies = [100 * entry.mean for _, entry in rows]
    if not columns:
        return
    figure = go.Figure()
    figure.add_parcoords(
        line={"color": accuracies, "colorscale": "Cividis", "showscale": False},
        dimensions=[*(_dimension(name, values) for name, values in columns.items()), _axis("accuracy, %", accuracies)],
    )
    _lay_out(figure, {}, {})
    yield Chart(
        "Settings, in parallel",
        "A line is a row; its colour is its accuracy. Drag along an axis to choose a part of it. Only settings that "
        "differ are shown, those of most rows first.",
        _json(figure),
        ("row", *columns, "accuracy, %"),
        tuple(
            Line(entry.key, (entry.title, *(values[place] for values in columns.values()), f"{accuracies[place]:.2f}"))
            for place, (_, entry) in enumerate(rows)
        ),
    )


def _asked(table: Comparison, entry: Entry) -> dict[str, str]:
    made = entry.first.configuration.made
    assert made is not None, "rows are of sets"
    return {"size": table.size.short, "method": made.method} | {
        name: str(value) for name, value in (made.settings | made.options).items()
    }


def _varying(rows: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """What differs, a value for each row, those first that most rows have; empty where a row has none.

    >>> _varying([{"method": "dm", "lr": "1", "batch": "9"}, {"method": "dm", "lr": "2", "batch": "9"}])
    {'lr': ['1', '2']}
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    differing = [name for name in names if len({row[name] for row in rows if name in row}) > 1]
    usual = sorted(differing, key=lambda name: -sum(name in row for row in rows))[: _DIMENSIONS - 1]
    return {name: [row.get(name, "") for row in rows] for name in usual}


def _dimension(name: str, values: Sequence[str]) -> dict[str, Any]:
    """An axis with a tick for each value: numbers in order, then words."""
    ticks = sorted(set(values), key=_by_number)
    return {
        "label": text(name.replace("_", " ")),
        "values": [ticks.index(value) for value in values],
        "tickvals": list(range(len(ticks))),
        "ticktext": [text(tick) or "–" for tick in ticks],
    }


def _by_number(value: str) -> tuple[bool, float, str]:
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


def _axis(name: str, values: Sequence[float]) -> dict[str, Any]:
    return {"label": name, "values": list(values)}


def text(name: str) -> str:
    """A name as plotly shows it, whose texts are a kind of HTML.

    >>> text("<b>dm</b>")
    '&lt;b&gt;dm&lt;/b&gt;'
    """
    return html.escape(printable(name), quote=False)


def _look(number: int) -> dict[str, Any]:
    """Colour and mark of the nth line, different for the first seventy."""
    colour = _COLOURS[number % len(_COLOURS)]
    return {
        "line": {"color": colour, "width": 1.6},
        "marker": {"color": colour, "symbol": _MARKS[number % len(_MARKS)], "size": 8},
    }


def _lay_out(figure: go.Figure, across: dict[str, Any], up: dict[str, Any]) -> None:
    """Axes, and colours that the page sets by its theme."""
    figure.update_layout(
        template="none",
        xaxis=across | {"automargin": True},
        yaxis=up,
        margin={"l": 60, "r": 20, "t": 16, "b": 50},
        hovermode="closest",
        font={"family": "system-ui, sans-serif"},
    )


def _json(figure: go.Figure) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(figure.to_json())
    return content
