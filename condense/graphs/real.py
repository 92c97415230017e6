"""Real graphs as everybody uses them: parts of different types, so that no method is given labels of a test."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from torch import Tensor

from condense.graphs.alphabet import Alphabet
from condense.graphs.graphs import Graphs
from condense.runtime.errors import CondenseError

Metric = Literal["accuracy", "roc-auc", "macro-f1"]
Setting = Literal["transductive", "inductive"]


@dataclass(frozen=True, eq=False)
class GraphInfo:
    """What graphs of a data set have in common.

    Args:
        name: base name, never a path.
        classes: their names, in the order of labels.
        features: F, numbers that a network reads of each node.
        fingerprint: digest of classes, graphs, labels and splits, in this order.
        metric: what is measured on test graphs or nodes.
        directed: whether some edge has no partner in the other direction.
        alphabet: the features of node labels; None where nodes have features of their own.
        normalize_rows: whether networks read features that are divided by the sum of their row.
    """

    name: str
    classes: tuple[str, ...]
    features: int
    fingerprint: str
    metric: Metric = "accuracy"
    directed: bool = False
    alphabet: Alphabet | None = None
    normalize_rows: bool = False


class GraphPart(ABC):  # noqa: B024 (a base of types that differ by what may be done with them)
    """Graphs of one part and their classes, int64 [G]; `info` describes the whole data set.

    `part_of` is the fingerprint of the data set, also for a subset.
    """

    def __init__(self, graphs: Graphs, labels: Tensor, info: GraphInfo, *, part_of: str | None = None) -> None:
        if len(graphs) != len(labels):
            raise CondenseError(f"{info.name} has {len(graphs)} graphs but {len(labels)} labels in one part")
        self.graphs, self.labels, self.info = graphs, labels, info
        self.part_of = part_of or info.fingerprint

    def __len__(self) -> int:
        return len(self.graphs)

    def class_indices(self, label: int) -> Tensor:
        """Where the graphs of one class are: int64, ascending."""
        return (self.labels == label).nonzero().flatten()

    def class_counts(self) -> tuple[int, ...]:
        """How many graphs each class has."""
        return tuple(torch.bincount(self.labels, minlength=len(self.info.classes)).tolist())

    def subset(self, indices: Tensor) -> Self:
        """The graphs at `indices`, int64 [n], as a part of the same type with a fingerprint of its own."""
        digest = hashlib.blake2b(self.info.fingerprint.encode() + indices.numpy().tobytes(), digest_size=16)
        info = dataclasses.replace(self.info, fingerprint=digest.hexdigest())
        return type(self)(self.graphs.at(indices), self.labels[indices], info, part_of=self.part_of)


class TrainingGraphs(GraphPart):
    """Graphs to learn from; the only real graphs that methods are given."""


class ValidationGraphs(GraphPart):
    """Graphs to choose settings by; no network of a reported result is chosen with them."""


class TestGraphs(GraphPart):
    """Graphs to measure on, and nothing else."""

    __test__ = False  # pytest would collect a class of this name


class _Described:
    """What `info` says of a whole data set."""

    info: GraphInfo

    @property
    def name(self) -> str:
        """Base name, never a path."""
        return self.info.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.info.classes

    @property
    def fingerprint(self) -> str:
        """Digest of classes, graphs, labels and splits."""
        return self.info.fingerprint


@dataclass(frozen=True, eq=False)
class RealGraphs(_Described):
    """A data set of graphs with a class each.

    `notes` are sentences that its user should read; `reading_options` are the options, but for what is usual, of a
    command that reads the same data.
    """

    info: GraphInfo
    train: TrainingGraphs
    validation: ValidationGraphs
    test: TestGraphs
    notes: tuple[str, ...] = ()
    reading_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TrainingNodes:
    """The graph that node-level methods are given: every feature and edge, but no label outside of `indices`.

    Args:
        features: float32 [n, F], as they are stored; see `GraphInfo.normalize_rows`.
        edges: int64 [2, E], from row 0 to row 1, what is undirected in both directions.
        indices: the nodes whose class is known, int64 [t].
        labels: their classes, int64 [t].
        origin: of which node of the whole graph each one is a copy, int64 [n].
    """

    features: Tensor
    edges: Tensor
    indices: Tensor
    labels: Tensor
    origin: Tensor
    info: GraphInfo

    def class_counts(self) -> tuple[int, ...]:
        """How many nodes of known class each class has."""
        return tuple(torch.bincount(self.labels, minlength=len(self.info.classes)).tolist())


@dataclass(frozen=True, eq=False)
class HeldOutNodes:
    """Nodes of the whole graph, int64 [t], and their classes, to validate or to test with."""

    indices: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class RealNodeGraph(_Described):
    """One graph whose nodes have classes, and three sets of its nodes.

    Where `setting` is `transductive`, training sees the features and edges of all nodes; where it is `inductive`, those
    of training nodes only. Networks are tested on the whole graph, `features` and `edges`, in both. `notes` and
    `reading_options` are as those of `RealGraphs`.
    """

    info: GraphInfo
    features: Tensor
    edges: Tensor
    train: TrainingNodes
    validation: HeldOutNodes
    test: HeldOutNodes
    setting: Setting = "transductive"
    notes: tuple[str, ...] = ()
    reading_options: Mapping[str, Any] = field(default_factory=dict)
