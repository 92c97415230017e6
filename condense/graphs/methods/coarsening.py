"""Coarsening by variation neighbourhoods (Loukas, JMLR 2019): groups of nodes become one, the slow modes stay."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.contraction import Weights, coarsened, spectral_bundle
from condense.graphs.methods.interface import GraphJob, GraphProduct
from condense.graphs.methods.node_sizes import check_size, node_counts
from condense.graphs.methods.prefixes import last_within
from condense.graphs.real import TrainingNodes
from condense.graphs.sets import NodeGraphSet
from condense.graphs.structure import row_normalized
from condense.methods.interface import MethodSettings
from condense.runtime.errors import CondenseError
from condense.runtime.progress import say

_LEFT_OUT = 10  # nodes of the largest component that is left out


class CoarseningSettings(MethodSettings):
    """None: the size says all."""


class Coarsening:
    """Super-nodes in place of groups of nodes, with the mean of their features and the edges between them.

    How far the graph is contracted is found by bisection: as little as leaves no more super-nodes with a class than the
    size asks for, in all and not class by class, or no more bytes. Super-nodes with nodes of several known classes or
    of none are left out, and so are components of up to ten nodes (both as in the released code of GraphSlim). Nothing
    is drawn: every seed gives the same.
    """

    Settings = CoarseningSettings

    @classmethod
    def check(cls, data: TrainingNodes, budget: GraphBudget, settings: CoarseningSettings) -> None:
        """There must be a size, and nodes of every class in components that are not left out."""
        check_size(data, budget)
        _Parts.of(data).check()

    @classmethod
    def make(cls, job: GraphJob[TrainingNodes], settings: CoarseningSettings) -> GraphProduct:
        """Contract until the set has the size; raises `CondenseError` where a class is lost on the way."""
        parts = _Parts.of(job.data)
        if parts.left_out:
            say(
                f"note: {parts.left_out:,} of {len(job.data.features):,} nodes of {job.data.info.name} are in "
                f"components of up to {_LEFT_OUT}, which coarsening leaves out"
            )
        groups = _of_size(parts, job.budget)
        facts = {"super_nodes": int(groups.max()) + 1, "left_out": parts.left_out}
        return GraphProduct(super_nodes(job.data, groups), settings, facts=facts)


@dataclass(frozen=True, eq=False)
class _Component:
    """Nodes of the training graph, int64 [n], and the weights among them."""

    nodes: np.ndarray
    weights: Weights

    @functools.cached_property
    def bundle(self) -> np.ndarray:
        return spectral_bundle(self.weights)


@dataclass(frozen=True, eq=False)
class _Parts:
    """The components that are contracted."""

    data: TrainingNodes
    components: tuple[_Component, ...]

    @classmethod
    def of(cls, data: TrainingNodes) -> _Parts:
        count, (source, target) = len(data.features), data.edges.numpy()
        weights = csr_array((np.ones(len(source)), (source, target)), shape=(count, count))
        owner = connected_components(weights, directed=False)[1]
        large = np.flatnonzero(np.bincount(owner) > _LEFT_OUT)
        there = [np.flatnonzero(owner == number) for number in large]
        return cls(data, tuple(_Component(nodes, weights[nodes][:, nodes]) for nodes in there))

    @property
    def nodes(self) -> int:
        """Of all components."""
        return sum(len(component.nodes) for component in self.components)

    @property
    def left_out(self) -> int:
        """Nodes that are in none."""
        return len(self.data.features) - self.nodes

    def check(self) -> None:
        """Raise `CondenseError` where the nodes of a class are all in components that are left out."""
        info, found = self.data.info, torch.zeros(len(self.data.features), dtype=torch.bool)
        for component in self.components:
            found[torch.from_numpy(component.nodes)] = True
        counts = torch.bincount(self.data.labels[found[self.data.indices]], minlength=len(info.classes))
        if not counts.all():
            raise CondenseError(
                f"nodes of class {info.classes[int(counts.argmin())]!r} of {info.name} are all in components of up to "
                f"{_LEFT_OUT} nodes, which coarsening leaves out; take cluster, or a selection"
            )

    def contracted(self, size: int) -> Tensor:
        """The group of each node, int64 [n], -1 for those left out; about `size` groups, shared as nodes are."""
        groups, count = torch.full((len(self.data.features),), -1), 0
        for component in self.components:
            target = math.ceil(size * len(component.nodes) / self.nodes)
            within = torch.from_numpy(coarsened(component.weights, component.bundle, target))
            groups[torch.from_numpy(component.nodes)] = within + count
            count += int(within.max()) + 1
        return groups


def _of_size(parts: _Parts, budget: GraphBudget) -> Tensor:
    """The groups, as many as the size has room for; raises `CondenseError` where some class has none of its own."""
    data = parts.data
    contracted = functools.cache(parts.contracted)

    def size(groups: int) -> int:
        there = contracted(groups)
        labelled = int((classes_of(data, there) >= 0).sum())
        return labelled if budget.bytes is None or not labelled else super_nodes(data, there).bytes

    limit = sum(node_counts(data, budget, data.class_counts())) if budget.bytes is None else budget.bytes
    if size(1) > limit:
        raise CondenseError(f"{budget} of {data.info.name} is less than coarsening comes to; give a larger size")
    groups = contracted(last_within(size, 1, parts.nodes, limit))
    labels = classes_of(data, groups)
    counts = torch.bincount(labels[labels >= 0], minlength=len(data.info.classes))
    if not counts.all():
        raise CondenseError(
            f"{budget} leaves class {data.info.classes[int(counts.argmin())]!r} of {data.info.name} no super-node of "
            "its own; give a larger size, or take cluster, which keeps every class"
        )
    return groups


def classes_of(data: TrainingNodes, groups: Tensor) -> Tensor:
    """The class of each group by its nodes of known class, int64 [m]; -1 where they have several, or there are none."""
    owner = groups[data.indices]
    there = owner >= 0
    known = torch.zeros(int(groups.max()) + 1, len(data.info.classes), dtype=torch.bool)
    known[owner[there], data.labels[there]] = True
    return torch.where(known.sum(1) == 1, known.int().argmax(1), -1)


def super_nodes(data: TrainingNodes, groups: Tensor) -> NodeGraphSet:
    """The groups that have a class: means of features, and P^T A P without its diagonal as weights of edges.

    `groups` are int64 [n], -1 for nodes that are left out. Features are divided by the sum of their rows first, where
    the data says so.
    """
    labels = classes_of(data, groups)
    kept = (labels >= 0).nonzero().flatten()
    place = torch.full((len(labels) + 1,), -1)  # the last is that of nodes left out
    place[kept] = torch.arange(len(kept))
    owner = place[groups]
    x = data.features.double()
    x = row_normalized(x) if data.info.normalize_rows else x
    inside = owner >= 0
    sums = x.new_zeros(len(kept), x.shape[1]).index_add_(0, owner[inside], x[inside])
    ends = owner[data.edges]
    ends = ends[:, (ends >= 0).all(0) & (ends[0] != ends[1])]
    edges, weights = ends.unique(dim=1, return_counts=True)
    return NodeGraphSet(
        features=(sums / torch.bincount(owner[inside])[:, None]).float(),
        labels=labels[kept],
        info=data.info,
        edges=edges,
        edge_weights=weights.float(),
    )
