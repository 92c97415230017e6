"""Objects of torch_geometric: a `Data` whose nodes have classes, or a sequence of them with a class each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.graphs.readers.raw import RawGraphs, RawNodes, checked_parts, classes_of
from condense.runtime.errors import CondenseError


def is_data(source: Any) -> bool:
    """Whether an object is one `Data`; torch_geometric itself need not be there.

    Its data sets hand on the attributes of their graphs, but not the methods.
    """
    return hasattr(source, "edge_index") and callable(getattr(source, "is_undirected", None))


def read_pyg_nodes(data: Any) -> RawNodes:
    """One graph with `y` [n] and, perhaps, `train_mask`, `val_mask` and `test_mask`; a negative class is none."""
    labels = _tensor(data, "y", "the data")
    if labels.is_floating_point() or labels.shape != (data.num_nodes,):
        raise CondenseError(
            f"y is {labels.dtype} {list(labels.shape)}; a class for each of {data.num_nodes} nodes is needed"
        )
    _, names = classes_of(labels[labels >= 0].numpy(), "the data", "labelled nodes")
    values = torch.tensor([int(name) for name in names])
    classes = torch.where(labels >= 0, torch.searchsorted(values, labels.clamp(min=int(values[0]))), -1)
    masks = [getattr(data, f"{part}_mask", None) for part in ("train", "val", "test")]
    parts = None
    if all(mask is not None for mask in masks):
        parts = checked_parts(
            [torch.as_tensor(mask).nonzero().flatten().numpy() for mask in masks], len(labels), "the data"
        )
    features = getattr(data, "x", None)
    return RawNodes(
        name="graph",
        features=None if features is None else _features(features, len(labels)),
        edges=_edges(data).numpy(),
        labels=classes.numpy(),
        classes=names,
        parts=parts,
    )


def read_pyg_graphs(items: Sequence[Any]) -> RawGraphs:
    """Graphs with one `y` each; rows of `x` that are one-hot become labels, others stay features."""
    if not len(items) or not all(is_data(item) for item in items):
        raise CondenseError("give a path, a name, a Data of torch_geometric or a sequence of them that is not empty")
    edges = [_edges(item) for item in items]
    targets = [_tensor(item, "y", f"graph {index}") for index, item in enumerate(items)]
    if any(target.numel() != 1 for target in targets):
        raise CondenseError("y of a graph is one class; several tasks are not read")
    features = [getattr(item, "x", None) for item in items]
    if any(x is None for x in features) and not all(x is None for x in features):
        raise CondenseError("some graphs have x and others have none; give it to all or to none")
    rows = None
    if features and features[0] is not None:
        rows = np.concatenate([_features(x, item.num_nodes) for x, item in zip(features, items)])
    one_hot = rows is not None and bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(1) == 1).all())
    return RawGraphs(
        name="graphs",
        node_counts=np.array([item.num_nodes for item in items]),
        edge_counts=np.array([part.shape[1] for part in edges]),
        edges=torch.cat(edges, 1).numpy(),
        targets=torch.stack([target.reshape(()) for target in targets]).numpy(),
        columns=rows.argmax(1)[:, None] if rows is not None and one_hot else None,
        features=None if one_hot else rows,
    )


def _tensor(data: Any, name: str, what: str) -> Tensor:
    value = getattr(data, name, None)
    if not isinstance(value, Tensor):
        raise CondenseError(f"{what} has no {name}; only graphs and nodes with classes are condensed")
    return value.detach().cpu()


def _edges(data: Any) -> Tensor:
    edges = _tensor(data, "edge_index", "a graph")
    if edges.ndim != 2 or len(edges) != 2 or edges.is_floating_point():
        raise CondenseError(f"edge_index is {edges.dtype} {list(edges.shape)}; it is int64 [2, E]")
    return edges.long()


def _features(x: Any, nodes: int) -> np.ndarray:
    if not isinstance(x, Tensor) or x.ndim != 2 or len(x) != nodes:
        raise CondenseError(f"x of a graph with {nodes} nodes is no tensor [{nodes}, F]")
    return x.detach().cpu().float().numpy()
