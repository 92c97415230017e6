"""Moderate coreset: Xia et al., "A Universal Data Pruning Method", ICLR 2023."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.picking import ScoredSelector


def closeness_to_the_median(features: Tensor) -> Tensor:
    """How near each row's distance to the mean of all is to the median distance, by ranks: from -1/2 to 0; [n].

    >>> closeness_to_the_median(torch.tensor([[0.0], [1.0], [8.0]]))  # the mean is 3; 1 is nearest, 8 is farthest
    tensor([ 0.0000, -0.3333, -0.3333])
    """
    distances = (features - features.mean(0)).norm(dim=1)  # (n)
    ranks = distances.argsort(stable=True).argsort(stable=True)
    closeness: Tensor = 0 - (ranks - (len(features) - 1) / 2).abs() / len(features)
    return closeness


class Moderate(ScoredSelector[EvidenceSettings]):
    """The images that are neither near the mean of their class nor far from it."""

    def scores(self, evidence: Evidence) -> Tensor:
        """By the ranks within each class."""
        features, scores = evidence.features(), torch.zeros(len(evidence.labels))
        for label in evidence.labels.unique():
            members = evidence.labels == label
            scores[members] = closeness_to_the_median(features[members])
        return scores
