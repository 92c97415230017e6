"""One small graph that is learned: features of its nodes and, from these, who hears whom (GCond, GCDM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from condense.graphs.methods.adjacency import MOST_NODES, build_adjacency_generator
from condense.graphs.methods.budget import GraphBudget, shared
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.learning import GraphSynthesizer, LearningSettings
from condense.graphs.methods.matched_networks import Net, RealNeighbourhoods, Seen
from condense.graphs.methods.prefixes import longest_fitting
from condense.graphs.real import TrainingNodes
from condense.graphs.sets import NodeGraphSet
from condense.graphs.storing import sorted_edges
from condense.graphs.structure import row_normalized
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed, generator

_CYCLE, _OF_GENERATOR = 50, 10  # of so many iterations the first so many move the generator (released code of GCond)
_MOST_REAL = 256  # nodes of a class in a batch (released code of GCond)


class LearnedNodeSettings(LearningSettings):
    """The settings that every method has that learns one small graph."""

    iterations: int = Field(600, ge=1, description="random networks, each for so many --outer updates of the graph")
    structure: Literal["learned", "none"] = Field(
        "learned", description="an adjacency that a generator makes of the features, or none"
    )
    outer: int = Field(20, ge=1, description="updates of the graph in each random network")
    feature_lr: float = Field(1e-4, gt=0, description="learning rate of the features (Adam)")
    adjacency_lr: float = Field(1e-4, gt=0, description="learning rate of the generator of the adjacency (Adam)")
    neighbours: Literal["all", "sampled"] = Field(
        "all", description="whom real nodes hear: all, or ten at random and of each of these five"
    )
    cut: float = Field(0.05, ge=1e-6, lt=1, description="edges with less weight are not stored")


SettingsT = TypeVar("SettingsT", bound=LearnedNodeSettings)


class LearnedNodeGraph(GraphSynthesizer[TrainingNodes, SettingsT]):
    """Features X' [n, F] that start as those of random training nodes, and a generator of A' unless there is none.

    An iteration of the loop is one random network from its first values on, with `outer` updates of the graph: what is
    left of it afterwards is the graph, the generator and their optimisers, and nothing else is kept in a checkpoint. In
    the first ten of fifty iterations the generator is moved, in the others the features are (released code of GCond).
    Without a generator they are in all.

    Nodes stand class by class, as many as the budget shares out among the classes as training nodes are, and start with
    features of nodes of their own class; in the released code labels are in another order than the features where
    classes do not first occur in ascending order, as those of Cora and Citeseer do not. Where more nodes are asked for
    than there are, some are taken again.
    """

    def __init__(self, job: GraphJob[TrainingNodes], settings: SettingsT, net: Net) -> None:
        super().__init__(job, settings)
        counts = node_counts(job.data, job.budget, settings)
        self.counts = torch.tensor(counts, device=job.device)  # (C)
        self.labels = torch.arange(len(counts), device=job.device).repeat_interleave(self.counts)  # (n)
        self.rows = list(torch.arange(len(self.labels), device=job.device).split(counts))
        self.real = RealNeighbourhoods(job.data, net, job.device)
        self.members = [job.data.indices[job.data.labels == label] for label in range(len(counts))]
        self._views = {
            label: self.real.seen(nodes)
            for label, nodes in enumerate(self.members)
            if len(nodes) <= _MOST_REAL and settings.neighbours == "all"
        }
        self.features = starting_features(job.data, counts, job.seed).to(job.device).requires_grad_()
        self.learned = {"features": self.features}
        self.optimizers = {"features": torch.optim.Adam([self.features], lr=settings.feature_lr)}
        self.generator = None
        if settings.structure == "learned":
            seed = derive_seed(job.seed, "adjacency generator")
            self.generator = build_adjacency_generator(self.features.shape[1], seed=seed).to(job.device)
            self.learned |= {f"generator.{name}": value for name, value in self.generator.named_parameters()}
            moved = list(self.generator.parameters())
            self.optimizers["generator"] = torch.optim.Adam(moved, lr=settings.adjacency_lr)

    @classmethod
    def check(cls, data: TrainingNodes, budget: GraphBudget, settings: SettingsT) -> None:
        """There are nodes of each class, and the size is one that can be learned."""
        node_counts(data, budget, settings)

    def adjacency(self) -> Tensor | None:
        """A' of the features as they are now, [n, n]; None without a generator."""
        if self.generator is None:
            return None
        weights: Tensor = self.generator(self.features)
        return weights

    def real_seen(self, label: int, iteration: int, update: int) -> Seen:
        """Training nodes of a class as a network sees them: all, or 256 at random of a larger class."""
        if label in self._views:
            return self._views[label]
        draws = generator(self.job.seed, "real nodes", iteration, update, label)
        nodes = self.members[label]
        nodes = nodes[torch.randperm(len(nodes), generator=draws)[:_MOST_REAL]]
        return self.real.seen(nodes, draws if self.settings.neighbours == "sampled" else None)

    def descend(self, loss: Tensor, iteration: int) -> None:
        """One step down the loss: of the generator or of the features, as the iteration has it."""
        of_generator = self.generator is not None and iteration % _CYCLE < _OF_GENERATOR
        optimizer = self.optimizers["generator" if of_generator else "features"]
        moved = optimizer.param_groups[0]["params"]
        for value, gradient in zip(moved, torch.autograd.grad(loss, moved)):
            value.grad = gradient
        optimizer.step()

    @torch.no_grad()
    def synthetic(self) -> NodeGraphSet:
        """The graph as it is now, with the edges whose weight is not cut."""
        edges = weights = None
        adjacency = self.adjacency()
        if adjacency is not None:
            edges, weights = kept_edges(adjacency.cpu(), self.settings.cut)
        return NodeGraphSet(
            features=self.features.detach().cpu().clone(),
            labels=self.labels.cpu(),
            info=self.data.info,
            edges=edges,
            edge_weights=weights,
        )


def kept_edges(adjacency: Tensor, cut: float) -> tuple[Tensor, Tensor | None]:
    """Edges int64 [2, E], in both directions, and weights [E] of a symmetric adjacency [n, n], if not below `cut`.

    >>> edges, weights = kept_edges(torch.tensor([[0.0, 0.5, 0.01], [0.5, 0.0, 0.0], [0.01, 0.0, 0.0]]), 0.05)
    >>> edges.tolist(), weights.tolist()
    ([[0, 1], [1, 0]], [0.5, 0.5])
    """
    upper = torch.triu_indices(len(adjacency), len(adjacency), 1)
    upper = upper[:, adjacency[upper[0], upper[1]] >= cut]
    return sorted_edges(upper, adjacency[upper[0], upper[1]])


def starting_features(part: TrainingNodes, counts: Sequence[int], seed: int) -> Tensor:
    """Features of so many random training nodes of each class, as networks read them, float32 [n, F]."""
    chosen = []
    for label, count in enumerate(counts):
        members = part.indices[part.labels == label]
        rounds = range(-(-count // len(members)))
        orders = [torch.randperm(len(members), generator=generator(seed, "start", label, again)) for again in rounds]
        chosen.append(members[torch.cat(orders)[:count]])
    features = part.features[torch.cat(chosen)]
    return row_normalized(features) if part.info.normalize_rows else features


def node_counts(part: TrainingNodes, budget: GraphBudget, settings: LearnedNodeSettings) -> list[int]:
    """How many nodes of each class are learned.

    A fraction is that of all nodes that training sees. Bytes are room for the largest graph none of whose numbers is
    cut or happens to fit a smaller type, so that the stored set never takes more.

    Raises `CondenseError` for no size, for classes without training nodes, and for too small and too large a size.
    """
    budget.check_given()
    real = part.class_counts()
    if not all(real):
        empty, name = part.info.classes[real.index(0)], part.info.name
        raise CondenseError(f"class {empty!r} of {name} has no training nodes to start from; give data that has some")
    if budget.bytes is None:
        counts = budget.shares(real, len(part.features), learned=True)
    else:
        features, learned = part.info.features, settings.structure == "learned"

        def size(total: int) -> int:
            nodes = sum(shared(total, real, learned=True))
            return stored_bytes(nodes, features, len(real), learned=learned, half=settings.half)

        most = max(len(real), budget.bytes // ((2 if settings.half else 4) * features))
        counts = shared(longest_fitting(size, most, budget.bytes, len(real), "node"), real, learned=True)
    if settings.structure == "learned" and sum(counts) > MOST_NODES:
        raise CondenseError(
            f"{sum(counts):,} nodes have too many pairs to learn who hears whom; give at most {MOST_NODES:,} nodes, or "
            "--structure none"
        )
    return counts


def stored_bytes(nodes: int, features: int, classes: int, *, learned: bool, half: bool) -> int:
    """What a graph of so many nodes takes at most: features, the weights of all pairs if `learned`, and labels.

    >>> stored_bytes(70, 1433, 7, learned=True, half=False)
    410970
    """
    numbers = nodes * features + (nodes * (nodes - 1) // 2 if learned else 0)
    return numbers * (2 if half else 4) + nodes * (1 if classes <= 256 else 2)
