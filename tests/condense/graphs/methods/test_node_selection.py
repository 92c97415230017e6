"""Choices of nodes: by known classes only, a smaller one within a larger one, never above their bytes."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from condense.graphs.data import load_graphs
from condense.graphs.evaluate import evaluate_graphs
from condense.graphs.methods import node_views
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.node_selection import (
    HerdedNodes,
    NodeSelectionSettings,
    RandomNodes,
    SeenNodesSettings,
    SpreadNodes,
    edges_among,
)
from condense.graphs.methods.node_views import node_view
from condense.graphs.methods.propagation import propagated
from condense.graphs.networks import build_node_network
from condense.graphs.protocols import PROTOCOLS
from condense.graphs.real import RealNodeGraph, TrainingNodes
from condense.graphs.sets import NodeGraphSet
from condense.graphs.structure import Edges, row_normalized
from condense.graphs.training import train_nodes, train_on_part
from condense.runtime.errors import CondenseError
from condense.runtime.validation import validated

CPU = torch.device("cpu")
BY_ROWS = {"net": "sgc"}  # for which no network is trained
METHODS: list[tuple[Any, dict[str, Any]]] = [(RandomNodes, {}), (HerdedNodes, BY_ROWS), (SpreadNodes, BY_ROWS)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that see nodes are trained for a moment only."""
    monkeypatch.setattr(node_views, "_PROTOCOL", PROTOCOLS.find("node-desk").model_copy(update={"epochs": 100}))


def made(method: Any, data: TrainingNodes, *, seed: int = 0, settings: Any = None, **size: Any) -> NodeGraphSet:
    chosen = validated(method.Settings, settings or {})
    job = GraphJob(data=data, budget=GraphBudget(**size), seed=seed)
    method.check(data, job.budget, chosen)
    found = method.make(job, chosen).made
    assert isinstance(found, NodeGraphSet)
    return found


def dense_propagation(data: TrainingNodes, hops: int) -> Tensor:
    """The same with matrices: (D^-1/2 (A + I) D^-1/2)^hops X."""
    nodes = len(data.features)
    adjacency = torch.zeros(nodes, nodes, dtype=torch.float64)
    adjacency[data.edges[0], data.edges[1]] = 1
    loops = adjacency + torch.eye(nodes)
    root = torch.diag(loops.sum(1) ** -0.5)
    x = data.features.double()
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    return torch.linalg.matrix_power(root @ loops @ root, hops) @ x


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_propagation_is_a_power_of_the_normalised_adjacency(town: RealNodeGraph, hops: int) -> None:
    assert town.info.normalize_rows
    torch.testing.assert_close(propagated(town.train, hops), dense_propagation(town.train, hops), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_propagated_rows_say_what_sgc_reads_in_the_whole_graph(town: RealNodeGraph, dtype: torch.dtype) -> None:
    data = town.train
    network = build_node_network("sgc", data.info.features, 3, seed=0).to(dtype)
    x = row_normalized(data.features.to(dtype))
    whole = network(x, Edges(data.edges, len(x)))[data.indices]
    rows = propagated(data, 2)[data.indices].to(dtype)
    alone = network(rows, Edges(torch.zeros(2, 0, dtype=torch.int64), len(rows)))
    torch.testing.assert_close(alone, whole, atol=1e-6 if dtype == torch.float32 else 1e-14, rtol=0)


def test_sgc_trained_on_all_propagated_rows_is_that_of_the_whole_graph(town: RealNodeGraph) -> None:
    protocol = PROTOCOLS.find("node-desk").model_copy(update={"epochs": 30})
    rows = made(RandomNodes, town.train, settings={"form": "propagated"}, ipc=99)
    assert len(rows) == 30
    alone, _ = train_nodes("sgc", rows, protocol, seed=1, device=CPU)
    whole, _ = train_on_part("sgc", town.train, protocol, seed=1, device=CPU)
    for ours, theirs in zip(alone.parameters(), whole.parameters()):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("method", "settings"), METHODS)
@pytest.mark.parametrize("form", ["induced", "propagated"])
def test_choices_are_nodes_of_known_class(town: RealNodeGraph, method: Any, settings: Any, form: str) -> None:
    found = made(method, town.train, settings={**settings, "form": form}, ipc=4)
    again = made(method, town.train, settings={**settings, "form": form}, ipc=4)
    data, nodes = town.train, found.indices
    assert nodes is not None
    assert len(nodes.unique()) == len(found) == 12
    assert set(nodes.tolist()) <= set(data.indices.tolist())
    known = dict(zip(data.indices.tolist(), data.labels.tolist()))
    assert found.labels.tolist() == [known[node] for node in nodes.tolist()] == [0] * 4 + [1] * 4 + [2] * 4
    assert found.weights is None
    assert again.arrays().keys() == found.arrays().keys()
    assert all((array == again.arrays()[name]).all() for name, array in found.arrays().items())
    if form == "propagated":
        assert found.edges is None
        assert not found.normalize_rows
        torch.testing.assert_close(found.features, dense_propagation(data, 2)[nodes].float())
        return
    assert found.normalize_rows
    assert torch.equal(found.features, data.features[nodes])
    assert found.edges is not None
    pairs = {(int(nodes[a]), int(nodes[b])) for a, b in found.edges.T}
    chosen = set(nodes.tolist())
    assert pairs == {(a, b) for a, b in data.edges.T.tolist() if a in chosen and b in chosen}


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(town: RealNodeGraph, method: Any, settings: Any) -> None:
    small, large = (made(method, town.train, settings=settings, ipc=count) for count in (2, 5))
    for label in range(3):
        firsts, all_of_them = (each.indices[each.labels == label].tolist() for each in (small, large))  # type: ignore[index]
        assert all_of_them[:2] == firsts


def first_nodes(data: TrainingNodes, whole: NodeGraphSet, count: int, form: str) -> NodeGraphSet:
    """The set of the first so many nodes, the classes of `whole` taking turns."""
    assert whole.indices is not None
    orders = [whole.indices[whole.labels == label].tolist() for label in range(3)]
    rounds = [node for turn in zip_longest(*orders) for node in turn if node is not None]
    nodes = torch.tensor(rounds[:count])
    known = dict(zip(data.indices.tolist(), data.labels.tolist()))
    labels = torch.tensor([known[node] for node in nodes.tolist()])
    if form == "propagated":
        return NodeGraphSet(features=propagated(data, 2)[nodes].float(), labels=labels, info=data.info)
    pairs = [(a, b) for a, b in data.edges.T.tolist() if a in rounds[:count] and b in rounds[:count]]
    edges = torch.tensor([[rounds.index(end) for end in pair] for pair in pairs], dtype=torch.int64).view(-1, 2).T
    return NodeGraphSet(features=data.features[nodes], labels=labels, info=data.info, edges=edges)


@pytest.mark.parametrize(("method", "settings"), METHODS)
@pytest.mark.parametrize("form", ["induced", "propagated"])
def test_bytes_are_used_and_never_exceeded(town: RealNodeGraph, method: Any, settings: Any, form: str) -> None:
    settings = {**settings, "form": form}
    whole = made(method, town.train, settings=settings, ipc=99)
    for limit in (whole.bytes // 3, whole.bytes // 2):
        found = made(method, town.train, settings=settings, bytes=limit)
        assert found.bytes == first_nodes(town.train, whole, len(found), form).bytes <= limit
        assert first_nodes(town.train, whole, len(found) + 1, form).bytes > limit
    assert len(made(method, town.train, settings=settings, bytes=whole.bytes)) == len(whole)


def test_sizes_count_nodes_of_known_class(town: RealNodeGraph) -> None:
    counts = torch.tensor(town.train.class_counts())
    assert torch.equal(torch.bincount(made(RandomNodes, town.train, ipc=99).labels), counts)
    share = made(RandomNodes, town.train, fraction=0.1)  # of all 74 nodes
    assert len(share) == 7
    assert len(made(RandomNodes, town.train, fraction=1.0)) == 30


def test_seeds_draw_at_random(town: RealNodeGraph) -> None:
    chosen = [made(RandomNodes, town.train, seed=seed, ipc=3).indices.tolist() for seed in range(3)]  # type: ignore[union-attr]
    assert chosen[0] != chosen[1] != chosen[2]


def test_herding_follows_the_mean_and_k_center_begins_there(town: RealNodeGraph) -> None:
    data = town.train
    view = node_view(data, "sgc", "hidden", seed=0, device=CPU)
    torch.testing.assert_close(view, dense_propagation(data, 2), atol=1e-12, rtol=0)
    herded, spread = (made(method, data, settings=BY_ROWS, ipc=3) for method in (HerdedNodes, SpreadNodes))
    for label in range(3):
        members = data.indices[data.labels == label]
        mean = view[members].mean(0)
        nearest = int(members[(view[members] - mean).norm(dim=1).argmin()])
        for found in (herded, spread):
            assert found.indices is not None
            assert int(found.indices[found.labels == label][0]) == nearest
        chosen = spread.indices[spread.labels == label]  # type: ignore[index]
        distances = torch.cdist(view[members], view[chosen[:2]]).min(1).values
        assert int(members[distances.argmax()]) == int(chosen[2])
        total, rest = torch.zeros_like(mean), members.tolist()
        for step, node in enumerate(herded.indices[herded.labels == label].tolist(), 1):  # type: ignore[index]
            assert node == min(rest, key=lambda node: float((total + view[node] - step * mean).norm()))
            total = total + view[node]
            rest.remove(node)


@pytest.mark.parametrize(("net", "embedding", "width"), [("gcn", "hidden", 256), ("sgc", "log-probabilities", 3)])
def test_networks_see_every_node(town: RealNodeGraph, net: str, embedding: Any, width: int) -> None:
    view, again = (node_view(town.train, net, embedding, seed=5, device=CPU) for _ in range(2))
    assert view.shape == (74, width)
    assert torch.equal(view, again)
    if embedding == "hidden":
        assert (view >= 0).all()
        return
    torch.testing.assert_close(view.exp().sum(1), torch.ones(74, dtype=torch.float64), atol=1e-6, rtol=0)
    right = view[town.train.indices].argmax(1) == town.train.labels
    assert right.double().mean() > 0.9
    assert len(made(HerdedNodes, town.train, settings={"net": net, "embedding": embedding}, ipc=2)) == 6


def test_where_training_sees_its_own_nodes_only_indices_are_those_of_the_whole_graph(town: RealNodeGraph) -> None:
    data = inductive(town)
    assert len(data.features) == 30
    found = made(RandomNodes, data, ipc=3)
    assert found.indices is not None
    assert torch.equal(found.features, town.features[found.indices])
    assert set(found.indices.tolist()) <= set(town.train.indices.tolist())


def inductive(town: RealNodeGraph) -> TrainingNodes:
    nodes = town.train.indices
    edges = edges_among(town.edges, nodes, len(town.features))
    return TrainingNodes(town.features[nodes], edges, torch.arange(30), town.train.labels, nodes, town.info)


@pytest.mark.parametrize(
    ("method", "settings", "size", "said"),
    [
        (RandomNodes, {}, {}, "a set needs a size: give --ipc"),
        (HerdedNodes, {}, {}, "a set needs a size"),
        (RandomNodes, {}, {"fraction": 0.01}, "less than one of each of 3 classes"),
        (RandomNodes, {}, {"bytes": 10}, "one node of each class takes"),
        (SpreadNodes, {"net": "gnc"}, {"ipc": 1}, "unknown node network 'gnc'.*gcn"),
    ],
)
def test_wrong_requests_say_the_way_out(town: RealNodeGraph, method: Any, settings: Any, size: Any, said: str) -> None:
    with pytest.raises(CondenseError, match=said):
        made(method, town.train, settings=settings, **size)


def test_settings_are_closed() -> None:
    for wrong in ({"form": "whole"}, {"hops": 0}, {"embedding": "hidden"}):
        with pytest.raises(ValueError, match="validation error"):
            NodeSelectionSettings(**wrong)
    assert SeenNodesSettings().net == "gcn"


def test_cora_is_what_was_measured(shared: Path) -> None:
    data = load_graphs(shared / "planetoid" / "cora.npz")
    assert isinstance(data, RealNodeGraph)
    found = made(RandomNodes, data.train, settings={"form": "propagated"}, ipc=20)
    (result,) = evaluate_graphs(found, data, nets=["sgc"], runs=1).results
    assert 0.77 < result.mean < 0.81
