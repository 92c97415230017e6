"""The features that selection methods look at: of a briefly trained network, of an untrained one, or plain pixels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
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
from condense.networks import Network, build_network, canonical_name
from condense.runtime.cache import found_or_made
from condense.runtime.seeds import derive_seed
from condense.selection.base import Selector
from condense.training.engines import training_work
from condense.training.loop import train_network
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

    def choose(self) -> Tensor:
        """Features of all training images, then the choice in each group."""
        features, self.earlier_seconds = training_features(self.job, self.settings)
        chosen = [
            group.members[self.choose_from(features[group.members], group.count, group.name)] for group in self.groups()
        ]
        return torch.cat(chosen)

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
    weight decay 5e-4, batch 128, cosine) and keeps the features in the cache folder, by data fingerprint,
    preprocessing, network, training rule and seed: another method or another number of images per class finds them
    there. The second value is the seconds that they took to make if they were found, else 0.
    """
    if settings.features == "pixels":
        return _in_batches(job.data, lambda images: images.flatten(1)), 0.0
    info = job.data.info
    name = canonical_name(settings.network, info.image_shape)
    network = build_network(name, info.image_shape, len(info.classes), derive_seed(job.seed, "feature network"))
    network.to(job.device)
    if settings.features == "random":
        return _embedded(network, job), 0.0

    def trained() -> dict[str, Tensor]:
        seed, engine = derive_seed(job.seed, "feature training"), Engine(network, job.plan)
        train_network(
            network, classified(job.data), TRAINING, seed=seed, device=job.device, engine=engine, progress=job.progress
        )
        return {"features": _embedded(network, job)}

    rule = TRAINING.model_dump(mode="json", exclude_defaults=True)
    kept = found_or_made("features", info.name, (info.identity, name, rule, job.seed), trained, what="features")
    return kept.tensors["features"], kept.seconds_saved


def _embedded(network: Network, job: Job) -> Tensor:
    network.eval()
    with torch.inference_mode():
        return _in_batches(job.data, lambda images: network.embed(images.to(job.device)).cpu())


def _in_batches(data: TrainingData, function: Callable[[Tensor], Tensor]) -> Tensor:
    batches = torch.arange(len(data)).split(_IMAGES_AT_ONCE)
    return torch.cat([function(data.images(batch)) for batch in batches])
