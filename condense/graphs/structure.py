"""Who hears whom: the sums over neighbours that layers are made of, by edges or by a dense matrix."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Structure(Protocol):
    """What a layer asks of a graph of n nodes; x is [n, F]."""

    def sum(self, x: Tensor) -> Tensor:
        """For each node the weighted sum of x over those that it hears."""

    def mean(self, x: Tensor) -> Tensor:
        """For each node their weighted mean; zero where it hears none."""

    def normalized(self, x: Tensor) -> Tensor:
        """D^-1/2 (A + I) D^-1/2 x, with D the degrees of A + I (Kipf & Welling, ICLR 2017)."""


@dataclass(frozen=True, eq=False)
class Edges:
    """Messages along edges, int64 [2, E] from row 0 to row 1.

    `weights` float [E] may be None for 1; `degrees` float [n] are those of nodes where they are not all here: in a
    forest, leaves have lost their neighbours.
    """

    edges: Tensor
    nodes: int
    weights: Tensor | None = None
    degrees: Tensor | None = None

    def sum(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        return self._sum(x, self.weights)

    def _sum(self, x: Tensor, weights: Tensor | None) -> Tensor:
        source, target = self.edges
        messages = x[source] if weights is None else weights.to(x.dtype)[:, None] * x[source]  # (E, F)
        return x.new_zeros(self.nodes, x.shape[1]).index_add_(0, target, messages)

    def in_degrees(self, like: Tensor) -> Tensor:
        """What is heard by each node here, [n], in the type of `like`."""
        weights = like.new_ones(self.edges.shape[1]) if self.weights is None else self.weights.to(like.dtype)
        return like.new_zeros(self.nodes).index_add_(0, self.edges[1], weights)

    def mean(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        degrees = self.in_degrees(x)
        return self.sum(x) / torch.where(degrees > 0, degrees, 1)[:, None]

    def normalized(self, x: Tensor) -> Tensor:
        """See `Structure`; stored degrees are used where there are some."""
        degrees = self.in_degrees(x) if self.degrees is None else self.degrees.to(x.dtype)
        scale = (degrees + 1).rsqrt()  # (n)
        source, target = self.edges
        weights = scale[source] * scale[target]
        if self.weights is not None:
            weights = weights * self.weights.to(x.dtype)
        return self._sum(x, weights) + scale.square()[:, None] * x


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense adjacency [n, n] with zero diagonal, row i the weights of those that node i hears."""

    adjacency: Tensor

    def sum(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        return self.adjacency @ x

    def mean(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        degrees = self.adjacency.sum(1)
        return self.sum(x) / torch.where(degrees > 0, degrees, 1)[:, None]

    def normalized(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        scale = (self.adjacency.sum(1) + 1).rsqrt()[:, None]  # (n, 1)
        return scale * (self.adjacency @ (scale * x) + scale * x)


@dataclass(frozen=True, eq=False)
class Undirected:
    """The same for edges int64 [2, E] that stand in both directions, each once: one sparse matrix for all layers.

    Half the time of `Edges` for GCN with three layers; equal to it but for the order of sums.
    """

    edges: Tensor
    nodes: int

    def sum(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        return _times(self._matrix(x.new_ones(self.edges.shape[1]), self.edges), x)

    def mean(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        degrees = torch.bincount(self.edges[1], minlength=self.nodes)
        return self.sum(x) / degrees.clamp(min=1).to(x.dtype)[:, None]

    def normalized(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        return _times(self._normalized.to(x.dtype), x)

    @functools.cached_property
    def _normalized(self) -> Tensor:
        itself = torch.arange(self.nodes, device=self.edges.device).expand(2, -1)
        edges = torch.cat([self.edges, itself], 1)
        scale = torch.bincount(edges[1], minlength=self.nodes).double().rsqrt()  # (n): degrees count the node itself
        return self._matrix(scale[edges[0]] * scale[edges[1]], edges)

    def _matrix(self, weights: Tensor, edges: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(edges, weights, (self.nodes, self.nodes), check_invariants=False).coalesce()


class _Product(torch.autograd.Function):
    """A symmetric sparse matrix times x, whose derivative is the same product; torch would transpose it each time."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, _times(ctx.matrix, gradients[0])


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    product: Tensor = _Product.apply(matrix, x)
    return product


@dataclass(frozen=True, eq=False)
class DenseGraphs:
    """G graphs of n nodes each, dense adjacencies [G, n, n] with zero diagonal; x is [G * n, F], graph by graph."""

    adjacency: Tensor

    def sum(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        return self._hear(self.adjacency, x)

    def mean(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        degrees = self.adjacency.sum(2)  # (G, n)
        return self.sum(x) / torch.where(degrees > 0, degrees, 1).flatten()[:, None]

    def normalized(self, x: Tensor) -> Tensor:
        """See `Structure`."""
        return self._hear(self._normalized, x)

    @functools.cached_property
    def _normalized(self) -> Tensor:
        """Once for all layers."""
        itself = torch.eye(self.adjacency.shape[1], dtype=self.adjacency.dtype, device=self.adjacency.device)
        scale = (self.adjacency.sum(2) + 1).rsqrt()  # (G, n)
        return scale[:, :, None] * (self.adjacency + itself) * scale[:, None, :]

    def _hear(self, weights: Tensor, x: Tensor) -> Tensor:
        graphs, nodes, _ = self.adjacency.shape
        return (weights @ x.view(graphs, nodes, -1)).view(graphs * nodes, -1)


def row_normalized(features: Tensor) -> Tensor:
    """Features [n, F] divided by the sum of their row; rows of zeros stay."""
    sums = features.sum(1, keepdim=True)
    return features / torch.where(sums > 0, sums, 1)
