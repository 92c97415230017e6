"""What the tables of a page show of a row: the same cells for HTML, CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.markdown import percent
from benchmarks.page.comparing import Comparison, Entry, Rank
from benchmarks.published import Entry as Printed
from benchmarks.table import shown_range
from condense.evaluation.statistics import Difference, deviation

Value = float | str | None  # of a cell, for sorting and for machines


@dataclass(frozen=True)
class Cell:
    """A text, what it is sorted by, and what may be claimed of it (`better`, `worse` or nothing)."""

    text: str
    value: Value
    verdict: str = ""


@dataclass(frozen=True)
class Column:
    """`name` is for machines, `heading` for people; `what` explains it in a sentence. Numbers stand to the right."""

    name: str
    heading: str
    what: str
    cell: Callable[[Entry, Comparison], Cell]
    is_number: bool = True
    optional: bool = False  # left out of a table where it is empty
    told_above: bool = False  # left out of a table where all rows say the same, which its heading says then

    def heading_in(self, table: Comparison) -> str:
        """The heading in this table: images are graphs or nodes in some, and accuracy another metric."""
        if self.name == "images":
            return table.modality
        return f"{table.metric}, %" if self.name == "accuracy" else self.heading


def rank_words(rank: Rank | None) -> str:
    """A mean rank with its interval.

    >>> rank_words((1.52, (1, 3))), rank_words((1.0, None)), rank_words(None)
    ('1.5 [1, 3]', '1', '')
    """
    if rank is None:
        return ""
    mean, ends = rank
    return f"{round(mean, 1):g}" + ("" if ends is None else f" [{ends[0]}, {ends[1]}]")


def _accuracy(entry: Entry, table: Comparison) -> Cell:
    return Cell(percent(entry.mean, deviation(entry.accuracies)), round(100 * entry.mean, 4))


def _counts(entry: Entry, table: Comparison) -> Cell:
    networks = shown_range([len(record.accuracies) for record in entry.score.records])
    return Cell(f"{len(entry.score.records)} x {networks}", len(entry.accuracies))


def _gain(gain: Difference | None) -> Cell:
    """Points, with the interval and what may be claimed where there is one."""
    if gain is None:
        return Cell("", None)
    text = f"{100 * gain.mean:+.1f}"
    if math.isinf(gain.low):
        return Cell(text, round(100 * gain.mean, 4))
    verdict = ("better" if gain.mean > 0 else "worse") if gain.is_clear else ""
    return Cell(f"{text} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]", round(100 * gain.mean, 4), verdict)


def _over_random(entry: Entry, table: Comparison) -> Cell:
    return _gain(None if is_random(entry, mosaics=False) else entry.scores.gain)


def _over_matched(entry: Entry, table: Comparison) -> Cell:
    """Where the baseline is another one than for the gain."""
    same = entry.scores.matched_gain == entry.scores.gain
    return _gain(None if same or is_random(entry, mosaics=True) else entry.scores.matched_gain)


def is_random(entry: Entry, *, mosaics: bool) -> bool:
    """Whether a row is of random images, or of mosaics of them: what others are compared with."""
    made = entry.first.configuration.made
    return made is not None and made.method == "random" and (made.settings.get("factor") is not None) == mosaics


def _rank(entry: Entry, table: Comparison) -> Cell:
    rank = table.ranks[entry.key]
    return Cell(rank_words(rank), None if rank is None else rank[0])


def _labels(entry: Entry, table: Comparison) -> Cell:
    text = label_words(entry)
    return Cell(text, text)


def label_words(entry: Entry) -> str:
    """What networks learn from, in a few words."""
    return entry.labels or short_source(entry.first.label_source)


def short_source(source: str | None) -> str:
    """Where labels came from, without what is in brackets; those of a set without soft labels are its classes.

    >>> short_source("own: 300 views per image (kl, temperature 20)"), short_source("class index")
    ('own: 300 views per image', 'class index')
    """
    return (source or "").split(" (")[0]


def _bytes(entry: Entry, table: Comparison) -> Cell:
    return Cell(f"{round(entry.bytes):,}", round(entry.bytes))


def _images(entry: Entry, table: Comparison) -> Cell:
    first = entry.first
    decoded = first.stored_images not in (None, first.images)
    text = f"{first.images or 0:,}" + (f" from {first.stored_images:,}" if decoded else "")
    return Cell(text, first.images)


def _seconds(seconds: float | None) -> Cell:
    if seconds is None:
        return Cell("", None)
    return Cell(f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}", round(seconds, 3))


def _updates(entry: Entry, table: Comparison) -> Cell:
    reached = entry.score.iterations
    text = f"{reached[0]:,}" if len(reached) == 1 else shown_range(reached)
    return Cell(text, fmean(reached) if reached else None)


def _machine(entry: Entry, table: Comparison) -> Cell:
    text = "; ".join(entry.score.made_on)
    return Cell(text, text)


def _printed(entry: Entry, table: Comparison) -> Cell:
    if not entry.printed:
        return Cell("", None)
    strongest = entry.printed[0]
    chosen = "; selected on test" if strongest.selected_on_test else ""
    return Cell(f"{printed_value(strongest)} ({strongest.tag}{chosen})", strongest.accuracy)


def printed_value(printed: Printed) -> str:
    """An accuracy that others print, in percent, with what they print after ±."""
    return f"{printed.accuracy:g}" + ("" if printed.deviation is None else f" ± {printed.deviation:g}")


COLUMNS = (
    Column(
        "method", "method", "The method, and what is particular about the row.", lambda entry, _: _name(entry), False
    ),
    Column(
        "labels", "labels", "What networks learn from: class indices, or soft labels.", _labels, False, told_above=True
    ),
    Column(
        "accuracy",
        "accuracy, %",
        "Mean test accuracy ± sample standard deviation over all networks on all sets.",
        _accuracy,
    ),
    Column("networks", "sets x networks", "How many sets, and how many networks were trained on each.", _counts),
    Column(
        "gain",
        "gain over random",
        "Points above random images under the same labels, with Welch's 95 % interval in brackets; a row is called "
        "better or worse only where the interval leaves out zero.",
        _over_random,
        optional=True,
    ),
    Column(
        "matched_gain",
        "gain over mosaics",
        "The same above mosaics of random images of as many tiles, for sets that store mosaics.",
        _over_matched,
        optional=True,
    ),
    Column(
        "rank",
        "rank",
        "Mean rank over 2,000 bootstrap draws of the accuracies, among rows with the same labels, with its 95 % "
        "interval.",
        _rank,
        optional=True,
    ),
    Column("bytes", "bytes", "What is kept of a set: images, labels and whatever else training needs.", _bytes),
    Column("images", "images", "Images that networks train on, and of how many stored ones they are decoded.", _images),
    Column(
        "making_seconds",
        "making, s",
        "Seconds of making one set.",
        lambda entry, _: _seconds(entry.score.making_seconds),
    ),
    Column(
        "expert_seconds",
        "experts, s",
        "Seconds of training the experts that were matched, one after the other; sets share them.",
        lambda entry, _: _seconds(entry.score.expert_seconds),
        optional=True,
    ),
    Column(
        "updates", "updates", "Updates of the images; nothing where real images are chosen.", _updates, optional=True
    ),
    Column("machine", "made on", "The processor that the set was made on.", _machine, False, told_above=True),
    Column(
        "published",
        "published, %",
        "What others print for the method, data and size, with the strongest evidence: under their own network and "
        "protocol, never ranked with ours. A row that is opened has all of it with its sources.",
        _printed,
        optional=True,
    ),
)


def _name(entry: Entry) -> Cell:
    return Cell(entry.name, entry.name)


def shown_columns(table: Comparison) -> list[Column]:
    """The columns that say something about this table."""

    def is_shown(column: Column) -> bool:
        texts = {column.cell(entry, table).text for entry in table.entries}
        return not (column.optional and texts == {""}) and not (column.told_above and len(texts) == 1)

    return [column for column in COLUMNS if is_shown(column)]


def same_for_all(table: Comparison) -> list[str]:
    """What is true of all rows and therefore said above them, in place of columns."""
    labels = {label_words(entry) for entry in table.entries}
    said = [f"labels: {label}" for label in labels if label and len(labels) == 1]
    return said + [f"made on {machine}" for machine in table.machines if len(table.machines) == 1]


def cells_of(table: Comparison, columns: Sequence[Column]) -> list[list[Cell]]:
    """A line of cells for each row."""
    return [[column.cell(entry, table) for column in columns] for entry in table.entries]


def other_scores(entry: Entry) -> list[tuple[str, str, float | None]]:
    """Name, words and number of the scores (docs/scores.md) without a column; None where a cell for one is missing."""
    scores = entry.scores
    mean, worst = scores.other_networks or (None, None)
    return [
        (
            "hard_label_gap",
            "hard-label gap: all real data less the set, under class indices",
            scores.hard_label_gap,
        ),
        ("recovery", "recovery: the part of the accuracy of all real data", scores.recovery),
        ("label_robust", "label-robust score", scores.label_robust),
        ("augmentation_robust", "augmentation-robust score", scores.augmentation_robust),
        ("other_networks_mean", "mean accuracy in other networks", mean),
        ("other_networks_worst", "worst accuracy in other networks", worst),
        ("gain_per_kilobyte", "gain per kilobyte", scores.gain_per_kilobyte),
        ("seconds", "seconds until one network is trained: making, experts and training", scores.seconds),
    ]
