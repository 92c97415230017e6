"""Contraction of a graph, level by level, so that its slow modes change little: Loukas, JMLR 2019.

A graph is its symmetric weights W, a sparse [n, n] without diagonal; L = D - W is its Laplacian. What must not change
are the directions of a bundle A [n, K], in which slow modes weigh most. Groups are numbers from 0 on, int64 [n].
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import eigsh

Weights = Any  # scipy has no types: a csr_array, float64 [n, n]
_ZERO = 1e-10  # eigenvalues below are those of constant modes
_DENSE = 64  # nodes up to which all eigenpairs are found at once
_LEVELS = 10


def laplacian(weights: Weights) -> Weights:
    """L = D - W, sparse [n, n]."""
    return csr_array(diags_array(weights.sum(1)) - weights)


def spectral_bundle(weights: Weights, modes: int = 10) -> np.ndarray:
    """U diag(lambda^-1/2) of the smallest eigenpairs of L, so many with the constant modes, which are dropped: [n, K].

    Eigenpairs are found by Lanczos' method on (L + s I)^-1, from a start that is always the same.
    """
    nodes = weights.shape[0]
    if nodes <= max(_DENSE, modes):
        values, vectors = np.linalg.eigh(laplacian(weights).toarray())
        values, vectors = values[:modes], vectors[:, :modes]
    else:
        start = np.random.default_rng(0).standard_normal(nodes)
        values, vectors = eigsh(laplacian(weights).tocsc(), k=modes, sigma=-0.01, which="LM", v0=start)
    slow = values > _ZERO
    return np.asarray(vectors[:, slow] / np.sqrt(values[slow]))


def orthonormal(weights: Weights, bundle: np.ndarray) -> np.ndarray:
    """A = B V diag(d^-1/2) with B^T L B = V diag(d) V^T: the directions of B, so that A^T L A = I; zeros dropped.

    After a contraction B holds the means of groups, B_l = P_l B_{l-1}. Released code scales these means by the root of
    the group's size and multiplies in another order, B diag(d^-1/2) V, for which A^T L A = I does not hold.
    """
    values, vectors = np.linalg.eigh(bundle.T @ (laplacian(weights) @ bundle))
    there = values > _ZERO * max(values.max(initial=0.0), _ZERO)
    return np.asarray(bundle @ (vectors[:, there] / np.sqrt(values[there])))


def variation_cost(weights: Weights, degrees: np.ndarray, bundle: np.ndarray, nodes: np.ndarray) -> float:
    """How much the directions vary within a set S of nodes: |C^T L_S C| / (|S| - 1) with C = (I - 11^T / |S|) A_S.

    L_S is the Laplacian of the graph within S, with the weights that leave it twice on its diagonal. The norm is that
    of Frobenius, as in released code, which bounds the spectral one of the paper. `nodes` ascend.
    """
    pointers, counts = weights.indptr, weights.indptr[nodes + 1] - weights.indptr[nodes]
    entries = np.concatenate([np.arange(pointers[node], pointers[node + 1]) for node in nodes])
    heard = weights.indices[entries]
    column = np.minimum(np.searchsorted(nodes, heard), len(nodes) - 1)
    within = nodes[column] == heard
    row, column, weight = np.arange(len(nodes)).repeat(counts)[within], column[within], weights.data[entries[within]]
    centred = bundle[nodes] - bundle[nodes].mean(0)  # (|S|, K)
    diagonal = 2 * degrees[nodes] - np.bincount(row, weight, len(nodes))  # what stays within once, what leaves twice
    varied = centred.T @ (diagonal[:, None] * centred) - centred[row].T @ (weight[:, None] * centred[column])  # (K, K)
    return float(np.sqrt(np.square(varied).sum()) / (len(nodes) - 1))


def cheapest_sets(weights: Weights, bundle: np.ndarray, surplus: int) -> list[np.ndarray]:
    """Disjoint sets of nodes, cheapest first, whose contraction takes away at most `surplus` nodes.

    Candidates are nodes with all their neighbours. One that a chosen set cuts into is considered again without what it
    lost, and one that would take away too many is left.
    """
    degrees = weights.sum(1)
    queue = []
    for node in range(weights.shape[0]):
        nodes = np.sort(np.append(weights.indices[weights.indptr[node] : weights.indptr[node + 1]], node))
        if len(nodes) > 1:
            queue.append((variation_cost(weights, degrees, bundle, nodes), node, nodes))
    heapq.heapify(queue)
    taken = np.zeros(weights.shape[0], dtype=bool)
    chosen = []
    while queue and surplus > 0:
        _, node, nodes = heapq.heappop(queue)
        free = nodes[~taken[nodes]]
        if len(free) < len(nodes):
            if len(free) > 1:
                heapq.heappush(queue, (variation_cost(weights, degrees, bundle, free), node, free))
        elif len(nodes) - 1 <= surplus:
            taken[nodes] = True
            chosen.append(nodes)
            surplus -= len(nodes) - 1
    return chosen


def groups_of(sets: list[np.ndarray], nodes: int) -> np.ndarray:
    """One group for each set and for each node that is in none, in the order of their first nodes: int64 [nodes].

    >>> groups_of([np.array([3, 1])], 4)
    array([0, 1, 2, 1])
    """
    first = np.arange(nodes)
    for members in sets:
        first[members] = members.min()
    return np.unique(first, return_inverse=True)[1]


def contracted(weights: Weights, groups: np.ndarray) -> Weights:
    """P^T W P without its diagonal, P [n, m] the indicators of groups: the weights between them."""
    count = int(groups.max()) + 1
    coo = weights.tocoo()
    row, column = groups[coo.row], groups[coo.col]
    between = row != column
    return csr_array((coo.data[between], (row[between], column[between])), shape=(count, count))


def means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The mean of the rows of each group: [n, K] to [m, K]."""
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return np.asarray(sums / np.bincount(groups)[:, None])


def coarsened(weights: Weights, bundle: np.ndarray, target: int) -> np.ndarray:
    """The group of each node, int64 [n], after as many levels as bring their number to `target`, at most ten."""
    groups = np.arange(weights.shape[0])
    directions = bundle
    for _ in range(_LEVELS):
        sets = cheapest_sets(weights, directions, weights.shape[0] - target)
        if not sets:
            break
        step = groups_of(sets, weights.shape[0])
        groups, weights, bundle = step[groups], contracted(weights, step), means(bundle, step)
        directions = orthonormal(weights, bundle)
    return groups
