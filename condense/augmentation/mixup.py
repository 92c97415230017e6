"""Mixup: Zhang et al., ICLR 2018. Every image of a batch becomes a mean of itself and another one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mixup:
    """One draw for a batch of N images: their `partner`s, int64 [N], and the `share` that an image keeps of itself."""

    partner: Tensor
    share: float


def draw_mixup(count: int, alpha: float, generator: torch.Generator) -> Mixup:
    """A share of Beta(`alpha`, `alpha`), one for the whole batch, and a permutation.

    >>> draw_mixup(4, 0.8, torch.Generator().manual_seed(0)).share < 1
    True
    """
    chance = torch.rand(1, generator=generator, dtype=torch.float64).item()
    return mixup_of(torch.randperm(count, generator=generator), alpha, chance)


def mixup_of(partner: Tensor, alpha: float, chance: float) -> Mixup:
    """The mix whose share is the quantile of Beta(`alpha`, `alpha`) at `chance`, a number of [0, 1)."""
    from scipy.special import betaincinv  # late: it takes a while, and few trainings need it

    return Mixup(partner, float(betaincinv(alpha, alpha, chance)))


def mix_up(values: Tensor, mix: Mixup) -> Tensor:
    """`share` of each row of `values` [N, ...], images or labels, and the rest of its partner's.

    >>> mix_up(torch.tensor([[1.0], [0.0]]), Mixup(torch.tensor([1, 0]), 0.75)).flatten().tolist()
    [0.75, 0.25]
    """
    return mix.share * values + (1 - mix.share) * values[mix.partner.to(values.device)]
