"""Small graphs as dense arrays of one size, the smaller ones padded with nodes that are not there; and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condense.graphs.graphs import Graphs, from_counts


@dataclass(frozen=True, eq=False)
class Padded:
    """G graphs of n places for nodes each: features [G, n, F], adjacency [G, n, n], `there` bool [G, n].

    Where no node is, features and adjacency are zero.
    """

    features: Tensor
    adjacency: Tensor
    there: Tensor


def padded(graphs: Graphs, features: Tensor, nodes: int) -> Padded:
    """Graphs of at most `nodes` nodes with these features, float [N, F]; edges lose their direction and their label."""
    count, owner = len(graphs), graphs.graph_of_node
    place = torch.arange(graphs.nodes) - graphs.node_ptr[owner]
    there = torch.zeros(count, nodes, dtype=torch.bool)
    there[owner, place] = True
    dense = features.new_zeros(count, nodes, features.shape[1])
    dense[owner, place] = features
    adjacency = features.new_zeros(count, nodes, nodes)
    graph_of_edge = torch.arange(count).repeat_interleave(graphs.edge_ptr.diff())
    source, target = graphs.edges
    adjacency[graph_of_edge, source, target] = 1
    return Padded(dense, torch.maximum(adjacency, adjacency.transpose(1, 2)), there)


def unpadded(features: Tensor, edges: Tensor, there: Tensor) -> Graphs:
    """The nodes that are there, and the edges where `edges` bool [G, n, n] says so, which is symmetric.

    `features` are float32 [G, n, F]. An edge of a place where no node is would be an error.
    """
    place = there.cumsum(1) - 1  # (G, n): what a node is called when the others are left out
    owner, source, target = edges.nonzero().T
    return Graphs(
        from_counts(there.sum(1)),
        from_counts(torch.bincount(owner, minlength=len(there))),
        torch.stack([place[owner, source], place[owner, target]]),
        features=features[there],
    )
