"""What networks are trained by: pure functions of their outputs and of what these are compared with."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Divergence:
    """KL(q | p) = sum_k q_k (log q_k - log p_k) with q = softmax(targets / T) and p = softmax(outputs / T).

    Targets are logits. With `scaled` it is T^2 times as large: its gradient is then of one size for every T, which SGD
    needs and Adam does not notice. Both softmaxes have the temperature (Hinton, Vinyals & Dean, 2015, and the released
    code of SRe2L).
    """

    temperature: float
    scaled: bool = False

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """A scalar, of `outputs` and `targets` [N, K].

        >>> Divergence(20.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 3.0]])).item()
        0.0
        """
        log_p = F.log_softmax(outputs / self.temperature, 1)
        log_q = F.log_softmax(targets / self.temperature, 1)
        each = (log_q.exp() * (log_q - log_p)).sum(1)  # (N)
        if self.scaled:
            each = each * self.temperature**2
        return each.mean() if weights is None else _weighted(each, weights)


@dataclass(frozen=True)
class SquaredErrorAndClass:
    """The mean over the logits of (output - target)^2, and `class_weight` times the cross-entropy of the class.

    The student's loss of G-VBSM (Shao et al., CVPR 2024) and EDC, "MSE + GT". Targets are [N, 2 K]: the logits, then
    the class as a one-hot row; that of the base image where images are mixed.
    """

    class_weight: float

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """A scalar, of `outputs` [N, K].

        >>> SquaredErrorAndClass(0.0)(torch.zeros(1, 2), torch.tensor([[2.0, 0.0, 1.0, 0.0]])).item()
        2.0
        """
        logits, classes = targets.chunk(2, 1)
        each = (outputs - logits).square().mean(1) - self.class_weight * (classes * F.log_softmax(outputs, 1)).sum(1)
        return each.mean() if weights is None else _weighted(each, weights)


@dataclass(frozen=True)
class DistancesAndClass:
    """CE(y, s) + a (|d'_1 - d_1| + |d'_2 - d_2|), with `weight` a: the distance-based representation of NRR-DD.

    d' are a network's distances -log softmax(s) from two classes, d those of a teacher, y the class of the image, mixed
    where images are (arXiv 2503.18267, section on distances; whether the paper takes absolute values was not found).
    Targets are [N, 3 K + 2]: y, the two classes as one-hot rows, and d.
    """

    weight: float

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """A scalar, of `outputs` [N, K].

        >>> targets = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.5, 0.25]])
        >>> DistancesAndClass(1.0)(torch.zeros(1, 2), targets).item()  # log 2 + |log 2 - 0.5| + |log 2 - 0.25|
        1.3294415473937988
        """
        classes = outputs.shape[1]
        mixed, first, second, distances = targets.split([classes, classes, classes, 2], 1)
        far = -F.log_softmax(outputs, 1)  # (N, K)
        own = torch.stack([(far * first).sum(1), (far * second).sum(1)], 1)  # (N, 2)
        each = (far * mixed).sum(1) + self.weight * (own - distances).abs().sum(1)
        return each.mean() if weights is None else _weighted(each, weights)


@dataclass(frozen=True)
class DivergenceAndClass:
    """a T^2 KL(q | p) + (1 - a) cross-entropy of the class, with `share` a and q, p as in `Divergence`.

    Knowledge distillation (Hinton, Vinyals & Dean, 2015). Targets are [N, 2 K]: the teacher's logits, then the class as
    probabilities.
    """

    temperature: float
    share: float

    def __call__(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """A scalar, of `outputs` [N, K].

        >>> DivergenceAndClass(4.0, 0.25)(torch.zeros(1, 2), torch.tensor([[0.0, 0.0, 1.0, 0.0]])).item()
        0.5198603868484497
        """
        logits, classes = targets.chunk(2, 1)
        soft = Divergence(self.temperature, scaled=True)(outputs, logits, weights)
        return self.share * soft + (1 - self.share) * cross_entropy(outputs, classes, weights)
