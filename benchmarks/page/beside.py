"""The tables of a page in other forms: CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table
from benchmarks.page.columns import COLUMNS, Cell, cells_of, other_scores, same_for_all, shown_columns
from benchmarks.page.comparing import Comparison
from benchmarks.table import comma_separated
from condense.runtime.files import write_json, write_text
from condense.runtime.printing import printable

_LATEX = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "{}$&#_%"},
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def write_beside(tables: Sequence[Comparison], folder: Path) -> None:
    """Write `results.csv`, `.json`, `.md` and `.tex` into a folder, of the same tables as the page beside them."""
    lines = [line for table in tables for line in as_lines(table)]
    write_text(folder / "results.csv", comma_separated(lines))
    write_json(folder / "results.json", {"tables": [as_json(table) for table in tables]})
    write_text(folder / "results.md", "\n".join(as_markdown(table) for table in tables))
    write_text(folder / "results.tex", "% needs \\usepackage{booktabs}\n\n" + "\n".join(map(as_latex, tables)))


def _common(table: Comparison) -> dict[str, Any]:
    rule = {"protocol": table.protocol, "protocol_hash": table.protocol_hash, "network": table.network}
    return {"data": table.data, "ipc": table.size.ipc, "fraction": table.size.fraction} | rule


def as_lines(table: Comparison) -> list[dict[str, Any]]:
    """One flat dictionary for each row: numbers as they are sorted, accuracies and gains in percent."""
    lines = []
    for entry, cells in zip(table.entries, cells_of(table, COLUMNS), strict=True):
        values = {column.name: cell.value for column, cell in zip(COLUMNS, cells, strict=True)}
        gain, rank = entry.scores.gain, table.ranks[entry.key]
        known = values["gain"] is not None and gain is not None and not math.isinf(gain.low)
        intervals = {
            "gain_low": round(100 * gain.low, 4) if known and gain is not None else None,
            "gain_high": round(100 * gain.high, 4) if known and gain is not None else None,
            "rank_low": None if rank is None or rank[1] is None else rank[1][0],
            "rank_high": None if rank is None or rank[1] is None else rank[1][1],
        }
        scores = {name: score for name, _, score in other_scores(entry)}
        text = {name: _plain(value) for name, value in (_common(table) | values | intervals | scores).items()}
        lines.append(text | {"key": _plain(entry.key)})
    return lines


def _plain(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def as_json(table: Comparison) -> dict[str, Any]:
    """A table with all accuracies (fractions), and the ranks under equal budgets."""
    rows = [
        line | {"accuracies": [list(record.accuracies) for record in entry.score.records]}
        for entry, line in zip(table.entries, as_lines(table), strict=True)
    ]
    full = None if table.full is None else {"mean": table.full.mean, "accuracies": list(table.full.accuracies)}
    common = {name: _plain(value) for name, value in _common(table).items()}
    return common | {"key": table.key, "rows": rows, "full": full}


def as_markdown(table: Comparison) -> str:
    """A heading and a table."""
    columns = shown_columns(table)
    lines = [[_with_verdict(cell) for cell in cells] for cells in cells_of(table, columns)]
    return (
        f"## {printable(_caption(table))}\n\n"
        + markdown_table([column.heading_in(table) for column in columns], lines)
        + "\n"
    )


def _with_verdict(cell: Cell) -> str:
    return f"{cell.text} {cell.verdict}".strip()


def as_latex(table: Comparison) -> str:
    """A table of the package booktabs; what is clearly better or worse than random images is in bold."""
    columns = shown_columns(table)
    rows = [" & ".join(map(_latex_cell, cells)) + r" \\" for cells in cells_of(table, columns)]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex(_caption(table))}}}",
            rf"  \begin{{tabular}}{{{''.join('r' if column.is_number else 'l' for column in columns)}}}",
            r"    \toprule",
            "    " + " & ".join(latex(column.heading_in(table)) for column in columns) + r" \\",
            r"    \midrule",
            *(f"    {row}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _caption(table: Comparison) -> str:
    return f"{table.title}: {table.rule}" + "".join(f"; {words}" for words in same_for_all(table))


def _latex_cell(cell: Cell) -> str:
    return rf"\textbf{{{latex(cell.text)}}}" if cell.verdict else latex(cell.text)


def latex(text: str) -> str:
    r"""Text that LaTeX sets as it is.

    >>> print(latex("50 % of a_b, 3 ± 1"))
    50 \% of a\_b, 3 $\pm$ 1
    """
    return "".join(_LATEX.get(letter, letter) for letter in printable(text))
