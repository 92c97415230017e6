"""How a network is trained, as plain data: this module does not import torch."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import Field

from condense.augmentation.names import ClassicAugmentation, MatchingAugmentation
from condense.runtime.validation import Closed

# the factor of each drop, and the parts of E after which there is one
_DROPS = {
    "two-drops": (0.2, ((2, 3), (5, 6))),
    "fifths": (0.5, ((1, 5), (2, 5), (3, 5), (4, 5))),
}


class TrainingRule(Closed):
    """Optimiser, epochs, schedule and augmentation of one training.

    Hashes of protocols leave out fields that are at their default. So a default must never change, and a new field
    needs a default that changes nothing: then numbers stay comparable across versions.
    """

    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="as in torch.optim")
    lr: float = Field(gt=0, description="learning rate in the first epoch")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(default=0.0, ge=0, description="of the parameters that `decayed` names")
    decayed: Literal["all", "weights"] = Field(
        default="all", description="weights: those of more than one dimension, so neither norms nor biases"
    )
    batch_size: int = Field(ge=1, description="images in a step; the last, smaller batch of an epoch is kept")
    epochs: int = Field(ge=1, description="epochs E that the schedule counts")
    extra_epoch: bool = Field(
        default=False, description="run epochs 0 to E, one more than E, as the published DC loop does"
    )
    schedule: Literal["constant", "drop", "two-drops", "fifths", "cosine"] = Field(
        default="constant",
        description="drop: once, after epoch E // 2 + 1; two-drops: x0.2 from epoch 2 E // 3 and again from 5 E // 6; "
        "fifths: x0.5 from each of the epochs E // 5, 2 E // 5, 3 E // 5 and 4 E // 5; cosine: "
        "0.5 (1 + cos(pi e / E)) in epoch e. No drop comes before epoch 1",
    )
    drop_factor: float = Field(default=0.1, gt=0, le=1, description="drop: factor of the learning rate")
    restart_optimizer: bool = Field(
        default=False, description="a new optimiser at the drop, so that momentum starts at zero"
    )
    augmentation: MatchingAugmentation | ClassicAugmentation | None = Field(
        default=None, description="parameters per image, one operation a batch where there is a choice (dc-: an image)"
    )
    cutmix: float = Field(default=0.0, ge=0, le=1, description="share of the batches that CutMix mixes")
    align_corners: bool = Field(default=False, description="of the augmentation's sampling grid")

    @property
    def epochs_run(self) -> int:
        """How many times all images are seen.

        >>> TrainingRule(lr=0.01, batch_size=256, epochs=300, extra_epoch=True).epochs_run
        301
        """
        return self.epochs + self.extra_epoch

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of all steps of this epoch, counted from 0.

        Epochs of drops are rounded down, as the published code rounds them, but never to the first one.

        >>> rule = TrainingRule(lr=0.01, batch_size=256, epochs=300, extra_epoch=True, schedule="drop")
        >>> [rule.learning_rate(epoch) for epoch in (0, 151, 152, 300)]
        [0.01, 0.01, 0.001, 0.001]
        """
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        if self.schedule in _DROPS:
            factor, parts = _DROPS[self.schedule]
            drops = sum(epoch >= max(1, count * self.epochs // whole) for count, whole in parts)
            return self.lr * factor**drops
        return self.lr * self.drop_factor if self.schedule == "drop" and epoch >= self._first_after_drop else self.lr

    def restarts(self, epoch: int) -> bool:
        """Whether this epoch begins with a new optimiser; the first one always does."""
        dropped = self.restart_optimizer and self.schedule == "drop" and epoch == self._first_after_drop
        return epoch == 0 or dropped

    def for_epoch(self, epoch: int) -> Self:
        """This epoch as a training by itself, at its learning rate.

        >>> rule = TrainingRule(lr=0.01, batch_size=256, epochs=8, schedule="drop", drop_factor=0.5)
        >>> rule.for_epoch(6).lr, rule.for_epoch(6).epochs_run
        (0.005, 1)
        """
        alone = {"lr": self.learning_rate(epoch), "epochs": 1, "extra_epoch": False, "schedule": "constant"}
        return self.model_copy(update=alone)

    @property
    def _first_after_drop(self) -> int:
        return self.epochs // 2 + 2

    def as_dict(self) -> dict[str, Any]:
        """Every field, JSON-able."""
        return self.model_dump(mode="json")
