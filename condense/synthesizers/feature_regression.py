"""FRePo: Zhou, Nezhadarya & Ba, Dataset Distillation using Neural Feature Regression, NeurIPS 2022.

A network that was trained on the synthetic images for a while is given the best last layer for them, in closed form:
kernel ridge regression on its features. Images and labels move so that this classifier is right about real images. No
training is differentiated, only features and one solve. Networks come from a pool in which some are fresh and some have
learned for a while, from the images as they were meanwhile.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from condense.compute.costs import Workload
from condense.compute.engine import Engine
from condense.compute.losses import squared_error
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.kernel_ridge import label_margin, relative_ridge
from condense.labels import centred_one_hot
from condense.methods.interface import Job
from condense.synthesizers.image_optimizers import Lamb
from condense.synthesizers.inner_network import InnerNetwork
from condense.synthesizers.pooled_regression import PooledRegression, PooledRegressionSettings, network_of
from condense.training.rule import cosine_rate


class FeatureRegressionSettings(PooledRegressionSettings):
    """Settings of FRePo; the defaults are those of the released code for CIFAR-10."""

    iterations: int = Field(500_000, ge=1, description="updates of the images")
    image_lr: float = Field(
        3e-4, gt=0, description="LAMB: length of an update, as a part of the length of all images; Adam: learning rate"
    )
    image_optimizer: Literal["lamb", "adam"] = Field("lamb", description="optimiser of images and labels")
    last_rate: float = Field(0.1, gt=0, le=1, description="what that falls to along a cosine, as a part of it")
    rate_updates: float = Field(1.0, gt=0, description="updates in which it falls; up to 1, as a part of the run")
    network: str = Field("conv-w128-bn", description="networks whose features are regressed on")
    network_batch: int | None = Field(1000, ge=1, description="images of the set in one update of a network, at most")
    network_updates: int = Field(100, ge=1, description="T: a network that has had more updates is replaced")
    updates_per_batch: int = Field(1, ge=1, description="updates of the images for one real batch in one network")
    ridge: float = Field(1e-6, gt=0, description="lambda, as a part of the mean diagonal of the kernel")

    def for_length(self, iterations: int) -> Self:
        """With the fall of the rate in updates."""
        updates = max(1, round(self.rate_updates * iterations)) if self.rate_updates <= 1 else self.rate_updates
        return super().for_length(iterations).model_copy(update={"rate_updates": updates})


class FeatureRegression(PooledRegression[FeatureRegressionSettings]):
    """L = mean_b 1/2 |phi_b W - y_b|^2 + mean_i -min(margin(y_i), 1/K), W the ridge classifier of the synthetic set.

    phi are features of a network of the pool in evaluation mode, real labels y_b centred one-hot vectors, and those
    of the set begin as such, divided by sqrt(K / 10). Images and labels each take a step of LAMB, or of Adam. Then the
    network is trained for one update on the new set (Adam, squared error, no mirror images) or, when it has had more
    than T of them, replaced by a fresh one. The ages of the first networks are spread, though none has been trained: as
    released.

    Real features are computed in the precision of the plan, synthetic ones in float32, kernel and solve in float64,
    where the released code has float32 for all. `updates_per_batch`, `gradient_rows` and mosaics are not FRePo's.
    """

    def __init__(self, job: Job, settings: FeatureRegressionSettings) -> None:
        super().__init__(job, settings)
        self.real_engine = Engine(self.engine.network, job.plan)
        self._real: tuple[int, Tensor, Tensor] | None = None  # group, features, labels: they can be made again

    def first_ages(self) -> list[int]:
        """Spread, so that networks are replaced in turn."""
        networks = self.settings.networks
        return [self.settings.network_updates // networks * place for place in range(networks)]

    def first_labels(self) -> Tensor:
        """Scaled by the number of classes."""
        return super().first_labels() / math.sqrt(len(self.data.info.classes) / 10)

    def optimizer_of(self, learned: list[Tensor]) -> torch.optim.Optimizer:
        """LAMB, or Adam."""
        kind = Lamb if self.settings.image_optimizer == "lamb" else torch.optim.Adam
        return kind(learned, lr=self.settings.image_lr)

    def step(self, iteration: int) -> dict[str, float]:
        """One update of images and labels in a network of the pool, and what follows for the network."""
        group, turn = divmod(iteration, self.settings.updates_per_batch)
        place = self.place_of(group)
        metrics = self._move(iteration, group, self.pool.members[place])
        if turn + 1 < self.settings.updates_per_batch:
            return metrics
        if self.ages[place] > self.settings.network_updates:
            self.renew(place)
        else:
            self.train_network(place, *self.decoded(self.images, self.label_values), group)
        return metrics

    def _move(self, iteration: int, group: int, inner: InnerNetwork) -> dict[str, float]:
        real, wanted = self._real_features(group, inner)
        features, labels = self._features(iteration, inner, *self.regressed())
        kernel = relative_ridge(features, self.settings.ridge)
        said = real @ kernel.weights(labels)  # (B, K)
        loss, margin = squared_error(said, wanted), label_margin(self.label_values, 1 / self.classes)
        self._descend(loss + margin, iteration)
        self.most_tenfold = max(self.most_tenfold, kernel.tenfold)
        return {
            "loss": loss.item(),
            "accuracy": (said.argmax(1) == wanted.argmax(1)).double().mean().item(),
            "margin": -margin.item(),
            "label_norm": self.label_values.detach().norm(dim=1).mean().item(),
        }

    def _real_features(self, group: int, inner: InnerNetwork) -> tuple[Tensor, Tensor]:
        """Features [B, D] and centred labels [B, K] of the real batch of a group of updates, in float64."""
        if self._real is None or self._real[0] != group:
            indices = self.real_indices(group)
            with torch.no_grad():
                images = self.data.images(indices).to(self.job.device)
                features = self.real_engine.features(inner.values, images).double()
            self._real = group, features, centred_one_hot(self.data.labels[indices], self.classes).values.to(features)
        return self._real[1:]

    def _features(self, iteration: int, inner: InnerNetwork, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Features of all images, only some of them differentiable where settings say so, and labels in their order."""
        moving, fixed = self.moving_rows(iteration, len(images))
        if not len(fixed):
            return self.engine.features(inner.values, images), labels
        with torch.no_grad():
            others = self.engine.features(inner.values, images[fixed])
        features = torch.cat([self.engine.features(inner.values, images[moving]), others])
        return features, torch.cat([labels[moving], labels[fixed]])

    def _descend(self, loss: Tensor, iteration: int) -> None:
        settings, (group,) = self.settings, self.optimizer.param_groups
        for value, gradient in zip(group["params"], torch.autograd.grad(loss, group["params"])):
            value.grad = gradient
        group["lr"] = cosine_rate(settings.image_lr, settings.last_rate, iteration / settings.rate_updates)
        self.optimizer.step()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self._real = None

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: FeatureRegressionSettings) -> list[Workload]:
        """Features of the real batch, their gradient for the synthetic images, and one update of a network."""
        network, ipc = network_of(settings, data.info), budget.images_per_class
        every, trained = settings.rows(data.info, ipc), settings.training_images(data.info, ipc)
        moved, shared = min(every, settings.gradient_rows or every), settings.updates_per_batch
        return [
            Workload("features", *network, batch=math.ceil(min(settings.real_batch, len(data)) / shared)),
            Workload("feature gradient", *network, batch=moved),
            *([Workload("features", *network, batch=every - moved)] if every > moved else []),
            Workload("training", *network, batch=math.ceil(min(trained, settings.network_batch or trained) / shared)),
        ]
