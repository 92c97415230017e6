"""Forgetting events: Toneva et al., "An Empirical Study of Example Forgetting", ICLR 2019."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.selection.evidence import AveragedEvidenceSettings, Evidence
from condense.selection.picking import ScoredSelector


def forgetting_events(correct: Tensor) -> Tensor:
    """How often each image was right after one epoch and wrong after the next: int64 [N] of bool [E, N].

    One that was never right counts as E, more than any other can have, as in the paper (some released code leaves it at
    0, so that the hardest images are dropped). The paper looks at an image when its batch is trained on, here all are
    seen after each epoch.

    >>> forgetting_events(torch.tensor([[True, True, False], [False, True, False], [True, True, False]]))
    tensor([1, 0, 3])
    """
    forgotten = (correct[:-1] & ~correct[1:]).sum(0)
    return torch.where(correct.any(0), forgotten, len(correct))


class Forgetting(ScoredSelector[AveragedEvidenceSettings]):
    """The images that are forgotten most often."""

    def scores(self, evidence: Evidence) -> Tensor:
        """The mean number of events over the trainings."""
        return evidence.mean(lambda training: forgetting_events(evidence.training(training).correct(evidence.labels)))
