"""Interpolated labels: one label an image, which mixed images take in the shares that they are mixed of.

INFER (Zhang et al., "Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature Compensator", ICLR
2025): labels of clean images replace those of all views, because a student sees them mixed up only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.labels.advisers import Advisers
from condense.labels.kinds import LogitLabels
from condense.labels.plain import PlainImages
from condense.labels.showing import MIXUP_ALPHA
from condense.runtime.errors import CondenseError
from condense.training.rule import TrainingRule
from condense.training.sources import BatchSource, ImageSource, TrainingSource


class InterpolatedLabels(LogitLabels):
    """Logits float32 [N, K] of the images as they are, trained on by KL at one temperature under mixup.

    The released code of INFER has temperature 30 and Beta(0.8, 0.8). Logits are mixed, not probabilities, by one draw
    of a share and of partners for each batch of a training.
    """

    kind = "interpolated"
    usual_loss = "kl"

    def __init__(
        self,
        rows: Tensor,
        classes: Tensor | None = None,
        temperature: float = 30.0,
        loss: str | None = None,
        class_weight: float = 0.0,
        *,
        teacher: str | None = None,
        images: str | None = None,
    ) -> None:
        super().__init__(rows, classes, temperature, loss, class_weight, teacher=teacher, images=images)
        if self.objective.loss == "cross-entropy":
            raise CondenseError("interpolated labels are mixed as logits; give the loss kl, kl-t2 or mse")

    def source(
        self,
        images: ImageSource,
        plain: PlainImages,
        info: DataInfo,
        *,
        weights: Tensor | None = None,
        advisers: Advisers | None = None,
    ) -> TrainingSource:
        """The images, augmented as a rule says and then mixed."""
        return _MixedUp(super().source(images, plain, info, weights=weights))


@dataclass(frozen=True, eq=False)
class _MixedUp:
    """Images and labels of another source, mixed up in every batch, whatever the rule of a training has."""

    source: TrainingSource

    @property
    def info(self) -> DataInfo:
        """That of the source."""
        return self.source.info

    def __len__(self) -> int:
        return len(self.source)

    def presented(self, rule: TrainingRule, seed: int, device: torch.device) -> BatchSource:
        """Raises `CondenseError` for a rule that mixes images in another way."""
        if rule.cutmix:
            raise CondenseError("interpolated labels are those of mixup; choose a protocol without CutMix")
        return self.source.presented(rule.model_copy(update={"mixup": MIXUP_ALPHA}), seed, device)
