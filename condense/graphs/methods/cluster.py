"""Centroids of propagated features, class by class: no edges, no gradients, and hard to beat."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.graphs.methods.budget import GraphBudget, shared
from condense.graphs.methods.interface import GraphJob, GraphProduct
from condense.graphs.methods.node_sizes import check_size, node_counts
from condense.graphs.methods.node_views import supposed_classes
from condense.graphs.methods.prefixes import longest_fitting
from condense.graphs.methods.propagation import propagated
from condense.graphs.real import TrainingNodes
from condense.graphs.sets import NodeGraphSet
from condense.methods.interface import MethodSettings
from condense.runtime.seeds import derive_seed


class ClusterSettings(MethodSettings):
    """Of what centroids are means, and how much they count."""

    hops: int = Field(2, ge=1, le=16, description="how far the neighbourhood reaches that is part of a node")
    members: Literal["labelled", "pseudo"] = Field(
        "labelled",
        description="nodes of known class only; or all that training sees, the others in the class that a trained sgc "
        "gives them",
    )
    weighted: bool = Field(False, description="centroids of a class count in training as their shares of its members")


class Cluster:
    """Bisecting k-means of S^hops X within each class; the centroids are the nodes of the set (GraphSlim's ClusterAgg).

    With `members=pseudo` the unlabelled nodes that training sees join the class that an SGC trained on the labelled
    ones gives them, so that centroids are means of far more nodes (the idea of CGC and of GECC). In the inductive
    setting there are none, and both choices are the same.

    Centroids are of unequal clusters. Where they all count alike, outliers that are clusters of their own count as much
    as a class's bulk, and networks with strong weight decay suffer: `weighted` gives each class its mean back.

    A class that has fewer different nodes than centroids are asked for gives all of them.
    """

    Settings = ClusterSettings

    @classmethod
    def check(cls, data: TrainingNodes, budget: GraphBudget, settings: ClusterSettings) -> None:
        """There must be a size, and it must reach every class."""
        check_size(data, budget)

    @classmethod
    def make(cls, job: GraphJob[TrainingNodes], settings: ClusterSettings) -> GraphProduct:
        """Cluster the nodes of each class; of bytes, as many centroids as have room, shared as the classes are."""
        data, budget = job.data, job.budget
        rows = propagated(data, settings.hops)
        groups = [rows[nodes] for nodes in _members(job, settings)]
        sizes = [len(group) for group in groups]

        def clustered(counts: list[int]) -> NodeGraphSet:
            return _set(data, groups, counts, job.seed, weighted=settings.weighted)

        if budget.bytes is None:
            made = clustered(node_counts(data, budget, sizes))
        else:
            total = longest_fitting(
                lambda total: clustered(shared(total, sizes)).bytes, sum(sizes), budget.bytes, len(sizes), "node"
            )
            made = clustered(shared(total, sizes))
        return GraphProduct(made, settings)


def _members(job: GraphJob[TrainingNodes], settings: ClusterSettings) -> list[Tensor]:
    """The nodes of each class, int64 [n_c]."""
    data = job.data
    if settings.members == "pseudo":
        classes = supposed_classes(data, "sgc", seed=job.seed, device=job.device)
    else:
        classes = torch.full((len(data.features),), -1)
        classes[data.indices] = data.labels
    return [(classes == label).nonzero().flatten() for label in range(len(data.info.classes))]


def _set(data: TrainingNodes, groups: list[Tensor], counts: list[int], seed: int, *, weighted: bool) -> NodeGraphSet:
    """So many centroids of each class; weights have the mean 1 in each, so that classes count as they do without."""
    found = [
        centroids(rows, count, derive_seed(seed, "bisecting k-means", label))
        for label, (rows, count) in enumerate(zip(groups, counts))
    ]
    return NodeGraphSet(
        features=torch.cat([means for means, _ in found]).float(),
        labels=torch.arange(len(found)).repeat_interleave(torch.tensor([len(means) for means, _ in found])),
        info=data.info,
        weights=torch.cat([members / members.double().mean() for _, members in found]).float() if weighted else None,
    )


def centroids(rows: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Means of the clusters of bisecting k-means, float64 [k, F], and how many rows each has, int64 [k].

    `rows` is [n, F]. There are `count` clusters; where there are no more different rows, each of these is one.

    >>> means, members = centroids(torch.tensor([[0.0], [1.0], [9.0], [9.0]]), 2, seed=0)
    >>> sorted(zip(means.flatten().tolist(), members.tolist()))
    [(0.5, 2), (9.0, 2)]
    """
    rows = rows.double()
    different, places = rows.unique(dim=0, return_inverse=True)
    if count < len(different):
        _, places = _bisected(rows, count, seed).unique(return_inverse=True)
    members = torch.bincount(places)
    sums = rows.new_zeros(len(members), rows.shape[1]).index_add_(0, places, rows)
    return sums / members[:, None], members


def _bisected(rows: Tensor, count: int, seed: int) -> Tensor:
    """The cluster of each row, int64 [n], by scikit-learn: the cluster of largest inertia is cut in two, again."""
    from sklearn.cluster import BisectingKMeans  # takes as long to import as torch, and most runs do not need it
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rows that stand there twice
        clustering = BisectingKMeans(n_clusters=count, random_state=seed % 2**32).fit(rows.numpy())
    return torch.from_numpy(clustering.labels_).long()
