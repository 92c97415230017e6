"""Adjacencies that are learned as logits of independent edges, and drawn from the relaxed Bernoulli distribution.

Jin et al., KDD 2022 (DosCond), section 3.2: a graph of n nodes is a matrix of logits Phi, an edge is there with
probability sigmoid(Phi), and what networks read while the logits are learned is a differentiable draw.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOGIT = 5.0  # of an edge that is there at the start; its negative where none is
_COLDEST, _ANNEALED = 0.01, 200


def first_logits(adjacency: Tensor) -> Tensor:
    """Logits of graphs that are sure of their edges, Phi = 10 A - 5 (released code); `adjacency` of 0 and 1."""
    return LOGIT * (2 * adjacency - 1)


def temperature(iteration: int) -> float:
    """t of an update: from 1 to 0.01 by equal factors in 200 updates, and then the same (released code).

    >>> [round(temperature(iteration), 3) for iteration in (0, 100, 200, 900)]
    [1.0, 0.1, 0.01, 0.01]
    """
    return max(_COLDEST, math.pow(_COLDEST, iteration / _ANNEALED))


def symmetric_uniforms(graphs: int, nodes: int, source: torch.Generator) -> Tensor:
    """u ~ U(0, 1) for each pair of nodes, float32 [G, n, n], the same in both directions, on the processor."""
    draws = torch.rand(graphs, nodes, nodes, generator=source)
    upper = draws.triu()
    return upper + upper.triu(1).transpose(1, 2)


def symmetric(logits: Tensor) -> Tensor:
    """(Phi + Phi^T) / 2: the logits of edges without direction, [G, n, n]."""
    return (logits + logits.transpose(1, 2)) / 2


def relaxed_adjacency(logits: Tensor, uniforms: Tensor, temperature: float, pairs: Tensor) -> Tensor:
    """A' = sigmoid((Phi + log u - log(1 - u)) / t), zero on the diagonal and outside of `pairs`.

    `logits` and `uniforms` are [G, n, n], the latter symmetric; `pairs` bool [G, n, n] marks where both nodes are
    there. For t to 0 it is 1 with probability sigmoid(Phi), and 0 otherwise (Maddison et al., ICLR 2017). A u of 0,
    which float32 gives now and then, counts as the smallest one above it.
    """
    noise = torch.logit(uniforms.to(logits.dtype), eps=2**-25)
    drawn = ((symmetric(logits) + noise) / temperature).sigmoid()  # (G, n, n)
    return drawn * (pairs & ~torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device))


def density(probabilities: Tensor, pairs: Tensor) -> Tensor:
    """The mean over all pairs of nodes that are there, each node with itself among them (as in the released code)."""
    return (probabilities * pairs).sum() / pairs.sum()
