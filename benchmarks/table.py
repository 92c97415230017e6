"""From records to a table: one row for each method at one size, one column for each protocol hash and network."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from benchmarks.cells import SetDescription
from benchmarks.records import Record
from condense.data.budget import Budget
from condense.evaluation.statistics import Spread, spread
from condense.runtime.errors import CondenseError


def processor(hardware: dict[str, Any]) -> str:
    """What did the work: the GPU if there is one."""
    return str(hardware["gpu"] or hardware["processor"])


@dataclass(frozen=True)
class Row:
    """A method at one size of its sets, of one data set.

    Whether images are chosen of every class or of any is said by the method's name, so that rows of both have one size.
    """

    data: str
    size: Budget
    method: str


@dataclass(frozen=True)
class Column:
    """A protocol and a network; everything in it was scored by the same rule."""

    protocol: str
    net: str
    labels: str = ""  # that a teacher gave its sets


@dataclass(frozen=True)
class Score:
    """Everything that one row has in one column: the records of its sets, in the order of their seeds."""

    records: tuple[Record, ...]

    @property
    def spread(self) -> Spread:
        """Mean and deviations over sets and networks."""
        return spread([record.accuracies for record in self.records])

    @property
    def accuracies(self) -> list[float]:
        """Of all networks on all sets."""
        return [accuracy for record in self.records for accuracy in record.accuracies]

    @property
    def making_seconds(self) -> float | None:
        """Mean over the sets."""
        known = [record.seconds.making for record in self.records if record.seconds.making is not None]
        return fmean(known) if known else None

    @property
    def expert_seconds(self) -> float | None:
        """Mean over the sets; None where no experts were matched."""
        known = [record.expert_seconds for record in self.records if record.expert_seconds is not None]
        return fmean(known) if known else None

    @property
    def made_on(self) -> tuple[str, ...]:
        """The different processors that the sets were made on; empty where a record does not say."""
        known = [record.made_with["hardware"] for record in self.records if record.made_with is not None]
        return tuple(dict.fromkeys(map(processor, known)))

    @property
    def iterations(self) -> tuple[int, ...]:
        """The different numbers of iterations that the sets reached, ascending; empty where none are counted."""
        return tuple(sorted({record.iterations for record in self.records if record.iterations is not None}))


@dataclass
class Table:
    """Scores by row and column.

    `methods` has the name in the table for each method with its details; `full` holds the reference lines by data and
    column, `failed` what went wrong, and `failed_places` where a score is missing for that.
    """

    methods: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    hashes: dict[Column, str] = field(default_factory=dict)
    scores: dict[tuple[Row, Column], Score] = field(default_factory=dict)
    full: dict[tuple[str, Column], Record] = field(default_factory=dict)
    failed: list[Record] = field(default_factory=list)
    failed_places: set[tuple[Row, Column]] = field(default_factory=set)

    @property
    def places(self) -> list[tuple[Row, Column]]:
        """Where there is a score, row by row."""
        return [place for row in self.rows for column in self.columns if (place := (row, column)) in self.scores]

    @property
    def data(self) -> list[str]:
        """The data sets, in order of appearance."""
        return list(dict.fromkeys(row.data for row in self.rows))

    @property
    def modalities(self) -> list[str]:
        """What sets are of: images, graphs, nodes."""
        return list(dict.fromkeys(score.records[0].configuration.data.modality for score in self.scores.values()))


def by_kind(records: Iterable[Record]) -> tuple[list[Record], list[Record], list[Record]]:
    """The records of sets, of training-time baselines, and of all data."""
    sets, baselines, references = list[Record](), list[Record](), list[Record]()
    for record in records:
        made = record.configuration.made
        (references if made is None else baselines if made.is_baseline else sets).append(record)
    return sets, baselines, references


def build_table(records: Iterable[Record]) -> Table:
    """The table of these records, in their order.

    Raises `CondenseError` if two protocol hashes would come into one column: such scores must not be compared.
    """
    records = list(records)
    table = Table(methods=_names(records))
    grouped: dict[tuple[Row, Column], list[Record]] = {}
    for record in records:
        cell = record.configuration
        column = Column(cell.column.rule.name, cell.column.net, cell.column.label_words)
        row = None if cell.made is None else _row(cell.data.label, cell.made, table.methods)
        if record.status == "failed":
            table.failed.append(record)
            if row is not None:
                table.failed_places.add((row, column))
        elif row is None:
            table.full[cell.data.label, column] = record
        else:
            _check_hash(table.hashes, column, record)
            grouped.setdefault((row, column), []).append(record)
    table.rows = list(dict.fromkeys(row for row, _ in grouped))
    table.columns = list(table.hashes)
    table.scores = {place: Score(tuple(found)) for place, found in grouped.items()}
    return table


def _row(data: str, made: SetDescription, names: Mapping[str, str]) -> Row:
    return Row(data, made.size.model_copy(update={"balanced": True}), names[made.label])


def _names(records: Sequence[Record]) -> dict[str, str]:
    """The name in tables for each method with its details: what all its entries have in common is left out.

    A budget that only depends on data and size is left out too, so that one name goes through all of them:
    where that is true of all entries of a method, or of those with the same options, if their budgets differ. Those
    that are given minutes and those that are given iterations are told apart by these words.
    """
    names: dict[str, str] = {}
    everything = [
        Entry(record.configuration.data.label, made) for record in records if (made := record.configuration.made)
    ]
    for method in dict.fromkeys(entry.made.method for entry in everything):
        entries = [entry for entry in everything if entry.made.method == method]
        everywhere, said = _goes_with_place(entries), {}
        for entry in entries:
            budget = () if everywhere else _told_budget(entry.made, entries)
            said[entry.made.label] = entry.made.parts + budget
        common = set.intersection(*map(set, said.values()))
        for label, parts in said.items():
            own = ", ".join(part for part in parts if part not in common)
            names[label] = f"{method} ({own})" if own else method
    return names


@dataclass(frozen=True)
class Entry:
    """A set of some data, and how it is made."""

    data: str
    made: SetDescription


def _told_budget(made: SetDescription, entries: Sequence[Entry]) -> tuple[str, ...]:
    """What the name of an entry says of its budget."""
    alike = [other for other in entries if other.made.parts == made.parts]
    timed = made.minutes is not None
    same_kind = [other for other in alike if (other.made.minutes is not None) == timed]
    if len({other.made.budget for other in same_kind}) == 1 or not _goes_with_place(same_kind):
        return made.budget
    if len(same_kind) == len(alike):
        return ()
    return ("given minutes" if timed else "given iterations",)


def _goes_with_place(entries: Sequence[Entry]) -> bool:
    """Whether data and size tell the budget."""
    places = {(entry.data, entry.made.size) for entry in entries}
    return len({(entry.data, entry.made.size, entry.made.budget) for entry in entries}) == len(places)


def _check_hash(hashes: dict[Column, str], column: Column, record: Record) -> None:
    known = hashes.setdefault(column, record.protocol_hash)
    if known != record.protocol_hash:
        raise CondenseError(
            f"column {column.protocol} {column.net} would mix protocol hashes {known} and {record.protocol_hash} "
            f"({record.configuration.title}); tabulate them apart, or compute the older cells again"
        )


def as_dicts(table: Table) -> list[dict[str, Any]]:
    """One flat dictionary for each row in each column, accuracies in fractions: the lines of the CSV."""
    lines = [_as_dict(row, column, table) for row, column in table.places]
    empty = {name for name in ("fraction", "labels") if not any(line[name] for line in lines)}
    return [{name: value for name, value in line.items() if name not in empty} for line in lines]


def _as_dict(row: Row, column: Column, table: Table) -> dict[str, Any]:
    score = table.scores[row, column]
    records = score.records
    spread = score.spread
    made = records[0].configuration.made
    assert made is not None
    return {
        "data": row.data,
        "ipc": row.size.ipc,
        "fraction": row.size.fraction,
        "method": row.method,
        "details": made.details,
        "protocol": column.protocol,
        "protocol_hash": table.hashes[column],
        "network": records[0].network,
        "labels": column.labels,
        "sets": len(records),
        "networks": len(records[0].accuracies),
        "mean": spread.mean,
        "std": spread.std,
        "std_between_sets": spread.std_between_sets,
        "std_between_networks": spread.std_between_networks,
        "images": records[0].images,
        "stored_images": round(fmean(record.stored_images or record.images or 0 for record in records)),
        "bytes": round(fmean(record.bytes or 0 for record in records)),
        "iterations": shown_range(score.iterations),
        "making_seconds": score.making_seconds,
        "expert_seconds": score.expert_seconds,
        "made_on": "; ".join(score.made_on),
        "evaluating_seconds": fmean(record.seconds.evaluating or 0.0 for record in records),
        "training_seconds": fmean(record.seconds.training or record.seconds.evaluating or 0.0 for record in records),
    }


def comma_separated(lines: Sequence[dict[str, Any]]) -> str:
    """Lines of the same fields, with a heading."""
    buffer = io.StringIO()
    if lines:
        writer = csv.DictWriter(buffer, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return buffer.getvalue()


def shown_range(values: Sequence[int]) -> str:
    """How differing numbers are shown in one place.

    >>> shown_range([500]), shown_range([810, 842]), shown_range([])
    ('500', '810-842', '')
    """
    if not values:
        return ""
    return str(min(values)) if min(values) == max(values) else f"{min(values)}-{max(values)}"
