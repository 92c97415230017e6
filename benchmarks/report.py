"""The report of a benchmark: a page, Markdown, CSV, JSON and a plot from the records of its cells."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import minutes
from benchmarks.label_bytes import compares_labels
from benchmarks.label_bytes import draw as draw_labels
from benchmarks.markdown import markdown_table, percent
from benchmarks.page import write_page
from benchmarks.plot import draw, save
from benchmarks.records import Record
from benchmarks.table import Column, Row, Table, as_dicts, build_table, by_kind, comma_separated, processor, shown_range
from benchmarks.training_time import baselines_section, lines_of_baselines
from benchmarks.training_time import draw as draw_baselines
from condense.data.budget import Budget
from condense.graphs.methods.budget import GraphBudget
from condense.runtime.files import atomic_write, write_json, write_text

FIGURES = ("results", "training", "labels", "minutes")


def write_report(records: Sequence[Record], folder: Path) -> Table:
    """Write `results.md`, `.csv`, `.json`, `.png` and `.svg` if anything was scored, and a page; return the table.

    The page is `report/index.html` (see `benchmarks.page`); it shows real images where there are pictures of them.

    Training-time baselines never stand beside sets: they have a table of their own in `results.md`, and `training.csv`,
    `.png` and `.svg`. Where only labels differ, `labels.png` and `.svg` have accuracy against bytes; where methods were
    given several times for one size, `minutes.png` and `.svg` have accuracy against minutes. Raises
    `CondenseError` if two protocol hashes would come into one column.
    """
    sets, baselines, references = by_kind(records)
    table = build_table([*sets, *references] if sets or not baselines else [])
    of_baselines = build_table([*baselines, *references] if baselines else [])
    lines, training = as_dicts(table), lines_of_baselines(of_baselines)
    write_text(folder / "results.md", markdown(table, records, of_baselines))
    write_text(folder / "results.csv", comma_separated(lines))
    content = as_json(table)
    failed = {each["cell"]: each for each in [*content["failed"], *as_json(of_baselines)["failed"]]}
    content["failed"] = list(failed.values())
    write_json(folder / "results.json", content | ({"training": training} if training else {}))
    figures = {"results": draw(table)} if table.scores else {}
    if training:
        write_text(folder / "training.csv", comma_separated(training))
        figures["training"] = draw_baselines(training)
    if compares_labels(lines):
        figures["labels"] = draw_labels(lines)
    by_minutes = minutes.draw(table)
    if by_minutes is not None:
        figures["minutes"] = by_minutes
    for name, ending in itertools.product(FIGURES, ("png", "svg")):
        path = folder / f"{name}.{ending}"
        if name not in figures:  # an earlier report may have had it
            path.unlink(missing_ok=True)
            continue
        with atomic_write(path) as temporary:
            save(figures[name], temporary, ending)
    write_page(records, folder, public=False)
    return table


def markdown(table: Table, records: Sequence[Record], training: Table | None = None) -> str:
    """The report as Markdown: the table, reference lines, variance components, failures, circumstances.

    `training` is the table of training-time baselines, if there are any.
    """
    tables = [table] if training is None else [table, training]
    sections = [
        _scores(table),
        _references(table),
        "" if training is None else baselines_section(training),
        _components(table),
        _machines(table),
        _warnings(tables),
        _circumstances(tables, records),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def as_json(table: Table) -> dict[str, Any]:
    """Scores with all accuracies, reference lines and failures."""
    scores = [
        line | {"accuracies": [list(record.accuracies) for record in table.scores[place].records]}
        for line, place in zip(as_dicts(table), table.places, strict=True)
    ]
    full = [
        {
            "data": data,
            "beside": column.protocol,
            "protocol": record.protocol,
            "protocol_hash": record.protocol_hash,
            "network": record.network,
            "mean": record.mean,
            "accuracies": list(record.accuracies),
            "seconds": record.seconds.evaluating,
        }
        for (data, column), record in table.full.items()
    ]
    failed = [{"cell": record.configuration.title, "error": record.error} for record in table.failed]
    return {"scores": scores, "full": full, "failed": failed}


def heading(column: Column, table: Table) -> str:
    """What a column is called: protocol, protocol hash, network, and the labels that a teacher gave its sets."""
    given = f" ({column.labels})" if column.labels else ""
    return f"{column.protocol} {table.hashes[column]} {column.net}{given}"


def _scores(table: Table) -> str:
    if not table.scores:
        return ""
    columns = [heading(column, table) for column in table.columns]
    lines = [
        [
            row.data,
            row.size.short,
            row.method,
            *[_cell(row, column, table) for column in table.columns],
            *_costs(row, table),
        ]
        for row in table.rows
    ]
    text = (
        f"{_measured(table)} in percent: mean ± sample standard deviation over all networks on all sets (sets x "
        "networks on each). Headings give protocol, protocol hash and network; seconds are those of making one set"
    )
    if any(score.expert_seconds for score in table.scores.values()):
        text += ", with those of the experts that it shares in brackets: all of them, one after the other"
    titles = ["data", _size_heading(table), "method", *columns, "seconds", ", ".join(table.modalities), "bytes"]
    return f"{text}.\n\n" + markdown_table([*titles, "iterations"], lines)


def _measured(table: Table) -> str:
    """What scores are: accuracies, but for some data of graphs."""
    metrics = {(score.records[0].metric, row.data): None for (row, _), score in table.scores.items()}
    others = [f"{metric} for {data}" for metric, data in metrics if metric != "accuracy"]
    return ", ".join(["Test accuracy", *others])


def _size_heading(table: Table) -> str:
    if any(isinstance(row.size, GraphBudget) for row in table.rows):
        return "size"
    return "ipc" if all(row.size.fraction is None for row in table.rows) else "ipc or fraction"


def _cell(row: Row, column: Column, table: Table) -> str:
    score = table.scores.get((row, column))
    if score is None:  # a grid that is still running has places to come
        return "failed" if (row, column) in table.failed_places else ""
    counts = f"{len(score.records)} x {len(score.records[0].accuracies)}"
    if column.labels:  # which are no part of the set that the row tells the bytes of
        counts += f"; {score.records[0].bytes or 0:,} bytes"
    if score.records[0].weighted is False:
        counts += "; unweighted"
    return f"{percent(score.spread.mean, score.spread.std)} ({counts})"


def _costs(row: Row, table: Table) -> list[str]:
    scores = {column: table.scores[row, column] for column in table.columns if (row, column) in table.scores}
    score = next(iter(scores.values()))
    own = next((score for column, score in scores.items() if not column.labels), None)  # without labels given to it
    size = "" if own is None else _bytes(own.records[0])
    seconds = "" if score.making_seconds is None else f"{score.making_seconds:.1f}"
    if score.expert_seconds is not None:
        seconds += f" ({score.expert_seconds:,.1f})"
    return [seconds, _images(score.records[0]), size, shown_range(score.iterations)]


def _bytes(record: Record) -> str:
    dense = "" if record.dense_bytes is None else f" ({record.dense_bytes:,} as papers count them)"
    return f"{record.bytes or 0:,}{dense}"


def _images(record: Record) -> str:
    """How many images networks train on, and of how many stored ones they are decoded; of graphs, the real part."""
    if record.real:
        return f"{record.images:,} ({(record.images or 0) / record.real:.1%} of the real ones)"
    decoded = record.stored_images not in (None, record.images)
    return f"{record.images:,}" + (f" of {record.stored_images:,} stored" if decoded else "")


def _references(table: Table) -> str:
    lines = [
        f"- {data}, all {record.images:,} training {record.configuration.data.modality}, protocol {record.protocol} "
        f"({record.protocol_hash}) beside {column.protocol} {column.net}: "
        f"{percent(record.mean or 0.0, record.std)} %, {record.seconds.evaluating or 0.0:.0f} s"
        for (data, column), record in table.full.items()
    ]
    return "\n".join(["Reference, not comparable with the rows:", "", *lines]) if lines else ""


def _components(table: Table) -> str:
    lines = []
    for line, (row, column) in zip(as_dicts(table), table.places, strict=True):
        score = table.scores[row, column]
        parts = [line["std_between_sets"], line["std_between_networks"]]
        if len(score.records) > 1 and any(part is not None for part in parts):
            shown = ["" if part is None else f"{100 * part:.2f}" for part in parts]
            of = f"{line['protocol']} {line['network']}" + (f" ({column.labels})" if column.labels else "")
            lines.append([line["data"], row.size.short, line["method"], of, *shown])
    if not lines:
        return ""
    return "Where the deviation comes from (random effects, in percent):\n\n" + markdown_table(
        ["data", _size_heading(table), "method", "column", "between sets", "between networks"], lines
    )


def _machines(table: Table) -> str:
    """Where rows of one data set and size had a time budget, and not all of them on one processor."""
    rows: dict[tuple[str, Budget], dict[str, list[str]]] = {}
    for (row, _), score in table.scores.items():
        made = score.records[0].configuration.made
        if made is not None and made.minutes is not None:
            for machine in score.made_on:
                named = rows.setdefault((row.data, row.size), {}).setdefault(machine, [])
                named += [row.method] if row.method not in named else []
    lines = [
        f"- {data}, {size}, {machine}: {', '.join(methods)}"
        for (data, size), machines in rows.items()
        for machine, methods in machines.items()
        if len(machines) > 1
    ]
    return "\n".join(["Minutes were not those of one machine:", "", *lines]) if lines else ""


def _warnings(tables: Sequence[Table]) -> str:
    failed = dict.fromkeys(f"- failed: {each.configuration.title}: {each.error}" for of in tables for each in of.failed)
    lines = list(failed)
    for score in (score for table in tables for score in table.scores.values()):
        for record in score.records:
            low = [f"{100 * record.accuracies[index]:.1f} %" for index in record.diverged]
            if low:
                lines.append(f"- diverged or near chance: {record.configuration.title}: {', '.join(low)}")
    return "\n".join(["Failures:", "", *lines]) if lines else ""


def _circumstances(tables: Sequence[Table], records: Sequence[Record]) -> str:
    if not records:
        return ""
    machines = _different(
        f"{processor(record.hardware)}, {record.hardware['cores']} cores, "
        f"{record.hardware['threads']} threads, {record.hardware['memory_gb']} GB"
        for record in records
    )
    packages = _different(
        ", ".join(f"{name} {version}" for name, version in record.versions.items()) for record in records
    )
    commits = _different(record.commit or "unknown" for record in records)
    settings = [name for table in tables for name in table.methods]
    dates = sorted(record.date[:10] for record in records)
    return "\n".join(
        [
            f"- settings: {'; '.join(settings)} (published settings where nothing is said)",
            f"- hardware: {'; '.join(machines)}",
            f"- versions: {'; '.join(packages)}",
            f"- commit: {', '.join(commits)}",
            f"- computed: {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else ""),
            *_shared(records),
        ]
    )


def _shared(records: Sequence[Record]) -> list[str]:
    """What to think of seconds that were taken beside other work."""
    count = sum(record.shared for record in records)
    if not count:
        return []
    return [f"- {count} of {len(records)} cells ran beside others, on workers: their seconds compare with nothing"]


def _different(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
