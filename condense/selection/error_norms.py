"""EL2N: Paul, Ganguli & Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021 (section 2.2).

The norm of a network's error early in training, averaged over several trainings. The paper keeps the largest; below
about 30 % of the data the smallest are the better choice (Zheng et al., ICLR 2023), so both are here.
"""

from __future__ import annotations

from torch import Tensor

from condense.selection.evidence import EarlyEvidenceSettings, Evidence
from condense.selection.picking import ScoredSelector


def error_norms(evidence: Evidence) -> Tensor:
    """EL2N_i = mean over trainings of |p_i - y_i|; [N], from 0 (sure and right) to sqrt 2 (sure and wrong)."""
    return evidence.mean(lambda training: evidence.errors(training).norm(dim=1))


class Hard(ScoredSelector[EarlyEvidenceSettings]):
    """The images of the largest error, as in the paper."""

    def scores(self, evidence: Evidence) -> Tensor:
        """EL2N."""
        return error_norms(evidence)


class Easy(ScoredSelector[EarlyEvidenceSettings]):
    """The images of the smallest error."""

    def scores(self, evidence: Evidence) -> Tensor:
        """EL2N with its sign turned."""
        return -error_norms(evidence)
