"""What a network that was trained on the whole training graph makes of its nodes: evidence that others choose by."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.graphs.methods.graph_selection import Embedding
from condense.graphs.methods.propagation import propagated
from condense.graphs.networks import NODE_NETWORKS, NodeNetwork
from condense.graphs.protocols import PROTOCOLS
from condense.graphs.real import TrainingNodes
from condense.graphs.structure import Edges, row_normalized
from condense.graphs.training import train_on_part
from condense.runtime.errors import unknown_name
from condense.runtime.seeds import derive_seed

_PROTOCOL = PROTOCOLS.find("node-desk")


def known_node_network(net: str) -> str:
    """The name of a network for nodes; raises `CondenseError` for others."""
    if net not in NODE_NETWORKS:
        raise unknown_name("node network", net, NODE_NETWORKS)
    return net


def node_view(data: TrainingNodes, net: str, embedding: Embedding, *, seed: int, device: torch.device) -> Tensor:
    """What a network trained on the nodes of known class makes of every node, float64 [n, D].

    Either what its last layer reads, or the logarithms of its probabilities. `sgc` has no hidden layer: its last one
    reads propagated features, for which none is trained.
    """
    if net == "sgc" and embedding == "hidden":
        return propagated(data, _PROTOCOL.layers)
    network = _trained(data, net, seed, device)
    x, structure = _read(data, device)
    with torch.no_grad():
        seen: Tensor = network.embed(x, structure) if embedding == "hidden" else network(x, structure).log_softmax(1)
    return seen.double().cpu()


def supposed_classes(data: TrainingNodes, net: str, *, seed: int, device: torch.device) -> Tensor:
    """The class of every node that training sees, int64 [n]: its own where it is known, else what a network says."""
    network = _trained(data, net, seed, device)
    with torch.no_grad():
        classes: Tensor = network(*_read(data, device)).argmax(1).cpu()
    classes[data.indices] = data.labels
    return classes


def _trained(data: TrainingNodes, net: str, seed: int, device: torch.device) -> NodeNetwork:
    return train_on_part(net, data, _PROTOCOL, seed=derive_seed(seed, "network that sees nodes"), device=device)[0]


def _read(data: TrainingNodes, device: torch.device) -> tuple[Tensor, Edges]:
    """The training graph as networks read it."""
    x = row_normalized(data.features) if data.info.normalize_rows else data.features
    return x.to(device), Edges(data.edges.to(device), len(x))
