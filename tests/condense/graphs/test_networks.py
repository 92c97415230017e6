"""Layers against torch_geometric's and against naive dense ones; construction from a seed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.graphs.networks import (
    GAT,
    GCN,
    GIN,
    GRAPH_NETWORKS,
    NODE_NETWORKS,
    SAGE,
    SGC,
    Pool,
    Propagation,
    build_graph_network,
    build_node_network,
)
from condense.graphs.structure import Dense, Edges, row_normalized
from condense.networks.build import initialize
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator

NODES, INPUTS, OUTPUTS = 9, 5, 6


def graph(weighted: bool = False) -> tuple[Tensor, Edges, Tensor]:
    """Features, edges, and the matrix whose row i says whom node i hears; the last node hears and tells nobody."""
    draws = torch.Generator().manual_seed(0)
    upper = (torch.rand(NODES, NODES, generator=draws) < 0.4).double().triu(1)
    upper[:, -1] = 0
    if weighted:
        upper = upper * torch.rand(NODES, NODES, generator=draws).double()
    matrix = upper + upper.T
    edges = matrix.nonzero().T
    weights = matrix[edges[0], edges[1]] if weighted else None
    return torch.randn(NODES, INPUTS, generator=draws).double(), Edges(edges, NODES, weights), matrix


def layer(kind: str) -> nn.Module:
    made: nn.Module = {
        "gcn": lambda: GCN(INPUTS, OUTPUTS),
        "gin": lambda: GIN(INPUTS, OUTPUTS),
        "sage": lambda: SAGE(INPUTS, OUTPUTS),
        "gat": lambda: GAT(INPUTS, OUTPUTS, heads=2),
        "sgc": lambda: SGC(INPUTS, OUTPUTS, 3),
    }[kind]()
    initialize(made, generator(0, "layer"))
    if isinstance(made, GAT):
        made.bias.data = torch.rand(OUTPUTS, generator=generator(0, "bias"))
    return made.double()


def naive(kind: str, made: nn.Module, x: Tensor, matrix: Tensor) -> Tensor:
    """By matrices and loops, as the papers write it."""
    with_self = matrix + torch.eye(NODES)
    scale = torch.diag(with_self.sum(1) ** -0.5)
    propagation = scale @ with_self @ scale
    if kind == "gcn":
        return propagation @ x @ made.linear.weight.T + made.linear.bias
    if kind == "sgc":
        return propagation @ propagation @ propagation @ x @ made.linear.weight.T + made.linear.bias
    rows = []
    for node in range(NODES):
        others = matrix[node].nonzero().flatten().tolist()
        if kind == "gin":
            rows.append(made.mlp(x[node] + sum(matrix[node, other] * x[other] for other in others)))
        elif kind == "sage":
            total = matrix[node].sum().clamp(min=1e-300)
            mean = sum((matrix[node, other] * x[other] for other in others), torch.zeros(INPUTS).double()) / total
            rows.append(made.neighbours(mean) + made.own(x[node]))
        else:
            values = made.linear(x).view(NODES, 2, -1)
            heads = []
            for head in range(2):
                heard = [*others, node]
                scores = torch.stack([
                    F.leaky_relu(made.source[head] @ values[other, head] + made.target[head] @ values[node, head], 0.2)
                    for other in heard
                ])  # fmt: skip
                heads.append(scores.softmax(0) @ values[heard, head])
            rows.append(torch.cat(heads) + made.bias)
    return torch.stack(rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["gcn", "gin", "sage", "gat", "sgc"])
def test_layers_equal_naive_ones(kind: str, weighted: bool) -> None:
    x, edges, matrix = graph(weighted)
    made = layer(kind)
    expected = naive(kind, made, x, matrix)
    torch.testing.assert_close(made(x, edges), expected, rtol=0, atol=1e-12)
    if kind == "gat":
        with pytest.raises(CondenseError, match="give gcn"):
            made(x, Dense(matrix))
    else:
        torch.testing.assert_close(made(x, Dense(matrix)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["gcn", "gin", "sage", "gat", "sgc"])
def test_layers_equal_those_of_torch_geometric(kind: str) -> None:
    theirs = pytest.importorskip("torch_geometric.nn")
    x, edges, _ = graph()
    made = layer(kind)
    if kind == "gcn":
        other = theirs.GCNConv(INPUTS, OUTPUTS).double()
        other.lin.weight.data, other.bias.data = made.linear.weight.data, made.linear.bias.data
    elif kind == "sgc":
        other = theirs.SGConv(INPUTS, OUTPUTS, K=3).double()
        other.lin.weight.data, other.lin.bias.data = made.linear.weight.data, made.linear.bias.data
    elif kind == "gin":
        other = theirs.GINConv(made.mlp)
    elif kind == "sage":
        other = theirs.SAGEConv(INPUTS, OUTPUTS).double()
        other.lin_l.weight.data, other.lin_l.bias.data = made.neighbours.weight.data, made.neighbours.bias.data
        other.lin_r.weight.data = made.own.weight.data
    else:
        other = theirs.GATConv(INPUTS, OUTPUTS // 2, heads=2).double()
        other.lin.weight.data, other.bias.data = made.linear.weight.data, made.bias.data
        other.att_src.data, other.att_dst.data = made.source.data[None], made.target.data[None]
    torch.testing.assert_close(made(x, edges), other(x, edges.edges), rtol=0, atol=1e-12)


def test_propagation_equals_that_of_torch_geometric() -> None:
    theirs = pytest.importorskip("torch_geometric.nn")
    x, edges, _ = graph()
    other = theirs.APPNP(K=10, alpha=0.1)
    torch.testing.assert_close(Propagation()(x, edges), other(x, edges.edges), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["gcn", "sgc"])
def test_gradients_go_through_a_dense_adjacency(kind: str) -> None:
    x, _, matrix = graph(weighted=True)
    made = layer(kind)
    leaf = (matrix + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda adjacency: made(x, Dense(adjacency)), (leaf,), fast_mode=True)


def test_readouts() -> None:
    x = torch.tensor([[1.0], [3.0], [5.0]])
    owner = torch.tensor([0, 0, 1])
    assert Pool(owner, 2)(x).tolist() == [[2], [5]]
    assert Pool(owner, 2, readout="sum")(x).tolist() == [[4], [5]]
    assert Pool(owner, 2, torch.tensor([0.0, 1.0, 2.0]))(x).tolist() == [[3], [5]]
    assert row_normalized(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).tolist() == [[0.25, 0.75], [0, 0]]


@pytest.mark.parametrize("name", GRAPH_NETWORKS)
def test_graph_networks_follow_their_seed(name: str) -> None:
    x, edges, _ = graph()
    pool = Pool(torch.zeros(NODES, dtype=torch.int64), 1)
    networks = [build_graph_network(name, INPUTS, 3, layers=2, seed=seed).double() for seed in (0, 0, 1)]
    first, again, other = (network(x, edges, pool) for network in networks)
    assert first.shape == (1, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", NODE_NETWORKS)
def test_node_networks_follow_their_seed(name: str) -> None:
    x, edges, _ = graph()
    networks = [build_node_network(name, INPUTS, 3, seed=seed).double().eval() for seed in (0, 0, 1)]
    first, again, other = (network(x, edges) for network in networks)
    assert first.shape == (NODES, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_unknown_networks_are_named() -> None:
    with pytest.raises(CondenseError, match="did you mean gin"):
        build_graph_network("gni", 3, 2, seed=0)
    with pytest.raises(CondenseError, match="multiple"):
        GAT(3, 5, heads=2)
