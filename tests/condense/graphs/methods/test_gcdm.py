"""GCDM lowers the distance of class means in hidden layers, by gradients that are right."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.gcdm import GCDM, GCDMSettings, class_means, hidden_means, match_class_means
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.matched_networks import WIDTH, seen_learned
from condense.graphs.networks import build_node_network
from condense.graphs.real import RealNodeGraph
from condense.graphs.sets import NodeGraphSet
from condense.graphs.structure import Dense, Edges, row_normalized


def in_double(data: RealNodeGraph, **settings: Any) -> GCDM:
    train = dataclasses.replace(data.train, features=data.train.features.double())
    made = GCDM(GraphJob(data=train, budget=GraphBudget(fraction=0.2)), GCDMSettings(**settings))
    if made.generator is not None:
        made.generator.double()
    return made


def loss_of(made: GCDM, parameters: dict[str, Tensor]) -> Tensor:
    real = [hidden_means(parameters, made.real_seen(label, 0, 0)) for label in range(3)]
    seen = seen_learned("gcn", made.features, made.adjacency())
    return match_class_means(real, class_means(parameters, seen, made.rows), made.counts)


@pytest.mark.parametrize("structure", ["learned", "none"])
def test_the_loss_is_that_of_the_equation_and_its_gradient_is_right(communities: RealNodeGraph, structure: str) -> None:
    made = in_double(communities, structure=structure)
    network = build_node_network("gcn", 12, WIDTH, layers=2, dropout=0.0, seed=0).double()
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    x, data, nodes = row_normalized(made.data.features), made.data, len(made.labels)
    adjacency = made.adjacency()
    small = Dense(torch.zeros(nodes, nodes).double() if adjacency is None else adjacency.detach())

    @torch.no_grad()
    def hidden(x: Tensor, structure: Any) -> list[Tensor]:
        first = network.body[0](x, structure).relu()
        return [first, network.body[1](first, structure).relu()]

    wanted = 0.0
    real, learned = hidden(x, Edges(data.edges, 60)), hidden(made.features.detach(), small)
    for label in range(3):
        members, own = data.indices[data.labels == label], made.labels == label
        for one, other in zip(real, learned):
            for unit in range(WIDTH):
                difference = one[members, unit].mean() - other[own, unit].mean()
                wanted += int(own.sum()) / nodes * float(difference) ** 2
    assert loss_of(made, parameters).item() == pytest.approx(wanted, rel=1e-10)

    moved, draws = list(made.learned.values()), torch.Generator().manual_seed(0)
    for value, gradient in zip(moved, torch.autograd.grad(loss_of(made, parameters), moved)):
        direction = torch.randn(value.shape, generator=draws, dtype=torch.float64)
        with torch.no_grad():
            value += 1e-6 * direction
            above = loss_of(made, parameters)
            value -= 2e-6 * direction
            below = loss_of(made, parameters)
            value += 1e-6 * direction
        torch.testing.assert_close((gradient * direction).sum(), (above - below) / 2e-6, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("structure", ["learned", "none"])
def test_runs_go_on_exactly_and_follow_their_seed(communities: RealNodeGraph, structure: Any, tmp_path: Path) -> None:
    settings = GCDMSettings(structure=structure, feature_lr=0.01)

    def run(iterations: int, seed: int = 0, checkpoint: Path | None = None) -> tuple[NodeGraphSet, list[float]]:
        job = GraphJob(
            data=communities.train, budget=GraphBudget(ipc=2), seed=seed, iterations=iterations, checkpoint=checkpoint
        )
        product = GCDM.make(job, settings)
        assert isinstance(product.made, NodeGraphSet)
        return product.made, product.metrics["loss"].tolist()

    whole, losses = run(13)
    run(11, checkpoint=tmp_path / "c.safetensors")
    resumed, again = run(13, checkpoint=tmp_path / "c.safetensors")
    assert losses == again
    assert torch.equal(whole.features, resumed.features)
    for one, other in ((whole.edges, resumed.edges), (whole.edge_weights, resumed.edge_weights)):
        assert (one is None) == (other is None) == (structure == "none")
        assert one is None or other is None or torch.equal(one, other)
    assert not torch.equal(whole.features, run(13, seed=1)[0].features)


def test_the_means_of_classes_come_nearer(communities: RealNodeGraph) -> None:
    settings = GCDMSettings(structure="none", feature_lr=0.01)
    job = GraphJob(data=communities.train, budget=GraphBudget(ipc=2), iterations=30)
    losses = GCDM.make(job, settings).metrics["loss"]
    assert losses[-5:].mean() < 0.2 * losses[:5].mean()
