"""Colour refinement with interned codes: equal codes, equal trees (Mirage, Gupta et al., ICLR 2024, section 3.1).

A code of depth d stands for the tree of d hops in which a network of d layers reads a node. Codes are numbers of tuples
that a dictionary has met, so no two trees share one, as hashes might.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condense.graphs.graphs import Graphs


@dataclass(frozen=True, eq=False)
class Codes:
    """`of_node` int64 [N]: the code of each node; `sizes` how many nodes the tree of each code has."""

    of_node: Tensor
    sizes: list[int]


def refine(graphs: Graphs, hops: int, *, degrees: bool = False, edge_labels: bool = False) -> Codes:
    """The codes of all nodes at depth `hops`.

    With `degrees` a label is one together with the number of neighbours; with `edge_labels` neighbours differ by the
    label of their edge, too. Graphs need node labels.
    """
    assert graphs.node_labels is not None, "codes are of node labels"
    heard = neighbours(graphs)
    edge_of = [0] * graphs.edges.shape[1]
    if edge_labels and graphs.edge_labels is not None:
        edge_of = graphs.edge_labels.tolist()
    labels = graphs.node_labels.tolist()
    first: dict[tuple[int, int], int] = {}
    own = [first.setdefault((label, len(around) if degrees else 0), len(first)) for label, around in zip(labels, heard)]
    codes, sizes = own, [1] * len(first)
    for _ in range(hops):
        met: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        new_sizes: list[int] = []
        new = []
        for node, around in enumerate(heard):
            key = own[node], tuple(sorted((codes[other], edge_of[edge]) for other, edge in around))
            code = met.setdefault(key, len(met))
            if code == len(new_sizes):
                new_sizes.append(1 + sum(sizes[child] for child, _ in key[1]))
            new.append(code)
        codes, sizes = new, new_sizes
    return Codes(torch.tensor(codes), sizes)


def neighbours(graphs: Graphs) -> list[list[tuple[int, int]]]:
    """For each node whom it hears, counted through all graphs, and by which edge."""
    heard: list[list[tuple[int, int]]] = [[] for _ in range(graphs.nodes)]
    for edge, (source, target) in enumerate(graphs.joined_edges.T.tolist()):
        heard[target].append((source, edge))
    return heard
