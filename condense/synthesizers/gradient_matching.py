"""Gradient matching: DC (Zhao, Mopuri & Bilen, ICLR 2021); with siamese augmentation DSA (Zhao & Bilen, ICML 2021).

The synthetic images of a class should move a network as a batch of real ones does: a distance between the two loss
gradients is lowered, class by class, with respect to the synthetic images. The network starts at random, and between
the updates of the images it is trained on them, so that gradients are matched along a training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from condense.augmentation.dsa import AugmentationName, Draws, augment
from condense.compute.costs import Workload
from condense.compute.derivatives import Parameters, check_mixed_product
from condense.compute.engine import Engine
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.labels import HardLabels, in_memory
from condense.matching import (
    match_convolutions_absolute,
    match_convolutions_squared,
    match_gradients,
    match_gradients_cosine,
    match_gradients_squared,
)
from condense.methods.interface import Job
from condense.networks import build_network
from condense.networks.layers import batch_norms
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import drawing
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.base import INITIALIZATION_HELP
from condense.synthesizers.class_matching import (
    AUGMENTATION_HELP,
    ClassMatching,
    ClassMatchingSettings,
    network_of,
    presented_images,
    real_batch_sizes,
)
from condense.synthesizers.initialization import Initialization
from condense.synthesizers.inner_network import InnerNetwork
from condense.training.rule import TrainingRule

Distance = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]

DISTANCES: dict[str, Distance] = {
    "rows": match_gradients,
    "mse": match_gradients_squared,
    "cos": match_gradients_cosine,
    "l1": match_convolutions_absolute,
    "l2": match_convolutions_squared,
}
DistanceName = Literal["rows", "mse", "cos", "l1", "l2"]
DISTANCE_HELP = (
    "between gradients: cosine by output rows; squared or cosine of the whole; l1 or l2 of convolution weights (IDC)"
)
_STATISTICS_IMAGES = 16  # real images of each class that set the statistics of BatchNorm before a match


class GradientMatchingSettings(ClassMatchingSettings):
    """Settings of gradient matching; the defaults are those published for one image per class."""

    image_lr: float = Field(0.1, gt=0, description="learning rate of the images (SGD)")
    initialization: Initialization = Field("noise", description=INITIALIZATION_HELP)
    augmentation: AugmentationName = Field("none", description=AUGMENTATION_HELP)
    matching_steps: int = Field(1, ge=1, description="updates of the images before the next random network")
    inner_epochs: int = Field(
        1, ge=1, description="epochs that the network is trained on the images between two of these updates"
    )
    network_lr: float = Field(0.01, gt=0, description="learning rate of that training (SGD without momentum)")
    distance: DistanceName = Field("rows", description=DISTANCE_HELP)


class SiameseGradientMatchingSettings(GradientMatchingSettings):
    """Settings of DSA; the defaults are those published for one image per class."""

    initialization: Initialization = Field("real", description=INITIALIZATION_HELP)
    augmentation: AugmentationName = Field("dsa", description=AUGMENTATION_HELP)


def matched_gradient(
    engine: Engine, parameters: Parameters, real: Tensor, synthetic: Tensor, label: int, distance: Distance
) -> tuple[Tensor, Tensor]:
    """The distance D(g_real, g_synthetic) of two batches of one class, and its gradient for the synthetic images.

    With u = dD / dg_synthetic, that gradient is the mixed product d<g_synthetic, u> / d images.
    """
    _, target = engine.gradient(parameters, real, _all(label, real))
    _, found = engine.gradient(parameters, synthetic.detach(), _all(label, synthetic))
    leaves = {name: value.detach().requires_grad_() for name, value in found.items()}
    value = distance(target, leaves)
    cotangents = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
    direction = dict(zip(leaves, cotangents))
    product = engine.mixed_product(parameters, synthetic, _all(label, synthetic), direction, images_only=True)
    return value.detach(), product.images


def _all(label: int, images: Tensor) -> Tensor:
    return torch.full((len(images),), label, device=images.device)


GradientSettingsT = TypeVar("GradientSettingsT", bound=GradientMatchingSettings)


class GradientMatching(ClassMatching[GradientSettingsT]):
    """L = sum_c D(grad of the loss on A_c(real_c), grad of the loss on A_c(synthetic_c)).

    One SGD step on all images down the sum over classes, nothing averaged, as in the released code. After
    `matching_steps` updates a new random network follows; after each but the last of them the network is trained for
    `inner_epochs` on the images as they are, in batches of 256, with per-image augmentation if the match has it. Before
    a match, networks with BatchNorm see 16 real images of each class and then keep those statistics.

    The published rate of the images for an MLP is 0.01 (code), which has to be asked for (`--image-lr`).

    With a flip closure the network is also trained on the closure, in batches of 512; above 256 stored images these are
    drawn from all of it, where FYI's code draws images and closes each batch.
    """

    def __init__(self, job: Job, settings: GradientSettingsT) -> None:
        super().__init__(job, settings)
        self.inner = InnerNetwork(self.network, self.inner_rule(settings))
        self.norms = batch_norms(self.network)

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: GradientSettingsT) -> None:
        """A distance between convolutions needs some, and the network second derivatives."""
        super().check(data, budget, settings)
        network = build_network(*network_of(settings, data.info), seed=0)
        check_mixed_product(network, data.info.image_shape)
        if settings.distance in ("l1", "l2") and all(value.dim() < 4 for value in network.parameters()):
            raise CondenseError(
                f"--distance {settings.distance} compares convolutions, and {network.name} has none; "
                "give a convnet, or --distance rows"
            )

    @classmethod
    def inner_rule(cls, settings: GradientSettingsT) -> TrainingRule:
        """How the network is trained between two matches."""
        return TrainingRule(
            lr=settings.network_lr,
            momentum=0.0,
            batch_size=512 if settings.flip_closure else 256,  # 256 stored images in either case
            epochs=settings.inner_epochs,
            augmentation=None if settings.augmentation == "none" else settings.augmentation,
        )

    def step(self, iteration: int) -> dict[str, float]:
        """One update of the images, and what follows for the network."""
        number, match = divmod(iteration, self.settings.matching_steps)
        if match == 0:
            self.begin_network(number)
        self._set_statistics(iteration)
        self.choose_representatives(iteration, self.inner.parameters)
        loss = self.match(iteration)
        if match + 1 < self.settings.matching_steps:
            self.train_inner(iteration)
        return {"loss": loss}

    def begin_network(self, number: int) -> None:
        """Go on with the random network of this number."""
        self.network.load_state_dict(self.new_network(number).state_dict())
        self.inner = InnerNetwork(self.network, self.inner_rule(self.settings))

    def match(self, iteration: int) -> float:
        """One step on all images down the sum of the distances of all classes; returns the sum."""
        draws = self.class_draws(iteration)
        total, gradient = torch.zeros((), device=self.job.device), torch.zeros_like(self.images)
        for label in range(self.classes):
            value, gradient[self.rows(label)] = self.class_gradient(iteration, label, draws)
            total += value
        self.descend(gradient)
        return total.item()

    def class_gradient(self, iteration: int, label: int, draws: Draws | None) -> tuple[Tensor, Tensor]:
        """The distance of one class, and its gradient for the stored images of the class."""
        real = self.data.images(self.real_batch(iteration, label)).to(self.job.device)
        leaf, seen, _ = self.presented_class(label)
        seen = self.part(seen, iteration, label)
        if self.augmentation is not None and draws is not None:
            shared = draws.expand(torch.tensor([label]))
            real, seen = (augment(self.augmentation, images, shared) for images in (real, seen))
        distance = DISTANCES[self.settings.distance]
        value, pulled = matched_gradient(self.engine, self.inner.parameters, real, seen, label, distance)
        if seen is leaf:
            return value, pulled
        return value, torch.autograd.grad(seen, leaf, pulled)[0]

    def part(self, images: Tensor, iteration: int, label: int) -> Tensor:
        """The synthetic images of a class that take part in this iteration: here all of them."""
        return images

    def train_inner(self, iteration: int) -> None:
        """Train the network between two matches: on the synthetic images."""
        images, labels = self.presented(self.images.detach(), self.labels)
        source = in_memory(images, HardLabels(labels), self.data.info)
        seed = derive_seed(self.job.seed, "inner training", iteration)
        self.inner.train(source, self.engine, seed=seed, device=self.job.device)

    def _set_statistics(self, iteration: int) -> None:
        """One forward of real images, after which BatchNorm stays as it is until the next training."""
        self.network.train()
        if not self.norms:
            return
        chosen = [
            sample(
                self.data.class_indices(label),
                _STATISTICS_IMAGES,
                generator(self.job.seed, "statistics", iteration, label),
            )
            for label in range(self.classes)
        ]
        images = self.data.images(torch.cat(chosen)).to(self.job.device)
        with torch.no_grad(), drawing(self.network, images):
            self.network(images)
        for norm in self.norms:
            norm.eval()

    def state(self) -> dict[str, Tensor]:
        """With the network, which lives for several updates."""
        return super().state() | self.inner.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self.inner.load_state(state)

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: GradientSettingsT) -> list[Workload]:
        """Gradients of real and of synthetic images and mixed products of these, for every class; inner training."""
        network, classes = network_of(settings, data.info), len(data.info.classes)
        largest = int(real_batch_sizes(data, settings).max())
        synthetic = cls.matched_images(budget.images_per_class, settings)
        return [
            Workload("gradient", *network, batch=largest, times=classes),
            Workload("gradient", *network, batch=synthetic, times=classes),
            Workload("image product", *network, batch=synthetic, times=classes),
            *cls._inner_work(data, budget, settings),
        ]

    @classmethod
    def matched_images(cls, ipc: int, settings: GradientSettingsT) -> int:
        """Synthetic images of a class that are matched in an iteration."""
        return presented_images(ipc, settings)

    @classmethod
    def inner_images(cls, data: TrainingData, ipc: int, settings: GradientSettingsT) -> int:
        """Images in an epoch of the inner training."""
        return presented_images(ipc, settings) * len(data.info.classes)

    @classmethod
    def _inner_work(cls, data: TrainingData, budget: Budget, settings: GradientSettingsT) -> list[Workload]:
        """The inner training, spread over all iterations: none follows the last match in a network."""
        rule, images = cls.inner_rule(settings), cls.inner_images(data, budget.images_per_class, settings)
        batch = min(rule.batch_size, images)
        steps = rule.updates_run(images) * (settings.matching_steps - 1) / settings.matching_steps
        return [Workload("training", *network_of(settings, data.info), batch, math.ceil(steps))] if steps else []


class SiameseGradientMatching(GradientMatching[SiameseGradientMatchingSettings]):
    """Gradient matching with differentiable siamese augmentation, from real images: DSA."""
