"""How a teacher is trained, as plain data: this module does not import torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from condense.runtime.validation import Closed
from condense.training.rule import TrainingRule

_MOMENTUM = 0.9


class TeacherRule(Closed):
    """SGD with momentum 0.9, at a learning rate that falls to 0 along half a cosine.

    The defaults are those with which SRe2L trains for CIFAR (Yin, Xing & Shen, NeurIPS 2023, code), but for its 200
    epochs.

    >>> TeacherRule(augmentation="none").training.augmentation is None
    True
    """

    epochs: int = Field(default=30, ge=1, description="of a training")
    lr: float = Field(default=0.1, gt=0, allow_inf_nan=False, description="learning rate in the first epoch")
    batch_size: int = Field(default=128, ge=1, description="images in a step")
    weight_decay: float = Field(default=5e-4, ge=0, allow_inf_nan=False, description="of all parameters")
    augmentation: Literal["crop-flip", "resized-crop-flip", "none"] = Field(
        default="crop-flip", description="the view of an image in an epoch; flips only where the data may be mirrored"
    )
    holdout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="part of the training images that is left out, to tell the accuracy; 0: none",
    )

    @property
    def training(self) -> TrainingRule:
        """As the loop takes it."""
        return TrainingRule(
            lr=self.lr,
            momentum=_MOMENTUM,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            epochs=self.epochs,
            schedule="cosine",
            augmentation=None if self.augmentation == "none" else self.augmentation,
        )

    @property
    def recorded(self) -> dict[str, Any]:
        """As manifests have it."""
        fixed = {"optimizer": "sgd", "momentum": _MOMENTUM, "schedule": "cosine"}
        return self.model_dump(mode="json") | fixed
