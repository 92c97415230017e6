"""Graph cut: Iyer et al., "Submodular Combinatorial Information Measures with Applications in Machine Learning", 2021.

As a choice of images: in DeepCore (Guo et al., DEXA 2022) and dataset quantization (Zhou et al., ICCV 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from condense.selection.base import Choice, Group
from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.last_layer import (
    GradientSelector,
    LastLayerGradients,
    last_layer_gradients,
)


def cut(gradients: LastLayerGradients, count: int) -> tuple[Tensor, Tensor]:
    """Rows chosen greedily that are similar to all n and not to each other; and the gain of each when it was chosen.

    With the similarities s of the gradients, the gain of x is sum_{i=1..n} s_ix - 2 sum_{j in S} s_jx, as in released
    code; of equal gains the first row is chosen. (That of the cut between S and the rest, the sum of s_ij over j in S
    and i outside, is less by s_xx, which is 1 for every x with a gradient.) The second sum grows by one row of the
    kernel with each choice, and the first is n / 2 + <U_x, sum_i U_i> / 2 with U = G / |G|, so that no more of the
    kernel is computed than those `count` rows. Gains become negative for large S, which changes nothing.

    Returns int64 [count] and float64 [count]; `count` is at most n.

    >>> errors = torch.tensor([[1.0], [1.0], [-1.0]], dtype=torch.float64)
    >>> cut(LastLayerGradients(errors, torch.zeros(3, 0, dtype=torch.float64)), 2)
    (tensor([0, 2]), tensor([2., 1.], dtype=torch.float64))
    """
    units = gradients.units
    gains = (len(gradients) + units.along(units.total(torch.ones_like(gradients.norms)))).double() / 2  # (n)
    rows, worth = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.float64)
    for place in range(count):
        best = int(gains.argmax())
        rows[place], worth[place] = best, gains[best]
        gains -= 2 * gradients.similarities(rows[place : place + 1])[0]
        gains[best] = -torch.inf
    return rows, worth


class GraphCut(GradientSelector[EvidenceSettings]):
    """Images whose gradients are like those of their group and unlike each other."""

    def choose_from(self, evidence: Evidence, group: Group) -> Choice:
        """The cut of the group."""
        rows, gains = cut(last_layer_gradients(evidence, group.members), group.count)
        return Choice(rows, scores=gains)
