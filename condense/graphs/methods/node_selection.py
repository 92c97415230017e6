"""Real nodes of one graph: at random, by herding or by k-center, with their edges or with what these would tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.graph_selection import Embedding
from condense.graphs.methods.interface import GraphJob, GraphProduct
from condense.graphs.methods.node_sizes import check_size, node_counts
from condense.graphs.methods.node_views import known_node_network, node_view
from condense.graphs.methods.prefixes import longest_fitting, taking_turns
from condense.graphs.methods.propagation import propagated
from condense.graphs.real import TrainingNodes
from condense.graphs.sets import NodeGraphSet
from condense.methods.interface import Configured, MethodSettings
from condense.runtime.seeds import generator
from condense.selection.herding import herd
from condense.selection.k_center import spread


class NodeSelectionSettings(MethodSettings):
    """In which form chosen nodes are kept."""

    form: Literal["induced", "propagated"] = Field(
        "induced",
        description="nodes with their own features and the edges among them, or with what they and their neighbourhood "
        "are together, which needs no edges",
    )
    hops: int = Field(2, ge=1, le=16, description="how far the neighbourhood reaches, for form=propagated")


class SeenNodesSettings(NodeSelectionSettings):
    """By what nodes are compared."""

    net: str = Field("gcn", description="the network trained on the training graph whose view of nodes decides")
    embedding: Embedding = Field(
        "hidden",
        description="what its last layer reads (sgc: propagated features), or the logarithms of its probabilities (as "
        "the released code of GCond takes them)",
    )

    @field_validator("net")
    @classmethod
    def _known(cls, net: str) -> str:
        return known_node_network(net)


ChoiceT = TypeVar("ChoiceT", bound=NodeSelectionSettings)


class NodeSelection(Configured[ChoiceT], ABC):
    """A method that chooses nodes of known class, in an order of which every beginning is a choice.

    Sizes count nodes of each class, or a part of all nodes of the graph, or bytes: then classes take turns for as long
    as the set has room. A class that has fewer nodes gives all.
    """

    @classmethod
    @abstractmethod
    def order(cls, job: GraphJob[TrainingNodes], settings: ChoiceT) -> list[Tensor]:
        """For each class the positions of all its nodes in `indices`, int64 [t_c], first choices first."""

    @classmethod
    def check(cls, data: TrainingNodes, budget: GraphBudget, settings: ChoiceT) -> None:
        """There must be a size, and it must reach every class."""
        check_size(data, budget)

    @classmethod
    def make(cls, job: GraphJob[TrainingNodes], settings: ChoiceT) -> GraphProduct:
        """Choose, and store what was chosen."""
        orders = [order.tolist() for order in cls.order(job, settings)]
        rows = propagated(job.data, settings.hops).float() if settings.form == "propagated" else None

        def chosen(positions: Sequence[int]) -> NodeGraphSet:
            there = torch.tensor(positions)
            return _induced(job.data, there) if rows is None else _rows_alone(job.data, there, rows)

        if job.budget.bytes is None:
            counts = node_counts(job.data, job.budget, job.data.class_counts())
            made = chosen([position for order, count in zip(orders, counts) for position in order[:count]])
        else:
            turns = taking_turns(orders)
            fitting = longest_fitting(
                lambda count: chosen(turns[:count]).bytes, len(turns), job.budget.bytes, len(orders), "node"
            )
            made = chosen(turns[:fitting])
        return GraphProduct(made, settings)


class RandomNodes(NodeSelection[NodeSelectionSettings]):
    """Nodes of each class at random."""

    @classmethod
    def order(cls, job: GraphJob[TrainingNodes], settings: NodeSelectionSettings) -> list[Tensor]:
        """An order of each class that depends on the seed."""
        return [
            members[torch.randperm(len(members), generator=generator(job.seed, "random nodes", label))]
            for label, members in enumerate(_members(job.data))
        ]


class SeenNodes(NodeSelection[SeenNodesSettings]):
    """A choice by what a trained network makes of nodes."""

    @classmethod
    def order(cls, job: GraphJob[TrainingNodes], settings: SeenNodesSettings) -> list[Tensor]:
        """Class by class, from the view of one network."""
        view = node_view(job.data, settings.net, settings.embedding, seed=job.seed, device=job.device)
        seen = view[job.data.indices]
        return [members[cls.ranked(seen[members])] for members in _members(job.data)]

    @classmethod
    @abstractmethod
    def ranked(cls, features: Tensor) -> Tensor:
        """The rows of one class, float64 [t_c, D], first choices first: int64 [t_c]."""


class HerdedNodes(SeenNodes):
    """Nodes whose running mean follows that of their class: herding (Welling, ICML 2009)."""

    @classmethod
    def ranked(cls, features: Tensor) -> Tensor:
        """All rows in the order of herding."""
        return herd(features, len(features))


class SpreadNodes(SeenNodes):
    """Nodes far from each other, from the one nearest to the mean of its class: k-center (Sener & Savarese, 2018)."""

    @classmethod
    def ranked(cls, features: Tensor) -> Tensor:
        """All rows in the order of greedy k-center."""
        middle = int((features - features.mean(0)).square().sum(1).argmin())
        return spread(features, len(features), middle)


def _members(data: TrainingNodes) -> list[Tensor]:
    """Where in `indices` the nodes of each class are."""
    return [(data.labels == label).nonzero().flatten() for label in range(len(data.info.classes))]


def _induced(data: TrainingNodes, positions: Tensor) -> NodeGraphSet:
    """Copies of the nodes at these positions of `indices`, and of the edges among them."""
    nodes = data.indices[positions]
    return NodeGraphSet(
        features=data.features[nodes],
        labels=data.labels[positions],
        info=data.info,
        edges=edges_among(data.edges, nodes, len(data.features)),
        indices=data.origin[nodes],
        normalize_rows=data.info.normalize_rows,
    )


def _rows_alone(data: TrainingNodes, positions: Tensor, rows: Tensor) -> NodeGraphSet:
    """Their rows of `rows`, float32 [n, F], without edges."""
    nodes = data.indices[positions]
    return NodeGraphSet(features=rows[nodes], labels=data.labels[positions], info=data.info, indices=data.origin[nodes])


def edges_among(edges: Tensor, nodes: Tensor, count: int) -> Tensor:
    """The edges whose two ends are among `nodes`, int64 [m] of `count`, which are counted anew in this order.

    >>> edges_among(torch.tensor([[0, 2, 1], [2, 0, 2]]), torch.tensor([2, 0]), 3)
    tensor([[1, 0],
            [0, 1]])
    """
    place = torch.full((count,), -1)
    place[nodes] = torch.arange(len(nodes))
    inside = place[edges]
    return inside[:, (inside >= 0).all(0)]
