"""GraNd: Paul, Ganguli & Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021 (definition 2.1)."""

from __future__ import annotations

from torch import Tensor

from condense.selection.evidence import EarlyEvidenceSettings, Evidence
from condense.selection.picking import ScoredSelector


def gradient_norms(errors: Tensor, features: Tensor) -> Tensor:
    """|g_i| sqrt(1 + |h_i|^2): the norm of the gradient of each image's loss in the last layer; [N].

    The gradient of the cross-entropy in the bias of the classifier is g_i = p_i - y_i (`errors` [N, K]), that in its
    weights g_i h_i^T with the features h_i ([N, D]). Nothing is divided by the size of a batch, as it is in released
    code, where the images of the last, smaller batch get larger norms.

    >>> import torch
    >>> gradient_norms(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
    tensor([5.])
    """
    norms: Tensor = errors.norm(dim=1) * (1 + features.square().sum(1)).sqrt()
    return norms


class GradientNorms(ScoredSelector[EarlyEvidenceSettings]):
    """The images of the largest gradient of the last layer early in training (the paper: of all layers)."""

    def scores(self, evidence: Evidence) -> Tensor:
        """The mean norm over the trainings."""
        return evidence.mean(lambda training: gradient_norms(evidence.errors(training), evidence.features(training)))
