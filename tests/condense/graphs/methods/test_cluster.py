"""Centroids are means of members, of one class each, as many as fit, and the same for the same seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from condense.graphs.methods import node_views
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.cluster import Cluster, ClusterSettings, centroids
from condense.graphs.methods.interface import GraphJob
from condense.graphs.methods.node_views import supposed_classes
from condense.graphs.methods.propagation import propagated
from condense.graphs.protocols import PROTOCOLS
from condense.graphs.real import RealNodeGraph, TrainingNodes
from condense.graphs.sets import NodeGraphSet
from condense.runtime.errors import CondenseError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that see nodes are trained for a moment only."""
    monkeypatch.setattr(node_views, "_PROTOCOL", PROTOCOLS.find("node-desk").model_copy(update={"epochs": 100}))


def made(data: TrainingNodes, *, seed: int = 0, settings: Any = None, **size: Any) -> NodeGraphSet:
    chosen = ClusterSettings(**(settings or {}))
    job = GraphJob(data=data, budget=GraphBudget(**size), seed=seed)
    Cluster.check(data, job.budget, chosen)
    found = Cluster.make(job, chosen).made
    assert isinstance(found, NodeGraphSet)
    return found


def inertia(rows: Tensor, means: Tensor) -> float:
    return float(torch.cdist(rows, means).min(1).values.square().sum())


def test_centroids_are_means_of_their_members() -> None:
    rows = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    means, members = centroids(rows, 6, seed=0)
    assert means.shape == (6, 3)
    assert int(members.sum()) == 40
    assert (members > 0).all()
    torch.testing.assert_close((members[:, None] * means).sum(0), rows.sum(0))
    assert inertia(rows, means) < 0.6 * inertia(rows, rows.mean(0, keepdim=True))


def test_the_best_cut_of_a_small_set_is_found() -> None:
    """Of rows on a line in two heaps, against every cut in two."""
    rows = torch.tensor([[0.0], [0.2], [0.3], [7.0], [7.1], [9.0]], dtype=torch.float64)
    cuts = [torch.stack([rows[:at].mean(0), rows[at:].mean(0)]) for at in range(1, 6)]
    best = min(cuts, key=lambda means: inertia(rows, means))
    found, members = centroids(rows, 2, seed=3)
    torch.testing.assert_close(found.sort(0).values, best)
    assert sorted(members.tolist()) == [3, 3]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_rows_that_stand_there_twice_are_one_centroid(count: int) -> None:
    rows = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [5.0, 5.0], [5.0, 5.0], [7.0, 0.0]])
    means, members = centroids(rows, count, seed=0)
    assert len(means) == min(count, 3)
    assert int(members.sum()) == 6
    torch.testing.assert_close((members[:, None] * means).sum(0), rows.double().sum(0))


def test_all_labelled_nodes_are_their_own_centroids(town: RealNodeGraph) -> None:
    data = town.train
    found = made(data, ipc=99)
    assert torch.equal(torch.bincount(found.labels), torch.tensor(data.class_counts()))
    rows = propagated(data, 2)[data.indices].float()
    for label in range(3):
        ours, theirs = found.features[found.labels == label], rows[data.labels == label]
        assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))
    assert found.edges is None
    assert found.weights is None
    assert not found.normalize_rows


@pytest.mark.parametrize("members", ["labelled", "pseudo"])
def test_weighted_centroids_have_the_mean_of_their_class(town: RealNodeGraph, members: str) -> None:
    data = town.train
    found = made(data, settings={"members": members, "weighted": True}, ipc=3)
    assert torch.equal(torch.bincount(found.labels), torch.full((3,), 3))
    classes = supposed_classes(data, "sgc", seed=0, device=torch.device("cpu"))
    if members == "labelled":
        classes[[node for node in range(74) if node not in data.indices.tolist()]] = -1
    assert found.weights is not None
    for label in range(3):
        rows = propagated(data, 2)[classes == label]
        weights = found.weights[found.labels == label].double()
        assert float(weights.mean()) == pytest.approx(1)
        mean = (weights[:, None] * found.features[found.labels == label].double()).sum(0) / 3
        torch.testing.assert_close(mean, rows.mean(0), atol=1e-6, rtol=0)


def test_known_classes_stay_and_others_are_supposed(town: RealNodeGraph) -> None:
    data = town.train
    classes = supposed_classes(data, "sgc", seed=0, device=torch.device("cpu"))
    assert classes.shape == (74,)
    assert torch.equal(classes[data.indices], data.labels)
    assert (classes[town.test.indices] == town.test.labels).double().mean() > 0.7
    plenty = made(data, settings={"members": "pseudo"}, ipc=99)
    assert len(plenty) > len(made(data, ipc=99))


def test_the_same_seed_gives_the_same_bytes(town: RealNodeGraph) -> None:
    first, again, other = (made(town.train, seed=seed, ipc=4).arrays() for seed in (1, 1, 2))
    assert all(np.array_equal(array, again[name]) for name, array in first.items())
    assert not np.array_equal(first["x"], other["x"])


def test_classes_of_others_change_nothing(town: RealNodeGraph) -> None:
    """Centroids of a class are those that it has where the other classes are exchanged."""
    data = town.train
    exchanged = dataclasses.replace(data, labels=torch.tensor([0, 2, 1])[data.labels])
    ours, theirs = made(data, ipc=3), made(exchanged, ipc=3)
    assert torch.equal(ours.features[ours.labels == 0], theirs.features[theirs.labels == 0])


@pytest.mark.parametrize("weighted", [False, True])
def test_bytes_are_used_and_never_exceeded(town: RealNodeGraph, weighted: bool) -> None:
    settings = {"weighted": weighted}
    nodes = len(town.train.features)
    of_total = [made(town.train, settings=settings, fraction=(total + 0.5) / nodes) for total in range(3, 31)]
    for limit in (400, 700):
        found = made(town.train, settings=settings, bytes=limit)
        assert found.bytes <= limit
        place = next(place for place, each in enumerate(of_total) if torch.equal(each.features, found.features))
        assert of_total[place + 1].bytes > limit
    with pytest.raises(CondenseError, match="one node of each class takes"):
        made(town.train, settings=settings, bytes=9)


def test_sizes(town: RealNodeGraph) -> None:
    assert len(made(town.train, fraction=0.2)) == 14  # of all 74 nodes
    for size, said in (({}, "a set needs a size"), ({"fraction": 0.02}, "less than one of each")):
        with pytest.raises(CondenseError, match=said):
            made(town.train, **size)
