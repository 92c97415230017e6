"""Codes are trees, forests say what graphs say, supports are right, explosions are refused before they happen."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from condense.graphs import protocols
from condense.graphs.data import load_graphs
from condense.graphs.graphs import Graphs, from_counts, joined
from condense.graphs.methods import itemsets
from condense.graphs.methods import mirage as module
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.codes import neighbours, refine
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.itemsets import frequent
from condense.graphs.methods.prefixes import longest_fitting
from condense.graphs.networks import build_graph_network
from condense.graphs.real import RealGraphs, TrainingGraphs
from condense.graphs.sets import GraphSet
from condense.graphs.structure import Edges
from condense.runtime.errors import CondenseError

MadeBy = Callable[..., GraphSet]


def random_graphs(count: int = 6, size: int = 12, labels: int = 2, seed: int = 0) -> Graphs:
    """With cycles; edges have labels."""
    draws = torch.Generator().manual_seed(seed)
    edges, numbers = [], []
    for _ in range(count):
        upper = (torch.rand(size, size, generator=draws) < 0.2).triu(1)
        pairs = (upper | upper.T).nonzero().T
        edges.append(pairs)
        numbers.append(pairs.sum(0) % 2)
    return Graphs(
        torch.arange(count + 1) * size,
        from_counts(torch.tensor([pairs.shape[1] for pairs in edges])),
        torch.cat(edges, 1),
        torch.randint(0, labels, (count * size,), generator=draws),
        edge_labels=torch.cat(numbers),
    )


def canonical(graphs: Graphs, node: int, hops: int, *, degrees: bool = False, edge_labels: bool = False) -> str:
    """The tree below a node, as text: what a code must stand for, without any interning."""
    heard = neighbours(graphs)

    def tree(node: int, left: int) -> str:
        own = f"{int(graphs.node_labels[node])}" + (f"d{len(heard[node])}" if degrees else "")
        if not left:
            return own
        below = [
            (f"-{int(graphs.edge_labels[edge])}" if edge_labels else "") + tree(other, left - 1)
            for other, edge in heard[node]
        ]
        return f"{own}({','.join(sorted(below))})"

    return tree(node, hops)


@pytest.mark.parametrize("options", [{}, {"degrees": True}, {"edge_labels": True}])
@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_equal_codes_are_equal_trees(hops: int, options: dict[str, bool]) -> None:
    graphs = random_graphs(count=4, size=8)
    codes = refine(graphs, hops, **options)
    trees = [canonical(graphs, node, hops, **options) for node in range(graphs.nodes)]
    pairs = set(zip(codes.of_node.tolist(), trees))
    assert len(pairs) == len({code for code, _ in pairs}) == len({tree for _, tree in pairs})
    assert len(codes.sizes) == len(pairs)
    for code, tree in pairs:
        assert codes.sizes[code] == 1 + tree.count("(") + tree.count(",") - (hops > 0 and "()" in tree) * tree.count(
            "()"
        )


@pytest.mark.parametrize("hops", [1, 2])
def test_equal_codes_are_isomorphic_trees(hops: int) -> None:
    networkx = pytest.importorskip("networkx")
    graphs = random_graphs(count=2, size=8)
    codes, heard = refine(graphs, hops).of_node.tolist(), neighbours(graphs)

    def tree(node: int) -> Any:
        found = networkx.Graph()
        found.add_node(0, label=int(graphs.node_labels[node]), depth=0)
        level = [(0, node)]
        for depth in range(1, hops + 1):
            below = []
            for place, real in level:
                for other, _ in heard[real]:
                    child = len(found)
                    found.add_node(child, label=int(graphs.node_labels[other]), depth=depth)
                    found.add_edge(place, child)
                    below.append((child, other))
            level = below
        return found

    trees = [tree(node) for node in range(graphs.nodes)]
    match = networkx.algorithms.isomorphism.categorical_node_match(["label", "depth"], [None, None])
    for a, b in combinations(range(graphs.nodes), 2):
        assert networkx.is_isomorphic(trees[a], trees[b], node_match=match) == (codes[a] == codes[b])


@pytest.mark.parametrize("degree", ["none", "label"])
@pytest.mark.parametrize("name", ["gin", "sage", "gat", "gcn", "sgc"])
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_a_root_says_what_its_node_says(data: RealGraphs, name: str, hops: int, degree: Any, made_by: MadeBy) -> None:
    """In float64; GCN and SGC only where degrees are stored."""
    pytest.importorskip("mlxtend")
    graphs = random_graphs()
    info = dataclasses.replace(data.info, alphabet=dataclasses.replace(data.info.alphabet, known=3))
    train = TrainingGraphs(graphs, torch.tensor([0, 1] * 3), info)
    made = made_by("mirage", train, hops=hops, support=1, largest=1, closed=False, degree=degree, edge_labels=True)
    network = build_graph_network(name, 3, 2, layers=hops, seed=0).double()
    table = torch.randn(3, 3, generator=torch.Generator().manual_seed(5)).double()
    real = network.nodes(table[graphs.node_labels], Edges(graphs.joined_edges, graphs.nodes))
    forest = made.graphs
    structure = Edges(forest.joined_edges, forest.nodes, degrees=made.degrees)
    roots = network.nodes(table[forest.node_labels], structure)[made.roots]
    codes = refine(graphs, hops, degrees=degree == "label", edge_labels=True).of_node
    distinct = {int(code): real[node] for node, code in enumerate(codes.tolist())}
    # one forest for each code of each class: every root is one of the distinct rows, and every row has a root
    rows = torch.stack([*distinct.values()])
    nearest = (roots.detach()[:, None] - rows.detach()).abs().amax(2)
    exact = name not in ("gcn", "sgc") or degree == "label"
    if exact:
        assert float(nearest.amin(1).max()) < 1e-10
        assert float(nearest.amin(0).max()) < 1e-10
    else:
        assert float(nearest.amin(1).max()) > 1e-10


def brute(transactions: list[set[int]], least: int, largest: int, closed: bool) -> dict[frozenset[int], int]:
    items = sorted(set().union(*transactions))
    supports = {
        frozenset(chosen): sum(set(chosen) <= transaction for transaction in transactions)
        for size in range(1, largest + 1)
        for chosen in combinations(items, size)
    }
    supports = {items: count for items, count in supports.items() if count >= least}
    if not closed:
        return supports
    return {a: n for a, n in supports.items() if not any(a < b and n == m for b, m in supports.items())}


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("least", [1, 2, 5])
def test_supports_equal_brute_force(least: int, closed: bool) -> None:
    pytest.importorskip("mlxtend")
    draws = torch.Generator().manual_seed(0)
    transactions = [set((torch.rand(9, generator=draws) < 0.4).nonzero().flatten().tolist()) for _ in range(20)]
    found = frequent(transactions, least, largest=3, closed=closed, what="pets")
    assert {frozenset(items): count for items, count in found} == brute(transactions, least, 3, closed)
    assert [count for _, count in found] == sorted((count for _, count in found), reverse=True)
    assert found == frequent([[*each] for each in transactions], least, largest=3, closed=closed, what="pets")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.frequent_patterns", None)
    with pytest.raises(CondenseError, match=r"pip install 'condense-data\[graphs\]'"):
        frequent([{1}, {1}], 1, largest=1, closed=False, what="pets")


def test_supports_weights_and_roots_of_a_set(data: RealGraphs, made_by: MadeBy) -> None:
    pytest.importorskip("mlxtend")
    made = made_by("mirage", data.train, hops=1, support=0.5, largest=2)
    assert made.hops == 1
    assert min(made.class_counts) > 0
    shares = torch.zeros(2).index_add_(0, made.labels, made.weights)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.5]))
    codes = refine(data.train.graphs, 1)
    known = {canonical(data.train.graphs, node, 1) for node in range(data.train.graphs.nodes)}
    flipped = made.graphs
    for root in made.roots.nonzero().flatten().tolist():
        assert canonical(dataclasses.replace(flipped, edge_labels=None), root, 1) in known
    assert len(codes.sizes) == len(known)
    assert made.root_counts.min() >= 1


def test_bytes_bound_a_set_and_classes_take_turns(data: RealGraphs, made_by: MadeBy) -> None:
    pytest.importorskip("mlxtend")
    whole = made_by("mirage", data.train, hops=1, support=0.2)
    small = made_by("mirage", data.train, hops=1, support=0.2, bytes=whole.bytes // 3)
    assert small.bytes <= whole.bytes // 3
    assert abs(small.class_counts[0] - small.class_counts[1]) <= 1
    assert small.bytes > whole.bytes // 6
    with pytest.raises(CondenseError, match="each class takes"):
        made_by("mirage", data.train, hops=1, support=0.2, bytes=5)


def test_counts_and_distinction(data: RealGraphs, made_by: MadeBy) -> None:
    pytest.importorskip("mlxtend")
    options: dict[str, Any] = {"hops": 1, "support": 2, "largest": 1}
    plain = made_by("mirage", data.train, **options)
    counted = made_by("mirage", data.train, multiset=True, **options)
    assert int(plain.roots.sum()) == len(plain)
    assert int(counted.roots.sum()) > len(counted)  # trees that occur twice stand there twice
    assert 2 <= len(made_by("mirage", data.train, distinct=True, **options)) < len(plain)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hops": 5}, "hops"),
        ({"hops": 0}, "hops"),
        ({"support": 1.5}, "fraction below 1"),
        ({"support": 0}, "support"),
        ({"largest": 9}, "largest"),
        ({"ipc": 3}, "instead of 3 per class"),
        ({"hops": 4, "support": 0.99}, "no tree of 4 hops"),
    ],
)
def test_wrong_requests_say_the_way_out(data: RealGraphs, options: dict[str, Any], said: str, made_by: MadeBy) -> None:
    with pytest.raises(CondenseError, match=said):
        made_by("mirage", data.train, **options)


def test_explosions_are_refused_with_a_support_that_fits(
    data: RealGraphs, monkeypatch: pytest.MonkeyPatch, made_by: MadeBy
) -> None:
    pytest.importorskip("mlxtend")
    monkeypatch.setattr(itemsets, "MOST", 200)
    with pytest.raises(CondenseError, match=r"give a support of (\d+) or more") as caught:
        made_by("mirage", data.train, hops=1, support=1)
    support = int(str(caught.value).split("support of ")[1].split()[0])
    for raised in range(support, 17):  # another class may need more
        try:
            assert made_by("mirage", data.train, hops=1, support=raised)
            break
        except CondenseError:
            continue
    else:
        pytest.fail("no support fits")
    monkeypatch.setattr(itemsets, "MOST", 10**6)
    monkeypatch.setattr(module, "MOST_NODES", 20)
    with pytest.raises(CondenseError, match="more than 20 nodes"):
        made_by("mirage", data.train, hops=1, support=0.3)


def test_features_without_labels_are_refused(data: RealGraphs, made_by: MadeBy) -> None:
    graphs = dataclasses.replace(data.train.graphs, node_labels=None, features=torch.ones(data.train.graphs.nodes, 3))
    with pytest.raises(CondenseError, match="node labels"):
        made_by("mirage", TrainingGraphs(graphs, data.train.labels, data.info))


def test_large_trees_take_no_part(data: RealGraphs, capsys: pytest.CaptureFixture[str], made_by: MadeBy) -> None:
    pytest.importorskip("mlxtend")
    train = TrainingGraphs(random_graphs(), torch.tensor([0, 1] * 3), data.info)
    made = made_by("mirage", train, hops=2, support=1, tree_nodes=8, largest=1)
    assert "more than 8 nodes" in capsys.readouterr().err
    assert int(made.graphs.node_counts.max()) <= 8


def test_bisection_finds_the_last_that_fits() -> None:
    assert [longest_fitting(lambda count: count * count, 9, budget, 1) for budget in (1, 8, 9, 80, 1000)] == [
        1,
        2,
        3,
        8,
        9,
    ]


def test_codes_of_mutag_are_as_many_as_measured(shared: Path) -> None:
    found = load_graphs(shared / "MUTAG.zip")
    assert isinstance(found, RealGraphs)
    graphs = found.train.graphs, found.validation.graphs, found.test.graphs
    assert [len(refine(joined(graphs), hops).sizes) for hops in (1, 2, 3)] == [33, 174, 572]


def test_without_a_support_it_is_chosen_on_validation_graphs(data: RealGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlxtend")
    short = tuple(each.model_copy(update={"epochs": 20}) for each in protocols.PROTOCOLS)
    monkeypatch.setattr(protocols.PROTOCOLS, "_entries", short)
    settings = module.MirageSettings(hops=1, largest=1)
    job = GraphJob(data=data.train, budget=GraphBudget(), validation=data.validation)
    product = module.Mirage.make(job, settings)
    seen = product.facts["validation"]
    assert set(seen) <= {f"{support}" for support in module.SUPPORTS}
    assert len(seen) > 1
    chosen = product.settings.support
    assert seen[f"{chosen}"] == max(seen.values())
    again = module.Mirage.make(job, settings.model_copy(update={"support": chosen}))
    assert isinstance(product.made, GraphSet)
    assert product.made.arrays().keys() == again.made.arrays().keys()
    for name, array in product.made.arrays().items():
        assert (array == again.made.arrays()[name]).all()
    with pytest.raises(CondenseError, match="no validation graphs"):
        module.Mirage.make(dataclasses.replace(job, validation=None), settings)


def test_bytes_without_a_support_are_filled_from_the_most_frequent(data: RealGraphs) -> None:
    pytest.importorskip("mlxtend")
    mined = module.Mined(data.train, module.MirageSettings(hops=1))
    sizes = {support: made.bytes for support, made in mined.possible()}
    assert sorted(sizes.values()) == list(sizes.values())
    middle = sorted(sizes.values())[1]
    support = mined.support_for(middle - 1)
    assert sizes[support] >= middle - 1
    assert all(size < middle - 1 for other, size in sizes.items() if other > support)
    assert mined.support_for(10**9) == min(sizes)
