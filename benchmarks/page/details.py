"""What a row of a page opens: how it is made again, what is particular about it, and where its numbers come from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cells import DataDescription, SetDescription
from benchmarks.described import TeacherDescription
from benchmarks.page.columns import other_scores, printed_value
from benchmarks.page.comparing import Comparison, Entry
from benchmarks.published import Entry as Printed
from benchmarks.records import Record
from benchmarks.table import processor
from condense.graphs.distill import graph_command
from condense.methods.distill import named_teachers, reproduction_command
from condense.methods.interface import Maker
from condense.methods.registry import graph_methods, methods
from condense.recipes import load_recipe
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.validation import option_words

MISSING = "–"  # where there is no value


@dataclass(frozen=True)
class Badge:
    """A word or two that a reader must see, and why."""

    text: str
    why: str


@dataclass(frozen=True)
class Setting:
    """A setting whose value is not that of a recipe: the row's value, that of its own recipe, and the published one."""

    name: str
    here: str
    recipe: str
    published: str


@dataclass(frozen=True)
class Details:
    """Of a row, for people. `commands` has those of each set; `records` is the JSON of its records, whole."""

    badges: tuple[Badge, ...]
    commands: tuple[tuple[str, ...], ...]
    recipe: str
    settings: tuple[Setting, ...]
    scores: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    printed: tuple[str, ...]
    notes: tuple[str, ...]
    records: str


def details(entry: Entry, table: Comparison) -> Details:
    """Everything that opening a row shows."""
    records = entry.score.records
    return Details(
        badges=tuple(badges(entry, table)),
        commands=tuple(tuple(commands(record)) for record in records),
        recipe=_made(entry).recipe or "published",
        settings=tuple(differences(entry.first)),
        scores=tuple((words, f"{score:.4g}") for _, words, score in other_scores(entry) if score is not None),
        facts=tuple((name, text) for name, text in _facts(entry) if text),
        printed=tuple(map(_printed, entry.printed)),
        notes=tuple(dict.fromkeys(note for record in records for note in record.notes)),
        records=json.dumps([record.model_dump(mode="json") for record in records], indent=1),
    )


def _printed(printed: Printed) -> str:
    """A number of others with all that is known of it."""
    about = [printed.network, printed.protocol, "selected on test" if printed.selected_on_test else None]
    known = "".join(f"; {words}" for words in about if words)
    return f"{printed_value(printed)} %: {printed.source} ({printed.tag}){known}"


def _made(entry: Entry) -> SetDescription:
    made = entry.first.configuration.made
    assert made is not None, "rows are of sets"
    return made


def badges(entry: Entry, table: Comparison) -> Iterator[Badge]:
    """What sets a row apart from others of its table."""
    first, usual = entry.first, next(iter(table.machines), "")
    source = first.label_source or ""
    if first.configuration.column.labels is not None or "teacher" in source or "real data" in source:
        yield Badge("teacher labels", f"labels: {entry.labels or source}")
    if first.stored_images not in (None, first.images):
        yield Badge("mosaics", f"{first.images} images are decoded from {first.stored_images} stored ones")
    if first.weighted:
        yield Badge("weighted", "images count by the weights of the set")
    if any(kind != usual for kind in entry.score.made_on):
        yield Badge("other machine", f"made on {'; '.join(entry.score.made_on)}, most of the table on {usual}")
    published = _published_updates(entry)
    if published is not None and entry.updates is not None and entry.updates < published:
        yield Badge("fewer updates", f"{entry.updates:,.0f} updates, {published:,} in the published recipe")
    if any(record.shared for record in entry.score.records):
        yield Badge("shared machine", "other cells ran beside it: its seconds compare with nothing")
    if any(record.diverged for record in entry.score.records):
        yield Badge("diverged", "some networks diverged or stayed near chance; they count in the mean")


def _published_updates(entry: Entry) -> int | None:
    updates = _recipe(_made(entry), None, entry.first.configuration.data).get("iterations")
    return updates if isinstance(updates, int) else None


def _recipe(made: SetDescription, recipe: str | None, data: DataDescription) -> dict[str, Any]:
    """The settings of a recipe for data and size of a set; none for one that is not here any more."""
    try:
        return load_recipe(made.method, recipe, data.modality).settings_for(data.name, made.ipc)
    except CondenseError:
        return {}


def _defaults(method: str, modality: str) -> dict[str, Any]:
    """The settings of a method that has no recipe; none for a method that is not installed here."""
    try:
        known = methods() if modality == "images" else graph_methods(modality)
        maker: type[Maker] = load_object(known.find(method).target)
    except (CondenseError, ImportError):
        return {}
    fields = maker.Settings.model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}


def differences(record: Record) -> Iterator[Setting]:
    """The settings of a set that are not those of its recipe, or whose recipe is not the published one."""
    made, data = record.configuration.made, record.configuration.data
    assert made is not None, "rows are of sets"
    here, defaults = _settings(record), _defaults(made.method, data.modality)
    recipe, published = (defaults | _recipe(made, name, data) for name in (made.recipe, None))
    for name in here:
        shown = [_shown(settings.get(name, MISSING)) for settings in (here, recipe, published)]
        if len(set(shown)) > 1:
            yield Setting(name, *shown)


def _settings(record: Record) -> dict[str, Any]:
    """With the iterations that were reached, where a time was given."""
    made = record.configuration.made
    assert made is not None, "rows are of sets"
    return made.settings | made.options | ({} if record.iterations is None else {"iterations": record.iterations})


def _shown(value: Any) -> str:
    """A value for people; 1 and 1.0 are the same.

    >>> _shown(500.0), _shown([1, 2]), _shown(None), _shown("real")
    ('500', '1 2', 'none', 'real')
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        return " ".join(map(_shown, value))
    return str(value)


def _graph_commands(record: Record) -> Iterator[str]:
    cell = record.configuration
    made, data, column = cell.made, cell.data, cell.column
    assert made is not None, "rows are of sets"
    yield graph_command(
        {"method": made.method, "data": data.name, **data.reading, **made.size.recorded, "seed": made.seed}
        | {"settings": _settings(record), "plan": (record.made_with or {}).get("plan", {})}
    )
    if not data.validation and isinstance(cell.network_seeds, int):
        asked = {"data": data.name, "protocol": column.protocol, "nets": column.net, "runs": cell.network_seeds}
        yield shlex.join(["condense", "evaluate", "set.h5", *option_words(asked | data.reading)])


def commands(record: Record) -> Iterator[str]:
    """The command that makes the set of a record again, and those that label and score it, where they say it all."""
    cell = record.configuration
    made, data, column = cell.made, cell.data, cell.column
    assert made is not None, "rows are of sets"
    if data.image_shape is None:
        yield from _graph_commands(record)
        return
    yield reproduction_command(
        {"method": made.method, "data": data.name}
        | ({} if data.image_size is None else {"image_size": "{1}x{2}".format(*data.image_shape)})
        | ({} if data.normalization is None else {"normalization": data.normalization})
        | {"mirror": data.mirror}
        | made.size.recorded
        | {"seed": made.seed, "settings": _settings(record)}
        | {"plan": (record.made_with or {}).get("plan", made.plan)}
        | ({"experts": made.experts} if made.experts else {})
        | ({"teachers": _teachers(made.teachers)} if made.teachers else {})
    )
    if data.holdout is not None or column.updates is not None or not isinstance(cell.network_seeds, int):
        return
    asked = {"data": data.name, "protocol": column.protocol, "nets": column.net, "runs": cell.network_seeds}
    if column.labels is None:
        yield shlex.join(["condense", "evaluate", "set.h5", *option_words(asked)])
    elif column.labels.encoder is None:
        teacher = {"teacher": named_teachers(_teachers(column.labels.teachers))} if column.labels.teachers else {}
        given = {name: value for name, value in column.labels.settings.items() if value is not None}
        words = option_words(teacher | given | {"out": "labelled.h5"})
        yield shlex.join(["condense", "relabel", "set.h5", *words])
        online = teacher if given.get("labels") == "online" else {}
        yield shlex.join(["condense", "evaluate", "labelled.h5", *option_words(asked | online)])


def _teachers(described: Sequence[TeacherDescription]) -> list[dict[str, Any]]:
    return [{"hash": each.hash or each.name, "weight": each.weight} for each in described]


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """Name and text; an empty text is of something that is not known."""
    records, made, cell = entry.score.records, _made(entry), entry.first.configuration
    seeds = cell.network_seeds
    with_set = [record.made_with for record in records if record.made_with is not None]
    yield "method", f"{made.method}, revision {made.revision}"
    yield "budget that was given", ", ".join(made.budget)
    yield "seeds of the sets", ", ".join(str(_seed(record)) for record in records)
    yield (
        "seeds of the networks",
        f"seed 0, networks 1 to {seeds}" if isinstance(seeds, int) else ", ".join(map(str, seeds)),
    )
    yield "labels", entry.labels or entry.first.label_source or ""
    yield (
        "accuracies, %",
        "; ".join(" ".join(f"{100 * value:.2f}" for value in record.accuracies) for record in records),
    )
    yield "calibration error, %", _each(record.calibration_error for record in records)
    yield "seconds of making", _seconds([record.seconds.making for record in records])
    yield "seconds of experts", _seconds([record.expert_seconds for record in records])
    yield "seconds of labelling", _seconds([record.seconds.labelling for record in records])
    yield "seconds of training and testing", _seconds([record.seconds.evaluating for record in records])
    yield "made on", "; ".join(dict.fromkeys(_machine(made_with["hardware"]) for made_with in with_set))
    yield "made at commit", "; ".join(dict.fromkeys(str(made_with.get("commit")) for made_with in with_set))
    yield "scored on", "; ".join(dict.fromkeys(_machine(record.hardware) for record in records))
    yield "scored at commit", "; ".join(dict.fromkeys(str(record.commit) for record in records))
    yield "scored", "; ".join(dict.fromkeys(record.date[:10] for record in records))
    yield "digest of the file", "; ".join(record.set_digest for record in records if record.set_digest) or "not stored"
    yield "key", "; ".join(record.key for record in records)


def _seconds(values: Sequence[float | None]) -> str:
    return "; ".join(f"{value:,.1f}" for value in values if value is not None)


def _seed(record: Record) -> int:
    assert record.configuration.made is not None, "rows are of sets"
    return record.configuration.made.seed


def _each(values: Iterator[float | None]) -> str:
    return "; ".join(f"{100 * value:.2f}" for value in values if value is not None)


def _machine(hardware: dict[str, Any]) -> str:
    return (
        f"{processor(hardware)}, {hardware['cores']} cores, {hardware['threads']} threads, {hardware['memory_gb']} GB"
    )
