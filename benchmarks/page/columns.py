"""What the tables of a page show of a row: the same cells for HTML, CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.markdown import percent
from benchmarks.page.comparing import Comparison, Entry, Rank
from benchmarks.table import shown_range
from condense.evaluation.statistics import deviation

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


def rank_words(rank: Rank | None) -> str:
    """A mean rank with its interval.

    >>> rank_words((1.52, 1, 3)), rank_words((1.0, 1, 1)), rank_words(None)
    ('1.5 [1, 3]', '1 [1, 1]', '')
    """
    return "" if rank is None else f"{round(rank[0], 1):g} [{rank[1]}, {rank[2]}]"


def _accuracy(entry: Entry, table: Comparison) -> Cell:
    return Cell(percent(entry.mean, deviation(entry.accuracies)), round(100 * entry.mean, 4))


def _counts(entry: Entry, table: Comparison) -> Cell:
    networks = shown_range([len(record.accuracies) for record in entry.score.records])
    return Cell(f"{len(entry.score.records)} x {networks}", len(entry.accuracies))


def _gain(entry: Entry, table: Comparison) -> Cell:
    gain = table.gains[entry.key]
    if gain is None:
        return Cell("", None)
    text = f"{100 * gain.mean:+.1f}"
    if gain.low is not None and gain.high is not None:
        text += f" [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
    return Cell(text, round(100 * gain.mean, 4), gain.verdict)


def _rank(entry: Entry, table: Comparison) -> Cell:
    rank = table.ranks[entry.key]
    return Cell(rank_words(rank), None if rank is None else rank[0])


def _labels(entry: Entry, table: Comparison) -> Cell:
    text = entry.labels or short_source(entry.first.label_source)
    return Cell(text, text)


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


def _published(entry: Entry, table: Comparison) -> Cell:
    text = "; ".join(each.words for each in entry.published)
    return Cell(text, 100 * entry.published[0].accuracy if entry.published else None)


COLUMNS = (
    Column(
        "method", "method", "The method, and what is particular about the row.", lambda entry, _: _name(entry), False
    ),
    Column("labels", "labels", "What networks learn from: class indices, or soft labels.", _labels, False),
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
        _gain,
    ),
    Column(
        "rank",
        "rank",
        "Mean rank over 2,000 bootstrap draws of the accuracies, among rows with the same labels, with its 95 % "
        "interval.",
        _rank,
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
    Column("updates", "updates", "Updates of the images; nothing where real images are chosen.", _updates),
    Column("machine", "made on", "The processor that the set was made on.", _machine, False, told_above=True),
    Column(
        "published",
        "published",
        "What others print for the method, data and size, under their own protocol: never ranked with ours.",
        _published,
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


def cells_of(table: Comparison, columns: Sequence[Column]) -> list[list[Cell]]:
    """A line of cells for each row."""
    return [[column.cell(entry, table) for column in columns] for entry in table.entries]
