"""Gradient matching for one graph: GCond (Jin et al., ICLR 2022), its structure-free and its one-step form.

A network that is trained on the small graph should move as on the real one: the gradients of the loss, class by class,
are brought nearer to each other, in random networks and along their training on the small graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.learned_nodes import LearnedNodeGraph, LearnedNodeSettings
from condense.graphs.methods.matched_networks import (
    Net,
    Parameters,
    Seen,
    fresh_parameters,
    layer_outputs,
    seen_learned,
)
from condense.graphs.real import TrainingNodes
from condense.matching import match_gradients, match_gradients_squared
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed

Gradient = Mapping[str, Tensor]
DISTANCES: dict[str, Callable[[Gradient, Gradient], Tensor]] = {
    "rows": match_gradients,
    "mse": match_gradients_squared,
}


class GCondSettings(LearnedNodeSettings):
    """Settings of GCond; the defaults are those of the released code for Cora and Citeseer."""

    net: Net = Field("sgc", description="network whose gradients are matched, of two hops; gcn is 256 wide within")
    distance: Literal["rows", "mse"] = Field(
        "rows", description="between gradients: cosine by output units, or squared of the whole"
    )
    inner: int = Field(15, ge=0, description="steps of the network on the small graph between two of its updates")
    network_lr: float = Field(0.01, gt=0, description="learning rate of these steps (Adam)")
    neighbours: Literal["all", "sampled"] = Field(
        "sampled", description="whom real nodes hear: all, or ten at random and of each of these five"
    )
    smoothness: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="weight of tr(Y'^T L Y'), large if edges join different classes"
    )


class GCond(LearnedNodeGraph[GCondSettings]):
    """L = sum_c (n_c / max n) D(gradient on real nodes of c, gradient on learned nodes of c) + alpha tr(Y'^T L' Y').

    D is one minus the cosine, summed over the output units of each layer, without biases. In every iteration a random
    network goes through `outer` updates of the graph, and through `inner` steps of Adam on the graph between two of
    them, from which nothing flows back; there is no dropout and no decay of weights, as in the released code. Without a
    structure this is GCond-X. The one-step form (DosCond for nodes, Jin et al., KDD 2022; recipe `one-step`) has the
    squared distance of whole gradients, biases included, one update for each network and no training.

    The real gradient of a class is that of all its training nodes, of 256 at random if there are more. They hear ten
    neighbours at random, and these five, as in the released code; with `neighbours=all` the gradient is exact.
    """

    Settings = GCondSettings

    def __init__(self, job: GraphJob[TrainingNodes], settings: GCondSettings) -> None:
        super().__init__(job, settings, settings.net)

    @classmethod
    def check(cls, data: TrainingNodes, budget: GraphBudget, settings: GCondSettings) -> None:
        """Only edges can be smooth."""
        super().check(data, budget, settings)
        if settings.smoothness and settings.structure == "none":
            raise CondenseError(
                f"--smoothness {settings.smoothness:g} is of edges, and --structure none has none; give one of them"
            )

    def step(self, iteration: int) -> dict[str, float]:
        """One random network, from its first values through all updates of the graph; the mean loss of these."""
        settings, total = self.settings, 0.0
        parameters = self.network(iteration)
        optimizer = torch.optim.Adam(parameters.values(), lr=settings.network_lr)
        adjacency = self.adjacency()
        for update in range(settings.outer):
            loss = self.loss(parameters, adjacency, iteration, update)
            self.descend(loss, iteration)
            total += loss.item()
            if update + 1 == settings.outer:
                break
            adjacency = self.adjacency()
            fixed = None if adjacency is None else adjacency.detach()
            seen = seen_learned(settings.net, self.features.detach(), fixed)
            train(parameters, optimizer, seen, self.labels, settings.inner)
        return {"loss": total / settings.outer}

    def network(self, number: int) -> Parameters:
        """The random network of this number."""
        seed = derive_seed(self.job.seed, "matching network", number)
        inputs, classes = self.features.shape[1], len(self.rows)
        made = fresh_parameters(self.settings.net, inputs, classes, seed=seed, device=self.job.device)
        return {name: value.requires_grad_() for name, value in made.items()}

    def loss(self, parameters: Parameters, adjacency: Tensor | None, iteration: int, update: int) -> Tensor:
        """What an update lowers, with A' [n, n] of the features as they are now."""
        learned = seen_learned(self.settings.net, self.features, adjacency)
        found = class_gradients(parameters, learned, self.rows)
        target = [
            class_gradient(parameters, self.real_seen(label, iteration, update), label)
            for label in range(len(self.rows))
        ]
        loss = matching_loss(target, found, self.counts, DISTANCES[self.settings.distance])
        if adjacency is not None and self.settings.smoothness:
            loss = loss + self.settings.smoothness * roughness(adjacency, self.labels)
        return loss


def train(parameters: Parameters, optimizer: torch.optim.Optimizer, seen: Seen, labels: Tensor, steps: int) -> None:
    """So many steps down the mean cross-entropy of all nodes of a small graph, in place."""
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(layer_outputs(parameters, seen)[-1], labels).backward()
        optimizer.step()


def class_gradient(parameters: Parameters, seen: Seen, label: int) -> Gradient:
    """The gradient of the mean cross-entropy of nodes that are all of one class, by the names of the parameters."""
    logits = layer_outputs(parameters, seen)[-1]  # (t, C)
    loss = F.cross_entropy(logits, torch.full((len(logits),), label, device=logits.device))
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()))))


def class_gradients(parameters: Parameters, seen: Seen, rows: Sequence[Tensor]) -> list[Gradient]:
    """For each class the gradient of the mean cross-entropy of its nodes, int64 [n_c]; to be differentiated again."""
    losses = -layer_outputs(parameters, seen)[-1].log_softmax(1)  # (n, C)
    values = list(parameters.values())
    return [
        dict(zip(parameters, torch.autograd.grad(losses[nodes, label].mean(), values, create_graph=True)))
        for label, nodes in enumerate(rows)
    ]


def matching_loss(
    real: Sequence[Gradient],
    learned: Sequence[Gradient],
    counts: Tensor,
    distance: Callable[[Gradient, Gradient], Tensor],
) -> Tensor:
    """sum_c (n_c / max n) D(real_c, learned_c), `counts` int64 [C] the learned nodes of each class (released code)."""
    distances = torch.stack([distance(one, other) for one, other in zip(real, learned, strict=True)])  # (C)
    return (counts.to(distances.dtype) / counts.max()) @ distances


def roughness(adjacency: Tensor, labels: Tensor) -> Tensor:
    """tr(Y^T L Y), L = D^-1/2 (D - A) D^-1/2 of A [n, n] with zero diagonal, Y the unit vectors of labels int64 [n].

    That is n less the normalised weight within classes, so that edges between classes cost (GCond, section 3.3; 1e-8 is
    added to the degrees as in the released code).

    >>> adjacency = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> roughness(adjacency, torch.tensor([0, 0])).round(decimals=4), roughness(adjacency, torch.tensor([0, 1]))
    (tensor(0.), tensor(2.))
    """
    degrees = adjacency.sum(1)
    scale = (degrees + 1e-8).rsqrt()  # (n)
    laplacian = scale[:, None] * (degrees.diag() - adjacency) * scale
    return laplacian[labels[:, None] == labels].sum()
