"""Condensed sets of graphs: many small graphs or forests with weights, or one small graph whose nodes have classes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from condense.graphs import file as stored
from condense.graphs.graphs import Graphs, clean
from condense.graphs.real import GraphInfo
from condense.graphs.storing import (
    Arrays,
    size,
    smallest,
    stored_adjacency,
    stored_features,
    stored_structure,
)
from condense.runtime.errors import CondenseError
from condense.runtime.inputs import as_json

Readout = Literal["mean", "sum"]
_NOT_TRAINED_ON = ("source", "index")


class _Stored:
    """What both kinds of set have in common."""

    info: GraphInfo
    provenance: dict[str, Any]

    def arrays(self) -> Arrays:
        """What the file holds, each array in the smallest exact type."""
        raise NotImplementedError

    @functools.cached_property
    def bytes(self) -> int:
        """What the set costs to keep: everything that training needs, uncompressed, as it is stored."""
        return size({name: array for name, array in self.arrays().items() if name not in _NOT_TRAINED_ON})

    def check_matches(self, info: GraphInfo) -> str | None:
        """A sentence for the user where the set was made of other graphs with the same classes; None where it was not.

        Raises `CondenseError` where classes or features differ.
        """
        mine = self.info
        if mine.classes != info.classes or mine.features != info.features:
            raise CondenseError(
                f"the set has {len(mine.classes)} classes and {mine.features} features, {info.name} has "
                f"{len(info.classes)} and {info.features}, or other names; give the data that it was made from "
                f"({mine.name})"
            )
        if mine.alphabet is not None and info.alphabet is not None:
            same = torch.equal(mine.alphabet.training, info.alphabet.training)
            if not same:
                raise CondenseError(f"node labels of {info.name} are others than those of the set; give {mine.name}")
        if mine.fingerprint == info.fingerprint:
            return None
        return (
            f"the set was made from {mine.name} with fingerprint {mine.fingerprint[:12]}, but this {info.name} has "
            f"{info.fingerprint[:12]}: same classes, other graphs or another split"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphSet(_Stored):
    """Small graphs that stand for many: real ones, learned ones, or forests of trees.

    Args:
        graphs: their nodes and edges. In a forest edges go from children to parents, which come before them.
        labels: classes int64 [G], or probabilities float32 [G, K].
        info: the data that they stand for.
        weights: how much each counts in training, float32 [G], not negative; None if all count alike.
        roots: of forests, which nodes are roots, bool [N]: a network of `hops` layers reads these only.
        root_counts: how many nodes of a real graph each root stands for, int64, one for each root in order.
        degrees: how many neighbours each node had in its real graph, int64 [N]; None without.
        hops: depth of the trees; None for graphs.
        readout: how nodes of a graph become one vector.
        source_indices: of which training graph each is a copy, int64 [G]; None without. Not counted in `bytes`.
        provenance: how it was made, JSON-able; neither times nor paths.

    Loops and repeated edges are left out. Raises `CondenseError` where this does not fit together.
    """

    graphs: Graphs
    labels: Tensor
    info: GraphInfo
    weights: Tensor | None = None
    roots: Tensor | None = None
    root_counts: Tensor | None = None
    degrees: Tensor | None = None
    hops: int | None = None
    readout: Readout = "mean"
    source_indices: Tensor | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _set(
            self,
            graphs=clean(self.graphs)[0],
            provenance=as_json("provenance", self.provenance),
            info=of_training(self.info),
        )
        count, nodes = len(self.graphs), self.graphs.nodes
        check_labels(self.labels, count, self.info)
        check_vector("weights", self.weights, count, torch.float32)
        check_vector("degrees", self.degrees, nodes, torch.int64)
        check_vector("source_indices", self.source_indices, count, torch.int64)
        if (self.roots is None) != (self.hops is None):
            raise CondenseError("a forest has both roots and hops, graphs have neither")
        if self.roots is not None:
            _check_forest(self.graphs, self.roots, self.hops)
        elif not self.info.directed and not self.graphs.is_symmetric():
            raise CondenseError(
                f"edges of {self.info.name} have no direction, and some stand in one only; add the other, or set "
                "directed"
            )
        check_vector("root_counts", self.root_counts, 0 if self.roots is None else int(self.roots.sum()), torch.int64)
        _check_described(self.graphs, self.info)

    def __len__(self) -> int:
        return len(self.graphs)

    @property
    def classes(self) -> Tensor:
        """The class of each graph, int64 [G]; the most probable one of soft labels."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Graphs of each class."""
        return tuple(torch.bincount(self.classes, minlength=len(self.info.classes)).tolist())

    @property
    def dense_bytes(self) -> int:
        """Bytes as papers count them: 4 for each feature of each node and each end of each directed edge."""
        return 4 * (self.graphs.nodes * self.info.features + 2 * self.graphs.edges.shape[1])

    def arrays(self) -> Arrays:
        """What the file holds, each array in the smallest exact type."""
        graphs, alphabet = self.graphs, self.info.alphabet
        arrays = stored_structure(graphs, self.roots, directed=self.info.directed)
        if graphs.node_labels is not None:
            arrays["node_label"] = smallest(graphs.node_labels)
        if graphs.features is not None:
            arrays |= {"x": smallest(graphs.features)}
        if alphabet is not None and not is_identity(alphabet.table):
            arrays["label_table"] = smallest(alphabet.table)
        arrays["y"] = smallest(self.labels)
        given = {
            "weight": self.weights,
            "root_count": self.root_counts,
            "degree": self.degrees,
            "source": self.source_indices,
        }
        return arrays | {name: smallest(value) for name, value in given.items() if value is not None}

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file (docs/format.md), atomically; the same set always gives the same bytes."""
        facts = {"directed": self.info.directed, "readout": self.readout} | (
            {} if self.hops is None else {"hops": self.hops}
        )
        stored.write(path, stored.GRAPHS, self.arrays(), self.info, self.bytes, self.provenance, facts)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a set and verify it; raises `CondenseError` for a file that is no whole set of graphs."""
        return stored.checked(path, lambda: cls(**stored.read_graphs(path)))

    def rounded(self) -> Self:
        """The set with features rounded to float16, which then take half the bytes; labels of nodes stay exact."""
        features = self.graphs.features
        return self if features is None else replace(self, graphs=replace(self.graphs, features=to_half(features)))


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeGraphSet(_Stored):
    """One small graph that stands for a large one.

    Args:
        features: float32 [n, F]; networks read them divided by the sum of their row where `normalize_rows` says so.
        labels: classes int64 [n], or probabilities float32 [n, K]; every node is trained on.
        info: the data that it stands for.
        edges: int64 [2, E], every edge in both directions; None for no adjacency but that of each node with itself.
        edge_weights: float32 [E], positive and the same in both directions; None if all are 1.
        weights: how much each node counts in training, float32 [n]; None if all count alike.
        indices: of which node of the real graph each is a copy, int64 [n]; None without. Not counted in `bytes`.
        normalize_rows: true for copies of real features that are counts; false for learned and propagated ones.
        provenance: how it was made, JSON-able; neither times nor paths.

    Raises `CondenseError` where this does not fit together.
    """

    features: Tensor
    labels: Tensor
    info: GraphInfo
    edges: Tensor | None = None
    edge_weights: Tensor | None = None
    weights: Tensor | None = None
    indices: Tensor | None = None
    normalize_rows: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.features)
        if self.features.shape != (count, self.info.features) or self.features.dtype != torch.float32 or not count:
            raise CondenseError(
                f"features are {self.features.dtype} {list(self.features.shape)}; they are float32 "
                f"[n, {self.info.features}]"
            )
        if not self.features.isfinite().all():
            raise CondenseError("features hold values that are not finite; the run that made them diverged")
        check_labels(self.labels, count, self.info)
        check_vector("weights", self.weights, count, torch.float32)
        check_vector("indices", self.indices, count, torch.int64)
        _set(self, provenance=as_json("provenance", self.provenance))
        if self.edges is not None:
            edges, weights = _settled_edges(self.edges, self.edge_weights, count)
            _set(self, edges=edges, edge_weights=weights)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dense_bytes(self) -> int:
        """Bytes as papers count them: 4 for each feature of each node and each end of each directed edge."""
        return 4 * (self.features.numel() + (0 if self.edges is None else 2 * self.edges.shape[1]))

    def arrays(self) -> Arrays:
        """What the file holds, each array in the smallest exact type."""
        arrays = stored_features(self.features)
        if self.edges is not None:
            arrays |= stored_adjacency(self.edges, self.edge_weights, len(self))
        arrays["y"] = smallest(self.labels)
        given = {"weight": self.weights, "index": self.indices}
        return arrays | {name: smallest(value) for name, value in given.items() if value is not None}

    def save(self, path: str | Path) -> None:
        """Write an HDF5 file (docs/format.md), atomically; the same set always gives the same bytes."""
        facts = {"normalize_rows": self.normalize_rows, "self_loops": "once", "normalisation": "sym"}
        stored.write(path, stored.NODES, self.arrays(), self.info, self.bytes, self.provenance, facts)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a set and verify it; raises `CondenseError` for a file that is no whole node graph."""
        return stored.checked(path, lambda: cls(**stored.read_nodes(path)))

    def rounded(self) -> Self:
        """The set with features and edge weights rounded to float16, which then take half the bytes."""
        weights = self.edge_weights
        return replace(
            self, features=to_half(self.features), edge_weights=None if weights is None else to_half(weights)
        )


def to_half(values: Tensor) -> Tensor:
    """Rounded to float16; raises `CondenseError` for values beyond its range."""
    rounded = values.half().float()
    if not rounded.isfinite().all():
        raise CondenseError("some values are beyond the range of float16, 65,504; keep them as they are")
    return rounded


def is_identity(table: Tensor) -> bool:
    """Whether label k is the k-th unit vector, so that nothing need be stored of it."""
    return table.shape[0] == table.shape[1] and torch.equal(table, torch.eye(len(table)))


def of_training(info: GraphInfo) -> GraphInfo:
    """The same with node labels of the training part only: what a set holds."""
    if info.alphabet is None:
        return info
    known = info.alphabet.known
    return replace(info, alphabet=replace(info.alphabet, table=info.alphabet.training.clone(), known=known))


def _set(synthetic: _Stored, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(synthetic, name, value)  # the way that a frozen dataclass leaves to its own constructor


def check_vector(name: str, values: Tensor | None, count: int, dtype: torch.dtype) -> None:
    """Raise `CondenseError` unless `values` are None, or so many finite numbers of a type that are not negative."""
    if values is None:
        return
    if values.dtype != dtype or values.shape != (count,):
        raise CondenseError(f"{name} are {values.dtype} {list(values.shape)}; they are {dtype} [{count}]")
    if not values.isfinite().all() or (values < 0).any():
        raise CondenseError(f"{name} are negative or not finite for some")
    if name == "weights" and not values.any():
        raise CondenseError("every weight is zero, so that nothing would be trained on")


def check_labels(labels: Tensor, count: int, info: GraphInfo) -> None:
    """Raise `CondenseError` unless labels are classes [count] or distributions over the classes [count, K]."""
    classes = len(info.classes)
    hard = labels.dtype == torch.int64 and labels.shape == (count,)
    soft = labels.dtype == torch.float32 and labels.shape == (count, classes)
    if not hard and not soft:
        raise CondenseError(
            f"labels are {labels.dtype} {list(labels.shape)}; they are int64 [{count}] or float32 [{count}, {classes}]"
        )
    if hard and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise CondenseError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, and there are {classes} classes"
        )
    if soft and not (((labels >= 0).all()) and ((labels.sum(1) - 1).abs() < 1e-3).all()):
        raise CondenseError("soft labels are no distributions: rows are not negative and sum to 1")


def _check_forest(graphs: Graphs, roots: Tensor, hops: int | None) -> None:
    if roots.dtype != torch.bool or roots.shape != (graphs.nodes,):
        raise CondenseError(f"roots are {roots.dtype} {list(roots.shape)}; they are bool [{graphs.nodes}]")
    if hops is None or not 1 <= hops <= 16:
        raise CondenseError(f"a forest of {hops} hops: networks of so many layers are not made; 1 to 16 are")
    children, parents = graphs.joined_edges
    if not torch.equal(children, (~roots).nonzero().flatten()) or (parents >= children).any():
        raise CondenseError("a forest has one edge from each node but its roots, to a parent that comes before it")


def _check_described(graphs: Graphs, info: GraphInfo) -> None:
    if graphs.features is not None and graphs.features.shape[1] != info.features:
        raise CondenseError(f"nodes have {graphs.features.shape[1]} features, and {info.name} has {info.features}")
    if graphs.node_labels is not None:
        if info.alphabet is None:
            raise CondenseError(f"nodes have labels, and {info.name} has features")
        if int(graphs.node_labels.max()) >= info.alphabet.known:
            raise CondenseError(
                f"label {int(graphs.node_labels.max())} is none of the {info.alphabet.known} of the training part of "
                f"{info.name}"
            )


def _settled_edges(edges: Tensor, weights: Tensor | None, nodes: int) -> tuple[Tensor, Tensor | None]:
    """Edges in order, and their weights; raises unless they are symmetric and have no loops."""
    if edges.dtype != torch.int64 or edges.ndim != 2 or len(edges) != 2:
        raise CondenseError(f"edges are {edges.dtype} {list(edges.shape)}; they are int64 [2, E]")
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < nodes:
        raise CondenseError(f"edges name nodes from {int(edges.min())} to {int(edges.max())}, and there are {nodes}")
    check_vector("edge_weights", weights, edges.shape[1], torch.float32)
    order = np.lexsort((edges[1].numpy(), edges[0].numpy()))
    back = np.lexsort((edges[0].numpy(), edges[1].numpy()))
    ordered = edges[:, order]
    twice = (ordered.diff(dim=1) == 0).all(0).any()
    same = torch.equal(ordered, edges.flip(0)[:, back]) and (
        weights is None or torch.equal(weights[order], weights[back])
    )
    if not same or twice or (edges[0] == edges[1]).any() or (weights is not None and (weights == 0).any()):
        raise CondenseError(
            "edges stand in both directions, each once with one weight that is not 0, and join two nodes"
        )
    return ordered, None if weights is None else weights[order]
