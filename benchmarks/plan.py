"""From a grid to its cells: every name, recipe, option and data set is looked up before any work begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cells import CHOOSER, Cell, CellJob, ColumnDescription, DataDescription, SetDescription
from benchmarks.described import LabelDescription
from benchmarks.graphs import OF_GRAPHS, graph_jobs, read_graphs
from benchmarks.grid import ColumnEntry, DataEntry, Grid, LabelsEntry, MethodEntry
from benchmarks.places import placed
from benchmarks.teachers import describe, described_file
from condense.baselines import Baseline
from condense.baselines.making import baseline_settings
from condense.data import RealData, load_data
from condense.data.budget import Budget
from condense.evaluation.protocols import PROTOCOLS, Protocol, TeacherLabels, full
from condense.methods.method import Method
from condense.methods.registry import is_baseline, methods, training_time
from condense.methods.request import Request, resolve_settings
from condense.networks import build_network, canonical_name
from condense.runtime.errors import CondenseError, near_names
from condense.runtime.registry import load_object
from condense.synthesizers.initialization import file_digest, is_file
from condense.teachers.label_settings import LabelSettings


def plan(grid: Grid, origin: str) -> list[CellJob]:
    """All cells of the grid, those of one set together, the full data last.

    `origin` names the grid in errors. Raises `CondenseError` for everything that is wrong with the grid.
    """
    found: dict[str, CellJob] = {}
    for index, entry in enumerate(grid.data):
        for job in _cells(entry, grid, origin, index):
            title = job.cell.title
            if title in found:
                raise CondenseError(
                    f"{origin}: two cells are both called {title!r}; give data and recipes other names, or split the "
                    "grid in two"
                )
            found[title] = job
    return sorted(found.values(), key=lambda job: job.cell.made is None)


def _cells(entry: DataEntry, grid: Grid, origin: str, index: int) -> Iterator[CellJob]:
    """The cells of the grid for one of its data sets, whose place is `index`."""
    with placed(f"{origin}: data.{index}: "):
        graphs = read_graphs(entry)
        if graphs is None:
            _check_no_graphs(entry, grid)
        images = read_data(entry) if graphs is None else None
    if images is not None:
        return _jobs(images, entry, grid, origin)
    assert graphs is not None, "data are images or graphs"
    return graph_jobs(graphs, entry, grid, origin)


def _check_no_graphs(entry: DataEntry, grid: Grid) -> None:
    """Raise `CondenseError` for fields that are for graphs alone."""
    for name in OF_GRAPHS:
        if getattr(entry, name) != DataEntry.model_fields[name].default:
            raise CondenseError(f"{entry.name} has no graphs, or is not there: leave {name} out, which is for graphs")
    if grid.bytes or not all(method.sized for method in grid.methods):
        raise CondenseError(
            f"{entry.name} has no graphs, or is not there: sizes of sets of images are ipc or fraction, never bytes, "
            "and each method has one"
        )


def read_data(entry: DataEntry) -> RealData:
    """The real data of a grid's entry."""
    data = load_data(entry.name, **entry.model_dump(exclude={"name", "holdout", *OF_GRAPHS}))
    return data if entry.holdout is None else data.holdout(entry.holdout)


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
        column
        for index, entry_of_column in enumerate(grid.columns)
        for column in _columns(entry_of_column, data, grid, f"{origin}: columns.{index}: ")
    ]
    for size in grid.sizes("images"):
        for index, method in enumerate(grid.methods):
            if not method.is_for(entry) or not method.takes(size):
                continue
            budget = size.model_copy(update={"balanced": method.balanced})
            with placed(f"{origin}: methods.{index}: "):
                sets, start = _made(method, data, budget, grid)
                for made, column in itertools.product(sets, columns):
                    column.check(made)
            for made in sets:
                for column in columns:
                    if not column.takes(made):
                        continue
                    seeds = grid.network_seeds or column.protocol.networks
                    cell = Cell(data=description, made=made, column=column.described(data), network_seeds=seeds)
                    labels = cell.column.labels
                    used = {each.name for each in (*made.teachers, *(labels.teachers if labels else ()))}
                    yield CellJob(
                        cell=cell,
                        source=entry,
                        recipe=method.recipe,
                        initial_set=start,
                        teachers={name: grid.teachers[name] for name in grid.teachers if name in used},
                        encoder=column.entry.labels.encoder if column.entry.labels else None,
                    )
    _check_named(grid, origin)
    for described in dict.fromkeys(column.of_all(data) for column in columns) if grid.full else ():
        yield CellJob(cell=Cell(data=description, made=None, column=described, network_seeds=1), source=entry)


def _check_named(grid: Grid, origin: str) -> None:
    """Raise `CondenseError` for a column that is for sets of a method which the grid does not have."""
    names = {_entry(method.name).name for method in grid.methods}
    for index, column in enumerate(grid.columns):
        for name in column.methods or []:
            if name not in names:
                raise CondenseError(
                    f"{origin}: columns.{index}: methods: {name} is none of the grid's ({', '.join(sorted(names))})"
                    + near_names(name, names)
                )


def _entry(name: str) -> Method:
    return (training_time() if is_baseline(name) else methods()).find(name)


@dataclass(frozen=True)
class _Column:
    """A grid's column for one network: `protocol` is that of its name, for as many updates as it says."""

    entry: ColumnEntry
    protocol: Protocol
    net: str
    labels: LabelDescription | None

    def takes(self, made: SetDescription) -> bool:
        """Whether sets of the method are in it."""
        return self.entry.methods is None or made.method in self.entry.methods

    def check(self, made: SetDescription) -> None:
        """Raise `CondenseError` for a training-time baseline where sets are given labels."""
        own = self.labels is not None or self.protocol.labels != "hard"
        if self.takes(made) and made.is_baseline and own:
            raise CondenseError(
                f"{made.method} trains on class indices, and the column {self.protocol.name} has labels of its own: "
                "say which methods that is for, as its `methods`"
            )

    def described(self, data: RealData) -> ColumnDescription:
        """For the cells of sets."""
        return self._described(self.protocol, data, labels=self.labels)

    def of_all(self, data: RealData) -> ColumnDescription:
        """For the line of all training images beside it."""
        return self._described(full(self.protocol), data, beside=PROTOCOLS.find(self.entry.protocol).name)

    def _described(self, protocol: Protocol, data: RealData, **fields: Any) -> ColumnDescription:
        registered = protocol.name in PROTOCOLS.names()
        return ColumnDescription(
            protocol=protocol.name if registered else PROTOCOLS.find(self.entry.protocol).name,
            protocol_hash=protocol.hash,
            net=self.net,
            network=canonical_name(self.net, data.image_shape, protocol.network),
            updates=None if registered else self.entry.updates,
            **fields,
        )


def _columns(column: ColumnEntry, data: RealData, grid: Grid, place: str) -> list[_Column]:
    with placed(place):
        protocol = PROTOCOLS.find(column.protocol)
        if column.updates is not None:
            protocol = protocol.lasting(column.updates)
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
    return [_Column(column, protocol, net, labels) for net in column.nets]


def _labels(entry: LabelsEntry, data: RealData, grid: Grid) -> LabelDescription:
    found = LabelSettings.of({"labels": entry.labels, **entry.options})
    if found.by_teacher and entry.teacher is None:
        raise CondenseError(f"labels {entry.labels} are given by a teacher: say which one, as `teacher`")
    if entry.teacher is not None and not found.by_teacher:
        raise CondenseError(f"labels {entry.labels} follow from classes, and no teacher is asked: leave it out")
    if (found.name == "projector") != (entry.encoder is not None):
        raise CondenseError(f"an encoder is for labels projector, which need one, and these are {found.labels}")
    teachers = () if entry.teacher is None else describe(entry.teacher, grid.teachers, data)
    encoder = None if entry.encoder is None else described_file(entry.encoder)
    return LabelDescription(settings=found.settled(mirror=data.mirror), teachers=teachers, encoder=encoder)


def _made(entry: MethodEntry, data: RealData, size: Budget, grid: Grid) -> tuple[list[SetDescription], str | None]:
    """The sets of a grid's entry, or its baselines, and the file that images start from, if they start from one."""
    if is_baseline(entry.name):
        return _baselines(entry, data, size, grid), None
    return _sets(entry, data, size, grid)


def _baselines(entry: MethodEntry, data: RealData, size: Budget, grid: Grid) -> list[SetDescription]:
    """The training-time baselines of a grid's entry."""
    method = training_time().find(entry.name)
    others = ("recipe", "iterations", "minutes", "precision", "compile", "experts")
    for name in others:
        if getattr(entry, name) is not None:
            raise CondenseError(f"{method.name} makes no set: leave {name} out")
    _check_asked(method, entry)
    settings = baseline_settings(method, data.train, size, entry.options)
    maker: type[Baseline[Any]] = load_object(method.target)
    chooser = maker.chooser(settings)
    described = settings.model_dump(mode="json") | ({CHOOSER: chooser} if chooser else {})
    return [
        SetDescription(
            method=method.name,
            revision=method.revision,
            settings=described,
            recipe=None,
            options=entry.options,
            iterations=None,
            minutes=None,
            **size.recorded,
            seed=seed,
            teachers=() if entry.teacher is None else describe(entry.teacher, grid.teachers, data),
        )
        for seed in entry.set_seeds
    ]


def _check_asked(method: Method, entry: MethodEntry) -> None:
    if method.teacher != (entry.teacher is not None):
        way_out = "give it as `teacher`" if method.teacher else "leave it out"
        raise CondenseError(f"{method.name} {'needs' if method.teacher else 'asks no'} teacher: {way_out}")


def _sets(entry: MethodEntry, data: RealData, size: Budget, grid: Grid) -> tuple[list[SetDescription], str | None]:
    method, (iterations, minutes) = methods().find(entry.name), entry.length_at(size.ipc)
    own = _network_of_experts(entry, method, data)
    _check_asked(method, entry)
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
