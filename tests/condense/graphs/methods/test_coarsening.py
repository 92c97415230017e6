"""Contraction is what its equations say, by dense matrices; sets have the size asked for and every class."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from condense.graphs.methods import contraction
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.methods.coarsening import Coarsening, CoarseningSettings, classes_of, super_nodes
from condense.graphs.methods.contraction import (
    cheapest_sets,
    coarsened,
    contracted,
    groups_of,
    means,
    orthonormal,
    spectral_bundle,
    variation_cost,
)
from condense.graphs.methods.interface import GraphJob
from condense.graphs.real import RealNodeGraph, TrainingNodes
from condense.graphs.sets import NodeGraphSet
from condense.runtime.errors import CondenseError


def dense_graph(nodes: int = 20, *, seed: int = 0, weighted: bool = True) -> np.ndarray:
    """A random connected graph: a ring with chords."""
    draws = np.random.default_rng(seed)
    upper = np.triu(draws.random((nodes, nodes)) < 0.15, 1).astype(float)
    for node in range(nodes):
        upper[min(node, (node + 1) % nodes), max(node, (node + 1) % nodes)] = 1
    upper *= draws.random((nodes, nodes)) + 0.5 if weighted else 1
    return upper + upper.T


def dense_laplacian(dense: np.ndarray) -> np.ndarray:
    return np.diag(dense.sum(1)) - dense


def dense_bundle(dense: np.ndarray, modes: int) -> np.ndarray:
    values, vectors = np.linalg.eigh(dense_laplacian(dense))
    return np.stack([vectors[:, mode] / values[mode] ** 0.5 for mode in range(1, modes)], 1)  # one constant mode


def literal_cost(dense: np.ndarray, bundle: np.ndarray, nodes: np.ndarray) -> float:
    """|| (I - 11^T/n) A_S ||^2 in the norm of L_S, over n - 1; L_S = L of the graph within S + 2 diag(what leaves)."""
    size = len(nodes)
    within = dense[np.ix_(nodes, nodes)]
    leaving = np.delete(dense[nodes], nodes, axis=1).sum(1)
    local = dense_laplacian(within) + 2 * np.diag(leaving)
    centred = (np.eye(size) - np.ones((size, size)) / size) @ bundle[nodes]
    return float(np.linalg.norm(centred.T @ local @ centred) / (size - 1))


# Equations


@pytest.mark.parametrize("nodes", [20, 90])
def test_the_bundle_has_the_slow_modes(nodes: int) -> None:
    """Up to rotations, which no cost sees: A A^T and A^T L A are what dense eigenvectors give."""
    dense = dense_graph(nodes)
    ours, theirs = spectral_bundle(csr_array(dense), 6), dense_bundle(dense, 6)
    assert ours.shape == (nodes, 5)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-8)
    np.testing.assert_allclose(ours.T @ dense_laplacian(dense) @ ours, np.eye(5), atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_costs_are_those_of_dense_matrices(seed: int) -> None:
    dense = dense_graph(seed=seed)
    sparse, bundle = csr_array(dense), dense_bundle(dense, 6)
    neighbourhoods = [np.flatnonzero(row + one) for row, one in zip(dense, np.eye(len(dense)))]
    apart = np.array([0, 7, 13])
    for nodes in (*neighbourhoods, apart):
        ours = variation_cost(sparse, sparse.sum(1), bundle, nodes)
        assert ours == pytest.approx(literal_cost(dense, bundle, nodes), abs=1e-8)
        rotated = bundle @ np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 5)))[0]
        assert variation_cost(sparse, sparse.sum(1), rotated, nodes) == pytest.approx(ours, abs=1e-8)


def test_directions_stay_orthonormal_after_a_contraction() -> None:
    dense = dense_graph()
    groups = np.array([0, 0, 0, *range(1, 18)])
    coarse, bundle = contracted(csr_array(dense), groups), means(dense_bundle(dense, 6), groups)
    directions = orthonormal(coarse, bundle)
    np.testing.assert_allclose(directions.T @ dense_laplacian(coarse.toarray()) @ directions, np.eye(5), atol=1e-8)
    assert np.linalg.matrix_rank(np.hstack([directions, bundle])) == 5
    flat = orthonormal(csr_array((1, 1)), np.ones((1, 5)))
    assert flat.shape == (1, 0)


def greedy(dense: np.ndarray, bundle: np.ndarray, surplus: int) -> list[list[int]]:
    """The same choice with lists: sorted again after every one."""
    family = [(literal_cost(dense, bundle, nodes), node, list(nodes)) for node, nodes in neighbourhoods_of(dense)]
    taken: set[int] = set()
    chosen = []
    while family and surplus > 0:
        family.sort()
        _, node, nodes = family.pop(0)
        free = [each for each in nodes if each not in taken]
        if len(free) < len(nodes):
            if len(free) > 1:
                family.append((literal_cost(dense, bundle, np.array(free)), node, free))
        elif len(nodes) - 1 <= surplus:
            taken |= set(nodes)
            chosen.append(nodes)
            surplus -= len(nodes) - 1
    return chosen


def neighbourhoods_of(dense: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(node, np.flatnonzero(dense[node] + (np.arange(len(dense)) == node))) for node in range(len(dense))]


@pytest.mark.parametrize("surplus", [1, 3, 8, 19])
def test_the_cheapest_disjoint_sets_are_taken(surplus: int) -> None:
    dense = dense_graph(seed=4)
    bundle = dense_bundle(dense, 6)
    ours = [nodes.tolist() for nodes in cheapest_sets(csr_array(dense), bundle, surplus)]
    assert ours == greedy(dense, bundle, surplus)
    assert sum(len(nodes) - 1 for nodes in ours) <= surplus
    assert all(not set(a) & set(b) for a, b in itertools.combinations(ours, 2))


def test_contraction_keeps_the_weights_between_groups() -> None:
    dense = dense_graph()
    groups = groups_of([np.array([1, 5, 6]), np.array([2, 3])], 20)
    assert groups[[1, 5, 6]].tolist() == [1, 1, 1]
    members = np.eye(int(groups.max()) + 1)[groups]  # P [n, m]
    coarse = members.T @ dense @ members
    within = np.trace(coarse)
    np.fill_diagonal(coarse, 0)
    ours = contracted(csr_array(dense), groups).toarray()
    np.testing.assert_allclose(ours, coarse, atol=1e-12)
    assert ours.sum() == pytest.approx(dense.sum() - within)


@pytest.mark.parametrize("target", [1, 4, 12, 20])
def test_so_many_groups_are_left_that_hang_together(target: int) -> None:
    dense = dense_graph(weighted=False)
    groups = coarsened(csr_array(dense), spectral_bundle(csr_array(dense)), target)
    assert len(np.unique(groups)) == groups.max() + 1 == pytest.approx(target, abs=2)
    assert groups.max() + 1 >= target


def test_ten_levels_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = csr_array(np.roll(np.eye(40), 1, 0) + np.roll(np.eye(40), -1, 0))
    monkeypatch.setattr(contraction, "_LEVELS", 1)
    once = coarsened(ring, spectral_bundle(ring), 1)
    assert np.bincount(once).max() == 3  # a node and its two neighbours


# Sets


def made(data: TrainingNodes, **size: Any) -> NodeGraphSet:
    job = GraphJob(data=data, budget=GraphBudget(**size))
    Coarsening.check(data, job.budget, CoarseningSettings())
    found = Coarsening.make(job, CoarseningSettings()).made
    assert isinstance(found, NodeGraphSet)
    return found


def test_super_nodes_are_means_and_sums_of_edges(town: RealNodeGraph) -> None:
    data = town.train
    groups = torch.arange(74) // 3
    groups[70:] = -1
    labels, found = classes_of(data, groups), super_nodes(data, groups)
    known = dict(zip(data.indices.tolist(), data.labels.tolist()))
    x = data.features / data.features.sum(1, keepdim=True).clamp(min=1)
    adjacency = torch.zeros(74, 74)
    adjacency[data.edges[0], data.edges[1]] = 1
    kept = []
    for group in range(int(groups.max()) + 1):
        nodes = (groups == group).nonzero().flatten().tolist()
        classes = {known[node] for node in nodes if node in known}
        assert int(labels[group]) == (classes.pop() if len(classes) == 1 else -1)
        if int(labels[group]) >= 0:
            kept.append(nodes)
    assert found.labels.tolist() == labels[labels >= 0].tolist()
    torch.testing.assert_close(found.features, torch.stack([x[nodes].mean(0) for nodes in kept]))
    assert found.edges is not None
    assert found.edge_weights is not None
    dense = torch.zeros(len(kept), len(kept))
    dense[found.edges[0], found.edges[1]] = found.edge_weights
    for a, b in itertools.product(range(len(kept)), repeat=2):
        assert dense[a, b] == (adjacency[kept[a]][:, kept[b]].sum() if a != b else 0)
    assert not found.normalize_rows
    assert found.indices is None


@pytest.mark.parametrize("ipc", [2, 4, 7])
def test_as_many_super_nodes_as_asked_for(town: RealNodeGraph, ipc: int) -> None:
    found, again = (made(town.train, ipc=ipc) for _ in range(2))
    assert 0.6 * 3 * ipc <= len(found) <= 3 * ipc
    assert torch.bincount(found.labels, minlength=3).all()
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in found.arrays().items())


def test_all_nodes_of_known_class_are_those_of_large_components(
    town: RealNodeGraph, capsys: pytest.CaptureFixture[str]
) -> None:
    data = town.train
    assert made(data, ipc=99).labels.tolist() == data.labels[data.indices.argsort()].tolist()
    assert "2 of 74 nodes of town are in components of up to 10" in capsys.readouterr().err
    more = torch.cat([data.indices, torch.tensor([72, 73])])
    paired = dataclasses.replace(data, indices=more, labels=torch.cat([data.labels, torch.tensor([0, 1])]))
    assert len(made(paired, ipc=99)) == 30


def test_bytes_are_used_and_never_exceeded(town: RealNodeGraph) -> None:
    whole = made(town.train, ipc=99).bytes
    for limit in (whole // 2, whole - 100):
        found = made(town.train, bytes=limit)
        assert 0.7 * limit < found.bytes <= limit


def test_what_does_not_fit_says_the_way_out(town: RealNodeGraph) -> None:
    data = town.train
    with pytest.raises(CondenseError, match="a set needs a size"):
        made(data)
    with pytest.raises(CondenseError, match=r"leaves class '\d' of town no super-node of its own; give a larger size"):
        made(data, bytes=30)
    lonely = dataclasses.replace(data, labels=data.labels.clone(), indices=data.indices.clone())
    lonely.labels[lonely.labels == 2] = 0
    lonely.labels[0], lonely.indices[0] = 2, 72
    with pytest.raises(CondenseError, match="class '2' of town are all in components of up to 10 nodes"):
        made(lonely, ipc=3)


def test_components_of_one_class_are_the_least(town: RealNodeGraph) -> None:
    ring = torch.arange(12)
    pairs = torch.cat([torch.stack([ring, ring.roll(1)]) + 12 * part for part in range(3)], 1)
    indices = torch.tensor([0, 3, 12, 15, 24, 27])
    apart = TrainingNodes(
        town.features[:36], torch.cat([pairs, pairs.flip(0)], 1), indices, indices // 12, torch.arange(36), town.info
    )
    assert made(apart, ipc=1).labels.tolist() == [0, 1, 2]
    with pytest.raises(CondenseError, match="1 bytes of town is less than coarsening comes to; give a larger size"):
        made(apart, bytes=1)


def test_classes_that_are_not_known_change_nothing(town: RealNodeGraph) -> None:
    """What becomes one depends on edges only; another class of one node changes the class of its own group."""
    data = town.train
    groups = torch.arange(74) // 2
    changed = dataclasses.replace(data, labels=data.labels.clone())
    changed.labels[0] = (changed.labels[0] + 1) % 3
    differ = (classes_of(data, groups) != classes_of(changed, groups)).nonzero().flatten().tolist()
    assert differ == [int(groups[data.indices[0]])]
