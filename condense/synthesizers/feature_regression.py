"""FRePo: Zhou, Nezhadarya & Ba, Dataset Distillation using Neural Feature Regression, NeurIPS 2022.

A network that was trained on the synthetic images for a while is given the best last layer for them, in closed form:
kernel ridge regression on its features. Images and labels move so that this classifier is right about real images. No
training is differentiated, only features and one solve. Networks come from a pool in which some are fresh and some have
learned for a while, from the images as they were meanwhile.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.augmentation.dsa import flip_closure
from condense.compute.costs import Workload
from condense.compute.engine import Engine
from condense.compute.losses import squared_error
from condense.data import DataInfo, TrainingData
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.kernel_ridge import label_margin, relative_ridge
from condense.labels import RegressionLabels, in_memory
from condense.methods.interface import Job
from condense.networks import Network, build_network, canonical_name
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.base import INITIALIZATION_HELP, Synthesizer, SynthesizerSettings, decoder_of
from condense.synthesizers.image_optimizers import Lamb
from condense.synthesizers.initialization import Initialization
from condense.synthesizers.inner_network import InnerNetwork
from condense.synthesizers.multi_formation import FACTOR_HELP
from condense.synthesizers.network_pool import NetworkPool
from condense.training.rule import TrainingRule

LABELS_HELP = "learned: with the images, as values to be predicted; hard: class indices, centred for the regression"


class FeatureRegressionSettings(SynthesizerSettings):
    """Settings of FRePo; the defaults are those of the released code for CIFAR-10."""

    iterations: int = Field(500_000, ge=1, description="updates of the images")
    image_lr: float = Field(3e-4, gt=0, description="length of an update, as a part of the length of all images (LAMB)")
    last_rate: float = Field(0.1, gt=0, le=1, description="what that falls to along a cosine, as a part of it")
    rate_updates: float = Field(1.0, gt=0, description="updates in which it falls; up to 1, as a part of the run")
    labels: Literal["learned", "hard"] = Field("learned", description=LABELS_HELP)
    flips: bool | None = Field(
        None, description="regress on the images and their mirror images; default: where the data allows it"
    )
    factor: int = Field(1, ge=1, le=8, description=FACTOR_HELP)
    initialization: Initialization = Field("real", description=INITIALIZATION_HELP)
    network: str = Field("conv-w128-bn", description="networks whose features are regressed on")
    networks: int = Field(10, ge=1, description="M: networks in the pool")
    network_updates: int = Field(100, ge=1, description="T: a network that has had more updates is replaced")
    network_batch: int = Field(1000, ge=1, description="synthetic images in one of these updates, at most")
    network_lr: float = Field(3e-4, gt=0, description="learning rate of these updates (Adam)")
    real_batch: int = Field(1024, ge=1, description="real images that the regression should be right about")
    updates_per_batch: int = Field(1, ge=1, description="updates of the images for one real batch in one network")
    gradient_rows: int | None = Field(
        None, ge=1, description="training images that an update goes through, drawn anew each time; default: all"
    )
    ridge: float = Field(1e-6, gt=0, description="lambda, as a part of the mean diagonal of the kernel")

    def for_length(self, iterations: int) -> Self:
        """With the fall of the rate in updates."""
        updates = max(1, round(self.rate_updates * iterations)) if self.rate_updates <= 1 else self.rate_updates
        return super().for_length(iterations).model_copy(update={"rate_updates": updates})

    def regressed_images(self, info: DataInfo, ipc: int) -> int:
        """Rows of the kernel: training images, mirror images among them."""
        decoder = decoder_of(self, ipc)
        count = (ipc if decoder is None else decoder.images_in(ipc)) * len(info.classes)
        return 2 * count if self.flipped(info) else count

    def flipped(self, info: DataInfo) -> bool:
        """Whether mirror images take part."""
        return info.mirror if self.flips is None else self.flips


RegressionSettingsT = TypeVar("RegressionSettingsT", bound=FeatureRegressionSettings)


class FeatureRegression(Synthesizer[RegressionSettingsT]):
    """L = mean_b 1/2 |phi_b W - y_b|^2 + mean_i -min(margin(y_i), 1/K), W the ridge classifier of the synthetic set.

    phi are features of a network of the pool in evaluation mode, real labels y_b centred one-hot vectors, and learned
    ones begin as such, divided by sqrt(K / 10). Images and labels each take a step of LAMB. Then the network is trained
    for one update on the new set (Adam, squared error, no mirror images) or, when it has had more than T of them,
    replaced by a fresh one. The ages of the first networks are spread, though none has been trained: as released.

    Real features are computed in the precision of the plan, synthetic ones in float32, kernel and solve in float64,
    where the released code has float32 for all. `updates_per_batch`, `gradient_rows` and mosaics are not FRePo's.
    """

    def __init__(self, job: Job, settings: RegressionSettingsT) -> None:
        super().__init__(job, settings)
        self.classes = len(self.data.info.classes)
        network = self.new_network(0).eval()
        self.engine = Engine(network, job.plan)
        self.exact_engine = Engine(network, job.plan.model_copy(update={"precision": "float32"}))
        self.training_engine = Engine(self.new_network(0).train(), job.plan)
        self.pool = NetworkPool(self._pooled, settings.networks)
        self.ages = [settings.network_updates // settings.networks * place for place in range(settings.networks)]
        self.most_tenfold = 0
        self._real: tuple[int, Tensor, Tensor] | None = None  # group, features, labels: they can be made again

    def new_network(self, number: int) -> Network:
        """The random network with this number, on the run's device."""
        name, shape, classes = network_of(self.settings, self.data.info)
        return build_network(name, shape, classes, derive_seed(self.job.seed, "network", number)).to(self.job.device)

    def _pooled(self, number: int) -> InnerNetwork:
        settings = self.settings
        rule = TrainingRule(optimizer="adam", lr=settings.network_lr, batch_size=settings.network_batch, epochs=1)
        return InnerNetwork(self.new_network(number).eval(), rule)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """LAMB of images and labels."""
        self.label_values = centred(self.labels, len(self.data.info.classes), scaled=True).to(self.job.device)
        learned = [self.images]
        if self.settings.labels == "learned":
            learned.append(self.label_values.requires_grad_())
        return Lamb(learned, lr=self.settings.image_lr)

    def step(self, iteration: int) -> dict[str, float]:
        """One update of images and labels in a network of the pool, and what follows for the network."""
        group, turn = divmod(iteration, self.settings.updates_per_batch)
        draws = generator(self.job.seed, "pool", group)
        place = int(torch.randint(self.settings.networks, (), generator=draws))
        metrics = self._move(iteration, group, self.pool.members[place])
        if turn + 1 == self.settings.updates_per_batch:
            self._age(place, group)
        return metrics

    def _move(self, iteration: int, group: int, inner: InnerNetwork) -> dict[str, float]:
        real, wanted = self._real_features(group, inner)
        images, labels = self.decoded(self.images, self.label_values)
        if self.settings.flipped(self.data.info):
            images, labels = flip_closure(images, labels)
        features, labels = self._features(iteration, inner, images, labels)
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
            draws = generator(self.job.seed, "real batch", group)
            indices = sample(torch.arange(len(self.data)), self.settings.real_batch, draws)
            with torch.no_grad():
                images = self.data.images(indices).to(self.job.device)
                features = self.engine.features(inner.values, images).double()
            labels = centred(self.data.labels[indices], self.classes, scaled=False)
            self._real = group, features, labels.to(features)
        return self._real[1:]

    def _features(self, iteration: int, inner: InnerNetwork, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Features of all images, only some of them differentiable where settings say so, and labels in their order."""
        rows = self.settings.gradient_rows
        if rows is None or rows >= len(images):
            return self.exact_engine.features(inner.values, images), labels
        order = torch.randperm(len(images), generator=generator(self.job.seed, "gradient rows", iteration))
        order = order.to(images.device)
        with torch.no_grad():
            fixed = self.exact_engine.features(inner.values, images[order[rows:]])
        return torch.cat([self.exact_engine.features(inner.values, images[order[:rows]]), fixed]), labels[order]

    def _descend(self, loss: Tensor, iteration: int) -> None:
        settings = self.settings
        learned = self.optimizer.param_groups[0]["params"]
        for value, gradient in zip(learned, torch.autograd.grad(loss, learned)):
            value.grad = gradient
        self.optimizer.param_groups[0]["lr"] = cosine_rate(
            settings.image_lr, settings.last_rate, iteration / settings.rate_updates
        )
        self.optimizer.step()

    def _age(self, place: int, group: int) -> None:
        """Train a network on the new set for one update, or replace it."""
        if self.ages[place] > self.settings.network_updates:
            self.pool.renew(place)
            self.ages[place] = 0
            return
        images, labels = self.decoded(self.images.detach(), self.label_values.detach())
        seed = derive_seed(self.job.seed, "inner training", group)
        if len(images) > self.settings.network_batch:
            draws = generator(self.job.seed, "inner images", group)
            chosen = torch.randperm(len(images), generator=draws)[: self.settings.network_batch].to(images.device)
            images, labels = images[chosen], labels[chosen]
        source = in_memory(images, RegressionLabels(labels), self.data.info)
        self.pool.members[place].train(source, self.training_engine, seed=seed, device=self.job.device)
        self.ages[place] += 1

    def learned(self) -> dict[str, Any]:
        """With the labels, where they are learned."""
        if self.settings.labels == "hard":
            return super().learned()
        return super().learned() | {"labels": RegressionLabels(self.label_values.detach().cpu(), self.labels)}

    def remarks(self, iterations: int) -> list[str]:
        """With a kernel that was singular."""
        found = super().remarks(iterations)
        if self.most_tenfold:
            found.append(
                f"the kernel was singular, and its ridge was made up to 10^{self.most_tenfold} times as large: some "
                f"images are alike; give a larger --ridge than {self.settings.ridge:g}, or start from others"
            )
        return found

    def results(self) -> dict[str, Tensor]:
        """With the labels."""
        return super().results() | {"label_values": self.label_values.detach()}

    def state(self) -> dict[str, Tensor]:
        """With the pool."""
        counted = torch.tensor([*self.ages, self.most_tenfold])
        return super().state() | self.pool.state() | {"ages": counted}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        with torch.no_grad():
            self.label_values.copy_(state["label_values"])
        self.pool.load_state(state)
        *self.ages, self.most_tenfold = state["ages"].tolist()
        self._real = None

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: RegressionSettingsT) -> list[Workload]:
        """Features of the real batch, their gradient for the synthetic images, and one update of a network."""
        network, ipc = network_of(settings, data.info), budget.images_per_class
        every = settings.regressed_images(data.info, ipc)
        moved = min(every, settings.gradient_rows or every)
        trained = every // 2 if settings.flipped(data.info) else every
        shared = settings.updates_per_batch
        return [
            Workload("features", *network, batch=math.ceil(min(settings.real_batch, len(data)) / shared)),
            Workload("feature gradient", *network, batch=moved),
            *([Workload("features", *network, batch=every - moved)] if every > moved else []),
            Workload("training", *network, batch=math.ceil(min(trained, settings.network_batch) / shared)),
        ]


def network_of(settings: FeatureRegressionSettings, info: DataInfo) -> tuple[str, tuple[int, int, int], int]:
    """Name, image shape and classes of the networks that these settings ask for."""
    return canonical_name(settings.network, info.image_shape), info.image_shape, len(info.classes)


def centred(labels: Tensor, classes: int, *, scaled: bool) -> Tensor:
    """Class indices [N] as float32 [N, K] to be predicted: 1 - 1/K and -1/K, and `scaled` by 1 / sqrt(K / 10).

    >>> centred(torch.tensor([1]), 2, scaled=False)
    tensor([[-0.5000,  0.5000]])
    """
    values = F.one_hot(labels, classes).float() - 1 / classes
    return values / math.sqrt(classes / 10) if scaled else values


def cosine_rate(first: float, last: float, part: float) -> float:
    """A rate that falls from `first` to `last` of it along half a cosine, when this part of the fall is over.

    >>> [round(cosine_rate(1.0, 0.1, part), 3) for part in (0, 0.5, 1, 2)]
    [1.0, 0.55, 0.1, 0.1]
    """
    way = 0.5 * (1 + math.cos(math.pi * min(part, 1)))
    return first * (last + (1 - last) * way)
