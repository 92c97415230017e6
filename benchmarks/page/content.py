"""From records to a page: what its templates show, what its script draws, and the tables beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.page.beside import write_beside
from benchmarks.page.charts import charts
from benchmarks.page.columns import COLUMNS, Cell, Column, cells_of, rank_words, same_for_all, shown_columns
from benchmarks.page.comparing import COSTS, Comparison, Entry, Lookup, comparisons
from benchmarks.page.details import Details, details
from benchmarks.page.galleries import galleries
from benchmarks.page.writer import write_html
from benchmarks.panels import Panel
from benchmarks.published import published
from benchmarks.records import Record
from benchmarks.table import build_table, by_kind
from benchmarks.training_time import baselines_panel


def page_path(folder: Path) -> Path:
    """Where the page of a benchmark is."""
    return folder / "report" / "index.html"


def write_page(
    records: Sequence[Record],
    folder: Path,
    *,
    public: bool,
    published: Lookup = published,
    panels: Sequence[Panel] = (),
    title: str = "",
) -> Path:
    """Write `report/index.html` into the folder of a benchmark, `results.csv`, `.json`, `.md` and `.tex` beside it.

    One file that needs no network: tables, one for each data set, size, protocol hash and network; charts; pictures of
    sets; and for every row how it is made again. Pictures are those below `folder`; a `public` page has none but those
    that lie with the records (see `benchmarks.pictures`). `published` looks up what others print; `title` is that of
    the page, the folder's name without one.
    Returns the path of the page; raises `CondenseError` where it cannot be written.
    """
    tables = comparisons(records, published)
    target = page_path(folder)
    values = {
        "title": title or folder.resolve().name,
        "tables": [Shown(table) for table in tables],
        "panels": [*_baselines(records), *(panel for panel in panels if panel.rows)],
        "failed": [(record.configuration.title, record.error or "") for record in records if record.status == "failed"],
        "columns": COLUMNS,
        "public": public,
    }
    script = {
        "budgets": {table.key: budgets(table) for table in tables},
        "charts": [asdict(each) for each in charts(tables)],
    }
    write_html(target, "report.html.j2", values, script, galleries(tables, folder, public=public))
    write_beside(tables, target.parent)
    return target


class Shown:
    """A table as the template shows it."""

    def __init__(self, table: Comparison) -> None:
        self.table = table
        self.above: list[str] = same_for_all(table)
        self.columns: list[Column] = shown_columns(table)
        self.rows: list[tuple[Entry, list[Cell], Details]] = [
            (entry, cells, details(entry, table))
            for entry, cells in zip(table.entries, cells_of(table, self.columns), strict=True)
        ]


def budgets(table: Comparison) -> dict[str, list[dict[str, Any]]]:
    """For each cost its shared budgets, with the words and the mean of the rank of the rows within."""
    return {
        cost: [
            {
                "label": f"{_number(shared.budget)} {cost}, {len(shared.ranks)} of {len(table.entries)} rows",
                "ranks": {key: [rank_words(rank), rank and rank[0]] for key, rank in shared.ranks.items()},
            }
            for shared in table.shared(cost)
        ]
        for cost in COSTS
    }


def _number(value: float) -> str:
    """A budget for people.

    >>> _number(31440.0), _number(3.0009)
    ('31,440', '3')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _baselines(records: Sequence[Record]) -> list[Panel]:
    """Trainings for which no set is made, which never stand beside sets."""
    _, baselines, references = by_kind(records)
    return [baselines_panel(build_table([*baselines, *references]))] if baselines else []
