"""CAL: Margatina et al., "Active Learning by Acquiring Contrastive Examples", EMNLP 2021."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.neighbours import nearest_neighbours
from condense.selection.picking import ScoredSelector


class ContrastSettings(EvidenceSettings):
    """Settings of `cal`."""

    neighbours: int = Field(10, ge=1, description="images that each is compared with")
    kept: Literal["highest", "lowest"] = Field(
        "highest",
        description="contrast of the images that are kept; lowest as DeepCore, which also has neighbours of the same "
        "class, by features of a network trained on ImageNet, and a symmetric divergence",
    )


def contrast(probabilities: Tensor, neighbours: Tensor) -> Tensor:
    """How differently a network sees each image and its neighbours: the mean of KL(p_j | p_i) over its neighbours j.

    `probabilities` [n, K] and the rows of the neighbours, int64 [n, k]; [n]. The direction is that of the paper.

    >>> p = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
    >>> contrast(p, torch.tensor([[1], [0], [0]]))
    tensor([0.0000, 0.0000, 0.5108])
    """
    logs = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
    around = probabilities[neighbours]  # (n, k, K)
    return (around * (logs[neighbours] - logs[:, None])).sum(2).mean(1)


class Contrast(ScoredSelector[ContrastSettings]):
    """Images that a network sees otherwise than those around them: near a boundary between classes."""

    def scores(self, evidence: Evidence) -> Tensor:
        """Among all images, whatever their class."""
        given = self.settings
        _, rows = nearest_neighbours(evidence.features(), min(given.neighbours, len(evidence.labels) - 1))
        scores = contrast(evidence.probabilities(), rows)
        return scores if given.kept == "highest" else -scores
