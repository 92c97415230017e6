"""The generator of an adjacency: which learned nodes hear each other follows from their features (GCond, eq. 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.networks.build import initialize
from condense.runtime.seeds import generator

WIDTH = 128
MOST_NODES = 2000  # of one graph: the generator holds several floats [n * n, 128] at once


class AdjacencyGenerator(nn.Module):
    """A'_ij = sigmoid((g_ij + g_ji) / 2) with g_ij = MLP([x_i; x_j]), and zeros on the diagonal.

    Jin et al., ICLR 2022 (GCond), equation 7, with the MLP of the released code for Cora: three linear layers, 128 wide
    within, each but the last followed by BatchNorm over all n * n pairs and by a ReLU. The statistics are always those
    of the pairs at hand, as in the released code, which never puts the generator into its evaluation mode.

    Pairs of features are never built: with W = [W1 W2], the first layer is u_i + v_j for u = X W1^T and v = X W2^T.
    Over all pairs its mean is that of u plus that of v and so is its variance, so that its BatchNorm is one of n rows.
    Layers before a BatchNorm have no bias: it would be subtracted again.
    """

    def __init__(self, inputs: int, width: int = WIDTH) -> None:
        super().__init__()
        self.first = nn.Linear(2 * inputs, width, bias=False)
        self.first_norm = nn.BatchNorm1d(width, track_running_stats=False)
        self.second = nn.Linear(width, width, bias=False)
        self.second_norm = nn.BatchNorm1d(width, track_running_stats=False)
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, inputs] of two or more nodes to weights [n, n] in (0, 1), symmetric, zero on the diagonal."""
        hidden = self._first(x).flatten(0, 1)  # (n n, W)
        hidden = self.second_norm(self.second(hidden)).relu()  # (n n, W)
        scores = self.last(hidden).view(len(x), len(x))  # (n, n)
        weights = torch.sigmoid((scores + scores.T) / 2)
        return weights * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))

    def _first(self, x: Tensor) -> Tensor:
        """ReLU of the normalised first layer for all pairs, [n, n, W]."""
        left, right = self.first.weight.chunk(2, dim=1)  # (W, F) each
        u, v = F.linear(x, left), F.linear(x, right)  # (n, W) each
        u, v = u - u.mean(0), v - v.mean(0)
        norm = self.first_norm
        scale = norm.weight * (u.square().mean(0) + v.square().mean(0) + norm.eps).rsqrt()  # (W)
        return ((u * scale)[:, None] + (v * scale + norm.bias)[None]).relu()


def build_adjacency_generator(inputs: int, *, seed: int) -> AdjacencyGenerator:
    """A generator for nodes with so many features, with PyTorch's default initial values drawn from `seed`.

    >>> adjacency = build_adjacency_generator(5, seed=0)(torch.eye(3, 5))
    >>> adjacency.shape, bool((adjacency == adjacency.T).all()), adjacency.diagonal().tolist()
    (torch.Size([3, 3]), True, [0.0, 0.0, 0.0])
    """
    with torch.device("meta"):  # where constructors draw nothing
        made = AdjacencyGenerator(inputs)
    made.to_empty(device="cpu")
    initialize(made, generator(seed, "adjacency generator"))
    return made
