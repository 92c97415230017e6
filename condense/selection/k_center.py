"""Greedy k-center: Sener & Savarese, ICLR 2018 (the greedy algorithm, within each class)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.runtime.seeds import generator
from condense.selection.features import FeatureSelector, FeatureSettings


class KCenterSettings(FeatureSettings):
    """Settings of k-center."""

    start: Literal["center", "random"] = Field(
        "center",
        description="first image: the one nearest to the mean of its class (--no-balanced: of all), or a random one",
    )


def spread(features: Tensor, count: int, first: int) -> Tensor:
    """Rows chosen greedily, each the farthest from all chosen so far: int64 [count], beginning with `first`.

    Only the running minimum of the distances is kept. `features` is [n, D], `count` at most n.

    >>> spread(torch.tensor([[0.0], [1.0], [10.0], [4.0]]), 3, first=0)
    tensor([0, 2, 3])
    """
    chosen = [first]
    nearest = (features - features[first]).square().sum(1)  # (n), squared distance to the nearest chosen row
    nearest[first] = -1.0  # below every distance: duplicates of a chosen row may be taken, the row itself may not
    while len(chosen) < count:
        farthest = int(nearest.argmax())
        chosen.append(farthest)
        nearest = torch.minimum(nearest, (features - features[farthest]).square().sum(1))
        nearest[farthest] = -1.0
    return torch.tensor(chosen)


class KCenter(FeatureSelector[KCenterSettings]):
    """Greedy k-center on the features of each group."""

    def choose_from(self, features: Tensor, count: int, name: int | str) -> Tensor:
        """Spread over the group, from its centre or a random image."""
        if self.settings.start == "random":
            draws = generator(self.job.seed, "k-center start", name)
            first = int(torch.randint(len(features), (1,), generator=draws))
        else:
            first = int((features - features.mean(0)).square().sum(1).argmin())
        return spread(features, count, first)
