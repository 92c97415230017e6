"""How a training rule shows images to a network: augmentation and mixing, drawn for every batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.augmentation.classic import augment_classic, draw_classic
from condense.augmentation.cutmix import draw_mix, mix_images
from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.augmentation.mild import augment_mild, draw_mild
from condense.augmentation.mixup import draw_mixup, mix_up
from condense.augmentation.names import MatchingAugmentation, ViewAugmentation
from condense.augmentation.views import ViewRule, draw_views, see
from condense.data.info import DataInfo
from condense.runtime.seeds import generator
from condense.training.rule import TrainingRule
from condense.training.sources import Batch, BatchSource, ImageSource, Targets, TargetSource

Augment = Callable[[Tensor, torch.Generator], Tensor]
Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_VIEWS = get_args(ViewAugmentation)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with labels: a `TrainingSource` whose images are augmented as the rule of a training says."""

    base: ImageSource
    labels: TargetSource
    info: DataInfo

    def __len__(self) -> int:
        return len(self.base)

    def presented(self, rule: TrainingRule, seed: int, device: torch.device) -> BatchSource:
        """Batches that are augmented anew in every epoch."""
        return _Presented(self, rule, seed, device)


class _Presented(BatchSource):
    """Batches of one training; draws depend on (seed, epoch, batch) only."""

    def __init__(self, source: Labelled, rule: TrainingRule, seed: int, device: torch.device) -> None:
        self.source, self.rule, self.seed, self.device = source, rule, seed, device
        self.views = None
        if rule.augmentation in _VIEWS:
            self.views = ViewRule.named(cast(ViewAugmentation, rule.augmentation), source.info)
        self.augment = None if self.views else _augmentation(source.info, rule)

    def batch(self, epoch: int, number: int, ids: Tensor) -> Batch:
        plain = self.source.base.images(ids).to(self.device)
        targets = self.source.labels.for_batch(epoch, ids).to(self.device)
        images = plain
        if self.augment is not None:
            images = self.augment(images, generator(self.seed, "augmentation", epoch, number))
        if self.views is not None:
            images = see(images, draw_views(self.views, self.source.info.image_shape, self.seed, epoch, ids))
        if self.rule.cutmix or self.rule.mixup:
            images, targets = self._mixed(images, targets, self._mixing(epoch, number, len(ids)))
        return Batch(epoch, ids, images, targets, plain)

    def _mixing(self, epoch: int, number: int, count: int) -> Mixing | None:
        """What mixes the images and what belongs to them, [n, ...]; None where this batch stays as it is."""
        if self.rule.mixup:
            blend = draw_mixup(count, self.rule.mixup, generator(self.seed, "mixup", epoch, number))
            return lambda images, values: (mix_up(images, blend), mix_up(values, blend))
        draws = generator(self.seed, "cutmix", epoch, number)
        mix = draw_mix(self.source.info.image_shape, count, self.rule.cutmix, draws)
        return None if mix is None else lambda images, values: mix_images(images, values, mix)

    def _mixed(self, images: Tensor, targets: Targets, mixing: Mixing | None) -> tuple[Tensor, Targets]:
        """Class indices become probabilities in every batch, mixed or not, so that all have one form.

        Where images have weights, each part of a mixed one counts as the image that it is of.
        """
        info, values, weights = self.source.info, targets.values, targets.weights
        if not values.is_floating_point():
            values = F.one_hot(values, len(info.classes)).to(images.dtype)
        if mixing is None:
            return images, replace(targets, values=values)
        if weights is None:
            images, values = mixing(images, values)
            return images, replace(targets, values=values)
        images, mixed = mixing(images, weights[:, None] * F.pad(values, (0, 1), value=1.0))
        weights = mixed[:, -1]  # of labels [N, K + 1] times weights, the last one being 1
        values = mixed[:, :-1] / weights.clamp_min(torch.finfo(weights.dtype).tiny)[:, None]
        return images, replace(targets, values=values, weights=weights)


def _augmentation(info: DataInfo, rule: TrainingRule) -> Augment | None:
    """What makes of such images, by a generator of its draws, what networks see of them."""
    shape = info.image_shape
    match rule.augmentation:
        case None:
            return None
        case "dc-crop-scale-rotate" | "dc-crop-noise" as classic:
            return lambda images, draws: augment_classic(
                classic, images, draw_classic(classic, shape, len(images), draws)
            )
        case "mild":
            return lambda images, draws: augment_mild(
                images, draw_mild(len(images), mirror=info.mirror, generator=draws)
            )
        case name:
            assert name not in _VIEWS, "views are drawn for images, not for batches"
            strategy = Augmentation.named(
                cast(MatchingAugmentation, name), mirror=info.mirror, align_corners=rule.align_corners
            )
            assert strategy is not None, "only the name none has no strategy"
            return lambda images, draws: augment(strategy, images, draw_per_image(strategy, shape, len(images), draws))
