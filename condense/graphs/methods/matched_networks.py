"""Networks of two hops over features that are propagated first: what they hear of a large graph is made once.

A layer of messages is linear before its activation, so that A^ (X W) = (A^ X) W with the normalised adjacency A^. The
first layer of `gcn` therefore reads rows of A^ X and all of `sgc` rows of A^ A^ X, whatever their weights are, and the
classes of a few nodes need the rows of these nodes and, for `gcn`, of their neighbours only. Nothing is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from condense.graphs.networks import build_node_network
from condense.graphs.real import TrainingNodes
from condense.graphs.structure import Edges, row_normalized

WIDTH = 256
Net = Literal["sgc", "gcn"]
Parameters = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network reads to say what t nodes are.

    `inputs` [m, F] are propagated features, those of the t nodes first. `mix` [t, m] says whom the t nodes hear in the
    second layer; None for themselves alone, and where there is one layer.
    """

    inputs: Tensor
    mix: Tensor | None = None


def fresh_parameters(net: Net, inputs: int, outputs: int, *, seed: int, device: torch.device) -> Parameters:
    """Weights and biases, in turn, of an untrained network of two hops, 256 wide within (`sgc` has one layer)."""
    network = build_node_network(net, inputs, outputs, layers=2, width=WIDTH, dropout=0.0, seed=seed)
    return {name: value.detach().to(device) for name, value in network.named_parameters()}


def layer_outputs(parameters: Parameters, seen: Seen) -> list[Tensor]:
    """What each layer gives before its activation: of a hidden layer [m, W], of the last [t, outputs]; no dropout."""
    values = list(parameters.values())
    outputs = [seen.inputs @ values[0].T + values[1]]  # (m, W)
    if len(values) > 2:
        mixed = outputs[0].relu() @ values[2].T  # (m, outputs)
        outputs.append((mixed if seen.mix is None else seen.mix @ mixed) + values[3])
    return outputs


def normalized_adjacency(adjacency: Tensor) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 of A [n, n] with zero diagonal, D the degrees of A + I.

    >>> normalized_adjacency(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """
    looped = adjacency + torch.eye(len(adjacency), dtype=adjacency.dtype, device=adjacency.device)
    scale = looped.sum(1).rsqrt()  # (n)
    return scale[:, None] * looped * scale


def seen_learned(net: Net, features: Tensor, adjacency: Tensor | None) -> Seen:
    """All nodes of a small graph: features [n, F] and adjacency [n, n] with zero diagonal, None for no neighbours."""
    if adjacency is None:
        return Seen(features)
    mix = normalized_adjacency(adjacency)
    return Seen(mix @ (mix @ features)) if net == "sgc" else Seen(mix @ features, mix)


class RealNeighbourhoods:
    """Nodes of a real graph as networks see them: features that are propagated once, on `device`."""

    def __init__(self, part: TrainingNodes, net: Net, device: torch.device) -> None:
        features = row_normalized(part.features) if part.info.normalize_rows else part.features
        structure = Edges(part.edges, len(features))
        self.net, self.device, self.edges = net, device, part.edges
        self.scale = (structure.in_degrees(features) + 1).rsqrt()  # (N)
        propagated = structure.normalized(features)
        self.propagated = structure.normalized(propagated) if net == "sgc" else propagated

    def seen(self, nodes: Tensor) -> Seen:
        """What a network reads to say what these nodes are, int64 [t], each one once."""
        if self.net == "sgc":
            return Seen(self.propagated[nodes].to(self.device))
        count = len(self.scale)
        row = torch.full((count,), -1)
        row[nodes] = torch.arange(len(nodes))
        source, target = self.edges[:, row[self.edges[1]] >= 0]  # into the nodes
        others = source[row[source] < 0].unique()
        ring = torch.cat([nodes, others])  # (m)
        column = torch.full((count,), -1)
        column[ring] = torch.arange(len(ring))
        mix = torch.zeros(len(nodes), len(ring), dtype=self.scale.dtype)  # (t, m)
        mix[row[target], column[source]] = self.scale[target] * self.scale[source]
        itself = torch.arange(len(nodes))
        mix[itself, itself] = self.scale[nodes].square()
        return Seen(self.propagated[ring].to(self.device), mix.to(self.device))
