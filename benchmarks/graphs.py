"""Grids over graphs: their cells, the sets of these, and what networks reach on them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.cells import Cell, CellJob, ColumnDescription, DataDescription, SetDescription
from benchmarks.grid import ColumnEntry, DataEntry, Grid, MethodEntry
from benchmarks.pictures import graphs_as_sprite, write_picture
from benchmarks.places import placed
from benchmarks.records import curves, picture_path, set_path
from condense.data.budget import Budget
from condense.evaluation.statistics import deviation
from condense.graphs.data import load_graphs, modality_of
from condense.graphs.distill import make_graphs, method_for
from condense.graphs.evaluate import evaluate_graphs
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.opening import load_graph_set
from condense.graphs.protocols import PROTOCOLS
from condense.graphs.real import RealGraphs, RealNodeGraph, TrainingGraphs, TrainingNodes
from condense.graphs.request import GraphRequest, resolve_graph_settings
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.methods.output import account_path
from condense.runtime.errors import CondenseError
from condense.runtime.provenance import circumstances, peak_memory
from condense.runtime.registry import load_object

OF_GRAPHS = ("validation", "fold", "degrees", "setting")  # fields of a data entry that are for graphs alone
_FOR_IMAGES = ("precision", "compile", "experts", "teacher")  # fields of a method's entry
RealData = RealGraphs | RealNodeGraph


def read_graphs(entry: DataEntry) -> RealData | None:
    """The graphs of a grid's entry; None where it has none."""
    if modality_of(entry.name) is None:
        return None
    for name in set(DataEntry.model_fields) - {"name", *OF_GRAPHS}:
        if getattr(entry, name) != DataEntry.model_fields[name].default:
            raise CondenseError(f"{entry.name} has graphs: leave {name} out, which is for images")
    return load_graphs(entry.name, **{name: getattr(entry, name) for name in OF_GRAPHS if name != "validation"})


def graph_jobs(data: RealData, entry: DataEntry, grid: Grid, origin: str) -> Iterator[CellJob]:
    """All cells of the grid for these graphs, those of one set together."""
    modality = "nodes" if isinstance(data, RealNodeGraph) else "graphs"
    description = DataDescription(
        name=data.name,
        fingerprint=data.fingerprint,
        modality=modality,
        reading=dict(data.reading_options),
        validation=entry.validation,
    )
    columns = []
    for index, column in enumerate(grid.columns):
        with placed(f"{origin}: columns.{index}: "):
            columns += [(column, described) for described in _columns(column, modality)]
    for size, (index, method) in itertools.product(grid.sizes(modality), enumerate(grid.methods)):
        if not method.is_for(entry) or not method.takes(size):
            continue
        with placed(f"{origin}: methods.{index}: "):
            sets = _sets(method, data, size)
        for made, (asked, described) in itertools.product(sets, columns):
            if asked.methods is None or made.method in asked.methods:
                seeds = grid.network_seeds or PROTOCOLS.find(described.protocol).runs
                cell = Cell(data=description, made=made, column=described, network_seeds=seeds)
                yield CellJob(cell=cell, source=entry, recipe=method.recipe)
    for described in dict.fromkeys(described for _, described in columns) if grid.full else ():
        beside = described.model_copy(update={"beside": described.protocol})
        yield CellJob(cell=Cell(data=description, made=None, column=beside, network_seeds=1), source=entry)


def _columns(entry: ColumnEntry, modality: str) -> Iterator[ColumnDescription]:
    protocol = PROTOCOLS.find(entry.protocol)
    if protocol.of != modality:
        raise CondenseError(f"protocol {protocol.name} is for {protocol.of}, and the data are {modality}")
    if entry.labels is not None or entry.updates is not None:
        raise CondenseError("labels and updates of a column are for images: leave them out")
    nets = protocol.nets if "nets" not in entry.model_fields_set else entry.nets
    for net in nets:
        yield ColumnDescription(protocol=protocol.name, protocol_hash=protocol.hash, net=net, network=net)


def _sets(entry: MethodEntry, data: RealData, size: Budget) -> list[SetDescription]:
    """The sets of a grid's entry."""
    for name in _FOR_IMAGES:
        if getattr(entry, name) is not None:
            raise CondenseError(f"{name} is for images: leave it out")
    method, (iterations, minutes) = method_for(entry.name, data), entry.length_at(size.ipc)
    assert isinstance(size, GraphBudget), "sizes of graphs"
    request = GraphRequest.of(
        method.name, size, entry.options, recipe=entry.recipe, iterations=iterations, minutes=minutes
    )
    settings = resolve_graph_settings(request, method, data.info)
    load_object(method.target).check(data.train, size, settings)
    return [
        SetDescription(
            method=method.name,
            revision=method.revision,
            settings=settings.model_dump(mode="json"),
            recipe=Path(entry.recipe).stem if entry.recipe else None,
            options=entry.options,
            iterations=iterations,
            minutes=minutes,
            **size.recorded,
            seed=seed,
        )
        for seed in entry.set_seeds
    ]


def make_graph_set(job: CellJob, folder: Path, *, progress: bool) -> None:
    """Make the set of a cell and store it with its account; an unfinished run is continued."""
    made = job.cell.made
    assert made is not None, "the full data is not made"
    settings = dict(made.settings)
    asked = settings.pop("iterations", None)
    request = GraphRequest.of(
        made.method,
        GraphBudget(ipc=made.ipc, fraction=made.fraction, bytes=made.bytes, balanced=True),
        {name: value for name, value in settings.items() if value is not None},
        iterations=asked if made.minutes is None else made.iterations,
        minutes=made.minutes,
        seed=made.seed,
        recipe=job.recipe,
        out=set_path(job.cell, folder),
        overwrite=True,  # called where the set is not finished: a part of it may be there
    )
    make_graphs(request, _read(job), progress=progress)


def score_graphs(job: CellJob, folder: Path, *, progress: bool) -> dict[str, Any]:
    """Train the cell's networks on its set, or on all real graphs, and measure them: the fields of its record."""
    cell, data = job.cell, _read(job)
    given = data.train if cell.made is None else load_graph_set(set_path(cell, folder))
    seeds = cell.network_seeds
    results = [
        evaluate_graphs(
            given,
            data,
            nets=[cell.column.net],
            runs=runs,
            seed=seed,
            protocol=cell.column.protocol,
            progress=progress,
            part="validation" if cell.data.validation else "test",
        ).results[0]
        for seed, runs in ([(0, seeds)] if isinstance(seeds, int) else [(seed, 1) for seed in seeds])
    ]
    shown = {} if isinstance(given, TrainingGraphs | TrainingNodes) else _shown(given, cell, folder)
    values = [value for result in results for value in result.values]
    diverged = [index in result.diverged for result in results for index in range(len(result.values))]
    return {
        "protocol": results[0].protocol,
        "protocol_hash": results[0].protocol_hash,
        "network": f"{results[0].network}-l{results[0].layers}",
        "metric": results[0].metric,
        "accuracies": values,
        "diverged": [index for index, this in enumerate(diverged) if this],
        "mean": fmean(values),
        "std": deviation(values),
        "class_accuracies": {
            name: fmean(result.class_accuracies[name] for result in results) for name in results[0].class_accuracies
        },
        **shown,
        "images": results[0].graphs,
        "stored_images": results[0].graphs,
        "bytes": results[0].bytes,
        "dense_bytes": results[0].dense_bytes,
        "real": len(data.train.features) if isinstance(data, RealNodeGraph) else len(data.train),
        "label_source": "class index",
        "seconds": sum(result.seconds for result in results),
        "training": sum(result.seconds for result in results),
        "labelling": None,
        "peak_memory": peak_memory(),
        **circumstances(),
    }


def _shown(made: GraphSet | NodeGraphSet, cell: Cell, folder: Path) -> dict[str, Any]:
    """What people look at: curves of the run, and a picture in a file, where networkx is there to place nodes."""
    real = made.source_indices if isinstance(made, GraphSet) else made.indices
    if find_spec("networkx") is not None:
        write_picture(graphs_as_sprite(made), picture_path(cell, folder, published=real is None))
    account = json.loads(account_path(set_path(cell, folder)).read_text(encoding="utf-8"))
    return {"curves": curves({name: torch.tensor(values) for name, values in account["metrics"].items()})}


def _read(job: CellJob) -> RealData:
    data = _read_once(job.source)
    if data.fingerprint != job.cell.data.fingerprint:
        raise CondenseError(f"{data.name} has changed since the benchmark started; start it again")
    return data


@lru_cache(maxsize=1)
def _read_once(source: DataEntry) -> RealData:
    """The cells that share a process mostly share their data too."""
    found = read_graphs(source)
    if found is None:
        raise CondenseError(f"{source.name} has no graphs any more; start the benchmark again")
    return found
