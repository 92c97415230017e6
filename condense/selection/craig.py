"""CRAIG: Mirzasoleiman et al., "Coresets for Data-efficient Training of Machine Learning Models", ICML 2020.

For a fixed size, on the gradients of the last layer of one network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from condense.selection.base import Choice, Group
from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.facility_location import facilities
from condense.selection.last_layer import (
    ROWS_AT_ONCE,
    GradientSelector,
    LastLayerGradients,
    last_layer_gradients,
)


def medoids(gradients: LastLayerGradients, count: int) -> tuple[Tensor, Tensor]:
    """Rows that are facilities by s_ij = d_max - |G_i - G_j|; and what each added.

    Greedily they minimise sum_i min_{j in S} |G_i - G_j|, which bounds how far the weighted sum of their gradients is
    from that of all. For d_max stands twice the largest distance to the mean gradient, which no distance
    exceeds: only the first gain depends on it. Returns int64 [count] and float64 [count].

    >>> errors = torch.tensor([[0.0], [1.0], [2.0], [9.0]], dtype=torch.float64)
    >>> medoids(LastLayerGradients(errors, torch.zeros(4, 0, dtype=torch.float64)), 2)
    (tensor([1, 3]), tensor([38.,  8.], dtype=torch.float64))
    """
    mean = gradients.mean
    squares = gradients.norms.square() - 2 * gradients.along(mean) + mean.square().sum()
    farthest = 2 * squares.max().clamp_min(0).sqrt()
    return facilities(lambda rows: (farthest - gradients.distances(rows)).clamp_min_(0), len(gradients), count)


def represented(gradients: LastLayerGradients, chosen: Tensor) -> Tensor:
    """How many rows have each of the `chosen` (int64 [m]) as the nearest of them: int64 [m], of sum n.

    A chosen row stands for itself, so none is 0; of equally near ones a row has the first. (Released code begins to
    count at 1, so that its sum is n + m.)

    >>> errors = torch.tensor([[0.0], [1.0], [2.0], [9.0]], dtype=torch.float64)
    >>> represented(LastLayerGradients(errors, torch.zeros(4, 0, dtype=torch.float64)), torch.tensor([1, 3]))
    tensor([3, 1])
    """
    nearest = torch.full((len(gradients),), torch.inf, dtype=torch.float64)
    place = torch.zeros(len(gradients), dtype=torch.int64)  # of the nearest chosen row
    for start in range(0, len(chosen), ROWS_AT_ONCE):
        distances, places = gradients.distances(chosen[start : start + ROWS_AT_ONCE]).min(0)  # (n)
        place = torch.where(distances < nearest, start + places, place)
        nearest = torch.minimum(nearest, distances)
    place[chosen] = torch.arange(len(chosen))
    return torch.bincount(place, minlength=len(chosen))


class Craig(GradientSelector[EvidenceSettings]):
    """Images that stand for all of their group, each with as much weight as there are images that it stands for."""

    def choose_from(self, evidence: Evidence, group: Group) -> Choice:
        """The medoids of the group."""
        gradients = last_layer_gradients(evidence, group.members)
        rows, gains = medoids(gradients, group.count)
        return Choice(rows, weights=represented(gradients, rows).float(), scores=gains)
