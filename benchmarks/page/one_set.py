"""The page of one set: what it is and how it was made, its images or graphs, and what was recorded meanwhile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.page.charts import Charts, Curve, learning_curves
from benchmarks.page.galleries import gallery_of, gallery_of_graphs
from benchmarks.page.writer import write_html
from benchmarks.records import curves
from condense.graphs.description import describe_graphs
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.sets.synthetic_set import SyntheticSet


def write_set_page(made: SyntheticSet | GraphSet | NodeGraphSet, path: Path, name: str) -> None:
    """Write the page of a set that is called `name`, one file that needs no network.

    Curves of sets of graphs are in the account beside the set, and not shown. Raises `CondenseError` where the page
    cannot be written, and for graphs where networkx is missing.
    """
    if isinstance(made, SyntheticSet):
        rows, gallery, metrics = made.describe(), gallery_of(made, name), made.metrics
    else:
        rows, gallery, metrics = describe_graphs(made), gallery_of_graphs(made, name), {}
    recorded = [learning_curves(series, [Curve("", name, "", values)]) for series, values in curves(metrics).items()]
    values = {"title": name, "command": rows.pop("command", ""), "rows": rows, "has_curves": bool(recorded)}
    groups = [Charts("the run", tuple(recorded), ())] if recorded else []
    write_html(path, "set.html.j2", values, {"charts": [asdict(each) for each in groups]}, [gallery])
