"""What a trained network is unsure of: the classical scores of active learning (Settles, 2009, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from condense.selection.evidence import AveragedEvidenceSettings, Evidence
from condense.selection.picking import ScoredSelector


def entropy(probabilities: Tensor) -> Tensor:
    """-sum_k p_k log p_k of each row; [N].

    >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    entropies: Tensor = torch.special.entr(probabilities).sum(1)
    return entropies


def margin(probabilities: Tensor) -> Tensor:
    """How much more likely the first class is than the second, with its sign turned: p_(2) - p_(1); [N].

    >>> margin(torch.tensor([[0.5, 0.25, 0.25]]))
    tensor([-0.2500])
    """
    first, second = probabilities.topk(2, dim=1).values.unbind(1)
    return second - first


def least_confidence(probabilities: Tensor) -> Tensor:
    """1 - p_(1); [N].

    >>> least_confidence(torch.tensor([[0.5, 0.25, 0.25]]))
    tensor([0.5000])
    """
    return 1 - probabilities.max(1).values


class Entropy(ScoredSelector[AveragedEvidenceSettings]):
    """The images of the largest entropy."""

    def scores(self, evidence: Evidence) -> Tensor:
        """The mean over the trainings."""
        return _averaged(evidence, entropy)


class Margin(ScoredSelector[AveragedEvidenceSettings]):
    """The images between two classes."""

    def scores(self, evidence: Evidence) -> Tensor:
        """The mean over the trainings."""
        return _averaged(evidence, margin)


class LeastConfidence(ScoredSelector[AveragedEvidenceSettings]):
    """The images whose likeliest class is least likely."""

    def scores(self, evidence: Evidence) -> Tensor:
        """The mean over the trainings."""
        return _averaged(evidence, least_confidence)


def _averaged(evidence: Evidence, score: Callable[[Tensor], Tensor]) -> Tensor:
    return evidence.mean(lambda training: score(evidence.probabilities(training)))
