"""Networks of two hops over features that are propagated first: what they hear of a large graph is made once.

A layer of messages is linear before its activation, so that A^ (X W) = (A^ X) W with the normalised adjacency A^. The
first layer of `gcn` therefore reads rows of A^ X and all of `sgc` rows of A^ A^ X, whatever their weights are, and the
classes of a few nodes need the rows of these nodes and of their neighbours only.
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
HEARD = (10, 5)  # of a node and of those whom it hears, where neighbours are sampled (released code of GCond)
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
    """Nodes of a real graph as networks see them, on `device`: entries of A^, node by node, and rows of A^ X."""

    def __init__(self, part: TrainingNodes, net: Net, device: torch.device) -> None:
        self.net, self.device = net, device
        self.features = row_normalized(part.features) if part.info.normalize_rows else part.features
        count = len(self.features)
        structure = Edges(part.edges, count)
        self.propagated = structure.normalized(self.features)
        scale = (structure.in_degrees(self.features) + 1).rsqrt()  # (N)
        source, target = torch.cat([part.edges, torch.arange(count).expand(2, count)], 1)
        order = target.argsort(stable=True)
        self.sources = source[order]  # (E + N)
        self.weights = (scale[source] * scale[target])[order]  # (E + N)
        self.counts = torch.bincount(target, minlength=count)  # (N)
        self.starts = self.counts.cumsum(0) - self.counts  # (N)

    def seen(self, nodes: Tensor, draws: torch.Generator | None = None) -> Seen:
        """What a network reads to say what these nodes are, int64 [t], each one once.

        With `draws` nodes hear a random part of whom they would hear, themselves among these: at most `HEARD` entries
        of their row of A^, first of a node and then of all whom it hears. The weights of the others are those that they
        have in A^, so that what is heard is less in all (as the sampler of GCond's released code gives it).
        """
        rows, entries = self._heard(nodes, HEARD[0], draws)
        row = torch.full((len(self.features),), -1)
        row[nodes] = torch.arange(len(nodes))
        sources = self.sources[entries]
        ring = torch.cat([nodes, sources[row[sources] < 0].unique()])  # (m)
        row[ring] = torch.arange(len(ring))
        mix = self.weights.new_zeros(len(nodes), len(ring))  # (t, m)
        mix[rows, row[sources]] = self.weights[entries]
        if draws is None:
            inputs = self.propagated[ring]  # (m, F)
        else:
            rows, entries = self._heard(ring, HEARD[1], draws)
            messages = self.weights[entries, None] * self.features[self.sources[entries]]
            inputs = messages.new_zeros(len(ring), messages.shape[1]).index_add_(0, rows, messages)  # (m, F)
        inputs, mix = inputs.to(self.device), mix.to(self.device)
        return Seen(mix @ inputs) if self.net == "sgc" else Seen(inputs, mix)

    def _heard(self, nodes: Tensor, most: int, draws: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Entries of A^ in the rows of these nodes, and which row each is in; with `draws` at most so many of a row."""
        counts = self.counts[nodes]
        rows = torch.arange(len(nodes)).repeat_interleave(counts)
        rank = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]  # within its row
        entries = self.starts[nodes][rows] + rank
        if draws is None:
            return rows, entries
        keys = rows + torch.rand(len(rows), generator=draws, dtype=torch.float64)
        kept = keys.argsort()[rank < most]  # rows stay in order, and entries are shuffled within them
        return rows[kept], entries[kept]
