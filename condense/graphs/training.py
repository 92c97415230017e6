"""Training of networks on graphs and on nodes, and what trained ones say; every draw follows from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.graphs.graphs import Graphs, rows_of
from condense.graphs.networks import GraphNetwork, NodeNetwork, Pool, build_graph_network, build_node_network
from condense.graphs.protocols import GraphProtocol
from condense.graphs.real import GraphInfo, GraphPart, TrainingNodes
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.graphs.structure import Edges, row_normalized
from condense.runtime.global_draws import global_generators
from condense.runtime.seeds import derive_seed, generator

_TESTED_AT_ONCE = 1024  # graphs


@dataclass(frozen=True, eq=False)
class Batch:
    """Graphs as a network reads them: features [n, F], who hears whom, and how nodes become graphs."""

    x: Tensor
    structure: Edges
    pool: Pool


@dataclass(frozen=True, eq=False)
class Inputs:
    """Graphs ready to be put into batches.

    `table` float32 [K, F] are the features of labels; `shares` float32 [N] say how much nodes count in the readout,
    None for all alike; `degrees` as of `GraphSet`; `layers` that fit them, None for any number.
    """

    graphs: Graphs
    table: Tensor | None
    shares: Tensor | None = None
    degrees: Tensor | None = None
    readout: str = "mean"
    layers: int | None = None

    @classmethod
    def of(cls, given: GraphPart | GraphSet, info: GraphInfo) -> Inputs:
        """Of real graphs, whose labels `info` describes, or of a set."""
        table = None if info.alphabet is None else info.alphabet.table
        if isinstance(given, GraphPart):
            return cls(given.graphs, table)
        shares = None
        if given.roots is not None:
            shares = given.roots.float()
            if given.root_counts is not None:
                shares[given.roots] = given.root_counts.float()
        return cls(given.graphs, table, shares, given.degrees, given.readout, given.hops)

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """The graphs at `indices`, int64 [n], on the device."""
        graphs = self.graphs
        nodes, node_ptr = rows_of(graphs.node_ptr, indices)
        edges, edge_ptr = rows_of(graphs.edge_ptr, indices)
        joined = graphs.edges[:, edges] + node_ptr[:-1].repeat_interleave(edge_ptr.diff())
        if self.table is not None and graphs.node_labels is not None:
            x = self.table[graphs.node_labels[nodes]]
        else:
            assert graphs.features is not None, "nodes have labels or features"
            x = graphs.features[nodes]
        owner = torch.arange(len(indices)).repeat_interleave(node_ptr.diff())
        degrees = None if self.degrees is None else self.degrees[nodes].to(device)
        shares = None if self.shares is None else self.shares[nodes].to(device)
        structure = Edges(joined.to(device), len(nodes), degrees=degrees)
        return Batch(x.to(device), structure, Pool(owner.to(device), len(indices), shares, self.readout))

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Tensor]:
        """Indices of each batch of an epoch, in an order that depends on (seed, epoch); one batch stays as it is."""
        count = len(self.graphs)
        if count <= size:
            yield torch.arange(count)
            return
        yield from torch.randperm(count, generator=generator(seed, "order of graphs", epoch)).split(size)


def train_graphs(
    name: str,
    given: GraphPart | GraphSet,
    info: GraphInfo,
    protocol: GraphProtocol,
    *,
    seed: int,
    device: torch.device,
) -> tuple[GraphNetwork, bool]:
    """A network trained on graphs as the protocol says, and whether its loss stayed finite.

    The loss of a batch is sum(w l) / sum(w), with the weights of a set. Everything follows from the arguments.
    """
    inputs = Inputs.of(given, info)
    layers = inputs.layers or protocol.layers
    network = build_graph_network(
        name, info.features, len(info.classes), layers=layers, width=protocol.width, seed=derive_seed(seed, "network")
    ).to(device)
    weights = given.weights if isinstance(given, GraphSet) else None
    weights = torch.ones(len(given)) if weights is None else weights
    optimizer = torch.optim.Adam(network.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay)
    size = protocol.batch_size or len(given)
    whole = inputs.batch(torch.arange(len(given)), device) if len(given) <= size else None
    finite = True
    for epoch in range(protocol.epochs):
        _fall(optimizer, protocol, epoch)
        for indices in inputs.batches(seed, epoch, size):
            batch = whole or inputs.batch(indices, device)
            logits = network(batch.x, batch.structure, batch.pool)
            loss = weighted_loss(logits, given.labels[indices].to(device), weights[indices].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        finite = finite and math.isfinite(loss.item())
    return network.eval(), finite


def train_nodes(
    name: str, given: NodeGraphSet, protocol: GraphProtocol, *, seed: int, device: torch.device
) -> tuple[NodeNetwork, bool]:
    """A network trained on all nodes of a graph as the protocol says, and whether its loss stayed finite."""
    info = given.info
    network = build_node_network(
        name,
        info.features,
        len(info.classes),
        layers=protocol.layers,
        width=protocol.width,
        dropout=protocol.dropout,
        seed=derive_seed(seed, "network"),
    ).to(device)
    x = row_normalized(given.features) if given.normalize_rows else given.features
    return _descend_nodes(
        network, x, node_structure(given, device), given.labels, given.weights, protocol, seed, device
    )


def train_on_part(
    name: str, part: TrainingNodes, protocol: GraphProtocol, *, seed: int, device: torch.device
) -> tuple[NodeNetwork, bool]:
    """The same on a real graph, of which only some nodes have a class."""
    weights = torch.zeros(len(part.features))
    weights[part.indices] = 1
    labels = torch.zeros(len(part.features), dtype=torch.int64)
    labels[part.indices] = part.labels
    info = part.info
    whole = NodeGraphSet(
        features=part.features,
        labels=labels,
        info=info,
        edges=part.edges,
        weights=weights,
        normalize_rows=info.normalize_rows,
    )
    return train_nodes(name, whole, protocol, seed=seed, device=device)


def node_structure(given: NodeGraphSet, device: torch.device) -> Edges:
    """Who hears whom in a node graph; nobody but each node itself where it has no adjacency."""
    edges = torch.zeros(2, 0, dtype=torch.int64) if given.edges is None else given.edges
    weights = None if given.edge_weights is None else given.edge_weights.to(device)
    return Edges(edges.to(device), len(given), weights)


def _descend_nodes(
    network: NodeNetwork,
    x: Tensor,
    structure: Edges,
    labels: Tensor,
    weights: Tensor | None,
    protocol: GraphProtocol,
    seed: int,
    device: torch.device,
) -> tuple[NodeNetwork, bool]:
    weights = torch.ones(len(x)) if weights is None else weights
    there = weights.nonzero().flatten()
    x, labels, counted, there = x.to(device), labels[there].to(device), weights[there].to(device), there.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay)
    with global_generators(derive_seed(seed, "dropout"), device):  # dropout takes no generator of its own
        for step in range(protocol.epochs):
            _fall(optimizer, protocol, step)
            loss = weighted_loss(network(x, structure)[there], labels, counted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval(), math.isfinite(loss.item())


def _fall(optimizer: torch.optim.Optimizer, protocol: GraphProtocol, epoch: int) -> None:
    """A tenth of the learning rate from half of the epochs on."""
    for group in optimizer.param_groups:
        group["lr"] = protocol.lr * (1 if 2 * epoch < protocol.epochs else 0.1)


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy with classes or distributions, sum(w l) / sum(w); zero where every weight of a batch is."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


@torch.no_grad()
def graph_logits(network: GraphNetwork, part: GraphPart, info: GraphInfo, device: torch.device) -> Tensor:
    """Logits of real graphs, float32 [G, K], on the processor."""
    inputs = Inputs.of(part, info)
    parts = (inputs.batch(indices, device) for indices in torch.arange(len(part)).split(_TESTED_AT_ONCE))
    return torch.cat([network(batch.x, batch.structure, batch.pool).cpu() for batch in parts])


@torch.no_grad()
def graph_embeddings(network: GraphNetwork, part: GraphPart, device: torch.device) -> Tensor:
    """What a trained network makes of real graphs before its last layer, float32 [G, W], on the processor."""
    inputs = Inputs.of(part, part.info)
    parts = (inputs.batch(indices, device) for indices in torch.arange(len(part)).split(_TESTED_AT_ONCE))
    return torch.cat([network.embed(batch.x, batch.structure, batch.pool).cpu() for batch in parts])
