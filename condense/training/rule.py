"""How a network is trained, as plain data: this module does not import torch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from condense.augmentation.names import ClassicAugmentation, MatchingAugmentation, MildAugmentation, ViewAugmentation
from condense.runtime.validation import Closed

# the factor of each drop, and the parts of E after which there is one
_DROPS = {
    "two-drops": (0.2, ((2, 3), (5, 6))),
    "fifths": (0.5, ((1, 5), (2, 5), (3, 5), (4, 5))),
}


def cosine_rate(first: float, last: float, part: float) -> float:
    """A rate that falls from `first` to `last` of it along half a cosine, when this part of the fall is over.

    >>> [round(cosine_rate(1.0, 0.1, part), 3) for part in (0, 0.5, 1, 2)]
    [1.0, 0.55, 0.1, 0.1]
    """
    way = 0.5 * (1 + math.cos(math.pi * min(part, 1)))
    return first * (last + (1 - last) * way)


class TrainingRule(Closed):
    """Optimiser, epochs, schedule and augmentation of one training.

    Hashes of protocols leave out fields that are at their default. So a default must never change, and a new field
    needs a default that changes nothing: then numbers stay comparable across versions.
    """

    optimizer: Literal["sgd", "adamw", "adam"] = Field(default="sgd", description="as in torch.optim")
    lr: float = Field(gt=0, description="learning rate in the first epoch, or after the warm-up")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(default=0.0, ge=0, description="of the parameters that `decayed` names")
    decayed: Literal["all", "weights"] = Field(
        default="all", description="weights: those of more than one dimension, so neither norms nor biases"
    )
    batch_size: int = Field(ge=1, description="images in a step; the last, smaller batch of an epoch is kept")
    epochs: int | None = Field(default=None, ge=1, description="epochs E that the schedule counts")
    updates: int | None = Field(
        default=None, ge=1, description="instead of epochs: updates U, however many images there are, which it counts"
    )
    more_updates: tuple[PositiveInt, ...] | None = Field(
        default=None,
        description="(images, updates, images, updates, ...), images ascending: where there are more images than "
        "these, so many updates instead; the last such pair counts",
    )
    shuffled: bool = Field(
        default=True, description="a new order of images in every epoch; otherwise as they are stored"
    )
    extra_epoch: bool = Field(
        default=False, description="run epochs 0 to E, one more than E, as the published DC loop does"
    )
    schedule: Literal["constant", "drop", "two-drops", "fifths", "cosine"] = Field(
        default="constant",
        description="drop: once, after epoch E // 2 + 1; two-drops: x0.2 from epoch 2 E // 3 and again from 5 E // 6; "
        "fifths: x0.5 from each of the epochs E // 5, 2 E // 5, 3 E // 5 and 4 E // 5; cosine: "
        "0.5 (1 + cos(pi e / E)) in epoch e, or of update u of U. No drop comes before epoch 1",
    )
    warmup: int = Field(
        default=0, ge=0, description="first updates, in which the rate rises from 0; the schedule begins after them"
    )
    last_rate: float = Field(default=0.0, ge=0, lt=1, description="cosine: what it falls to, as a part of the rate")
    stretch: float = Field(
        default=1.0, ge=1, description="cosine: so many times as long as the training; with 2 it ends at half the rate"
    )
    drop_factor: float = Field(default=0.1, gt=0, le=1, description="drop: factor of the learning rate")
    restart_optimizer: bool = Field(
        default=False, description="a new optimiser at the drop, so that momentum starts at zero"
    )
    augmentation: MatchingAugmentation | ClassicAugmentation | MildAugmentation | ViewAugmentation | None = Field(
        default=None,
        description="parameters per image, one operation a batch where there is a choice (dc-: an image); "
        "-flip: views of images, each drawn for the image and the epoch",
    )
    cutmix: float = Field(default=0.0, ge=0, le=1, description="share of the batches that CutMix mixes")
    mixup: float = Field(default=0.0, ge=0, description="alpha of mixup, which mixes every batch; 0 for none")
    align_corners: bool = Field(default=False, description="of the augmentation's sampling grid")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.updates is None):
            raise ValueError("a training is so many epochs long or so many updates; give one of epochs and updates")
        if self.updates is None and (self.warmup or self.more_updates):
            raise ValueError("warmup and more_updates count updates; give updates instead of epochs")
        more = self.more_updates or ()
        if len(more) % 2 or any(after <= before for before, after in pairwise(more[::2])):
            raise ValueError("more_updates are pairs of images and updates, with ascending numbers of images")
        if self.mixup and self.cutmix:
            raise ValueError("a batch is mixed by mixup or by CutMix; give one of mixup and cutmix")
        if self.updates is not None and (self.extra_epoch or self.schedule not in ("constant", "cosine")):
            raise ValueError(f"schedule {self.schedule} and extra_epoch count epochs; give epochs instead of updates")
        return self

    def updates_run(self, images: int) -> int:
        """How many updates are made on so many images, BatchNorm's leftovers aside (see `train_network`).

        >>> TrainingRule(lr=0.01, batch_size=128, epochs=2).updates_run(300)
        6
        >>> rule = TrainingRule(lr=0.01, batch_size=100, updates=1000, more_updates=(50, 2000, 500, 9000))
        >>> [rule.updates_run(images) for images in (50, 51, 500, 501)]
        [1000, 2000, 2000, 9000]
        """
        if self.epochs is not None:
            return (self.epochs + self.extra_epoch) * self._batches(images)
        assert self.updates is not None, "the validator wants one of them"
        more = self.more_updates or ()
        return [self.updates, *(count for above, count in zip(more[::2], more[1::2]) if images > above)][-1]

    def epochs_run(self, images: int) -> int:
        """How many times all of so many images are seen; a last time may be cut short by the number of updates.

        >>> TrainingRule(lr=0.01, batch_size=256, epochs=300, extra_epoch=True).epochs_run(50_000)
        301
        >>> TrainingRule(lr=0.01, batch_size=100, updates=11).epochs_run(150)
        6
        """
        if self.epochs is not None:
            return self.epochs + self.extra_epoch
        return math.ceil(self.updates_run(images) / self._batches(images))

    def _batches(self, images: int) -> int:
        return math.ceil(images / self.batch_size)

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of all steps of this epoch, counted from 0, where epochs are counted.

        Epochs of drops are rounded down, as the published code rounds them, but never to the first one.

        >>> rule = TrainingRule(lr=0.01, batch_size=256, epochs=300, extra_epoch=True, schedule="drop")
        >>> [rule.learning_rate(epoch) for epoch in (0, 151, 152, 300)]
        [0.01, 0.01, 0.001, 0.001]
        """
        assert self.epochs is not None, "a rule of updates has a rate for each of them"
        if self.schedule == "cosine":
            return self._cosine(epoch / self.epochs)
        if self.schedule in _DROPS:
            factor, parts = _DROPS[self.schedule]
            drops = sum(epoch >= max(1, count * self.epochs // whole) for count, whole in parts)
            return self.lr * factor**drops
        return self.lr * self.drop_factor if self.schedule == "drop" and epoch >= self._first_after_drop else self.lr

    def update_rate(self, update: int, updates: int) -> float:
        """The learning rate of an update, counted from 0, of so many, where updates are counted.

        >>> rule = TrainingRule(lr=1.0, batch_size=8, updates=14, warmup=4, schedule="cosine", last_rate=0.01)
        >>> [round(rule.update_rate(update, 14), 3) for update in (0, 1, 4, 9, 14)]
        [0.0, 0.25, 1.0, 0.505, 0.01]
        """
        if update < self.warmup:
            return self.lr * update / self.warmup
        if self.schedule == "constant":
            return self.lr
        return self._cosine((update - self.warmup) / (updates - self.warmup))

    def _cosine(self, part: float) -> float:
        """The rate when this part of the training is over.

        >>> TrainingRule(lr=1.0, batch_size=8, epochs=2, schedule="cosine", stretch=2.0).learning_rate(2)
        0.5
        """
        return cosine_rate(self.lr, self.last_rate, part / self.stretch)

    def restarts(self, epoch: int) -> bool:
        """Whether this epoch begins with a new optimiser; the first one always does."""
        dropped = self.restart_optimizer and self.schedule == "drop" and epoch == self._first_after_drop
        return epoch == 0 or dropped

    def for_epoch(self, epoch: int) -> Self:
        """This epoch as a training by itself, at its learning rate.

        >>> rule = TrainingRule(lr=0.01, batch_size=256, epochs=8, schedule="drop", drop_factor=0.5)
        >>> rule.for_epoch(6).lr, rule.for_epoch(6).epochs
        (0.005, 1)
        """
        alone = {"lr": self.learning_rate(epoch), "epochs": 1, "extra_epoch": False, "schedule": "constant"}
        return self.model_copy(update=alone)

    @property
    def _first_after_drop(self) -> int:
        assert self.epochs is not None, "drops come after epochs"
        return self.epochs // 2 + 2
