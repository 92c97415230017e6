"""Tables that may be read as comparisons: one data set, size, protocol hash and network each, never mixed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from benchmarks.page.budgets import equal_budgets
from benchmarks.page.published import Published, published_for
from benchmarks.records import Record
from benchmarks.scores import rank_intervals
from benchmarks.table import Score, method_names
from condense.data.budget import Budget
from condense.evaluation.statistics import welch_difference

RANDOM = "random"  # what gains count from


@dataclass(frozen=True)
class Gain:
    """Accuracy over that of another row, with Welch's 95 % interval where both have two networks or more."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """What may be claimed: `better`, `worse`, or nothing where the interval has zero in it or is not known."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return ""
        return "better" if self.low > 0 else "worse"


Rank = tuple[float, int, int]  # the mean over bootstrap draws, and the ends of the 95 % interval


@dataclass(frozen=True)
class Entry:
    """A row: the sets of one method under one rule. `labels` are those that a teacher gave them, if any did."""

    key: str
    name: str
    labels: str
    score: Score
    published: tuple[Published, ...] = ()

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
        return [accuracy for record in self.score.records for accuracy in record.accuracies]

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
        """Of making one set, those of its experts included."""
        seconds = self.score.making_seconds
        return None if seconds is None else (seconds + (self.score.expert_seconds or 0.0)) / 60

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
    net: str
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
    def rule(self) -> str:
        """Protocol, its hash and the network."""
        return f"{self.protocol} ({self.protocol_hash}), {self.network}"

    @property
    def made_on(self) -> str:
        """The machines in words."""
        return "; ".join(self.machines)

    @cached_property
    def machines(self) -> dict[str, int]:
        """How many rows were made on each kind of machine, the usual one first."""
        kinds = [kind for entry in self.entries for kind in entry.score.made_on]
        return dict(sorted({kind: kinds.count(kind) for kind in kinds}.items(), key=lambda item: -item[1]))

    @cached_property
    def ranks(self) -> dict[str, Rank | None]:
        """By key, among the rows with the same labels."""
        return _ranks(self.entries)

    @cached_property
    def gains(self) -> dict[str, Gain | None]:
        """Over random images with the same labels, by key; None where there are none, and for these themselves."""
        return {entry.key: _gain(entry, self._chance(entry.labels)) for entry in self.entries}

    def shared(self, cost: str) -> list[Shared]:
        """The budgets of a cost (see `COSTS`) that rows share, with the ranks of those that do."""
        costs = {entry.key: value for entry in self.entries if (value := COSTS[cost](entry)) is not None}
        return [
            Shared(each.value, _ranks([entry for entry in self.entries if entry.key in each.members]))
            for each in equal_budgets(costs)
        ]

    def _chance(self, labels: str) -> Entry | None:
        found = [entry for entry in self.entries if entry.labels == labels and _method(entry) == RANDOM]
        return min(found, key=lambda entry: len(entry.name), default=None)


def _method(entry: Entry) -> str:
    made = entry.first.configuration.made
    return "" if made is None else made.method


def _ranks(entries: Iterable[Entry]) -> dict[str, Rank | None]:
    fields: dict[str, list[Entry]] = {}
    for entry in entries:
        fields.setdefault(entry.labels, []).append(entry)
    ranks: dict[str, Rank | None] = {}
    for alike in fields.values():
        known = rank_intervals({entry.key: entry.accuracies for entry in alike}) if len(alike) > 1 else {}
        ranks |= {entry.key: known.get(entry.key) for entry in alike}
    return ranks


def _gain(entry: Entry, chance: Entry | None) -> Gain | None:
    if chance is None or entry is chance:
        return None
    if min(len(entry.accuracies), len(chance.accuracies)) < 2:
        return Gain(entry.mean - chance.mean)
    difference = welch_difference(entry.accuracies, chance.accuracies)
    return Gain(difference.mean, difference.low, difference.high)


def comparisons(records: Sequence[Record], published: Sequence[Published] = ()) -> list[Comparison]:
    """The tables of these records, in the order in which their data, rules and sizes appear.

    Those of training-time baselines and of failed cells are left out.
    """
    names = method_names(records)
    places: dict[tuple[str, str, str, str], dict[Budget, dict[tuple[str, str], list[Record]]]] = {}
    full: dict[tuple[str, str, str], Record] = {}
    for record in records:
        cell = record.configuration
        protocol = cell.column.rule.name
        if record.status == "failed":
            continue
        if cell.made is None:
            full[cell.data.label, protocol, cell.column.net] = record
        elif cell.has_set:
            rule = (cell.data.label, protocol, record.protocol_hash, record.network)
            size = cell.made.size.model_copy(update={"balanced": True})
            row = (names[cell.made.label], cell.column.label_words)
            places.setdefault(rule, {}).setdefault(size, {}).setdefault(row, []).append(record)
    found = []
    for (data, protocol, protocol_hash, network), sizes in places.items():
        for size, rows in sizes.items():
            entries = [_entry(name, labels, of_row, published) for (name, labels), of_row in rows.items()]
            net = entries[0].first.configuration.column.net
            found.append(
                Comparison(
                    data,
                    size,
                    protocol,
                    protocol_hash,
                    net,
                    network,
                    tuple(sorted(entries, key=lambda entry: -entry.mean)),
                    full.get((data, protocol, net)),
                )
            )
    return found


def _entry(name: str, labels: str, records: Sequence[Record], published: Sequence[Published]) -> Entry:
    first = records[0]
    return Entry(first.key, name, labels, Score(tuple(records)), tuple(published_for(first.configuration, published)))
