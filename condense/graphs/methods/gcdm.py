"""Distribution matching for one graph: GCDM (Liu et al., 2022), with a structure or without.

In random networks the nodes of a class should have the same mean in the small graph as in the real one, in each hidden
layer: what a node says there depends on all that it hears within as many hops.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.learned_nodes import LearnedNodeGraph, LearnedNodeSettings
from condense.graphs.methods.matched_networks import (
    WIDTH,
    Parameters,
    Seen,
    fresh_parameters,
    layer_outputs,
    seen_learned,
)
from condense.graphs.real import TrainingNodes
from condense.runtime.seeds import derive_seed


class GCDMSettings(LearnedNodeSettings):
    """Settings of GCDM."""

    outer: int = Field(5, ge=1, description="updates of the graph in each random network")


class GCDM(LearnedNodeGraph[GCDMSettings]):
    """L = sum_c (n_c / n) sum_l |mean f_l(real nodes of c) - mean f_l(learned nodes of c)|^2, for hidden layers l.

    The networks are GCNs of two hidden layers, 256 wide, with a ReLU each; they are drawn anew in every iteration and
    not trained. This is the equation of the paper; the released codes differ from it and from each other. That of
    GCondenser trains the network between updates to lower the same loss, GraphSlim compares nodes in random pairs.
    """

    Settings = GCDMSettings

    def __init__(self, job: GraphJob[TrainingNodes], settings: GCDMSettings) -> None:
        super().__init__(job, settings, "gcn")

    def step(self, iteration: int) -> dict[str, float]:
        """One random network through all updates of the graph; the mean loss of these."""
        seed = derive_seed(self.job.seed, "matching network", iteration)
        inputs = self.features.shape[1]
        parameters = fresh_parameters("gcn", inputs, WIDTH, seed=seed, device=self.job.device)
        real = [hidden_means(parameters, self.real_seen(label, iteration, 0)) for label in range(len(self.rows))]
        total = 0.0
        for _ in range(self.settings.outer):
            seen = seen_learned("gcn", self.features, self.adjacency())
            loss = match_class_means(real, class_means(parameters, seen, self.rows), self.counts)
            self.descend(loss, iteration)
            total += loss.item()
        return {"loss": total / self.settings.outer}


def hidden_layers(parameters: Parameters, seen: Seen) -> list[Tensor]:
    """What each layer says of the t nodes after its ReLU, [t, W] each."""
    outputs = layer_outputs(parameters, seen)
    return [values[: len(outputs[-1])].relu() for values in outputs]


def hidden_means(parameters: Parameters, seen: Seen) -> Tensor:
    """The mean of nodes in every hidden layer, one after the other, [L W]."""
    return torch.cat([values.mean(0) for values in hidden_layers(parameters, seen)])


def class_means(parameters: Parameters, seen: Seen, rows: Sequence[Tensor]) -> list[Tensor]:
    """The same for the nodes int64 [n_c] of each class of a small graph."""
    values = torch.cat(hidden_layers(parameters, seen), 1)  # (n, L W)
    return [values[nodes].mean(0) for nodes in rows]


def match_class_means(real: Sequence[Tensor], learned: Sequence[Tensor], counts: Tensor) -> Tensor:
    """sum_c (n_c / n) |r_c - s_c|^2 of vectors [D] of each class, with `counts` int64 [C] the learned nodes of each.

    >>> match_class_means([torch.zeros(2), torch.zeros(2)], [torch.ones(2), torch.zeros(2)], torch.tensor([3, 1]))
    tensor(1.5000)
    """
    distances = torch.stack([(one - other).square().sum() for one, other in zip(real, learned, strict=True)])  # (C)
    return (counts.to(distances.dtype) / counts.sum()) @ distances
