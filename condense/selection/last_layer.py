"""The gradients of images in the last layer of a network, by their factors: nothing needs the gradients themselves.

With the features h_i in R^D that the classifier sees of image i and its error g_i = softmax(z_i) - y_i in R^K, the
gradient of the cross-entropy in the classifier's weights and, as a last column, its biases is the K x (D + 1) matrix

    G_i = g_i [h_i, 1]^T,

of rank one. So <G_i, G_j> = <g_i, g_j> (1 + <h_i, h_j>), and n gradients take n (K + D) numbers. Released code writes
all n K (D + 1) of them, which for 5,000 images, 10 classes and 1,024 features is 410 MB.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from condense.selection.base import Choice, Group
from condense.selection.evidence import Evidence
from condense.selection.gradient_norms import gradient_norms
from condense.selection.picking import EvidenceSelector, EvidenceSettingsT

Kernel = Callable[[Tensor], Tensor]  # of n rows: those asked for, int64 [k], against all; [k, n]

ROWS_AT_ONCE = 512  # of a kernel: as many are computed in one go, at most
_MOST_HELD = 10_000  # rows between which a whole kernel is kept in memory: 800 MB


@dataclass(frozen=True, eq=False)
class LastLayerGradients:
    """The gradients G_i of n images, by `errors` g [n, K] and `features` h [n, D], both of one float dtype.

    A weighted sum of gradients is a matrix [K, D + 1], the biases in its last column.

    >>> gradients = LastLayerGradients(torch.tensor([[1.0, -1.0], [2.0, -2.0]]), torch.tensor([[2.0], [1.0]]))
    >>> gradients.inner_products(torch.tensor([0]))
    tensor([[10., 12.]])
    >>> gradients.total(torch.tensor([1.0, 1.0]))
    tensor([[ 4.,  3.],
            [-4., -3.]])
    """

    errors: Tensor
    features: Tensor

    def __len__(self) -> int:
        return len(self.errors)

    def at(self, rows: Tensor) -> LastLayerGradients:
        """Those of some rows, int64 [k]."""
        return LastLayerGradients(self.errors[rows], self.features[rows])

    @cached_property
    def norms(self) -> Tensor:
        """|G_i| of each; [n]."""
        return gradient_norms(self.errors, self.features)

    @cached_property
    def units(self) -> LastLayerGradients:
        """G_i / |G_i|; a gradient of zero stays zero, where released code divides by its norm."""
        norms = self.norms.clamp_min(torch.finfo(self.norms.dtype).tiny)
        return LastLayerGradients(self.errors / norms[:, None], self.features)

    def inner_products(self, rows: Tensor) -> Tensor:
        """<G_j, G_i> = <g_j, g_i> (1 + <h_j, h_i>) for j in `rows` (int64 [k]) and every i; [k, n]."""
        products = self.features[rows] @ self.features.T  # (k, n)
        return products.add_(1).mul_(self.errors[rows] @ self.errors.T)

    def similarities(self, rows: Tensor) -> Tensor:
        """s_ji = 1/2 + cos(G_j, G_i) / 2 for j in `rows` (int64 [k]) and every i, from 0 to 1; [k, n].

        A gradient of zero has similarity 1/2 to all.
        """
        return self.units.inner_products(rows).mul_(0.5).add_(0.5).clamp_(0, 1)

    def distances(self, rows: Tensor) -> Tensor:
        """|G_j - G_i| for j in `rows` (int64 [k]) and every i; [k, n]."""
        squares = self.norms.square()
        return self.inner_products(rows).mul_(-2).add_(squares[rows, None]).add_(squares).clamp_(min=0).sqrt_()

    def total(self, weights: Tensor) -> Tensor:
        """sum_i w_i G_i for weights [n]; [K, D + 1]."""
        weighted = self.errors * weights[:, None]
        return torch.cat([weighted.T @ self.features, weighted.sum(0)[:, None]], 1)

    @property
    def mean(self) -> Tensor:
        """The mean gradient; [K, D + 1]."""
        return self.total(self.errors.new_full((len(self),), 1 / len(self)))

    def along(self, direction: Tensor) -> Tensor:
        """<G_i, M> for a matrix M [K, D + 1] and every i; [n]."""
        return (self.errors * (self.features @ direction[:, :-1].T + direction[:, -1])).sum(1)


def held(kernel: Kernel, size: int) -> Kernel:
    """A kernel between `size` rows that is computed once and kept, unless it is too large: then as it is asked for."""
    if size > _MOST_HELD:
        return kernel
    matrix = torch.empty(size, size, dtype=torch.float64)
    for rows in torch.arange(size).split(ROWS_AT_ONCE):
        matrix[rows] = kernel(rows)
    return lambda rows: matrix[rows]


def last_layer_gradients(evidence: Evidence, members: Tensor) -> LastLayerGradients:
    """Those of some training images (int64 [n]) in the trained network, in float64.

    Gradients in different networks are not comparable, so there is one network.
    """
    return LastLayerGradients(evidence.errors(members=members), evidence.features()[members].double())


class GradientSelector(EvidenceSelector[EvidenceSettingsT]):
    """A selector that looks at one group of images at a time: a method fills `choose_from`."""

    def choose_by(self, evidence: Evidence) -> Choice:
        """The choices in all groups, one after the other."""
        groups = self.groups()
        parts = [self.choose_from(evidence, group) for group in groups]
        indices = [group.members[part.indices] for group, part in zip(groups, parts, strict=True)]
        weights = [part.weights for part in parts if part.weights is not None]
        scores = [part.scores for part in parts if part.scores is not None]
        return Choice(
            torch.cat(indices),
            weights=torch.cat(weights) if weights else None,
            scores=torch.cat(scores) if scores else None,
        )

    @abstractmethod
    def choose_from(self, evidence: Evidence, group: Group) -> Choice:
        """What is chosen in a group: places among its members, int64 [count], none twice; with weights and scores."""
