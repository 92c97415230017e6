"""Herding: Welling, ICML 2009, in the form of iCaRL (Rebuffi et al., CVPR 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.selection.features import FeatureSelector, FeatureSettings


def herd(features: Tensor, count: int) -> Tensor:
    """Rows whose running mean follows the mean of all rows: int64 [count] in order of choice.

    With mu the mean and s the sum of the rows chosen so far, choice t takes the unused row nearest to t*mu - s. (Some
    published code takes the farthest instead and so falls below random.) `features` is [n, D], `count` at most n.

    >>> herd(torch.tensor([[0.0], [4.0], [5.0]]), 2)  # the mean is 3: first 4, then the row nearest to 2*3 - 4
    tensor([1, 0])
    """
    features = features.double()
    mean, total = features.mean(0), torch.zeros(features.shape[1], dtype=torch.float64)
    squares = features.square().sum(1)  # (n)
    chosen: list[int] = []
    for step in range(1, count + 1):
        target = step * mean - total
        distances = squares - 2 * features @ target  # (n), up to a constant
        distances[chosen] = torch.inf
        chosen.append(int(distances.argmin()))
        total += features[chosen[-1]]
    return torch.tensor(chosen)


class Herding(FeatureSelector[FeatureSettings]):
    """Herding on the features of each group."""

    def choose_from(self, features: Tensor, count: int, name: int | str) -> Tensor:
        """Herd the group."""
        return herd(features, count)
