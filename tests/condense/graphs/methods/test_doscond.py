"""DosCond: its loss as written out by hand, derivatives, draws of edges, exact resume, bytes that are kept."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from condense.cli.main import main
from condense.graphs import distill_graphs, load_graphs
from condense.graphs.graphs import Graphs, from_counts
from condense.graphs.methods.bernoulli import (
    density,
    first_logits,
    relaxed_adjacency,
    symmetric_uniforms,
    temperature,
)
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.doscond import DosCond, DosCondSettings, dense_batch, excess_density, loss_gradient
from condense.graphs.methods.interface import GraphJob, GraphProduct
from condense.graphs.methods.padded import padded, unpadded
from condense.graphs.networks import GraphNetwork, Pool, build_graph_network
from condense.graphs.real import RealGraphs, TrainingGraphs
from condense.graphs.sets import GraphSet
from condense.graphs.structure import DenseGraphs, Edges, Undirected
from condense.matching import match_gradients_relative
from condense.recipes import load_recipe
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator

SMALL: dict[str, Any] = {"iterations": 6, "drop_at": 3, "real_batch": 8, "width": 8, "layers": 2, "structure_lr": 1.0}


def job(data: RealGraphs, iterations: int = 6, **options: Any) -> GraphJob[TrainingGraphs]:
    size = options.pop("budget", GraphBudget(ipc=2))
    return GraphJob(data=data.train, budget=size, iterations=iterations, **options)


def made(data: RealGraphs, settings: dict[str, Any] | None = None, **options: Any) -> GraphProduct:
    asked, chosen = job(data, **options), DosCondSettings(**(SMALL | (settings or {})))
    DosCond.check(asked.data, asked.budget, chosen)
    return DosCond.make(asked, chosen)


def random_graphs(sizes: tuple[int, ...], features: int) -> tuple[Graphs, Tensor]:
    """Without direction, and features of their nodes in float64."""
    draws = torch.Generator().manual_seed(0)
    edges = []
    for size in sizes:
        upper = (torch.rand(size, size, generator=draws) < 0.5).triu(1)
        edges.append((upper | upper.T).nonzero().T)
    x = torch.randn(sum(sizes), features, generator=draws, dtype=torch.float64)
    counts = torch.tensor([pairs.shape[1] for pairs in edges])
    return Graphs(from_counts(torch.tensor(sizes)), from_counts(counts), torch.cat(edges, 1), features=x.float()), x


# ---- the same graphs in other forms


@pytest.mark.parametrize("name", ["gcn", "sgc", "gin", "sage"])
def test_dense_and_sparse_forms_say_the_same(name: str) -> None:
    graphs, x = random_graphs((3, 5, 1, 4), features=3)
    dense = padded(graphs, x, nodes=6)
    network = build_graph_network(name, 3, 2, seed=0).double()
    pool = Pool(graphs.graph_of_node, len(graphs))
    expected = network(x, Edges(graphs.joined_edges, graphs.nodes), pool)
    junk = torch.where(dense.there[:, :, None], dense.features, 7.0)  # what stands where no node is does not count
    torch.testing.assert_close(network(*dense_batch(junk, dense.adjacency, dense.there)), expected, rtol=0, atol=1e-10)
    undirected = network(x, Undirected(graphs.joined_edges, graphs.nodes), pool)
    torch.testing.assert_close(undirected, expected, rtol=0, atol=1e-10)


def test_derivatives_of_one_sparse_matrix_are_those_along_edges() -> None:
    graphs, x = random_graphs((4, 5), features=3)
    x.requires_grad_()
    along = torch.autograd.grad(Edges(graphs.joined_edges, 9).normalized(x).square().sum(), x)[0]
    matrix = Undirected(graphs.joined_edges, 9)
    torch.testing.assert_close(torch.autograd.grad(matrix.normalized(x).square().sum(), x)[0], along)
    assert torch.autograd.gradgradcheck(matrix.normalized, x)


def test_padding_and_back_is_the_same() -> None:
    graphs, x = random_graphs((3, 5, 1), features=2)
    dense = padded(graphs, x.float(), nodes=7)
    assert dense.there.sum(1).tolist() == [3, 5, 1]
    back = unpadded(dense.features, dense.adjacency > 0, dense.there)
    for name in ("node_ptr", "edge_ptr", "features"):
        assert torch.equal(getattr(back, name), getattr(graphs, name))
    assert torch.equal(back.edges, graphs.edges)
    there = dense.there.flip(1)
    moved = unpadded(dense.features.flip(1), dense.adjacency.flip(1, 2) > 0, there)  # padding comes first
    assert moved.node_counts.tolist() == [3, 5, 1]
    assert torch.equal(moved.degrees.float(), dense.adjacency.sum(2).flip(1)[there].float())


# ---- edges


def test_draws_are_symmetric_without_loops_and_between_nodes_that_are_there() -> None:
    there = torch.tensor([[True] * 4, [True, True, True, False]])
    pairs = there[:, :, None] & there[:, None, :]
    logits = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1))
    uniforms = symmetric_uniforms(2, 4, torch.Generator().manual_seed(2))
    assert torch.equal(uniforms, uniforms.transpose(1, 2))
    for heat in (1.0, 0.1):
        drawn = relaxed_adjacency(logits, uniforms, heat, pairs)
        assert torch.equal(drawn, drawn.transpose(1, 2))
        assert not drawn.diagonal(dim1=1, dim2=2).any()
        assert not drawn[1, 3].any()
        assert not drawn[1, :, 3].any()
        assert (drawn >= 0).all()
        assert (drawn <= 1).all()


def test_cold_draws_are_edges_with_the_probability_of_their_logits() -> None:
    count = 20_000
    logits = torch.tensor([[0.0, 1.0, -2.0], [1.0, 0.0, 0.3], [-2.0, 0.3, 0.0]])
    uniforms = symmetric_uniforms(count, 3, torch.Generator().manual_seed(0))
    pairs = torch.ones(count, 3, 3, dtype=torch.bool)
    drawn = relaxed_adjacency(logits.expand(count, 3, 3), uniforms, 1e-4, pairs)
    assert ((drawn < 1e-3) | (drawn > 1 - 1e-3)).float().mean() > 0.998
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float(drawn[:, a, b].mean()) == pytest.approx(float(logits[a, b].sigmoid()), abs=0.012)  # 3.4 sigma


def test_uniforms_at_their_bounds_are_finite_draws() -> None:
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    pairs = torch.ones(1, 2, 2, dtype=torch.bool)
    for bound in (0.0, 1 - 2**-24):
        drawn = relaxed_adjacency(logits, torch.full((1, 2, 2), bound), 0.01, pairs)
        assert torch.autograd.grad(drawn.sum(), logits)[0].isfinite().all()
        assert float(drawn.detach()[0, 0, 1]) == pytest.approx(round(bound))


def test_graphs_begin_nearly_sure_of_their_edges() -> None:
    adjacency = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    torch.testing.assert_close(first_logits(adjacency), 10 * adjacency - 5)
    assert temperature(0) == 1
    assert temperature(199) > temperature(200) == temperature(999) == 0.01


# ---- the loss


def naive_logits(network: GraphNetwork, x: Tensor, adjacency: Tensor) -> Tensor:
    """Of one graph, node by node."""
    count = len(x)
    degrees = [1 + sum(float(adjacency[i, j]) for j in range(count)) for i in range(count)]
    for layer in network.body:
        weight, bias = layer.linear.weight, layer.linear.bias
        rows = []
        for i in range(count):
            heard = x[i] / degrees[i]
            for j in range(count):
                heard = heard + adjacency[i, j] * x[j] / (degrees[i] * degrees[j]) ** 0.5
            rows.append((weight @ heard + bias).clamp(min=0))
        x = torch.stack(rows)
    return network.head.weight @ (sum(x) / count) + network.head.bias


def naive_gradient(network: GraphNetwork, graphs: list[tuple[Tensor, Tensor]], label: int) -> list[float]:
    losses = [-naive_logits(network, x, a).log_softmax(0)[label] for x, a in graphs]
    gradients = torch.autograd.grad(sum(losses) / len(losses), list(network.parameters()))
    return [float(value) for gradient in gradients for value in gradient.flatten()]


def in_double(data: RealGraphs, **settings: Any) -> tuple[DosCond, GraphNetwork]:
    """A run at its start, moved away from real graphs, and a network, in float64."""
    maker = DosCond(job(data, seed=3), DosCondSettings(**(SMALL | {"real_batch": 1000} | settings)))
    draws = torch.Generator().manual_seed(0)
    for name, value in maker.learned.items():
        noise = torch.randn(value.shape, generator=draws, dtype=torch.float64)
        noise = noise + noise.transpose(1, 2) if name == "edge_logits" else noise
        maker.learned[name] = (0.3 * value.detach().double() + noise).requires_grad_()
    for label in range(2):
        x, structure, pool = maker.real_batch(0, label)
        maker.whole[label] = (x.double(), structure, pool)
    return maker, maker.network(0).double()


@pytest.mark.parametrize("padding", [False, True])
def test_the_loss_is_the_one_written_out_by_hand(data: RealGraphs, padding: bool) -> None:
    maker, network = in_double(data, compat_padding=padding)
    features, logits = (maker.learned[name].detach() for name in ("features", "edge_logits"))
    uniforms = symmetric_uniforms(*logits.shape[:2], generator(3, "edges", 0)).double()
    nodes, expected, graph = logits.shape[1], 0.0, 0
    for label in (0, 1):
        made = []
        for _ in range(2):
            size = nodes if padding else int(maker.there[graph].sum())
            a = torch.zeros(size, size, dtype=torch.float64)
            for i in range(size):
                for j in range(size):
                    u, phi = uniforms[graph, i, j], (logits[graph, i, j] + logits[graph, j, i]) / 2
                    if i != j:
                        a[i, j] = 1 / (1 + torch.exp(-(phi + torch.log(u) - torch.log(1 - u)) / temperature(0)))
            made.append((features[graph, :size], a))
            graph += 1
        real = []
        for index in data.train.class_indices(label).tolist():
            one = data.train.graphs.at(torch.tensor([index]))
            a = torch.zeros(one.nodes, one.nodes, dtype=torch.float64)
            a[one.edges[0], one.edges[1]] = 1
            real.append((data.info.alphabet.table[one.node_labels].double(), a))
        theirs, ours = naive_gradient(network, real, label), naive_gradient(network, made, label)
        expected += sum((s - r) ** 2 for s, r in zip(ours, theirs)) / sum(r**2 for r in theirs)
    assert float(maker.distance(0, network).detach()) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_density_counts_what_is_more_than_at_the_start() -> None:
    there = torch.tensor([[True, True, False]])
    pairs = there[:, :, None] & there[:, None, :]
    logits = torch.zeros(1, 3, 3)
    assert float(density(logits.sigmoid(), pairs)) == 0.5
    assert float(excess_density(logits, pairs, 0.2)) == pytest.approx(0.3)
    assert float(excess_density(logits, pairs, 0.7)) == 0


@pytest.mark.parametrize("name", ["features", "edge_logits"])
def test_derivatives_are_finite_differences(data: RealGraphs, name: str) -> None:
    """Of the whole loss, with the same draws; where the density is above that of the start."""
    maker, network = in_double(data, width=5)

    def loss() -> Tensor:
        excess = excess_density(maker.learned["edge_logits"], maker.pairs, maker.first_density)
        assert excess > 0
        return maker.distance(0, network) + 10 * excess

    value = maker.learned[name]
    gradient = torch.autograd.grad(loss(), value)[0]
    assert not gradient[~maker.there].any() if name == "features" else not gradient[~maker.pairs].any()
    largest = gradient.abs().flatten().argsort(descending=True)[:12]
    assert gradient.abs().max() > 1e-6
    for place in largest.tolist():
        sides = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                value.view(-1)[place] += step
            sides.append(float(loss().detach()))
            with torch.no_grad():
                value.view(-1)[place] -= step
        difference = (sides[0] - sides[1]) / 2e-5
        assert float(gradient.view(-1)[place]) == pytest.approx(difference, rel=2e-5, abs=1e-9)


def test_gradients_are_those_of_a_module_trained_the_usual_way(data: RealGraphs) -> None:
    maker = DosCond(job(data), DosCondSettings(**SMALL))
    network = maker.network(0)
    x, structure, pool = maker.real_batch(0, 1)
    found = loss_gradient(network, (x, structure, pool), 1)
    logits = network(x, structure, pool)
    F.cross_entropy(logits, torch.ones(len(logits), dtype=torch.int64)).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)
    assert float(match_gradients_relative(found, found)) == 0


def test_directed_graphs_are_read_along_their_edges(data: RealGraphs) -> None:
    """And start as graphs without direction; here both are the same."""
    train = TrainingGraphs(data.train.graphs, data.train.labels, dataclasses.replace(data.info, directed=True))
    makers = [
        DosCond(GraphJob(data=part, budget=GraphBudget(ipc=1)), DosCondSettings(**SMALL))
        for part in (data.train, train)
    ]
    assert isinstance(makers[1].real_batch(0, 0)[1], Edges)
    plain, directed = (maker.distance(0, maker.network(0)).detach() for maker in makers)
    torch.testing.assert_close(plain, directed)


# ---- runs


def same(a: GraphSet, b: GraphSet) -> bool:
    first, second = a.arrays(), b.arrays()
    return first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_run_that_was_stopped_goes_on_exactly(data: RealGraphs, tmp_path: Path, stop: int) -> None:
    """Before, at and after the update at which Adam begins anew."""
    whole = made(data, seed=1)
    place = tmp_path / "run"
    made(data, seed=1, iterations=stop, checkpoint=place)
    rest = made(data, seed=1, checkpoint=place)
    assert rest.facts["resumed_at"] == stop
    assert same(rest.made, whole.made)
    for name, values in whole.metrics.items():
        assert torch.equal(rest.metrics[name], values)


def test_adam_begins_anew_at_a_tenth_of_the_rates(data: RealGraphs) -> None:
    maker = DosCond(job(data), DosCondSettings(**SMALL))
    before = maker.learned["features"].detach().clone()
    for iteration, rate in enumerate((0.01, 0.01, 0.01, 0.001)):
        maker.step(iteration)
        if iteration in (0, 3):  # the first update of an Adam is its rate, wherever there is a gradient
            change = (maker.learned["features"].detach() - before).abs()
            assert float(change.max()) == pytest.approx(rate, rel=1e-2)
            assert float(change[maker.there].median()) == pytest.approx(rate, rel=1e-2)
        before = maker.learned["features"].detach().clone()
    assert not before[~maker.there].any()


def test_the_same_seed_gives_the_same_set_and_the_global_state_decides_nothing(data: RealGraphs) -> None:
    first = made(data, seed=5)
    torch.manual_seed(99)
    assert same(made(data, seed=5).made, first.made)
    assert not same(made(data, seed=6).made, first.made)


def test_the_loss_falls(data: RealGraphs) -> None:
    losses = made(data, {"real_batch": 100, "drop_at": 40, "width": 32}, iterations=60, seed=1).metrics["loss"]
    assert losses[-10:].mean() < 0.7 * losses[:10].mean()


def test_a_set_holds_features_and_the_edges_that_are_likely(data: RealGraphs, tmp_path: Path) -> None:
    maker = DosCond(job(data, budget=GraphBudget(ipc=3)), DosCondSettings(**SMALL))
    start = maker.synthetic()
    assert start.class_counts == (3, 3)
    assert start.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert int(start.graphs.node_counts.max()) <= maker.there.shape[1]
    assert (start.graphs.degrees > 0).all()  # rings and paths, as in the data
    with torch.no_grad():
        maker.learned["edge_logits"].fill_(-1)
        maker.learned["edge_logits"][0, 0, 1] = 1.5  # with the other direction 0.25: likely
    learned = maker.synthetic()
    assert learned.graphs.edges.tolist() == [[0, 1], [1, 0]]
    learned.save(tmp_path / "set.h5")
    assert same(GraphSet.load(tmp_path / "set.h5"), learned)
    assert learned.check_matches(data.info) is None


def test_released_padding_stores_every_node(data: RealGraphs) -> None:
    product = made(data, {"compat_padding": True, "nodes": 7})
    assert product.made.graphs.node_counts.tolist() == [7] * 4
    assert max(made(data, {"nodes": 5}).made.graphs.node_counts.tolist()) <= 5


def test_a_size_may_be_a_fraction_or_more_than_there_is(data: RealGraphs) -> None:
    assert made(data, iterations=1, budget=GraphBudget(fraction=0.25)).made.class_counts == (4, 4)
    assert made(data, iterations=1, budget=GraphBudget(ipc=30)).made.class_counts == (30, 30)


# ---- bytes


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", [400, 1500])
def test_bytes_are_kept_and_used(data: RealGraphs, size: int, half: bool) -> None:
    product = made(data, {"half": half}, budget=GraphBudget(bytes=size), seed=2)
    found = product.made
    assert found.bytes <= size
    assert len(set(found.class_counts)) == 1
    more = made(data, {"half": half}, iterations=1, budget=GraphBudget(ipc=found.class_counts[0] + 1), seed=2)
    assert more.made.bytes > size


def test_edges_beyond_the_bytes_are_the_least_likely(data: RealGraphs) -> None:
    maker = DosCond(job(data, budget=GraphBudget(bytes=700)), DosCondSettings(**SMALL))
    room = maker.synthetic().graphs.edges.shape[1] // 2
    draws = torch.rand(maker.learned["edge_logits"].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maker.learned["edge_logits"].copy_(1 + draws + draws.transpose(1, 2))
        maker.learned["features"].fill_(1 / 3)
    every = maker.pairs & ~torch.eye(maker.there.shape[1], dtype=torch.bool)
    found = maker.synthetic()
    kept = found.graphs.edges.shape[1] // 2
    assert room <= kept < int(every.sum()) // 2
    assert found.bytes <= 700
    dense = padded(found.graphs, found.graphs.features, maker.there.shape[1]).adjacency > 0
    logits = maker.learned["edge_logits"].detach()
    assert logits[dense].min() >= logits[every & ~dense].max()


# ---- what is refused, and recipes


@pytest.mark.parametrize(
    ("budget", "settings", "said"),
    [
        ({}, {}, "a set needs a size"),
        ({"ipc": 1}, {"nodes": 2}, "give --nodes 4 or more"),
        ({"bytes": 20}, {}, "one graph of each class takes"),
        ({"fraction": 0.01}, {}, "less than one of each"),
    ],
)
def test_what_cannot_be_says_the_way_out(
    data: RealGraphs, budget: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(CondenseError, match=said):
        made(data, settings, budget=GraphBudget(**budget))


def test_a_class_without_graphs_is_named(data: RealGraphs) -> None:
    train = data.train.subset(data.train.class_indices(1))
    with pytest.raises(CondenseError, match="no training graph of class '-1'"):
        DosCond.check(train, GraphBudget(ipc=1), DosCondSettings())


@pytest.mark.parametrize(
    ("name", "rate"),
    [("DD", 2), ("NCI1", 1), ("MUTAG", 0.1), ("ogbg_molbace", 0.01), ("ogbg_molbbbp", 2), ("PROTEINS", 1)],
)
def test_published_rates_of_structure(name: str, rate: float) -> None:
    settings = DosCondSettings(**load_recipe("doscond", None, "graphs").settings_for(name, 10))
    assert settings == DosCondSettings(structure_lr=rate)


def test_a_command_makes_the_same_file_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = distill_graphs(
        "doscond", load_graphs(folder), bytes=1500, out=tmp_path / "a.h5", **(SMALL | {"half": True})
    )
    assert isinstance(first, GraphSet)
    assert first.bytes <= 1500
    assert first.provenance["configuration"]["settings"]["beta"] == 0.1
    monkeypatch.setenv("CONDENSE_DATA", str(folder.parent))
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(first.provenance["command"])[1:]) == 0
    capsys.readouterr()
    assert (tmp_path / "set.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_features_of_their_own_are_learned_as_well(data: RealGraphs) -> None:
    features = torch.rand(data.train.graphs.nodes, 4, generator=torch.Generator().manual_seed(0))
    graphs = dataclasses.replace(data.train.graphs, node_labels=None, features=features, edge_labels=None)
    info = dataclasses.replace(data.info, alphabet=None, features=4)
    product = DosCond.make(
        GraphJob(data=TrainingGraphs(graphs, data.train.labels, info), budget=GraphBudget(ipc=1), iterations=2),
        DosCondSettings(**SMALL),
    )
    assert product.made.graphs.features.shape[1] == 4
    assert DenseGraphs(torch.zeros(1, 2, 2)).mean(torch.ones(2, 1)).tolist() == [[0], [0]]
