"""AUM: Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking", NeurIPS 2020."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.selection.evidence import AveragedEvidenceSettings, Evidence
from condense.selection.picking import ScoredSelector


def area_under_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over epochs of z_y - max_{c != y} z_c, for logits [E, N, K] and classes y int64 [N]; [N].

    Low is hard or labelled wrongly.

    >>> area_under_margin(torch.tensor([[[1.0, 3.0]], [[4.0, 2.0]]]), torch.tensor([0]))
    tensor([0.])
    """
    own = F.one_hot(labels, logits.shape[2]).bool()  # (N, K)
    margins = [of[own] - of.masked_fill(own, -torch.inf).max(1).values for of in logits]  # an epoch each, (N,)
    return torch.stack(margins).mean(0)


def mean_area_under_margin(evidence: Evidence) -> Tensor:
    """The mean of `area_under_margin` over the trainings; [N]."""
    return evidence.mean(lambda training: area_under_margin(evidence.training(training).logits, evidence.labels))


class AreaUnderMargin(ScoredSelector[AveragedEvidenceSettings]):
    """The images of the largest margins: those of small ones are left out first, as the paper cleans a data set."""

    def scores(self, evidence: Evidence) -> Tensor:
        """The area."""
        return mean_area_under_margin(evidence)
