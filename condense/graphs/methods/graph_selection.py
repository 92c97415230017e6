"""Real graphs as a set: at random, by herding or by k-center, at an equal count or at equal bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.interface import GraphJob, GraphProduct
from condense.graphs.methods.prefixes import longest_fitting, taking_turns
from condense.graphs.networks import GRAPH_NETWORKS
from condense.graphs.protocols import PROTOCOLS
from condense.graphs.real import TrainingGraphs
from condense.graphs.sets import GraphSet
from condense.graphs.training import graph_embeddings, graph_logits, train_graphs
from condense.methods.interface import Configured, MethodSettings
from condense.runtime.errors import unknown_name
from condense.runtime.seeds import derive_seed, generator
from condense.selection.herding import herd
from condense.selection.k_center import spread

Embedding = Literal["hidden", "log-probabilities"]


class ChoiceSettings(MethodSettings):
    """A random choice has nothing to set."""


class SeenChoiceSettings(ChoiceSettings):
    """The settings of choices by what a network makes of graphs."""

    net: str = Field("gin", description="network, trained on all training graphs, whose view of them decides")
    embedding: Embedding = Field(
        "hidden", description="its view: what it makes of a graph before its last layer, or its log-probabilities"
    )

    @field_validator("net")
    @classmethod
    def _known(cls, net: str) -> str:
        return known_network(net)


SettingsT = TypeVar("SettingsT", bound=ChoiceSettings)


class GraphChoice(Configured[SettingsT], ABC):
    """Real graphs as a set: so many of each class, or as many, of each class in turn, as fit into bytes.

    The order of a class is kept, so that a smaller choice is the beginning of a larger one.
    """

    @classmethod
    def check(cls, data: TrainingGraphs, budget: GraphBudget, settings: SettingsT) -> None:
        """There must be a size, and it must choose something of each class."""
        budget.check_given()
        if budget.bytes is None:
            budget.shares(data.class_counts())

    @classmethod
    def make(cls, job: GraphJob[TrainingGraphs], settings: SettingsT) -> GraphProduct:
        """Order the graphs of each class, and take the first ones."""
        train = job.data
        orders = cls.orders(job, settings)
        if job.budget.bytes is not None:
            turns = taking_turns(orders)
            count = longest_fitting(
                lambda count: copied(train, turns[:count]).bytes, len(turns), job.budget.bytes, len(orders)
            )
            return GraphProduct(copied(train, turns[:count]), settings)
        counts = job.budget.shares(train.class_counts())
        chosen = [index for order, count in zip(orders, counts) for index in order[:count]]
        return GraphProduct(copied(train, chosen), settings)

    @classmethod
    @abstractmethod
    def orders(cls, job: GraphJob[TrainingGraphs], settings: SettingsT) -> list[list[int]]:
        """For each class its training graphs, first choices first."""


class RandomGraphs(GraphChoice[ChoiceSettings]):
    """Graphs at random."""

    @classmethod
    def orders(cls, job: GraphJob[TrainingGraphs], settings: ChoiceSettings) -> list[list[int]]:
        """See `GraphChoice`."""
        found = []
        for label in range(len(job.data.info.classes)):
            members = job.data.class_indices(label)
            order = torch.randperm(len(members), generator=generator(job.seed, "random graphs", label))
            found.append(members[order].tolist())
        return found


class SeenGraphChoice(GraphChoice[SeenChoiceSettings]):
    """Graphs by their place among those of their class, as a trained network sees them."""

    @classmethod
    def orders(cls, job: GraphJob[TrainingGraphs], settings: SeenChoiceSettings) -> list[list[int]]:
        """See `GraphChoice`."""
        view = _view(job, settings)
        found = []
        for label in range(len(job.data.info.classes)):
            members = job.data.class_indices(label)
            found.append(members[cls.order(view[members].double())].tolist())
        return found

    @classmethod
    @abstractmethod
    def order(cls, features: Tensor) -> Tensor:
        """All rows of float64 [n, D], first choices first."""


class HerdedGraphs(SeenGraphChoice):
    """Herding (Welling, ICML 2009): the mean of the choice stays near that of the class."""

    @classmethod
    def order(cls, features: Tensor) -> Tensor:
        """See `SeenGraphChoice`."""
        return herd(features, len(features))


class SpreadGraphs(SeenGraphChoice):
    """k-center (Sener & Savarese, ICLR 2018): from the graph nearest to the mean, always the farthest one."""

    @classmethod
    def order(cls, features: Tensor) -> Tensor:
        """See `SeenGraphChoice`."""
        middle = int((features - features.mean(0)).square().sum(1).argmin())
        return spread(features, len(features), middle)


def known_network(net: str) -> str:
    """The name of a network for graphs; raises `CondenseError` for others."""
    if net not in GRAPH_NETWORKS:
        raise unknown_name("graph network", net, GRAPH_NETWORKS)
    return net


def _view(job: GraphJob[TrainingGraphs], settings: SeenChoiceSettings) -> Tensor:
    """What a network trained on all training graphs makes of each, [G, D]."""
    train, seed = job.data, derive_seed(job.seed, "network that chooses graphs")
    protocol = PROTOCOLS.find("graph-desk")
    network, _ = train_graphs(settings.net, train, train.info, protocol, seed=seed, device=job.device)
    if settings.embedding == "hidden":
        return graph_embeddings(network, train, job.device)
    return graph_logits(network, train, train.info, job.device).log_softmax(1)


def copied(train: TrainingGraphs, chosen: Sequence[int]) -> GraphSet:
    """Training graphs as a set."""
    indices = torch.tensor(chosen)
    return GraphSet(
        graphs=train.graphs.at(indices), labels=train.labels[indices], info=train.info, source_indices=indices
    )
