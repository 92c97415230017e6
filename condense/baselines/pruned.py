"""Training on a part of the data that a method chose, alone or with the help of a teacher of all of it.

The help: "Distilling the Knowledge in Data Pruning", ICML 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field

from condense.baselines.base import Baseline
from condense.compute.costs import Workload
from condense.compute.losses import DivergenceAndClass
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.info import DataInfo
from condense.data.preprocessing import Preprocessing
from condense.labels import classified
from condense.labels.advisers import Voter
from condense.labels.combined import Weighted
from condense.methods.interface import MethodSettings, Product
from condense.methods.registry import find_method
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.validation import option_name, validated
from condense.selection.base import Selector
from condense.teachers.committee import Committee
from condense.training.rule import TrainingRule
from condense.training.sources import Batch, BatchSource, Targets, TrainingSource


class PrunedSettings(MethodSettings):
    """Settings of `pruned`."""

    choice: str = Field("random", description="the method that chooses the images")
    choice_options: dict[str, Any] = Field({}, description="its settings, other than the usual ones")


class AdvisedSettings(PrunedSettings):
    """Settings of `kd-pruned`."""

    temperature: float = Field(4.0, gt=0, description="T of both softmaxes")
    soft_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share a of the teacher in the loss; none: 1 - f / 2 where f is kept, at least 0.5",
    )


PrunedSettingsT = TypeVar("PrunedSettingsT", bound=PrunedSettings)


class Pruned(Baseline[PrunedSettingsT]):
    """The images that a method chooses once, before the training."""

    @cached_property
    def chosen(self) -> Product:
        """The choice; made when it is first asked for."""
        maker, settings = _chooser(self.settings)
        return maker.make(self.job, settings)

    @property
    def subset(self) -> TrainingData:
        """The chosen images."""
        assert self.chosen.source_indices is not None, "what is chosen are real images"
        return self.data.subset(self.chosen.source_indices)

    @property
    def has_weights(self) -> bool:
        """Where the method weighs."""
        return self.chosen.weights is not None

    def source(self, *, weighted: bool = False) -> TrainingSource:
        """The chosen images with their class indices."""
        source, weights = classified(self.subset), self.chosen.weights
        return replace(source, labels=Weighted(source.labels, weights)) if weighted and weights is not None else source

    def unique_images(self, rule: TrainingRule) -> int:
        """Those that were chosen."""
        return len(self.subset)

    @property
    def choosing_seconds(self) -> float:
        """With the evidence for the choice."""
        return float(self.chosen.facts["seconds"])

    @classmethod
    def chooser(cls, settings: PrunedSettingsT) -> dict[str, Any]:
        """The method, its revision and all of its settings."""
        entry, (_, own) = find_method(settings.choice), _chooser(settings)
        return {"method": entry.name, "revision": entry.revision, "settings": own.model_dump(mode="json")}

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: PrunedSettingsT) -> None:
        """What chooses must choose real images."""
        maker, own = _chooser(settings)
        maker.check(data, budget, own)

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: PrunedSettingsT) -> list[Workload]:
        """The trainings behind the choice."""
        maker, own = _chooser(settings)
        return maker.preparation(data, budget, own)


def _chooser(settings: PrunedSettings) -> tuple[type[Selector[Any]], MethodSettings]:
    maker = load_object(find_method(settings.choice).target)
    if not (isinstance(maker, type) and issubclass(maker, Selector)):
        raise CondenseError(f"--choice {settings.choice}: it makes images; give a method that chooses real ones")
    own = validated(maker.Settings, settings.choice_options, origin=f"{settings.choice}: ", spell=option_name)
    if not maker.keeps_images(own):
        raise CondenseError(f"--choice {settings.choice}: what it stores are no whole images; give another method")
    return maker, own


class AdvisedPruned(Pruned[AdvisedSettings]):
    """The same with the knowledge of a teacher: (1 - a) CE(y, s) + a T^2 KL(softmax(z / T) | softmax(s / T)).

    The teacher sees what the student sees, augmentation included, and says z; s are the student's logits. The paper
    finds that the teacher should count more, the less is kept, and gives no formula: a = 1 - f / 2, at least 0.5, for a
    kept part f is ours.
    """

    @property
    def soft_share(self) -> float:
        """The share a of the teacher in the loss."""
        given = self.settings.soft_share
        return max(0.5, 1 - 0.5 * len(self.subset) / len(self.data)) if given is None else given

    @property
    def teacher(self) -> Committee:
        """Who is asked."""
        assert self.job.teacher is not None, "it is wanted before anything is made"
        return self.job.teacher

    @property
    def label_source(self) -> str:
        """What the loss is made of."""
        return f"class index and, to {self.soft_share:.3g}, {self.teacher.name} at T {self.settings.temperature:g}"

    def source(self, *, weighted: bool = False) -> TrainingSource:
        """The chosen images, whose batches the teacher sees too."""
        loss = DivergenceAndClass(self.settings.temperature, self.soft_share)
        return _Advised(super().source(weighted=weighted), self.teacher, loss)


@dataclass(frozen=True, eq=False)
class _Advised(TrainingSource):
    base: TrainingSource
    teacher: Committee
    loss: DivergenceAndClass

    @property
    def info(self) -> DataInfo:
        return self.base.info

    def __len__(self) -> int:
        return len(self.base)

    def presented(self, rule: TrainingRule, seed: int, device: torch.device) -> BatchSource:
        shown = self.base.presented(rule, seed, device)
        return _Asked(shown, self.teacher.classifiers(device), self.info.preprocessing, self.loss)


@dataclass(frozen=True, eq=False)
class _Asked(BatchSource):
    shown: BatchSource
    voter: Voter
    preprocessing: Preprocessing
    loss: DivergenceAndClass

    def batch(self, epoch: int, number: int, ids: torch.Tensor) -> Batch:
        batch = self.shown.batch(epoch, number, ids)
        logits = self.voter.logits(self.preprocessing.invert(batch.images)).to(batch.images.dtype)  # (n, K)
        classes = batch.targets.values
        if not classes.is_floating_point():
            classes = F.one_hot(classes, logits.shape[1]).to(logits)
        return replace(batch, targets=Targets(torch.cat([logits, classes], 1), self.loss, batch.targets.weights))
