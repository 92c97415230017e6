"""What networks are trained by: pure functions of their outputs and of what these are compared with."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss(Protocol):
    """The mean over a batch of the loss of each image."""

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """A scalar, of `outputs` [N, K] and N targets.

        `weights` [N] make it a weighted mean, sum w l / sum w; it is 0 where all of them are.
        """


def cross_entropy(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """-log p[label] for class indices int64 [N], -sum_k target[k] log p[k] for probabilities [N, K]; p = softmax.

    >>> cross_entropy(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 0]), torch.tensor([1.0, 0.0])).item()
    0.6931471824645996
    """
    if weights is None:
        return F.cross_entropy(outputs, targets)
    return _weighted(F.cross_entropy(outputs, targets, reduction="none"), weights)


def squared_error(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """1/2 sum_k (output[k] - target[k])^2, for targets [N, K].

    >>> squared_error(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)).item()
    1.25
    """
    each = (outputs - targets).square().sum(1) / 2  # (N)
    return each.mean() if weights is None else _weighted(each, weights)


def _weighted(each: Tensor, weights: Tensor) -> Tensor:
    return (weights * each).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
