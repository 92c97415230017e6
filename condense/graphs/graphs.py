"""Many small graphs, one after the other in the same arrays: real ones, chosen ones and forests of trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from condense.runtime.errors import CondenseError


@dataclass(frozen=True, eq=False)
class Graphs:
    """G graphs with N nodes and E edges in all.

    Args:
        node_ptr: where the nodes of each graph begin, int64 [G + 1]; the last number is N.
        edge_ptr: where its edges begin, int64 [G + 1]; the last number is E.
        edges: int64 [2, E], nodes counted within each graph; a message goes from row 0 to row 1. What is undirected
            stands in both directions.
        node_labels: int64 [N], or None where nodes have features of their own.
        features: float32 [N, F], or None where they follow from labels.
        edge_labels: int64 [E]; None without.

    Raises `CondenseError` where this does not fit together: graphs without nodes, edges out of their graph, features
    that are not finite.
    """

    node_ptr: Tensor
    edge_ptr: Tensor
    edges: Tensor
    node_labels: Tensor | None = None
    features: Tensor | None = None
    edge_labels: Tensor | None = None

    def __post_init__(self) -> None:
        _check_pointers(self)
        _check_edges(self)
        _check_nodes(self)

    def __len__(self) -> int:
        return len(self.node_ptr) - 1

    @property
    def nodes(self) -> int:
        """N."""
        return int(self.node_ptr[-1])

    @property
    def node_counts(self) -> Tensor:
        """Nodes of each graph, int64 [G]."""
        return self.node_ptr.diff()

    @property
    def graph_of_node(self) -> Tensor:
        """The graph of each node, int64 [N]."""
        return torch.arange(len(self)).repeat_interleave(self.node_counts)

    @property
    def joined_edges(self) -> Tensor:
        """The edges with nodes counted through all graphs, int64 [2, E]."""
        return self.edges + self.node_ptr[:-1].repeat_interleave(self.edge_ptr.diff())

    @property
    def degrees(self) -> Tensor:
        """How many messages each node gets, int64 [N]."""
        return torch.bincount(self.joined_edges[1], minlength=self.nodes)

    def at(self, indices: Tensor) -> Graphs:
        """These graphs, int64 [n], in this order."""
        nodes, node_ptr = rows_of(self.node_ptr, indices)
        edges, edge_ptr = rows_of(self.edge_ptr, indices)
        return Graphs(
            node_ptr,
            edge_ptr,
            self.edges[:, edges],
            None if self.node_labels is None else self.node_labels[nodes],
            None if self.features is None else self.features[nodes],
            None if self.edge_labels is None else self.edge_labels[edges],
        )

    def is_symmetric(self) -> bool:
        """Whether every edge stands in both directions, with the same label."""
        there, back = self.joined_edges, self.joined_edges.flip(0)
        labels = torch.zeros(there.shape[1], dtype=torch.int64) if self.edge_labels is None else self.edge_labels
        keys = [torch.stack([*pair, labels])[:, _order(*pair, labels)] for pair in (there, back)]
        return torch.equal(*keys)


def joined(parts: Sequence[Graphs]) -> Graphs:
    """The graphs of several collections of one kind, one after the other."""

    def pointers(name: str) -> Tensor:
        counts = torch.cat([getattr(part, name).diff() for part in parts])
        return from_counts(counts)

    def values(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if any(value is None for value in found) else torch.cat(found)

    rest = {name: values(name) for name in ("node_labels", "features", "edge_labels")}
    return Graphs(pointers("node_ptr"), pointers("edge_ptr"), torch.cat([part.edges for part in parts], 1), **rest)


def from_counts(counts: Tensor) -> Tensor:
    """Pointers [G + 1] to what each of G has so many of, int64 [G].

    >>> from_counts(torch.tensor([2, 0, 3]))
    tensor([0, 2, 2, 5])
    """
    return torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])


def rows_of(pointers: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the graphs at `indices`, one graph after the other, and the pointers to them.

    >>> rows_of(torch.tensor([0, 2, 5]), torch.tensor([1, 0]))
    (tensor([2, 3, 4, 0, 1]), tensor([0, 3, 5]))
    """
    counts = pointers.diff()[indices]
    new = from_counts(counts)
    shift = (pointers[indices] - new[:-1]).repeat_interleave(counts)
    return torch.arange(int(new[-1])) + shift, new


def clean(graphs: Graphs) -> tuple[Graphs, int]:
    """The graphs without loops and without second copies of an edge, edges in order; and how many edges went.

    Networks that hear a node itself do so by a rule of their own, once.
    """
    source, target = graphs.joined_edges
    order = _order(source, target)
    source, target = source[order], target[order]
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = (source.diff() != 0) | (target.diff() != 0)
    kept = order[first & (source != target)]
    owner = torch.arange(len(graphs)).repeat_interleave(graphs.edge_ptr.diff())[kept]
    cleaned = replace(
        graphs,
        edges=graphs.edges[:, kept],
        edge_ptr=from_counts(torch.bincount(owner, minlength=len(graphs))),
        edge_labels=None if graphs.edge_labels is None else graphs.edge_labels[kept],
    )
    return cleaned, len(order) - len(kept)


def _order(*keys: Tensor) -> Tensor:
    """The order by the first key, then the second, and so on; stable."""
    order = torch.arange(len(keys[0]))
    for key in reversed(keys):
        order = order[key[order].argsort(stable=True)]
    return order


def _check_pointers(graphs: Graphs) -> None:
    for what, pointers, length in (
        ("nodes", graphs.node_ptr, None),
        ("edges", graphs.edge_ptr, graphs.edges.shape[-1]),
    ):
        if pointers.dtype != torch.int64 or pointers.shape != graphs.node_ptr.shape or len(pointers) < 2:
            raise CondenseError(f"pointers to {what} are not int64 of one number a graph and one more")
        least = 1 if what == "nodes" else 0
        if int(pointers[0]) != 0 or int(pointers.diff().min()) < least:
            graph = int((pointers.diff() < least).int().argmax())
            raise CondenseError(
                f"pointers to {what} do not rise from 0: see graph {graph}; leave graphs without nodes out"
            )
        if length is not None and int(pointers[-1]) != length:
            raise CondenseError(f"pointers to {what} end at {int(pointers[-1])}, and there are {length}")


def _check_edges(graphs: Graphs) -> None:
    edges = graphs.edges
    if edges.dtype != torch.int64 or edges.ndim != 2 or len(edges) != 2:
        raise CondenseError(f"edges of shape {list(edges.shape)} and {edges.dtype}: they are int64 [2, E]")
    limits = graphs.node_counts.repeat_interleave(graphs.edge_ptr.diff())
    wrong = ((edges < 0) | (edges >= limits)).any(0)
    if wrong.any():
        edge = int(wrong.int().argmax())
        graph = int(torch.searchsorted(graphs.edge_ptr, edge, right=True)) - 1
        raise CondenseError(
            f"an edge of graph {graph} joins nodes {edges[:, edge].tolist()}, and it has {int(limits[edge])}, counted "
            "from 0"
        )


def _check_nodes(graphs: Graphs) -> None:
    sizes = {"node_labels": graphs.nodes, "features": graphs.nodes, "edge_labels": graphs.edges.shape[1]}
    for entry in fields(graphs):
        value = getattr(graphs, entry.name)
        if entry.name not in sizes or value is None:
            continue
        if len(value) != sizes[entry.name]:
            raise CondenseError(f"{entry.name} are {len(value)}, and {sizes[entry.name]} are needed")
        if value.is_floating_point() and not value.isfinite().all():
            row = int((~value.isfinite()).flatten(1).any(1).int().argmax())
            raise CondenseError(f"the features of node {row} are not finite; correct or leave out what holds them")
        if not value.is_floating_point() and len(value) and int(value.min()) < 0:
            raise CondenseError(f"{entry.name} hold {int(value.min())}; they are counted from 0")
    if (graphs.node_labels is None) == (graphs.features is None):
        raise CondenseError("nodes have either labels or features")
