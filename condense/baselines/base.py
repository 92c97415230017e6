"""What every training-time baseline shares: a training on real images for which no set is made."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.info import DataInfo
from condense.data.sampling import check_enough
from condense.methods.interface import Configured, Job, SettingsT
from condense.training.rule import TrainingRule
from condense.training.sources import TrainingSource


class Baseline(Configured[SettingsT], ABC):
    """A way to train on real images; `condense.evaluate` takes it in the place of a set.

    Accuracies of baselines are never compared with those of sets of as many images: what has to be stored for such a
    training is every image that it sees, which `unique_images` counts, and a teacher where one is asked.
    """

    def __init__(self, job: Job, settings: SettingsT) -> None:
        self.job, self.settings = job, settings

    @property
    def data(self) -> TrainingData:
        """The real training images."""
        return self.job.data

    @property
    def info(self) -> DataInfo:
        """What data they are."""
        return self.data.info

    @property
    def label_source(self) -> str:
        """Where the labels come from, for people."""
        return "class index"

    @property
    def has_weights(self) -> bool:
        """Whether images were given weights when they were chosen."""
        return False

    @abstractmethod
    def source(self, *, weighted: bool = False) -> TrainingSource:
        """What networks are trained on; `weighted` counts images by their weights, if they have any."""

    @abstractmethod
    def unique_images(self, rule: TrainingRule) -> int:
        """How many different images a training by this rule sees."""

    def bytes(self, images: int) -> int:
        """What has to be stored of so many images: pixels at one byte, int64 labels, and a teacher if it is asked."""
        teacher = 0 if self.job.teacher is None else self.job.teacher.bytes
        return images * (math.prod(self.info.image_shape) + 8) + teacher

    @property
    def choosing_seconds(self) -> float:
        """What it took to choose images before the training, evidence included; 0 where nothing is chosen before."""
        return 0.0

    @classmethod
    def chooser(cls, settings: SettingsT) -> dict[str, Any]:
        """All that decides which images are chosen before the training, JSON-able; empty where none are."""
        return {}

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> None:
        """Raise `CondenseError` for what the settings alone cannot tell."""
        check_enough(data, budget)

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> list[Workload]:
        """Networks that are trained before: part of what it costs."""
        return []
