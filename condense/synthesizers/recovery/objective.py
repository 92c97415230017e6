"""What a teacher thinks of images, and how far they are from its training: the two terms that recovery descends."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.compute.compilation import compiled
from condense.compute.plan import Plan
from condense.compute.precision import DTYPES
from condense.matching import match_statistics
from condense.networks.readers import BATCH_NORM, LayerReader, batch_moments, layer_names, running_statistics
from condense.teachers.classifier import PixelClassifier
from condense.teachers.teacher import Teacher


class TeacherObjective:
    """A teacher that is asked about batches: their classification loss, and the distance of their statistics.

    Both are differentiable in the pixels. The classifier may be changed in place; its running statistics are the
    targets as they were at the beginning. Without `statistics` it needs no BatchNorm, and the second term is 0.
    """

    def __init__(
        self,
        classifier: PixelClassifier,
        image_shape: tuple[int, int, int],
        plan: Plan,
        *,
        statistics: bool = True,
        variance_weight: float = 1.0,
    ) -> None:
        self.classifier, self.variance_weight = classifier, variance_weight
        names = layer_names(classifier, BATCH_NORM, image_shape) if statistics else ()
        self.reader = LayerReader(names, outputs=False, take=_moments)
        self.targets = [(mean.clone(), variance.clone()) for mean, variance in running_statistics(classifier, names)]
        self.dtype = DTYPES[plan.precision]
        classifier.network.to(self.dtype)
        self._terms = compiled(self._computed) if plan.compile == "on" and not classifier.draws else self._computed

    def __call__(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean cross-entropy of pixels [N, C, H, W] for labels int64 [N], and `match_statistics`; scalars."""
        terms: tuple[Tensor, Tensor] = self._terms(pixels, labels)
        return terms

    def _computed(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits, inputs = self.reader.with_output(self.classifier, pixels)
        loss = classification_loss(logits, labels)
        if not inputs:
            return loss, torch.zeros_like(loss)
        moments = [(mean, variance) for mean, variance in inputs]
        return loss, match_statistics(moments, self.targets, variance_weight=self.variance_weight)


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy, in float32 or in the logits' own type where that is more precise."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)


def _moments(maps: Tensor) -> Tensor:
    """Means and variances, [2, C]."""
    return torch.stack(batch_moments(maps))


_shared: WeakKeyDictionary[Teacher, dict[tuple[Any, ...], TeacherObjective]] = WeakKeyDictionary()


def shared_objective(
    teacher: Teacher,
    device: torch.device,
    plan: Plan,
    *,
    statistics: bool = True,
    variance_weight: float = 1.0,
    purpose: str = "",
) -> TeacherObjective:
    """The objective of a teacher: built, and compiled, once for all slices of this process.

    It goes with the teacher. Who changes the classifier has a `purpose` of its own.
    """
    objectives = _shared.setdefault(teacher, {})
    key = (device, plan, statistics, variance_weight, purpose)
    if key not in objectives:
        objectives[key] = TeacherObjective(
            teacher.classifier(device),
            teacher.manifest.image_shape,
            plan,
            statistics=statistics,
            variance_weight=variance_weight,
        )
    return objectives[key]
