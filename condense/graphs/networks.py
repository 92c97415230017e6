"""Networks of messages, in the sparse form and in the dense one, for graphs and for nodes; seeded construction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.graphs.structure import Edges, Structure
from condense.networks.build import initialize
from condense.runtime.errors import CondenseError, unknown_name
from condense.runtime.seeds import generator


class GCN(nn.Module):
    """Graph convolution (Kipf & Welling, ICLR 2017, eq. 2): D^-1/2 (A + I) D^-1/2 X W + b."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, structure: Structure) -> Tensor:
        """[n, inputs] to [n, outputs]."""
        return structure.normalized(x @ self.linear.weight.T) + self.linear.bias


class GIN(nn.Module):
    """Graph isomorphism layer (Xu et al., ICLR 2019, eq. 4.1) with epsilon 0: MLP(x + sum over neighbours)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))

    def forward(self, x: Tensor, structure: Structure) -> Tensor:
        """[n, inputs] to [n, outputs]."""
        mixed: Tensor = self.mlp(x + structure.sum(x))
        return mixed


class SAGE(nn.Module):
    """GraphSAGE with the mean (Hamilton et al., NeurIPS 2017): W1 mean over neighbours + b + W2 x."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.neighbours = nn.Linear(inputs, outputs)
        self.own = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, structure: Structure) -> Tensor:
        """[n, inputs] to [n, outputs]."""
        mixed: Tensor = self.neighbours(structure.mean(x)) + self.own(x)
        return mixed


class GAT(nn.Module):
    """Graph attention (Velickovic et al., ICLR 2018, eq. 3 to 5) over neighbours and the node itself.

    Heads stand beside each other. Weights of edges do not count, and a dense adjacency is refused.
    """

    def __init__(self, inputs: int, outputs: int, heads: int = 1) -> None:
        super().__init__()
        if outputs % heads:
            raise CondenseError(f"{outputs} outputs are no multiple of {heads} heads; give another width")
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.source = nn.Parameter(torch.empty(heads, outputs // heads))
        self.target = nn.Parameter(torch.empty(heads, outputs // heads))
        self.bias = nn.Parameter(torch.empty(outputs))

    def initialize(self, source: torch.Generator) -> None:
        """Attention by Glorot's rule, bias zero; the linear layer is its own affair."""
        bound = math.sqrt(6 / (1 + self.source.shape[1]))
        for vector in (self.source, self.target):
            nn.init.uniform_(vector, -bound, bound, generator=source)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, structure: Structure) -> Tensor:
        """[n, inputs] to [n, outputs]."""
        if not isinstance(structure, Edges):
            raise CondenseError("gat attends to edges, and a dense adjacency has none; give gcn, sgc, gin or sage")
        itself = torch.arange(structure.nodes, device=x.device)
        source, target = torch.cat([structure.edges, torch.stack([itself, itself])], 1)
        heads, width = self.source.shape
        values = self.linear(x).view(-1, heads, width)  # (n, H, W)
        scores = (values * self.source).sum(2)[source] + (values * self.target).sum(2)[target]  # (E + n, H)
        shares = _softmax_of_targets(F.leaky_relu(scores, 0.2), target, structure.nodes)
        heard = values.new_zeros(values.shape).index_add_(0, target, shares[:, :, None] * values[source])
        attended: Tensor = heard.flatten(1) + self.bias
        return attended


def _softmax_of_targets(scores: Tensor, target: Tensor, nodes: int) -> Tensor:
    """Softmax of scores [E, H] over the edges of each target."""
    index = target[:, None].expand_as(scores)
    highest = scores.new_full((nodes, scores.shape[1]), -torch.inf).scatter_reduce(0, index, scores, "amax")
    shares = (scores - highest.detach()[target]).exp()
    totals = shares.new_zeros(nodes, scores.shape[1]).index_add_(0, target, shares)
    return shares / totals[target]


class Linear(nn.Linear):
    """A layer that hears nobody."""

    def forward(self, x: Tensor, structure: Structure | None = None) -> Tensor:
        """[n, inputs] to [n, outputs]."""
        return super().forward(x)


class SGC(nn.Module):
    """Simplified graph convolution (Wu et al., ICML 2019): `hops` times normalised, then one linear layer."""

    def __init__(self, inputs: int, outputs: int, hops: int) -> None:
        super().__init__()
        self.linear, self.hops = nn.Linear(inputs, outputs), hops

    def forward(self, x: Tensor, structure: Structure) -> Tensor:
        """[n, inputs] to [n, outputs]."""
        x = x @ self.linear.weight.T  # first: there are fewer outputs than features to propagate
        for _ in range(self.hops):
            x = structure.normalized(x)
        return x + self.linear.bias


class Propagation(nn.Module):
    """Personalised propagation (Gasteiger et al., ICLR 2019, APPNP): ten steps that return with probability 0.1."""

    def forward(self, x: Tensor, structure: Structure) -> Tensor:
        """[n, K] to [n, K]."""
        start = x
        for _ in range(10):
            x = 0.9 * structure.normalized(x) + 0.1 * start
        return x


Layer = Callable[[int, int], nn.Module]
_LAYERS: dict[str, Layer] = {"gcn": GCN, "gin": GIN, "gat": GAT, "sage": SAGE}
GRAPH_NETWORKS = (*_LAYERS, "sgc")
NODE_NETWORKS = ("gcn", "sgc", "sage", "gat", "appnp", "mlp", "gin")


@dataclass(frozen=True, eq=False)
class Pool:
    """How n nodes become G vectors.

    Args:
        graph_of_node: the graph of each node, int64 [n].
        count: G.
        shares: how much each node counts, float [n]; None for all alike. Nodes that are no roots of a forest have 0.
        readout: `mean` or `sum`.
    """

    graph_of_node: Tensor
    count: int
    shares: Tensor | None = None
    readout: str = "mean"

    def __call__(self, x: Tensor) -> Tensor:
        """[n, W] to [G, W]."""
        shares = x.new_ones(len(x)) if self.shares is None else self.shares.to(x.dtype)
        totals = x.new_zeros(self.count, x.shape[1]).index_add_(0, self.graph_of_node, shares[:, None] * x)
        if self.readout == "sum":
            return totals
        counts = x.new_zeros(self.count).index_add_(0, self.graph_of_node, shares)
        return totals / torch.where(counts > 0, counts, 1)[:, None]


class GraphNetwork(nn.Module):
    """Layers of messages with a ReLU after each, a readout and a linear layer."""

    def __init__(self, name: str, inputs: int, classes: int, layers: int, width: int) -> None:
        super().__init__()
        self.name = name
        if name == "sgc":
            body: list[nn.Module] = [SGC(inputs, width, layers)]
        else:
            layer = _LAYERS[name]
            body = [layer(inputs if number == 0 else width, width) for number in range(layers)]
        self.body = nn.ModuleList(body)
        self.head = nn.Linear(width, classes)

    def nodes(self, x: Tensor, structure: Structure) -> Tensor:
        """The embedding of every node: [n, inputs] to [n, width]."""
        for layer in self.body:
            x = layer(x, structure).relu()
        return x

    def embed(self, x: Tensor, structure: Structure, pool: Pool) -> Tensor:
        """The embedding of every graph, [G, width]."""
        return pool(self.nodes(x, structure))

    def forward(self, x: Tensor, structure: Structure, pool: Pool) -> Tensor:
        """Logits of every graph, [G, classes]."""
        logits: Tensor = self.head(self.embed(x, structure, pool))
        return logits


class NodeNetwork(nn.Module):
    """Layers of messages with an activation and dropout between them; the last one gives logits."""

    def __init__(self, layers: list[nn.Module], activation: Callable[[Tensor], Tensor], dropout: float) -> None:
        super().__init__()
        self.body, self.activation, self.dropout = nn.ModuleList(layers), activation, dropout
        self.spread: Propagation | None = None

    def embed(self, x: Tensor, structure: Structure) -> Tensor:
        """What the last layer reads: [n, inputs] to [n, width]."""
        for layer in list(self.body)[:-1]:
            x = F.dropout(self.activation(layer(x, structure)), self.dropout, self.training)
        return x

    def forward(self, x: Tensor, structure: Structure) -> Tensor:
        """Logits of every node, [n, classes]."""
        logits: Tensor = self.body[-1](self.embed(x, structure), structure)
        return logits if self.spread is None else self.spread(logits, structure)


def build_graph_network(
    name: str, inputs: int, classes: int, *, layers: int = 3, width: int = 64, seed: int
) -> GraphNetwork:
    """A network for graphs by name (`gcn`, `gin`, `gat`, `sage`, `sgc`), initialised from `seed`.

    Raises `CondenseError` for an unknown name.

    >>> build_graph_network("gin", 7, 2, layers=2, seed=0).head.weight.shape
    torch.Size([2, 64])
    """
    if name not in GRAPH_NETWORKS:
        raise unknown_name("graph network", name, GRAPH_NETWORKS)
    with torch.device("meta"):  # where constructors draw nothing
        network = GraphNetwork(name, inputs, classes, layers, width)
    network.to_empty(device="cpu")
    initialize(network, generator(seed, "network"))
    return network


def build_node_network(
    name: str, inputs: int, classes: int, *, layers: int = 2, width: int = 256, dropout: float = 0.5, seed: int
) -> NodeNetwork:
    """A network for nodes by name (`gcn`, `sgc`, `sage`, `gat`, `appnp`, `mlp`, `gin`), initialised from `seed`.

    `sgc` has no hidden layer, and `gat` has eight heads of eight whatever `width` is, as in its paper. Raises
    `CondenseError` for an unknown name.
    """
    if name not in NODE_NETWORKS:
        raise unknown_name("node network", name, NODE_NETWORKS)
    activation: Callable[[Tensor], Tensor] = F.elu if name == "gat" else F.relu
    with torch.device("meta"):  # where constructors draw nothing
        network = NodeNetwork(_node_layers(name, inputs, classes, layers, width), activation, dropout)
        if name == "appnp":
            network.spread = Propagation()
    network.to_empty(device="cpu")
    initialize(network, generator(seed, "network"))
    return network


def _node_layers(name: str, inputs: int, classes: int, layers: int, width: int) -> list[nn.Module]:
    """The layers of a network for nodes."""
    if name == "sgc":
        return [SGC(inputs, classes, layers)]
    if name == "gat":
        return [*(GAT(inputs if number == 0 else 64, 64, heads=8) for number in range(layers - 1)), GAT(64, classes)]
    layer: Layer = _LAYERS.get(name, Linear)
    return [layer(before, after) for before, after in pairwise([inputs, *[width] * (layers - 1), classes])]
