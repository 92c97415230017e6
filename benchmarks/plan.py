"""From a grid to its cells: every name, recipe, option and data set is looked up before any work begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell, CellJob, ColumnDescription, DataDescription, SetDescription
from benchmarks.described import LabelDescription
from benchmarks.grid import ColumnEntry, DataEntry, Grid, LabelsEntry, MethodEntry
from benchmarks.teachers import describe
from condense.data import RealData, load_data
from condense.data.budget import Budget
from condense.evaluation.protocols import PROTOCOLS, Protocol, TeacherLabels, full
from condense.methods.registry import Method, methods
from condense.methods.request import Request, resolve_settings
from condense.networks import build_network, canonical_name
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.synthesizers.initialization import file_digest, is_file
from condense.teachers.label_settings import LabelSettings


def plan(grid: Grid, origin: str) -> list[CellJob]:
    """All cells of the grid, those of one set together, the full data last.

    `origin` names the grid in errors. Raises `CondenseError` for everything that is wrong with the grid.
    """
    found: dict[str, CellJob] = {}
    for index, entry in enumerate(grid.data):
        with _place(f"{origin}: data.{index}: "):
            data = read_data(entry)
        for job in _jobs(data, entry, grid, origin):
            title = job.cell.title
            if title in found:
                raise CondenseError(
                    f"{origin}: two cells are both called {title!r}; give data and recipes other names, or split the "
                    "grid in two"
                )
            found[title] = job
    return sorted(found.values(), key=lambda job: job.cell.made is None)


def read_data(entry: DataEntry) -> RealData:
    """The real data of a grid's entry."""
    data = load_data(entry.name, **entry.model_dump(exclude={"name", "holdout"}))
    return data if entry.holdout is None else data.holdout(entry.holdout)


@contextmanager
def _place(prefix: str) -> Iterator[None]:
    """Say in errors which part of the grid they are about."""
    try:
        yield
    except CondenseError as error:
        raise CondenseError(f"{prefix}{error}") from None


def _jobs(data: RealData, entry: DataEntry, grid: Grid, origin: str) -> Iterator[CellJob]:
    description = DataDescription(
        name=data.name,
        fingerprint=data.fingerprint,
        image_shape=data.image_shape,
        mirror=data.mirror,
        preprocessing=data.preprocessing.kind,
        image_size=entry.image_size,
        normalization=entry.normalization,
        classes=None if entry.classes is None else data.classes,
        holdout=entry.holdout,
    )
    columns = [
        (protocol, net, labels, column.methods)
        for index, column in enumerate(grid.columns)
        for protocol, net, labels in _columns(column, data, grid, f"{origin}: columns.{index}: ")
    ]
    for size in range(len(grid.ipc) + len(grid.fraction)):
        for index, method in enumerate(grid.methods):
            if not method.is_for(entry):
                continue
            with _place(f"{origin}: methods.{index}: "):
                sets, start = _sets(method, data, method.sizes(grid)[size], grid)
            for made in sets:
                for protocol, net, labels, only in columns:
                    if only is not None and made.method not in only:
                        continue
                    seeds = grid.network_seeds or protocol.networks
                    column = _column(protocol, net, data, labels=labels)
                    cell = Cell(data=description, made=made, column=column, network_seeds=seeds)
                    used = {each.name for each in (*made.teachers, *(labels.teachers if labels else ()))}
                    yield CellJob(
                        cell=cell,
                        source=entry,
                        recipe=method.recipe,
                        initial_set=start,
                        teachers={name: grid.teachers[name] for name in grid.teachers if name in used},
                    )
    for protocol, net in dict.fromkeys((protocol, net) for protocol, net, *_ in columns) if grid.full else ():
        column = _column(full(protocol), net, data, beside=protocol.name)
        yield CellJob(cell=Cell(data=description, made=None, column=column, network_seeds=1), source=entry)


def _columns(
    column: ColumnEntry, data: RealData, grid: Grid, place: str
) -> list[tuple[Protocol, str, LabelDescription | None]]:
    with _place(place):
        protocol = PROTOCOLS.find(column.protocol)
        if protocol.reference:
            raise CondenseError(
                f"protocol {protocol.name} is that of the reference line, not of a column; give `full: true` instead"
            )
        if isinstance(protocol.labels, TeacherLabels) and protocol.labels.per == "view" and column.labels is None:
            raise CondenseError(
                f"protocol {protocol.name} trains on labels of views, which no set has by itself; say who gives them: "
                "labels: {labels: views, teacher: NAME}"
            )
        for net in column.nets:
            name = canonical_name(net, data.image_shape, protocol.network)
            build_network(name, data.image_shape, len(data.classes), seed=0)  # refuses images that are too small for it
        labels = None if column.labels is None else _labels(column.labels, data, grid)
    return [(protocol, net, labels) for net in column.nets]


def _labels(entry: LabelsEntry, data: RealData, grid: Grid) -> LabelDescription:
    settings = LabelSettings.of({"labels": entry.labels, **entry.options}).settled(mirror=data.mirror)
    return LabelDescription(settings=settings, teachers=describe(entry.teacher, grid.teachers, data))


def _column(
    protocol: Protocol, net: str, data: RealData, beside: str | None = None, labels: LabelDescription | None = None
) -> ColumnDescription:
    network = canonical_name(net, data.image_shape, protocol.network)
    return ColumnDescription(
        protocol=protocol.name, protocol_hash=protocol.hash, net=net, network=network, beside=beside, labels=labels
    )


def _sets(entry: MethodEntry, data: RealData, size: Budget, grid: Grid) -> tuple[list[SetDescription], str | None]:
    """The sets of a grid's entry, and the file that their images start from, if they start from one."""
    method, (iterations, minutes) = methods().find(entry.name), entry.length_at(size.ipc)
    own = _network_of_experts(entry, method, data)
    if method.teacher != (entry.teacher is not None):
        way_out = "give it as `teacher`" if method.teacher else "leave it out"
        raise CondenseError(f"{method.name} {'needs' if method.teacher else 'asks no'} teacher: {way_out}")
    length = {"iterations": iterations, "minutes": minutes}
    request = Request.of(method.name, size, own | entry.options, recipe=entry.recipe, **length)
    settings = resolve_settings(request, data.info)
    _check_epochs(entry, settings, size)
    load_object(method.target).check(data.train, size, settings)
    initialization, described = getattr(settings, "initialization", ""), settings.model_dump(mode="json")
    start = initialization if is_file(initialization) else None
    named = {"initialization": described["initialization"]} if start and "initialization" in entry.options else {}
    sets = [
        SetDescription(
            method=method.name,
            revision=method.revision,
            settings=described,
            recipe=Path(entry.recipe).stem if entry.recipe else None,
            options=entry.options | named,
            iterations=iterations,
            minutes=minutes,
            **size.recorded,
            seed=seed,
            plan=entry.model_dump(include={"precision", "compile"}, exclude_none=True),
            experts=None if entry.experts is None else entry.experts.model_dump(),
            teachers=() if entry.teacher is None else describe(entry.teacher, grid.teachers, data),
            initial_images=file_digest(initialization),
        )
        for seed in entry.set_seeds
    ]
    return sets, start


def _check_epochs(entry: MethodEntry, settings: Any, size: Budget) -> None:
    if entry.experts is None:
        return
    last = settings.max_start - 1 + settings.span
    if last > entry.experts.epochs:
        raise CondenseError(
            f"experts of {entry.experts.epochs} epochs are too short for {entry.name}, which needs {last} at {size}; "
            "give more epochs, or a lower max_start"
        )


def _network_of_experts(entry: MethodEntry, method: Method, data: RealData) -> dict[str, str]:
    """The network that a method gets from its experts; raises `CondenseError` if these are missing or superfluous."""
    if bool(method.experts) != (entry.experts is not None):
        way_out = "give them as `experts`" if method.experts else "leave them out"
        raise CondenseError(f"{method.name} {'needs' if method.experts else 'uses no'} experts: {way_out}")
    if entry.experts is None:
        return {}
    return {"network": canonical_name(entry.experts.net, data.image_shape)}
