"""What holds for every method for graphs and nodes: the same file for the same request, sizes kept, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condense.graphs import distill_graphs, evaluate_graphs, load_graphs
from condense.graphs.methods.learning import GraphSynthesizer
from condense.graphs.opening import load_graph_set
from condense.graphs.protocols import PROTOCOLS
from condense.graphs.real import RealGraphs, RealNodeGraph
from condense.methods.checkpoints import checkpoint_path
from condense.methods.method import Method
from condense.methods.registry import graph_methods
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object

METHODS = [*graph_methods("graphs"), *graph_methods("nodes")]
IDS = [f"{method.modality}-{method.name}" for method in METHODS]
LEARNED = [method for method in METHODS if issubclass(load_object(method.target), GraphSynthesizer)]
QUICK = {"iterations": 4, "outer": 2, "inner": 1, "hidden": 8, "width": 8, "hops": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rings and paths of labelled nodes, and one graph of two groups."""
    root = tmp_path_factory.mktemp("data")
    draws = np.random.default_rng(0)
    lines: dict[str, list[str]] = {key: [] for key in ("A", "graph_indicator", "graph_labels", "node_labels")}
    nodes = 0
    for number in range(40):
        size = int(draws.integers(4, 8))
        pairs = [(a, a + 1) for a in range(size - 1)] + ([(0, size - 1)] if number % 2 else [])
        lines["A"] += [f"{nodes + a + 1}, {nodes + b + 1}" for c, d in pairs for a, b in ((c, d), (d, c))]
        lines["graph_indicator"] += [str(number + 1)] * size
        lines["graph_labels"].append(str(number % 2))
        lines["node_labels"] += [str(label) for label in draws.integers(0, 3, size)]
        nodes += size
    (root / "PETS").mkdir()
    for key, content in lines.items():
        (root / "PETS" / f"PETS_{key}.txt").write_text("\n".join(content) + "\n")
    labels = np.repeat([0, 1], 30)
    edges = [(a, b) for a in range(60) for b in range(a) if draws.random() < (0.2 if labels[a] == labels[b] else 0.02)]
    features = (draws.normal(size=(60, 6)) + labels[:, None]).astype(np.float32)
    np.savez(root / "village.npz", features=features, edges=np.array(edges), labels=labels)
    return {"graphs": root / "PETS", "nodes": root / "village.npz"}


@pytest.fixture(scope="module")
def data(places: dict[str, Path]) -> dict[str, RealGraphs | RealNodeGraph]:
    return {modality: load_graphs(path) for modality, path in places.items()}


def asked(method: Method, **others: Any) -> dict[str, Any]:
    """Quick settings, and a size for methods that need one."""
    if method.name == "mirage":
        pytest.importorskip("mlxtend")
        return {"support": 0.4, "hops": 1, **{name: value for name, value in others.items() if name != "ipc"}}
    fields = load_object(method.target).Settings.model_fields
    options = {name: value for name, value in QUICK.items() if name in fields}
    return {"ipc": 2, **options, **others}


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_the_same_request_gives_the_same_file_that_loads_and_is_scored(method: Method, data, tmp_path: Path) -> None:
    real = data[method.modality]
    distill_graphs(method.name, real, out=tmp_path / "a.h5", **asked(method))
    made = distill_graphs(method.name, real, out=tmp_path / "b.h5", **asked(method))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    read = load_graph_set(tmp_path / "a.h5")
    assert read.bytes == made.bytes
    assert read.provenance["configuration"]["method"] == method.name
    assert not list(tmp_path.glob("*checkpoint*"))
    protocol = PROTOCOLS.find(method.protocol or "").model_copy(update={"epochs": 3, "width": 8})
    (result,) = evaluate_graphs(read, real, nets=["sgc"], runs=1, protocol=protocol).results
    assert 0 <= result.mean <= 1


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_a_set_takes_no_more_bytes_than_asked_for(method: Method, data, tmp_path: Path) -> None:
    real = data[method.modality]
    budget = 2 * distill_graphs(method.name, real, **asked(method)).bytes
    options = {name: value for name, value in asked(method).items() if name != "ipc"}
    made = distill_graphs(method.name, real, bytes=budget, **options)
    assert made.bytes <= budget
    with pytest.raises(CondenseError, match="bytes"):
        distill_graphs(method.name, real, bytes=2, **options)


@pytest.mark.parametrize("method", LEARNED, ids=[method.name for method in LEARNED])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    method: Method, data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, options = data[method.modality], asked(method)
    distill_graphs(method.name, real, out=tmp_path / "whole.h5", **options)
    kind = load_object(method.target)
    step = kind.step

    def interrupted(self: Any, iteration: int) -> dict[str, float]:
        if iteration == 2:
            raise OSError("the machine went away")
        return step(self, iteration)

    monkeypatch.setattr("condense.methods.checkpoints.MOST_SECONDS_LOST", 0.0)
    monkeypatch.setattr(kind, "step", interrupted)
    out = tmp_path / "parts.h5"
    with pytest.raises(OSError, match="went away"):
        distill_graphs(method.name, real, out=out, **options)
    assert checkpoint_path(out).exists()
    monkeypatch.setattr(kind, "step", step)
    with pytest.raises(CondenseError, match="unfinished run"):
        distill_graphs(method.name, real, out=out, **options | {"seed": 9})
    distill_graphs(method.name, real, out=out, **options)
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("method", LEARNED, ids=[method.name for method in LEARNED])
def test_minutes_end_a_run_and_its_command_says_how_far_it_came(method: Method, data) -> None:
    made = distill_graphs(method.name, data[method.modality], minutes=1e-6, **asked(method))
    assert made.provenance["configuration"]["settings"]["iterations"] == 1
    assert "--iterations 1" in made.provenance["command"]


def test_a_killed_process_goes_on(places: dict[str, Path], data, tmp_path: Path, forked) -> None:
    """A real process and a real kill, in the middle of the second update."""
    out = tmp_path / "set.h5"
    words = ["distill", "gcond", "--data", str(places["nodes"]), "--ipc", "2", "--outer", "2", "--inner", "1"]
    words += ["--iterations", "4", "--out", str(out)]
    code = (
        "import os, signal, sys\n"
        "from condense.graphs.methods import gcond\n"
        "from condense.methods import checkpoints\n"
        "checkpoints.MOST_SECONDS_LOST = 0.0\n"
        "step = gcond.GCond.step\n"
        "def killed(self, iteration):\n"
        "    if iteration == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, iteration)\n"
        "gcond.GCond.step = killed\n"
        "from condense.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    assert forked(code, *words).ended() == -9
    assert not out.exists()
    options = {"ipc": 2, "outer": 2, "inner": 1, "iterations": 4}
    made = distill_graphs("gcond", data["nodes"], out=out, **options)
    whole = distill_graphs("gcond", data["nodes"], **options)
    assert made.arrays().keys() == whole.arrays().keys()
    for name, array in made.arrays().items():
        assert (array == whole.arrays()[name]).all(), name
