"""The page of one set: what it is and how it was made, its images, and what was recorded meanwhile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.jobs import curves
from benchmarks.page.charts import Charts, Curve, learning_curves
from benchmarks.page.galleries import gallery_of
from benchmarks.page.writer import write_html
from condense.sets.synthetic_set import SyntheticSet


def write_set_page(synthetic: SyntheticSet, path: Path, name: str) -> None:
    """Write the page of a set that is called `name`, one file that needs no network.

    Raises `CondenseError` where it cannot be written.
    """
    recorded = [
        learning_curves(series, [Curve("", name, "", values)]) for series, values in curves(synthetic.metrics).items()
    ]
    rows = synthetic.describe()
    values = {"title": name, "command": rows.pop("command", ""), "rows": rows, "has_curves": bool(recorded)}
    groups = [Charts("the run", tuple(recorded), ())] if recorded else []
    write_html(
        path, "set.html.j2", values, {"charts": [asdict(each) for each in groups]}, [gallery_of(synthetic, name)]
    )
