"""`condense distill`, `evaluate` and `show` where the data are graphs, or one graph whose nodes have classes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model

from condense.cli.options import open_fields
from condense.cli.parsing import POSITIONAL, parse
from condense.graphs.methods.budget import GraphBudget
from condense.methods.method import Method
from condense.methods.options import SittingOptions
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer, say
from condense.runtime.registry import load_object
from condense.runtime.validation import Closed, option_name, validated

if TYPE_CHECKING:
    from condense.graphs.real import RealGraphs, RealNodeGraph


class GraphDataOptions(Closed):
    """How real graphs are found and read."""

    data_root: Path | None = Field(None, description="where data sets by name are kept [$CONDENSE_DATA]")
    fold: int = Field(1, ge=1, description="of GIN's text form: which of its folds is the test part")
    degrees: Literal["exact", "log2"] = Field(
        "exact", description="of nodes with neither labels nor features: their degree as it is, or in bins that double"
    )
    setting: Literal["transductive", "inductive"] = Field(
        "transductive", description="of one graph: training sees features and edges of all nodes, or of its own only"
    )


class GraphSetOptions(Closed):
    """Which set is made, and where it goes."""

    data: str = Field(description="graphs: a folder, .zip, FILE.tar#FOLDER or .npz")
    ipc: int | None = Field(None, ge=1, description="graphs, or nodes, of each class")
    fraction: float | None = Field(
        None, gt=0, le=1, description="instead: part of the training graphs, or of all nodes of the graph"
    )
    bytes: int | None = Field(None, ge=1, description="instead: what the set may take as it is stored")
    out: Path = Field(description="where to store the set, for example set.h5")


class GraphDistillOptions(SittingOptions, GraphDataOptions, GraphSetOptions):
    """The options that every method for graphs shares."""


class GraphEvaluateOptions(GraphDataOptions):
    """Options of `condense evaluate` for sets of graphs."""

    set: list[Path] = Field(description="the set, an .h5 file; or several", json_schema_extra=POSITIONAL)
    data: str = Field(description="the real graphs that it was made from")
    nets: str | None = Field(None, description="networks, separated by commas [those of the protocol]")
    runs: int | None = Field(None, ge=1, description="networks trained of each kind [the protocol's number]")
    protocol: str | None = Field(None, description="how networks are trained [graph-desk or node-desk]")
    seed: int = Field(0, ge=0, description="of the networks, the order of graphs and dropout")
    device: str = Field("auto", description="auto, cpu or cuda:N")
    threads: int | None = Field(None, ge=1, description="processor threads [what torch finds]")
    json_file: Path | None = Field(None, alias="json", description="also write the results here")


def distill(method: Method, words: Sequence[str]) -> int:
    """Make a set of graphs with `method`."""
    settings = load_object(method.target).Settings
    own = open_fields(settings, lambda field: f"recipe, else {field.default}")
    model: type[Any] = create_model("GraphDistillOptions", __base__=GraphDistillOptions, **own)
    options = parse(
        model,
        words,
        program=f"condense distill {method.name}",
        description=f"{method.name}, for {method.modality}: {method.summary}.\n{method.paper}.",
    )
    from condense.graphs.distill import make_graphs
    from condense.graphs.opening import load_graph_set
    from condense.graphs.request import GraphRequest
    from condense.methods.output import claimed_target

    about_others = {*GraphDataOptions.model_fields, *GraphBudget.model_fields, "data"}
    asked = {name: getattr(options, name) for name in options.model_fields_set - about_others}
    named = {name: asked.pop(name) for name in asked.keys() - GraphRequest.model_fields.keys()}
    budget = validated(GraphBudget, options.model_dump(include=set(GraphBudget.model_fields)), spell=option_name)
    request = GraphRequest.of(method.name, budget, named, **asked)
    with claimed_target(options.out, overwrite=options.overwrite, load=load_graph_set):
        made = make_graphs(request, _load(options.data, options), progress=sys.stderr.isatty())
    what = "nodes" if method.modality == "nodes" else "graphs"
    answer(f"{options.out}: {len(made):,} {what}, {made.bytes:,} bytes")
    return 0


def evaluate(words: Sequence[str]) -> int:
    """Evaluate sets of graphs and print one line per set and network."""
    options = parse(
        GraphEvaluateOptions,
        words,
        program="condense evaluate",
        description="Train fresh networks on a set of graphs under a shared protocol, and measure them on real test "
        "graphs or nodes. Several sets are scored one after the other.",
    )
    from condense.runtime.device import set_threads, threads_restored
    from condense.runtime.locks import claimed_output

    report = options.json_file
    with (
        nullcontext() if report is None else claimed_output(report, "evaluation", suffix=".json", option="--json"),
        threads_restored(),
    ):
        set_threads(options.threads)
        _score_all(options)
    return 0


def _score_all(options: GraphEvaluateOptions) -> None:
    from condense.graphs.evaluate import evaluate_graphs
    from condense.graphs.opening import load_graph_set
    from condense.runtime.files import write_json

    for path in options.set:
        if options.json_file is not None and options.json_file.resolve() == path.with_suffix(".json").resolve():
            raise CondenseError(
                f"--json {options.json_file} is where the time and memory that {path} took are kept; give another name"
            )
    sets = [load_graph_set(path) for path in options.set]  # every file is looked at before the first training
    data = _load(options.data, options)
    nets = None if options.nets is None else [name.strip() for name in options.nets.split(",")]
    results: list[dict[str, Any]] = []
    for path, made in zip(options.set, sets):
        found = evaluate_graphs(
            made,
            data,
            nets=nets,
            runs=options.runs,
            protocol=options.protocol,
            seed=options.seed,
            device=options.device,
            progress=sys.stderr.isatty(),
        )
        name = f"{path.name}: " if len(sets) > 1 else ""
        for note in found.notes:
            say(f"note: {name}{note}")
        answer(*(f"{name}{network}" for network in found.results))
        results += [{"file": path.name} | network.as_dict() for network in found.results]
        if options.json_file is not None:
            write_json(options.json_file, results if len(sets) > 1 else found.as_dict())


def _load(source: str, options: GraphDataOptions) -> RealGraphs | RealNodeGraph:
    from condense.graphs.data import load_graphs

    return load_graphs(source, **{name: getattr(options, name) for name in GraphDataOptions.model_fields})
