"""How arrays of graphs are kept exactly in as few bytes as plain types allow; what is written is what is counted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from condense.graphs.graphs import Graphs, clean, from_counts
from condense.graphs.readers.node_npz import dense_rows
from condense.runtime.errors import CondenseError
from condense.runtime.numpy_files import MOST_BYTES

Arrays = dict[str, np.ndarray]
_WHOLE = (np.uint8, np.uint16, np.uint32, np.int64)
_REAL = (np.uint8, np.uint16, np.float16, np.float32)


def smallest(tensor: Tensor) -> np.ndarray:
    """The values in the smallest type that gives every one of them back, to the bit.

    >>> smallest(torch.tensor([0, 300])).dtype, smallest(torch.tensor([0.5, 1.0])).dtype
    (dtype('uint16'), dtype('float16'))
    """
    values = tensor.numpy()
    kinds = _REAL if values.dtype.kind == "f" else _WHOLE
    with np.errstate(over="ignore", invalid="ignore"):
        for kind in kinds[:-1]:
            stored = values.astype(kind)
            if stored.astype(values.dtype).tobytes() == values.tobytes():
                return stored
    return values.astype(kinds[-1])


def whole(arrays: Mapping[str, np.ndarray], name: str, ndim: int = 1) -> Tensor:
    """Stored whole numbers as int64; raises `CondenseError` for others, and `KeyError` where there are none."""
    array = arrays[name]
    if array.dtype not in [np.dtype(kind) for kind in _WHOLE] or array.ndim != ndim:
        raise CondenseError(f"its {name} is {array.dtype} {list(array.shape)}, not whole numbers; make it again")
    return torch.from_numpy(array.astype(np.int64))


def real(arrays: Mapping[str, np.ndarray], name: str, ndim: int = 1) -> Tensor:
    """Stored real numbers as float32; raises as `whole` does."""
    array = arrays[name]
    if array.dtype not in [np.dtype(kind) for kind in _REAL] or array.ndim != ndim:
        raise CondenseError(f"its {name} is {array.dtype} {list(array.shape)}, not real numbers; make it again")
    return torch.from_numpy(array.astype(np.float32))


def stored_structure(graphs: Graphs, roots: Tensor | None, *, directed: bool) -> Arrays:
    """Pointers and edges: `parent` of each node in a forest, else pairs, each of them once unless `directed`.

    The parent of a root is the root itself. `edge_label` stands in the order of pairs, or of nodes that have a parent.
    """
    arrays = {"node_ptr": smallest(graphs.node_ptr)}
    labels = graphs.edge_labels
    if roots is not None:
        parent = torch.arange(graphs.nodes) - graphs.node_ptr[graphs.graph_of_node]
        parent[~roots] = graphs.edges[1]
        arrays["parent"] = smallest(parent)
    else:
        owner = torch.arange(len(graphs)).repeat_interleave(graphs.edge_ptr.diff())
        once = torch.ones(len(owner), dtype=torch.bool) if directed else graphs.edges[0] < graphs.edges[1]
        arrays["edge_ptr"] = smallest(from_counts(torch.bincount(owner[once], minlength=len(graphs))))
        arrays["edges"] = smallest(graphs.edges[:, once])
        labels = None if labels is None else labels[once]
    return arrays if labels is None else {**arrays, "edge_label": smallest(labels)}


def read_structure(
    arrays: Mapping[str, np.ndarray], node_labels: Tensor | None, features: Tensor | None, *, directed: bool
) -> tuple[Graphs, Tensor | None]:
    """The graphs, and the root mask bool [N] of a forest; raises `CondenseError` for what is out of range."""
    node_ptr = whole(arrays, "node_ptr")
    nodes = len(node_labels if node_labels is not None else features if features is not None else ())
    _check_pointer("node_ptr", node_ptr, nodes)
    labels = whole(arrays, "edge_label") if "edge_label" in arrays else None
    if "parent" in arrays:
        edges, edge_ptr, roots = _of_parents(whole(arrays, "parent"), node_ptr)
        return Graphs(node_ptr, edge_ptr, edges, node_labels, features, labels), roots
    edges, edge_ptr = whole(arrays, "edges", 2), whole(arrays, "edge_ptr")
    _check_pointer("edge_ptr", edge_ptr, edges.shape[1])
    once = Graphs(node_ptr, edge_ptr, edges, node_labels, features, labels)  # raises for edges out of range
    return (once if directed else both_directions(once)), None


def both_directions(graphs: Graphs) -> Graphs:
    """Graphs whose edges stand there once, with every edge in both directions, in order."""
    owner = torch.arange(len(graphs)).repeat_interleave(graphs.edge_ptr.diff())
    order = torch.cat([owner, owner]).argsort(stable=True)
    labels = graphs.edge_labels
    both = Graphs(
        graphs.node_ptr,
        2 * graphs.edge_ptr,
        torch.cat([graphs.edges, graphs.edges.flip(0)], 1)[:, order],
        graphs.node_labels,
        graphs.features,
        None if labels is None else torch.cat([labels, labels])[order],
    )
    return clean(both)[0]


def _check_pointer(name: str, pointers: Tensor, last: int) -> None:
    if len(pointers) < 2 or int(pointers[0]) != 0 or (pointers.diff() < 0).any() or int(pointers[-1]) != last:
        raise CondenseError(f"its {name} does not rise from 0 to {last}; make it again")


def _of_parents(parent: Tensor, node_ptr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Edges from children to parents, pointers to them, and which nodes are roots."""
    if len(parent) != int(node_ptr[-1]):
        raise CondenseError(f"its parent has {len(parent)} nodes of {int(node_ptr[-1])}; make it again")
    owner = torch.arange(len(node_ptr) - 1).repeat_interleave(node_ptr.diff())
    local = torch.arange(len(parent)) - node_ptr[owner]
    if (parent > local).any() or (parent < 0).any():
        raise CondenseError("its parent names nodes that come later; parents come before children; make it again")
    roots = parent == local
    counts = torch.bincount(owner[~roots], minlength=len(node_ptr) - 1)
    return torch.stack([local, parent])[:, ~roots], from_counts(counts), roots


def stored_features(features: Tensor) -> Arrays:
    """Float32 [n, F], dense or in compressed rows, whichever takes fewer bytes; ones alone have no `x_values`."""
    dense = {"x": smallest(features)}
    there = features.view(torch.int32) != 0  # the bits: -0.0 is kept
    columns = there.nonzero()[:, 1]
    values = features[there]
    sparse = {"x_columns": smallest(columns), "x_ptr": smallest(from_counts(there.sum(1)))}
    if not (values == 1).all():
        sparse["x_values"] = smallest(values)
    return min(dense, sparse, key=size)


def read_features(arrays: Mapping[str, np.ndarray], features: int) -> Tensor:
    """What `stored_features` gave, of so many numbers a node."""
    if "x" in arrays:
        return real(arrays, "x", 2)
    columns, pointers = whole(arrays, "x_columns"), whole(arrays, "x_ptr")
    values = real(arrays, "x_values") if "x_values" in arrays else torch.ones(len(columns))
    nodes = len(pointers) - 1
    if nodes < 1 or not 0 < features <= MOST_BYTES // (4 * nodes):
        raise CondenseError(f"its features are {nodes} x {features}, and at most {MOST_BYTES:,} bytes are made")
    dense = dense_rows(values.numpy(), columns.numpy(), pointers.numpy(), (nodes, features), "its features")
    return torch.from_numpy(dense)


def stored_adjacency(edges: Tensor, weights: Tensor | None, nodes: int) -> Arrays:
    """A symmetric adjacency, pairs or the upper triangle without its diagonal, whichever takes fewer bytes."""
    once = edges[0] < edges[1]
    pairs = {"edges": smallest(edges[:, once])}
    if weights is None:
        return pairs
    pairs["edge_weight"] = smallest(weights[once])
    if nodes * (nodes - 1) // 2 > 4 * int(once.sum()):  # far larger, and perhaps too large to be made
        return pairs
    dense = torch.zeros(nodes, nodes)
    dense[edges[0], edges[1]] = weights
    return min(pairs, {"triangle": smallest(dense[tuple(torch.triu_indices(nodes, nodes, 1))])}, key=size)


def read_adjacency(arrays: Mapping[str, np.ndarray], nodes: int) -> tuple[Tensor | None, Tensor | None]:
    """Edges in both directions and their weights; None for each that was not stored."""
    if "triangle" in arrays:
        weights = real(arrays, "triangle")
        if len(weights) != nodes * (nodes - 1) // 2:
            raise CondenseError(f"its triangle has {len(weights)} numbers for {nodes} nodes; make it again")
        upper = torch.triu_indices(nodes, nodes, 1)[:, weights != 0]
        return sorted_edges(upper, weights[weights != 0])
    if "edges" not in arrays:
        return None, None
    upper = whole(arrays, "edges", 2)
    if len(upper) != 2 or (upper[0] >= upper[1]).any() or (upper < 0).any() or (upper >= nodes).any():
        raise CondenseError(f"its edges are no pairs of {nodes} nodes, the smaller first; make it again")
    return sorted_edges(upper, real(arrays, "edge_weight") if "edge_weight" in arrays else None)


def sorted_edges(upper: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Pairs that stand there once, in both directions and in order, and their weights."""
    if weights is not None and len(weights) != upper.shape[1]:
        raise CondenseError(f"there are {upper.shape[1]} edges and {len(weights)} weights of them; make it again")
    both = torch.cat([upper, upper.flip(0)], 1)
    order = both[1].argsort(stable=True)
    order = order[both[0][order].argsort(stable=True)]
    return both[:, order], None if weights is None else torch.cat([weights, weights])[order]


def size(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes of all arrays."""
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays.values())
