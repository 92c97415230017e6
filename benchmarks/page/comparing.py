"""Tables that may be read as comparisons: one data set, size, protocol hash and network each, never mixed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

from benchmarks.page.budgets import equal_budgets
from benchmarks.published import Entry as Printed
from benchmarks.published import published
from benchmarks.records import Record
from benchmarks.scores import RowScores, rank_intervals, row_scores
from benchmarks.table import Column, Row, Score, Table, build_table
from condense.data.budget import Budget

Lookup = Callable[[str, int | None, str], Sequence[Printed]]  # what others print, by data, images per class and method
Rank = tuple[float, tuple[int, int] | None]  # the mean over bootstrap draws, and the ends of the 95 % interval


@dataclass(frozen=True)
class Entry:
    """A row: the sets of one method under one rule. `labels` are those that a teacher gave them, if any did."""

    key: str
    name: str
    labels: str
    score: Score
    scores: RowScores
    printed: tuple[Printed, ...] = ()

    @property
    def first(self) -> Record:
        """The record of its first set, for what all of them have in common."""
        return self.score.records[0]

    @property
    def title(self) -> str:
        """The method with the labels of its images."""
        return f"{self.name}, labels {self.labels}" if self.labels else self.name

    @cached_property
    def accuracies(self) -> list[float]:
        """Of all networks on all sets."""
        return self.score.accuracies

    @property
    def mean(self) -> float:
        """Of all accuracies."""
        return fmean(self.accuracies)

    @property
    def bytes(self) -> float:
        """What a set costs to keep, mean over the sets."""
        return fmean(record.bytes or 0 for record in self.score.records)

    @property
    def minutes(self) -> float | None:
        """Of making one set, those of its experts included; None where other cells ran beside it."""
        seconds = self.score.making_seconds
        if seconds is None or any(record.shared for record in self.score.records):
            return None
        return (seconds + (self.score.expert_seconds or 0.0)) / 60

    @property
    def updates(self) -> float | None:
        """Of the images, mean over the sets; None where real images are chosen."""
        reached = self.score.iterations
        return fmean(reached) if reached else None


COSTS: dict[str, Callable[[Entry], float | None]] = {
    "bytes": lambda entry: entry.bytes,
    "minutes": lambda entry: entry.minutes,
    "updates": lambda entry: entry.updates,
}


@dataclass(frozen=True)
class Shared:
    """A budget, and the ranks of the rows within 5 % of it, by key."""

    budget: float
    ranks: Mapping[str, Rank | None]


@dataclass(frozen=True)
class Comparison:
    """A table: what its rows have in common, and the rows, best first.

    `full` is the record of all training images, a reference and never a row.
    """

    data: str
    size: Budget
    protocol: str
    protocol_hash: str
    network: str
    entries: tuple[Entry, ...]
    full: Record | None = None

    @property
    def key(self) -> str:
        """Short, and different for different tables."""
        parts = (self.data, str(self.size), self.protocol_hash, self.network)
        return hashlib.blake2b("\0".join(parts).encode(errors="replace"), digest_size=5).hexdigest()

    @property
    def title(self) -> str:
        """Data and size."""
        return f"{self.data}, {self.size}"

    @property
    def modality(self) -> str:
        """What sets are of: images, graphs or nodes."""
        return self.entries[0].first.configuration.data.modality

    @property
    def metric(self) -> str:
        """What scores are."""
        return self.entries[0].first.metric

    @property
    def rule(self) -> str:
        """Protocol, its hash and the network."""
        return f"{self.protocol} ({self.protocol_hash}), {self.network}"

    @cached_property
    def machines(self) -> dict[str, int]:
        """How many rows were made on each kind of machine, the usual one first."""
        kinds = [kind for entry in self.entries for kind in entry.score.made_on]
        return dict(sorted({kind: kinds.count(kind) for kind in kinds}.items(), key=lambda item: -item[1]))

    @cached_property
    def ranks(self) -> dict[str, Rank | None]:
        """By key, among the rows with the same labels."""
        return _ranks(self.entries)

    def shared(self, cost: str) -> list[Shared]:
        """The budgets of a cost (see `COSTS`) that rows share, with the ranks of those that do."""
        costs = {entry.key: value for entry in self.entries if (value := COSTS[cost](entry)) is not None}
        return [
            Shared(each.value, _ranks([entry for entry in self.entries if entry.key in each.members]))
            for each in equal_budgets(costs)
        ]


def _ranks(entries: Iterable[Entry]) -> dict[str, Rank | None]:
    fields: dict[str, list[Entry]] = {}
    for entry in entries:
        fields.setdefault(entry.labels, []).append(entry)
    ranks: dict[str, Rank | None] = {}
    for alike in fields.values():
        known = rank_intervals({entry.key: entry.accuracies for entry in alike})
        for entry in alike:
            mean, low, high = known[entry.key]
            varies = len(entry.accuracies) > 1  # of one network alone nothing is known of its chance
            ranks[entry.key] = None if len(alike) == 1 else (mean, (low, high) if varies else None)
    return ranks


def comparisons(records: Sequence[Record], lookup: Lookup = published) -> list[Comparison]:
    """The tables of these records, in the order in which their data, rules and sizes appear.

    Those of training-time baselines and of failed cells are left out.
    """
    found: dict[tuple[str, str, str, str], dict[Budget, list[tuple[Entry, Column, Table]]]] = {}
    for table in _unmixed(records):
        for row, column in table.places:
            entry = _entry(table, row, column, lookup)
            rule = (row.data, column.protocol, entry.first.protocol_hash, entry.first.network)
            found.setdefault(rule, {}).setdefault(row.size, []).append((entry, column, table))
    return [
        Comparison(
            data,
            size,
            protocol,
            protocol_hash,
            network,
            tuple(sorted((entry for entry, *_ in rows), key=lambda entry: -entry.mean)),
            _full(data, *rows[0][1:]),
        )
        for (data, protocol, protocol_hash, network), sizes in found.items()
        for size, rows in sizes.items()
    ]


def _unmixed(records: Sequence[Record]) -> list[Table]:
    """Tables with one protocol hash in a column each: as many as some column has hashes. All have the references."""
    references = [record for record in records if record.configuration.made is None]
    parts: list[tuple[dict[Column, str], list[Record]]] = []
    for record in (record for record in records if record.status == "done" and record.configuration.has_set):
        cell = record.configuration
        column = Column(cell.column.rule.name, cell.column.net, cell.column.label_words)
        for hashes, part in parts:
            if hashes.setdefault(column, record.protocol_hash) == record.protocol_hash:
                part.append(record)
                break
        else:
            parts.append(({column: record.protocol_hash}, [record]))
    return [build_table([*part, *references]) for _, part in parts]


def _full(data: str, column: Column, table: Table) -> Record | None:
    return table.full.get((data, replace(column, labels="")))


def _entry(table: Table, row: Row, column: Column, lookup: Lookup) -> Entry:
    score = table.scores[row, column]
    cell = score.records[0].configuration
    assert cell.made is not None, "rows are of sets"
    return Entry(
        key=score.records[0].key,
        name=row.method,
        labels=column.labels,
        score=score,
        scores=row_scores(table, row, column),
        printed=tuple(lookup(cell.data.name, cell.made.ipc, cell.made.method)) if cell.made.ipc is not None else (),
    )
