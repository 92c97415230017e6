"""Small graphs with node labels, written as TU files as well; and where larger ones may lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condense.graphs.data import load_graphs
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.interface import GraphJob, TrainingPart
from condense.graphs.real import RealGraphs, RealNodeGraph
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.methods.registry import graph_methods
from condense.runtime.registry import load_object
from condense.runtime.validation import validated

SHARED = Path(__file__).parents[4] / "shared" / "data" / "graphs"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"there are no graphs in {SHARED}")
    return SHARED


def write_tu(folder: Path, graphs: list[tuple[list[int], list[tuple[int, int]], int]]) -> Path:
    """TU files of (node labels, undirected edges, class) of each graph, with a label for each edge."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {
        key: [] for key in ("A", "graph_indicator", "graph_labels", "node_labels", "edge_labels")
    }
    nodes = 0
    for number, (labels, edges, target) in enumerate(graphs, 1):
        for a, b in edges:
            lines["A"] += [f"{nodes + a + 1}, {nodes + b + 1}", f"{nodes + b + 1}, {nodes + a + 1}"]
            lines["edge_labels"] += [str((a + b) % 2)] * 2
        lines["graph_indicator"] += [str(number)] * len(labels)
        lines["node_labels"] += [str(label) for label in labels]
        lines["graph_labels"].append(str(target))
        nodes += len(labels)
    for key, content in lines.items():
        (folder / f"{folder.name}_{key}.txt").write_text("\n".join(content) + "\n")
    return folder


def pets(count: int = 40) -> list[tuple[list[int], list[tuple[int, int]], int]]:
    """Rings with a node of label 2 are of class 1, paths of class -1; other labels are random."""
    draws = torch.Generator().manual_seed(0)
    graphs = []
    for number in range(count):
        size = int(torch.randint(4, 9, (), generator=draws))
        labels = torch.multinomial(torch.tensor([0.75, 0.15, 0.1]), size, replacement=True, generator=draws).tolist()
        labels[0] = 2 if number % 2 else labels[0]
        edges = [(node, node + 1) for node in range(size - 1)]
        if number % 2:
            edges.append((0, size - 1))
        graphs.append((labels, edges, 1 if number % 2 else -1))
    return graphs


@pytest.fixture(scope="session")
def written():
    """Writes TU files, by default of these pets."""
    return lambda folder, graphs=None: write_tu(folder, pets() if graphs is None else graphs)


@pytest.fixture(scope="session")
def reversed_pets() -> list[tuple[list[int], list[tuple[int, int]], int]]:
    return pets()[::-1]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tu(tmp_path_factory.mktemp("data") / "PETS", pets())


@pytest.fixture(scope="session")
def data(folder: Path) -> RealGraphs:
    found = load_graphs(folder)
    assert isinstance(found, RealGraphs)
    return found


def _made_by(
    method: str,
    data: TrainingPart,
    *,
    ipc: int | None = None,
    fraction: float | None = None,
    bytes: int | None = None,
    seed: int = 0,
    **options: Any,
) -> GraphSet | NodeGraphSet:
    """What a method makes of training data with these settings."""
    modality = "graphs" if hasattr(data, "graphs") else "nodes"
    maker = load_object(graph_methods(modality).find(method).target)
    settings = validated(maker.Settings, options)
    budget = validated(GraphBudget, {"ipc": ipc, "fraction": fraction, "bytes": bytes})
    maker.check(data, budget, settings)
    iterations = getattr(settings, "iterations", None)
    made: GraphSet | NodeGraphSet = maker.make(
        GraphJob(data=data, budget=budget, seed=seed, iterations=iterations), settings
    ).made
    return made


@pytest.fixture(scope="session")
def made_by():
    """Sets made by a method alone, without the run around it."""
    return _made_by


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> RealNodeGraph:
    """Three groups of 24 nodes, joined mostly within; words they use, most of them their own; a pair far from all."""
    draws = np.random.default_rng(0)
    labels = np.append(np.repeat([0, 1, 2], 24), [0, 1])
    near = labels[:, None] == labels
    joined = draws.random((74, 74)) < np.where(near, 0.2, 0.01)
    joined[72:], joined[:, 72:] = False, False
    joined[73, 72] = True
    words = draws.random((74, 12)) < np.where(labels[:, None] == np.arange(12) % 3, 0.5, 0.1)
    order = np.append(draws.permutation(72), [72, 73])
    path = tmp_path_factory.mktemp("nodes") / "town.npz"
    np.savez(
        path,
        features=words.astype(np.float32),
        edges=np.argwhere(np.tril(joined, -1)),
        labels=labels,
        idx_train=order[:30],
        idx_val=order[30:40],
        idx_test=order[40:],
    )
    found = load_graphs(path)
    assert isinstance(found, RealNodeGraph)
    return found
