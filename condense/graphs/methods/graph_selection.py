"""Real graphs as a set: at random, by herding or by k-center, at an equal count or at equal bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from condense.graphs.methods.prefixes import longest_fitting, taking_turns
from condense.graphs.protocols import PROTOCOLS, GraphProtocol
from condense.graphs.real import TrainingGraphs
from condense.graphs.sets import GraphSet
from condense.graphs.training import graph_embeddings, graph_logits, train_graphs
from condense.runtime.device import choose_device
from condense.runtime.errors import CondenseError, unknown_name
from condense.runtime.seeds import derive_seed, generator
from condense.selection.herding import herd
from condense.selection.k_center import spread

METHODS = ("random", "herding", "k-center")
Embedding = Literal["hidden", "log-probabilities"]


def select_graphs(
    method: str,
    train: TrainingGraphs,
    *,
    per_class: int | None = None,
    fraction: float | None = None,
    bytes: int | None = None,
    seed: int = 0,
    net: str = "gin",
    embedding: Embedding = "hidden",
    protocol: str | GraphProtocol = "graph-desk",
    device: str = "auto",
) -> GraphSet:
    """Choose training graphs; exactly one of `per_class`, `fraction` and `bytes` says how many.

    Args:
        method: `random`, `herding` (Welling, ICML 2009) or `k-center` (Sener & Savarese, ICLR 2018; from the graph
            nearest to the mean of its class).
        train: what is chosen from.
        per_class: graphs of each class; a class that has fewer gives all.
        fraction: part of each class, at least one graph; what is left over goes to the largest class.
        bytes: as many graphs, of each class in turn, as the set has room for.
        seed: of random choices, and of the network.
        net: the network trained on all training graphs whose view of them decides.
        embedding: what it makes of a graph before its last layer, or the logarithms of its probabilities (as the
            released code of GCond takes them).
        protocol: how it is trained.
        device: where.

    The order of a class is kept, so that a smaller choice is the beginning of a larger one. Raises `CondenseError` for
    unknown names, and for budgets that choose nothing.
    """
    if method not in METHODS:
        raise unknown_name("way to choose graphs", method, METHODS)
    if sum(budget is not None for budget in (per_class, fraction, bytes)) != 1:
        raise CondenseError("give one of per_class, fraction and bytes: how many graphs, or how many bytes of them")
    view = None if method == "random" else _view(train, net, embedding, protocol, seed, device)
    orders = []
    for label in range(len(train.info.classes)):
        members = train.class_indices(label)
        orders.append(members[_order(method, members, view, seed, label)].tolist())
    if bytes is not None:
        turns = taking_turns(orders)
        count = longest_fitting(lambda count: _set(train, turns[:count]).bytes, len(turns), bytes, len(orders))
        chosen = turns[:count]
    else:
        sizes = train.class_counts()
        counts = [per_class] * len(sizes) if per_class is not None else shares(sizes, fraction or 0)
        if min(counts) < 1:
            raise CondenseError(f"{per_class} graphs of each class are no choice; give 1 or more")
        chosen = [index for order, count in zip(orders, counts) for index in order[:count]]
    settings = {"per_class": per_class, "fraction": fraction, "bytes": bytes}
    if view is not None:
        settings |= {"net": net, "embedding": embedding}  # type: ignore[dict-item]
    return _set(train, chosen, {"configuration": {"method": method, "seed": seed, "settings": settings}})


def shares(sizes: Sequence[int], fraction: float) -> list[int]:
    """Graphs of each class: a fraction, rounded down but at least one; the largest class gets what is left over.

    >>> shares([100, 51, 3], 0.1)
    [9, 5, 1]
    """
    if not 0 < fraction <= 1:
        raise CondenseError(f"--fraction {fraction}: give a number above 0 and up to 1")
    counts = [max(1, math.floor(fraction * size)) for size in sizes]
    largest = max(range(len(sizes)), key=lambda label: sizes[label])
    left = math.floor(fraction * sum(sizes)) - sum(counts)
    counts[largest] = min(sizes[largest], max(1, counts[largest] + left))
    return counts


def _order(method: str, members: Tensor, view: Tensor | None, seed: int, label: int) -> Tensor:
    """Positions among the members of a class, first choices first."""
    if view is None:
        return torch.randperm(len(members), generator=generator(seed, "random graphs", label))
    features = view[members].double()
    if method == "herding":
        return herd(features, len(members))
    middle = int((features - features.mean(0)).square().sum(1).argmin())
    return spread(features, len(members), middle)


def _view(
    train: TrainingGraphs, net: str, embedding: Embedding, protocol: str | GraphProtocol, seed: int, device: str
) -> Tensor:
    """What a network trained on all training graphs makes of each, [G, D]."""
    found = PROTOCOLS.find(protocol) if isinstance(protocol, str) else protocol
    place = choose_device(device)
    seed = derive_seed(seed, "network that chooses graphs")
    network, _ = train_graphs(net, train, train.info, found, seed=seed, device=place)
    if embedding == "hidden":
        return graph_embeddings(network, train, place)
    return graph_logits(network, train, train.info, place).log_softmax(1)


def _set(train: TrainingGraphs, chosen: Sequence[int], provenance: dict[str, object] | None = None) -> GraphSet:
    indices = torch.tensor(chosen)
    return GraphSet(
        graphs=train.graphs.at(indices),
        labels=train.labels[indices],
        info=train.info,
        source_indices=indices,
        provenance=provenance or {},
    )
