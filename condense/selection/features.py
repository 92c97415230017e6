"""The features that selection methods look at: of a briefly trained network, of an untrained one, or plain pixels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from condense.compute.costs import Workload
from condense.compute.engine import Engine
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.labels import classified
from condense.methods.interface import Job, MethodSettings
from condense.networks import build_network, canonical_name
from condense.runtime.seeds import derive_seed
from condense.selection.base import Choice, Selector
from condense.training.engines import training_work
from condense.training.records import Training, embed_all, trained_features
from condense.training.rule import TrainingRule

TRAINING = TrainingRule(lr=0.05, weight_decay=5e-4, batch_size=128, epochs=5, schedule="cosine")
_IMAGES_AT_ONCE = 64


class FeatureSettings(MethodSettings):
    """Where features come from."""

    features: Literal["trained", "random", "pixels"] = Field(
        "trained", description="features of a network trained for 5 epochs, of an untrained one, or the pixels"
    )
    network: str = Field("convnet-w128-in", description="the network that gives the features (its penultimate layer)")


FeatureSettingsT = TypeVar("FeatureSettingsT", bound=FeatureSettings)


class FeatureSelector(Selector[FeatureSettingsT]):
    """A selector that looks at the features of one group of images at a time: a method fills `choose_from`."""

    def choose(self) -> Choice:
        """Features of all training images, then the choice in each group."""
        features, self.earlier_seconds = training_features(self.job, self.settings)
        chosen = [
            group.members[self.choose_from(features[group.members], group.count, group.name)] for group in self.groups()
        ]
        return Choice(torch.cat(chosen))

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: FeatureSettingsT) -> list[Workload]:
        """The network that gives the features."""
        return feature_training(data, settings)

    @abstractmethod
    def choose_from(self, features: Tensor, count: int, name: int | str) -> Tensor:
        """Rows of `features` [n, D] to choose, int64 [count], no row twice; `name` only serves to seed draws."""


def feature_training(data: TrainingData, settings: FeatureSettings) -> list[Workload]:
    """What `training_features` trains first."""
    if settings.features != "trained":
        return []
    return [training_work(canonical_name(settings.network, data.info.image_shape), data.info, len(data), TRAINING)]


def training_features(job: Job, settings: FeatureSettings) -> tuple[Tensor, float]:
    """Float32 [N, D] features of all training images, seen without augmentation; and what finding them here saved.

    `trained` trains the network for 5 epochs on the training images without augmentation (SGD 0.05, momentum 0.9,
    weight decay 5e-4, batch 128, cosine); network and features stay in the cache folder, where another method or
    another number of images per class finds them. The second value is the seconds that this saved.
    """
    info, source = job.data.info, classified(job.data)
    if settings.features == "pixels":
        batches = torch.arange(len(job.data)).split(_IMAGES_AT_ONCE)
        return torch.cat([job.data.images(batch).flatten(1) for batch in batches]), 0.0
    name, seed = canonical_name(settings.network, info.image_shape), derive_seed(job.seed, "feature network")
    if settings.features == "random":
        network = build_network(name, info.image_shape, len(info.classes), seed)
        return embed_all(network, source, job.device), 0.0
    return trained_features(
        source,
        Training(name, TRAINING, seed, derive_seed(job.seed, "feature training")),
        device=job.device,
        engine=lambda network: Engine(network, job.plan),
        progress=job.progress,
    )
