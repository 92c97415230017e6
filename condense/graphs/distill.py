"""`distill_graphs`: one function that runs any registered method for graphs or nodes and gives, and stores, a set."""

from __future__ import annotations

import shlex
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.interface import GraphJob, GraphMaker, GraphProduct
from condense.graphs.opening import load_graph_set
from condense.graphs.real import RealGraphs, RealNodeGraph
from condense.graphs.request import GraphRequest, resolve_graph_settings
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.methods.checkpoints import check_continues, checkpoint_path
from condense.methods.interface import MethodSettings
from condense.methods.intermediate_sets import without_iterations
from condense.methods.method import Method
from condense.methods.output import claimed_target, store
from condense.methods.registry import graph_methods, modalities
from condense.runtime.device import choose_device, set_threads, threads_restored
from condense.runtime.errors import CondenseError
from condense.runtime.memory import memory_errors_named
from condense.runtime.progress import notes_heard
from condense.runtime.provenance import circumstances, peak_memory, versions
from condense.runtime.registry import load_object
from condense.runtime.validation import option_name, option_words, validated


def distill_graphs(
    method: str,
    data: RealGraphs | RealNodeGraph,
    ipc: int | None = None,
    *,
    fraction: float | None = None,
    bytes: int | None = None,
    iterations: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    recipe: str | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: bool = False,
    **options: Any,
) -> GraphSet | NodeGraphSet:
    """Make a condensed set of `ipc` graphs or nodes per class, of a fraction of them, or of so many bytes.

    Args:
        method: a registered name or alias for graphs, or for nodes where `data` is one graph (`condense methods`).
        data: from `load_graphs`; only its training part is given to the method, and validation graphs to those that
            choose a setting by them.
        ipc: graphs, or nodes, of each class.
        fraction: instead: part of the training graphs, or of all nodes that training sees.
        bytes: instead: what the set may take as it is stored, the only size that compares methods fairly.
        iterations: updates of what is learned; default: the recipe's.
        minutes: stop after this time instead, or at `iterations` if both are given and these come first.
        seed: of everything random; the same call gives the same file.
        recipe: name of a recipe of the method or path of a YAML file; default: the method's published settings.
        out: where to store the set (`.h5`). A run that is killed is continued by the same call; a `.json` of the same
            name beside the finished file tells time, memory and hardware.
        resume: whether to continue an unfinished run found beside `out`.
        overwrite: whether a finished `out` may be replaced.
        device: `auto`, `cpu` or `cuda:N`.
        threads: processor threads; default: torch's choice.
        progress: show bars on standard error.
        options: settings of the method by name; they win over the recipe.

    Raises:
        CondenseError: for anything wrong in the request, before any work is lost.
        KeyboardInterrupt: after a Ctrl-C; an unfinished run is saved first if `out` is given.
    """
    request = GraphRequest.of(
        method,
        validated(GraphBudget, {"ipc": ipc, "fraction": fraction, "bytes": bytes}, spell=option_name),
        options,
        iterations=iterations,
        minutes=minutes,
        seed=seed,
        recipe=recipe,
        out=out,
        resume=resume,
        overwrite=overwrite,
        device=device,
        threads=threads,
    )
    return make_graphs(request, data, progress=progress)


@threads_restored()
def make_graphs(
    request: GraphRequest, data: RealGraphs | RealNodeGraph, *, progress: bool = False
) -> GraphSet | NodeGraphSet:
    """Make the set that is asked for, and store it where the request says so; see `distill_graphs`."""
    set_threads(request.threads)
    with notes_heard() as notes:
        entry = method_for(request.method, data)
        settings = resolve_graph_settings(request, entry, data.info)
        maker: type[GraphMaker] = load_object(entry.target)
        maker.check(data.train, request.budget, settings)
        claimed = (
            nullcontext()
            if request.out is None
            else claimed_target(request.out, overwrite=request.overwrite, load=load_graph_set)
        )
        with claimed as target:
            job = _job(request, data, settings, target, progress)
            return _run(maker, job, settings, _configuration(entry, data, job, settings), target, request, notes)


def method_for(name: str, data: RealGraphs | RealNodeGraph) -> Method:
    """The method of this name for such data; raises `CondenseError` for others, which says what they are for."""
    modality, what = ("nodes", "one graph") if isinstance(data, RealNodeGraph) else ("graphs", "many graphs")
    elsewhere = modalities(name)
    if elsewhere and modality not in elsewhere:
        raise CondenseError(
            f"{name} is for {' and '.join(elsewhere)}, and {data.name} has {what}; give one of "
            f"{', '.join(graph_methods(modality).names())}"
        )
    return graph_methods(modality).find(name)


def _job(
    request: GraphRequest,
    data: RealGraphs | RealNodeGraph,
    settings: MethodSettings,
    target: Path | None,
    progress: bool,
) -> GraphJob[Any]:
    """What the method is given."""
    timed = request.minutes is not None
    return GraphJob(
        data=data.train,
        budget=request.budget,
        seed=request.seed,
        device=choose_device(request.device),
        iterations=request.iterations if timed else getattr(settings, "iterations", None),
        minutes=request.minutes,
        checkpoint=None if target is None else checkpoint_path(target),
        progress=progress,
        validation=data.validation if isinstance(data, RealGraphs) else None,
    )


def _run(
    maker: type[GraphMaker],
    job: GraphJob[Any],
    settings: MethodSettings,
    configuration: dict[str, Any],
    target: Path | None,
    request: GraphRequest,
    notes: list[str],
) -> GraphSet | NodeGraphSet:
    """Make the set and, with a target, store it, with what was noted on the way."""
    must_agree = configuration if job.iterations is not None else without_iterations(configuration)
    if job.checkpoint is not None and not request.resume:
        job.checkpoint.unlink(missing_ok=True)
    if job.checkpoint is not None and job.checkpoint.exists():
        check_continues(job.checkpoint, must_agree)
    started = time.monotonic()
    with memory_errors_named():
        product = maker.make(replace(job, configuration=must_agree), settings)
    reached = configuration | {"settings": product.settings.model_dump(mode="json")}
    provenance = {"configuration": reached, "command": graph_command(reached), "versions": versions()}
    made = replace(product.made, provenance=provenance)
    if target is not None:
        store(made, _account(product, made, time.monotonic() - started) | {"notes": notes}, target, must_agree)
    return made


def _configuration(
    entry: Method, data: RealGraphs | RealNodeGraph, job: GraphJob[Any], settings: MethodSettings
) -> dict[str, Any]:
    """All that decides the result, in JSON's types."""
    return settings.files() | {
        "method": entry.name,
        "modality": entry.modality,
        "revision": entry.revision,
        "data": data.name,
        **data.reading_options,
        "fingerprint": data.fingerprint,
        **job.budget.recorded,
        "seed": job.seed,
        "settings": settings.model_dump(mode="json"),
        "plan": {"device": job.device.type},
    }


def graph_command(configuration: dict[str, Any]) -> str:
    """The command line that makes the same set again, every setting written out; data by its base name.

    >>> run = {"seed": 0, "bytes": 5000, "settings": {"hops": 2}, "plan": {"device": "cpu"}}
    >>> print(graph_command({"method": "mirage", "data": "MUTAG"} | run))
    condense distill mirage --data MUTAG --bytes 5000 --seed 0 --hops 2 --device cpu --out set.h5
    """
    about = ("data", "fold", "degrees", "setting", "ipc", "fraction", "bytes", "seed")
    values = {key: configuration[key] for key in about if key in configuration}
    values |= configuration["settings"] | configuration["plan"]
    return shlex.join(["condense", "distill", configuration["method"], *option_words(values | {"out": "set.h5"})])


def _account(product: GraphProduct, made: GraphSet | NodeGraphSet, seconds: float) -> dict[str, Any]:
    """What belongs beside the file and not in it, because it differs from run to run; and the metrics of updates."""
    return {
        "method": made.provenance["configuration"]["method"],
        "iterations": getattr(product.settings, "iterations", None),
        "seconds": round(product.facts.get("seconds", seconds), 3),
        "peak_memory": peak_memory(),
        "bytes": made.bytes,
        "dense_bytes": made.dense_bytes,
        "plan": made.provenance["configuration"]["plan"],
        "metrics": {name: values.tolist() for name, values in product.metrics.items()},
        **circumstances(),
        **{name: value for name, value in product.facts.items() if name != "seconds"},
    }
