"""PCA: prune, combine, augment. Xiao et al., "Rethinking Large-scale Dataset Compression", arXiv 2502.06434, 2025.

Its second version is called "Unifying Dataset Pruning and Distillation for Efficient Large-scale Compression".

1. Prune: images of each class are ranked, the easy ones first, and factor^2 of them are kept for each stored one.
2. Combine: each of these is made smaller, and factor^2 of a class are laid side by side as one image of that class.
3. Augment: trained on with hard labels and random resized crops, which hit one small image here and several there.
   That belongs to the evaluation (`--protocol rethink-hard`), not to the set.

The code is not published, and these steps are those of the abstract. Ours is what it leaves open: which images come
together (the easiest fill the first mosaic, so that the first mosaics of a class are the choice for fewer), their order
in it (row by row), how they are made smaller (bilinearly, without aliasing), which networks the scores are asked of,
and how the augmentation is "constrained": that of the protocol is the usual one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.labels import HardLabels
from condense.methods.interface import Product
from condense.runtime.errors import CondenseError
from condense.selection.area_under_margin import AreaUnderMargin
from condense.selection.base import Choice, check_mosaics
from condense.selection.error_norms import Easy
from condense.selection.evidence import EarlyEvidenceSettings, Evidence
from condense.selection.forgetting import Forgetting
from condense.selection.picking import EvidenceSelector, ScoredSelector, pick
from condense.sets.mosaics import mosaic
from condense.sets.pictures import to_uint8

Score = Literal["el2n-easy", "aum", "forgetting", "random"]
_SCORES: dict[Score, tuple[type[ScoredSelector[Any]], int]] = {  # and the sign by which the easy ones come first
    "el2n-easy": (Easy, 1),
    "aum": (AreaUnderMargin, 1),
    "forgetting": (Forgetting, -1),
}


class MosaicSettings(EarlyEvidenceSettings):
    """Settings of `pca`."""

    score: Score = Field(
        "el2n-easy",
        description="by which images are ranked: the smallest error, the largest margin, the least forgotten; or drawn",
    )
    factor: int = Field(2, ge=2, le=8, description="real images on a side of a stored one")


def combined(images: Tensor, factor: int) -> Tensor:
    """One image uint8 [C, H, W] of factor^2 ones, uint8 [factor^2, C, H, W]: each made smaller, row by row.

    >>> combined(torch.tensor([0, 60, 120, 255], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 4, 4), 2)[0, ::2, ::2]
    tensor([[  0,  60],
            [120, 255]], dtype=torch.uint8)
    """
    channels, height, width = images.shape[1:]
    size = (height // factor, width // factor)
    cells = F.interpolate(images.float() / 255, size, mode="bilinear", align_corners=False, antialias=True)
    return to_uint8(mosaic(cells, (channels, height, width)))


class Mosaics(EvidenceSelector[MosaicSettings]):
    """Mosaics of the easiest images of each class; the budget counts mosaics.

    A mosaic's score is the mean of those of its images. These are no copies of training images, so there are no source
    indices in the file; those of each mosaic, row by row, are in the JSON beside it.
    """

    def choose_by(self, evidence: Evidence) -> Choice:
        """The images of all mosaics, class by class, factor^2 for each."""
        each = self.settings.factor**2
        groups = [replace(group, count=each * group.count) for group in self.groups()]
        if self.settings.score == "random":  # all are equal, and equal ones come in an order that is drawn
            return Choice(pick(torch.zeros(len(evidence.labels)), groups, self.job.seed))
        selector, sign = _SCORES[self.settings.score]
        scores = sign * selector(self.job, self.settings).scores(evidence).double()
        indices = pick(scores, groups, self.job.seed)
        return Choice(indices, scores=scores[indices])

    def product(self, chosen: Choice) -> Product:
        """The chosen images, laid as mosaics."""
        factor, data = self.settings.factor, self.data
        sources = chosen.indices.view(-1, factor**2)  # (mosaics, factor^2)
        return Product(
            stored=torch.stack([combined(data.pixels(row), factor) for row in sources]),
            labels=HardLabels(data.labels[sources[:, 0]]),
            settings=self.settings,
            scores=None if chosen.scores is None else chosen.scores.view_as(sources).mean(1),
            facts={"sources": sources.tolist()},
        )

    @classmethod
    def keeps_images(cls, settings: MosaicSettings) -> bool:
        """Several of them in one."""
        return False

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: MosaicSettings) -> None:
        """Every class must have enough images for its mosaics, and these enough pixels."""
        super().check(data, budget, settings)
        factor = settings.factor
        check_mosaics(data, budget, factor)
        height, width = data.info.image_shape[1:]
        if min(height, width) < 2 * factor:
            raise CondenseError(
                f"--factor {factor} leaves less than two pixels of images of {height}x{width}; give a smaller one"
            )

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: MosaicSettings) -> list[Workload]:
        """The trainings behind the evidence, if any is asked for."""
        return [] if settings.score == "random" else super().preparation(data, budget, settings)
