"""GCond lowers the loss of its equation, by gradients that are right, and a run that was stopped goes on exactly."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condense.graphs.evaluate import evaluate_graphs
from condense.graphs.methods import learned_nodes, matched_networks
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.gcond import GCond, GCondSettings, roughness
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.learned_nodes import LearnedNodeGraph, kept_edges, node_counts, stored_bytes
from condense.graphs.methods.matched_networks import RealNeighbourhoods, fresh_parameters, layer_outputs, seen_learned
from condense.graphs.networks import NodeNetwork, build_node_network
from condense.graphs.protocols import PROTOCOLS
from condense.graphs.real import RealNodeGraph, TrainingNodes
from condense.graphs.sets import NodeGraphSet
from condense.graphs.structure import Dense, Edges, row_normalized
from condense.recipes import load_recipe
from condense.runtime.errors import CondenseError

EXACT = {"neighbours": "all"}
FORMS: dict[str, dict[str, Any]] = {
    "gcond": {},
    "gcond, gcn": {"net": "gcn"},
    "gcond-x": {"structure": "none"},
    "one-step": {"net": "gcn", "distance": "mse", "outer": 1, "inner": 0},
    "smooth": {"smoothness": 0.3},
}
QUICK = {"outer": 3, "inner": 2, "feature_lr": 0.01, "adjacency_lr": 0.01}


def method(train: TrainingNodes, budget: GraphBudget | None = None, seed: int = 0, **settings: Any) -> GCond:
    job = GraphJob(data=train, budget=budget or GraphBudget(ipc=3), seed=seed)
    return GCond(job, GCondSettings(**settings))


def in_double(train: TrainingNodes, **settings: Any) -> GCond:
    """A method all of whose numbers are float64 and whose real nodes hear all neighbours."""
    made = method(dataclasses.replace(train, features=train.features.double()), **(EXACT | settings))
    if made.generator is not None:
        made.generator.double()
    return made


def doubled(made: GCond) -> tuple[NodeNetwork, dict[str, Tensor]]:
    """A random network as the rest of condense has it, and its parameters as the method has them."""
    classes = len(made.rows)
    network = build_node_network(made.settings.net, 12, classes, layers=2, width=256, dropout=0.0, seed=5).double()
    return network, {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}


def naive_loss(made: GCond, network: NodeNetwork) -> Tensor:
    """The equation, with whole graphs through the network, class by class and unit by unit."""
    data, settings = made.data, made.settings
    x = row_normalized(data.features)
    adjacency = made.adjacency()
    small = Dense(torch.zeros(len(made.labels), len(made.labels)).double() if adjacency is None else adjacency)
    total = torch.zeros((), dtype=torch.float64)
    counts = [int((made.labels == label).sum()) for label in range(3)]
    for label in range(3):
        parameters = list(network.parameters())
        nodes = data.indices[data.labels == label]
        logits = network(x, Edges(data.edges, len(x)))[nodes]
        real = torch.autograd.grad(F.cross_entropy(logits, torch.full((len(nodes),), label)), parameters)
        own = made.labels == label
        loss = F.cross_entropy(network(made.features, small)[own], made.labels[own])
        found = torch.autograd.grad(loss, parameters, create_graph=True)
        distance = torch.zeros((), dtype=torch.float64)
        for left, right in zip(real, found):
            if settings.distance == "mse":
                distance = distance + ((left - right) ** 2).sum()
            elif left.dim() == 2:
                for one, other in zip(left, right):
                    distance = distance + 1 - (one @ other) / (one.norm() * other.norm() + 1e-6)
        total = total + counts[label] / max(counts) * distance
    if adjacency is not None:
        total = total + settings.smoothness * naive_roughness(adjacency, made.labels)
    return total


def naive_roughness(adjacency: Tensor, labels: Tensor) -> Tensor:
    degrees = adjacency.sum(1) + 1e-8
    total = torch.zeros((), dtype=adjacency.dtype)
    for label in labels.unique():
        y = (labels == label).to(adjacency.dtype)
        laplacian = (degrees - 1e-8).diag() - adjacency
        total = total + (y / degrees.sqrt()) @ laplacian @ (y / degrees.sqrt())
    return total


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_that_of_the_equation(communities: RealNodeGraph, form: str) -> None:
    made = in_double(communities.train, budget=GraphBudget(fraction=0.2), **FORMS[form])
    assert len({len(rows) for rows in made.rows}) > 1  # classes count differently
    network, parameters = doubled(made)
    found = made.loss(parameters, made.adjacency(), 0, 0)
    torch.testing.assert_close(found, naive_loss(made, network), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_its_gradient_is_that_of_finite_differences(communities: RealNodeGraph, form: str) -> None:
    made = in_double(communities.train, **FORMS[form])
    _, parameters = doubled(made)
    draws = torch.Generator().manual_seed(0)

    def loss() -> Tensor:
        return made.loss(parameters, made.adjacency(), 0, 0)

    moved = list(made.learned.values())
    for value, gradient in zip(moved, torch.autograd.grad(loss(), moved)):
        direction = torch.randn(value.shape, generator=draws, dtype=torch.float64)
        step = 1e-5 / direction.norm()
        with torch.no_grad():
            value += step * direction
        above = loss().detach()
        with torch.no_grad():
            value -= 2 * step * direction
        below = loss().detach()
        with torch.no_grad():
            value += step * direction
        torch.testing.assert_close((gradient * direction).sum(), (above - below) / (2 * step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("net", ["sgc", "gcn"])
def test_propagated_features_say_what_the_whole_graph_says(communities: RealNodeGraph, net: Any) -> None:
    train = dataclasses.replace(communities.train, features=communities.features.double())
    network = build_node_network(net, 12, 3, layers=2, width=256, dropout=0.0, seed=1).double()
    parameters = dict(network.named_parameters())
    made = fresh_parameters(net, 12, 3, seed=1, device=torch.device("cpu"))
    assert all(torch.equal(made[name].double(), value) for name, value in parameters.items())
    real = RealNeighbourhoods(train, net, torch.device("cpu"))
    whole = network(row_normalized(train.features), Edges(train.edges, 60))
    for nodes in (torch.tensor([7]), torch.tensor([40, 3, 22]), torch.arange(60)):
        torch.testing.assert_close(layer_outputs(parameters, real.seen(nodes))[-1], whole[nodes], rtol=0, atol=1e-12)
    adjacency = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).triu(1)
    adjacency = adjacency + adjacency.T
    for given in (adjacency, None):
        found = layer_outputs(parameters, seen_learned(net, train.features[:5], given))[-1]
        structure = Dense(torch.zeros(5, 5).double() if given is None else given)
        torch.testing.assert_close(found, network(train.features[:5], structure), rtol=0, atol=1e-12)


def dense_normalized(data: TrainingNodes) -> Tensor:
    """A^ of the whole graph, [N, N], row i what node i hears."""
    a = torch.zeros(len(data.features), len(data.features), dtype=data.features.dtype)
    a[data.edges[1], data.edges[0]] = 1
    a = a + torch.eye(len(a), dtype=a.dtype)
    return a / (a.sum(1)[:, None] * a.sum(1)).sqrt()


@pytest.mark.parametrize("net", ["sgc", "gcn"])
def test_sampled_neighbours_are_entries_of_the_adjacency(
    communities: RealNodeGraph, monkeypatch: pytest.MonkeyPatch, net: Any
) -> None:
    train = dataclasses.replace(communities.train, features=communities.features.double())
    x, whole, nodes = row_normalized(train.features), dense_normalized(train), torch.tensor([40, 3, 22])
    real = RealNeighbourhoods(train, net, torch.device("cpu"))
    assert (whole[nodes] > 0).sum(1).max() > 2
    monkeypatch.setattr(matched_networks, "HEARD", (len(x), len(x)))
    everyone, exact = real.seen(nodes, torch.Generator().manual_seed(0)), real.seen(nodes)
    torch.testing.assert_close(everyone.inputs, exact.inputs, rtol=0, atol=1e-12)
    monkeypatch.setattr(matched_networks, "HEARD", (2, 1))
    heard, speaking = (whole > 0).nonzero(as_tuple=True)
    messages = whole[heard, speaking, None] * x[speaking]
    draws = torch.Generator().manual_seed(0)
    for _ in range(20):
        seen = real.seen(nodes, draws)
        if seen.mix is None:
            assert seen.inputs.shape == (3, 12)
            continue
        nearest = (seen.inputs[:, None] - messages).abs().amax(2).amin(1)
        torch.testing.assert_close(nearest, torch.zeros_like(nearest), rtol=0, atol=1e-12)  # of one neighbour each
        assert ((seen.mix > 0).sum(1) == (whole[nodes] > 0).sum(1).clamp(max=2)).all()
        for node, mixed in zip(nodes, seen.mix):
            found = mixed[mixed > 0]
            nearest = (whole[node] - found[:, None]).abs().amin(1)
            torch.testing.assert_close(nearest, torch.zeros_like(nearest), rtol=0, atol=1e-12)


def test_each_neighbour_is_sampled_as_often(communities: RealNodeGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matched_networks, "HEARD", (2, 1))
    real = RealNeighbourhoods(communities.train, "gcn", torch.device("cpu"))
    whole, draws = dense_normalized(communities.train), torch.Generator().manual_seed(0)
    node = int((whole > 0).sum(1).argmax())
    near = (whole[node] > 0).nonzero().flatten()
    counts = torch.zeros(len(whole))
    for _ in range(2000):
        rows, entries = real._heard(torch.tensor([node]), 2, draws)
        assert rows.tolist() == [0, 0]
        counts[real.sources[entries]] += 1
    assert counts.sum() == counts[near].sum() == 4000
    expected = 4000 / len(near)
    assert ((counts[near] - expected).abs() < 5 * expected**0.5).all()


def test_smoothness_is_a_trace() -> None:
    adjacency = torch.rand(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).triu(1)
    adjacency, labels = adjacency + adjacency.T, torch.tensor([0, 0, 1, 1, 1, 2])
    torch.testing.assert_close(roughness(adjacency, labels), naive_roughness(adjacency, labels), rtol=0, atol=1e-12)


def test_generator_and_features_move_in_turn(communities: RealNodeGraph) -> None:
    made = method(communities.train, **QUICK)
    assert made.generator is not None

    def moved_by(iteration: int) -> tuple[bool, bool]:
        before = {name: value.detach().clone() for name, value in made.learned.items()}
        made.step(iteration)
        changed = {name: not torch.equal(value, before[name]) for name, value in made.learned.items()}
        return changed.pop("features"), any(changed.values())

    assert [moved_by(iteration) for iteration in (0, 9, 10, 49, 50)] == [
        (False, True), (False, True), (True, False), (True, False), (False, True),
    ]  # fmt: skip
    free = method(communities.train, structure="none", **QUICK)
    free.step(0)
    assert free.generator is None
    assert list(free.learned) == ["features"]
    assert not torch.equal(free.features, method(communities.train, structure="none", **QUICK).features)


def test_it_starts_from_training_nodes_of_the_class(communities: RealNodeGraph) -> None:
    train = communities.train
    made = method(train, GraphBudget(ipc=9))
    x = row_normalized(train.features)
    for label, rows in enumerate(made.rows):
        members = x[train.indices[train.labels == label]]
        assert (made.labels[rows] == label).all()
        found = made.features[rows].detach()
        assert (found[:, None] == members).all(2).any(1).all()
        seven = method(train, GraphBudget(ipc=len(members)))
        ordered = [sorted(values.tolist()) for values in (seven.features[seven.rows[label]].detach(), members)]
        assert ordered[0] == ordered[1]  # each one once, before any comes again
    assert not torch.equal(made.features, method(train, GraphBudget(ipc=9), seed=1).features)


def test_large_classes_are_sampled(communities: RealNodeGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = method(communities.train, net="gcn", **EXACT)
    monkeypatch.setattr(learned_nodes, "_MOST_REAL", 4)
    made = method(communities.train, net="gcn", **EXACT)
    rows = [made.real_seen(1, 0, update) for update in (0, 1, 0)]
    assert all(seen.mix is not None and len(seen.mix) == 4 for seen in rows)
    assert torch.equal(rows[0].inputs, rows[2].inputs)
    assert not torch.equal(rows[0].inputs, rows[1].inputs)
    seen = whole.real_seen(1, 0, 0)
    assert seen.mix is not None
    assert len(seen.mix) == len(whole.members[1])


def run(train: TrainingNodes, iterations: int, seed: int = 0, **changes: Any) -> NodeGraphSet:
    settings = GCondSettings(iterations=iterations, **(QUICK | changes.pop("settings", {})))
    job = GraphJob(data=train, budget=GraphBudget(ipc=2), seed=seed, iterations=iterations, **changes)
    product = GCond.make(job, settings)
    assert len(product.metrics["loss"]) == iterations
    assert isinstance(product.made, NodeGraphSet)
    return product.made


def same(one: NodeGraphSet, other: NodeGraphSet) -> bool:
    left, right = one.arrays(), other.arrays()
    return left.keys() == right.keys() and all(left[name].tobytes() == right[name].tobytes() for name in left)


@pytest.mark.parametrize("settings", [{}, {"structure": "none"}, {"net": "gcn", "distance": "mse"}])
def test_a_run_that_was_stopped_goes_on_exactly(
    communities: RealNodeGraph, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while the generator moves and again while the features do."""
    step = GCond.step
    for stop in (8, 12):
        path = tmp_path / f"{stop}.safetensors"

        def stopping(self: GCond, iteration: int, stop: int = stop) -> dict[str, float]:
            if iteration == stop:
                os.kill(os.getpid(), signal.SIGINT)
            return step(self, iteration)

        kept = {"checkpoint": path, "configuration": {"settings": settings}}
        with monkeypatch.context() as patch:
            patch.setattr(GCond, "step", stopping)
            with pytest.raises(KeyboardInterrupt):
                run(communities.train, 14, settings=settings, **kept)
        assert path.exists()
        resumed = run(communities.train, 14, settings=settings, **kept)
        assert same(resumed, run(communities.train, 14, settings=settings))


def test_a_run_follows_its_seed(communities: RealNodeGraph) -> None:
    before = torch.random.get_rng_state()
    first = run(communities.train, 3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(first, run(communities.train, 3))
    assert not same(first, run(communities.train, 3, seed=1))


def test_what_is_made_is_stored_and_trains_networks(communities: RealNodeGraph, tmp_path: Path) -> None:
    made = run(communities.train, 25, settings={"outer": 10, "inner": 5})
    assert not made.normalize_rows
    assert made.edge_weights is not None
    assert float(made.edge_weights.min()) >= 0.05
    made.save(tmp_path / "set.h5")
    assert same(made, NodeGraphSet.load(tmp_path / "set.h5"))
    quick = PROTOCOLS.find("node-desk").model_copy(update={"name": "quick", "epochs": 100, "width": 16})
    (result,) = evaluate_graphs(made, communities, nets=["sgc"], runs=1, protocol=quick).results
    assert result.mean > 0.6  # three classes
    free = run(communities.train, 3, settings={"structure": "none"})
    assert free.edges is None


def test_weak_edges_are_cut_and_others_stand_in_both_directions() -> None:
    draws = torch.rand(9, 9, generator=torch.Generator().manual_seed(0)).triu(1)
    adjacency = draws + draws.T
    edges, weights = kept_edges(adjacency, 0.5)
    assert weights is not None
    assert torch.equal(adjacency[edges[0], edges[1]], weights)
    assert edges.shape[1] == int((adjacency >= 0.5).sum())


@pytest.mark.parametrize("structure", ["learned", "none"])
@pytest.mark.parametrize("half", [False, True])
def test_bytes_are_kept_and_used(communities: RealNodeGraph, structure: Any, half: bool) -> None:
    settings = GCondSettings(structure=structure, half=half, iterations=1, **QUICK)
    learned = structure == "learned"
    for budget in (160, 333, 1000, 5000):
        job = GraphJob(data=communities.train, budget=GraphBudget(bytes=budget), iterations=1)
        made = GCond.make(job, settings).made
        nodes = len(made)
        assert made.bytes <= budget < stored_bytes(nodes + 1, 12, 3, learned=learned, half=half)


def test_counted_bytes_are_those_of_numbers_that_need_their_type(communities: RealNodeGraph) -> None:
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(11, 12, generator=draws)
    adjacency = torch.rand(11, 11, generator=draws).clamp(min=0.1).triu(1)
    edges, weights = kept_edges(adjacency + adjacency.T, 0.05)
    labels = torch.arange(11) % 3
    made = NodeGraphSet(features=features, labels=labels, info=communities.info, edges=edges, edge_weights=weights)
    assert made.bytes == stored_bytes(11, 12, 3, learned=True, half=False)
    assert made.rounded().bytes == stored_bytes(11, 12, 3, learned=True, half=True)


@pytest.mark.parametrize(
    ("budget", "settings", "message"),
    [
        ({}, {}, r"a set needs a size: give --ipc N of each class, --fraction F of all, or --bytes N"),
        ({"bytes": 100}, {}, r"--bytes 100: one node of each class takes 159; give as many or more"),
        ({"fraction": 0.01}, {}, r"less than one of each of 3 classes"),
        ({"ipc": 1000}, {}, r"3,000 nodes have too many pairs.*at most 2,000 nodes, or --structure none"),
        ({"ipc": 1}, {"smoothness": 0.5, "structure": "none"}, r"--smoothness 0.5 is of edges"),
    ],
)
def test_what_cannot_be_is_refused(
    communities: RealNodeGraph, budget: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(CondenseError, match=message):
        GCond.check(communities.train, GraphBudget(**budget), GCondSettings(**settings))


def test_classes_without_training_nodes_are_refused(communities: RealNodeGraph) -> None:
    train = communities.train
    kept = train.labels != 1
    fewer = dataclasses.replace(train, indices=train.indices[kept], labels=train.labels[kept])
    with pytest.raises(CondenseError, match="class 'b' of planted has no training nodes to start from"):
        GCond.check(fewer, GraphBudget(ipc=1), GCondSettings())


def test_fractions_are_of_all_nodes(communities: RealNodeGraph) -> None:
    assert sum(node_counts(communities.train, GraphBudget(fraction=0.2), GCondSettings())) == 12
    assert node_counts(communities.train, GraphBudget(ipc=30), GCondSettings()) == [30, 30, 30]


def test_the_one_step_form_is_a_recipe() -> None:
    recipe = load_recipe("gcond", "one-step", "nodes")
    settings = GCondSettings(**recipe.settings_for("cora", None))
    assert (settings.outer, settings.inner, settings.distance, settings.iterations) == (1, 0, "mse", 5000)
    assert GCondSettings(**recipe.settings_for("citeseer", None)).iterations == 3000
    assert issubclass(GCond, LearnedNodeGraph)
    assert GCond.Settings is GCondSettings
