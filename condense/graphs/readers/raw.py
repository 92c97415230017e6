"""What readers give: graphs and labels as they were found, before splits, labels of nodes and features are settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from condense.graphs.graphs import from_counts
from condense.graphs.real import Metric
from condense.runtime.errors import CondenseError

MOST_GRAPHS = 10_000_000
MOST_CLASSES = 1_000
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class RawGraphs:
    """Graphs as a reader found them.

    Args:
        name: of the data set.
        node_counts: nodes of each graph, int64 [G].
        edge_counts: edges of each graph, int64 [G].
        edges: int64 [2, E], nodes counted within each graph, graph after graph.
        targets: what stands for the class of each graph, [G]; numbers or texts.
        columns: whole numbers that describe each node, int64 [N, C]; None without.
        features: real numbers that describe it, float32 [N, F]; None without, or where there are columns.
        edge_labels: int64 [E], counted from 0; None without.
        parts: indices of training, validation and test graphs, int64; None where there is no split.
        metric: what is measured on test graphs.
        notes: sentences for the user.
    """

    name: str
    node_counts: np.ndarray
    edge_counts: np.ndarray
    edges: np.ndarray
    targets: np.ndarray
    columns: np.ndarray | None = None
    features: np.ndarray | None = None
    edge_labels: np.ndarray | None = None
    parts: tuple[Tensor, Tensor, Tensor] | None = None
    metric: Metric = "accuracy"
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True, eq=False)
class RawNodes:
    """One graph as a reader found it.

    Args:
        name: of the data set.
        features: float32 [n, F]; None without.
        edges: int64 [2, E].
        labels: class of each node, int64 [n]; -1 where there is none.
        classes: their names.
        parts: indices of training, validation and test nodes, int64; None where there is no split.
        notes: sentences for the user.
    """

    name: str
    features: np.ndarray | None
    edges: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    parts: tuple[Tensor, Tensor, Tensor] | None = None
    notes: tuple[str, ...] = ()


def classes_of(targets: np.ndarray, name: str, of: str = "graphs") -> tuple[Tensor, tuple[str, ...]]:
    """Class indices int64 [n] and names, of what stands for the class of each.

    Raises `CondenseError` where there is no class, one class or so many that they can be none.

    >>> classes_of(np.array([1, -1, 1]), "pets")
    (tensor([1, 0, 1]), ('-1', '1'))
    """
    if targets.dtype.kind == "f":
        if not np.isfinite(targets).all():
            raise CondenseError(f"some {of} of {name} have no label (not a number); leave them out, or label them")
        if (targets != np.floor(targets)).any():
            raise CondenseError(
                f"the labels of {name} are real numbers, {targets[:1].item():g} for one: they are for regression, and "
                "only classes are condensed; give a set with classes"
            )
        targets = targets.astype(np.int64)
    values, indices = np.unique(targets, return_inverse=True)
    if len(values) < 2:
        raise CondenseError(f"all {len(targets)} {of} of {name} have one class, {values.tolist()}; two are needed")
    if len(values) > min(MOST_CLASSES, len(targets) - 1):
        raise CondenseError(
            f"{len(targets)} {of} of {name} have {len(values)} labels; at most {MOST_CLASSES} are read, and classes "
            "have more than one each"
        )
    return torch.from_numpy(indices.reshape(-1).astype(np.int64)), tuple(str(value) for value in values.tolist())


def checked_parts(parts: Sequence[np.ndarray], count: int, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """A split that was read: int64 indices below `count`, none of them twice, and some of each part."""
    found = [np.asarray(part).reshape(-1).astype(np.int64) for part in parts]
    together = np.concatenate(found)
    if len(together) and not 0 <= int(together.min()) <= int(together.max()) < count:
        raise CondenseError(f"the split of {name} has indices from {together.min()} to {together.max()}, of {count}")
    if len(np.unique(together)) != len(together):
        raise CondenseError(f"the split of {name} has an index twice; a graph or node belongs to one part only")
    for part, indices in zip(PARTS, found):
        if part != "validation" and not len(indices):
            raise CondenseError(f"the split of {name} has no {part} part; give one, or leave the split out")
    train, validation, test = (torch.from_numpy(np.sort(indices)) for indices in found)
    return train, validation, test


def parts_of_words(words: Sequence[str], name: str) -> tuple[Tensor, Tensor, Tensor] | None:
    """A split by a word for each row: train, validation or test, nothing for none; None if all are empty."""
    if not any(words):
        return None
    wrong = sorted({word for word in words if word and word not in PARTS})
    if wrong:
        raise CondenseError(f"a split of {name} is called {wrong[0]!r}; write train, validation or test, or nothing")
    given = np.array(words)
    return checked_parts([np.flatnonzero(given == part) for part in PARTS], len(words), name)


def local_edges(edges: np.ndarray, node_counts: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges [2, E] whose nodes are counted through all graphs, as readers give them: counted within each graph.

    Returns them, graph after graph, the number of each graph's edges, and the order that they were brought into.
    """
    starts = from_counts(torch.from_numpy(node_counts)).numpy()
    if edges.size and not 0 <= int(edges.min()) <= int(edges.max()) < starts[-1]:
        raise CondenseError(
            f"edges of {name} name nodes from {edges.min()} to {edges.max()}, counted from 0, and it has {starts[-1]}; "
            "correct them"
        )
    owners = np.searchsorted(starts, edges, side="right") - 1
    if (owners[0] != owners[1]).any():
        edge = int((owners[0] != owners[1]).argmax())
        raise CondenseError(
            f"edge {edge} of {name} joins graphs {owners[0, edge]} and {owners[1, edge]}, counted from 0; an edge "
            "belongs to one graph"
        )
    order = np.argsort(owners[0], kind="stable")
    owner = owners[0][order]
    return edges[:, order] - starts[owner], np.bincount(owner, minlength=len(node_counts)), order
