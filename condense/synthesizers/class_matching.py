"""What methods share that compare real and synthetic images class by class in one network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from condense.augmentation.dsa import Augmentation, AugmentationName, Draws, augment, draw_per_class, flip_closure
from condense.compute.costs import Workload
from condense.compute.derivatives import Parameters
from condense.compute.engine import Engine
from condense.data import DataInfo, TrainingData
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.methods.interface import Job
from condense.networks import Network, build_network, canonical_name
from condense.networks.layers import batch_norms
from condense.runtime.progress import say
from condense.runtime.seeds import derive_seed, generator
from condense.selection.kmeans import nearest_to_centres
from condense.synthesizers.base import Synthesizer, SynthesizerSettings, decoder_of

AUGMENTATION_HELP = "differentiable augmentation, one draw per class shared by real and synthetic images"
_INTERVAL = 10  # iterations for which DREAM keeps its representatives
_FEATURES_AT_ONCE = 256  # real images among which representatives are chosen, in equal parts of at most so many
_IMAGES_IN_GROUP = 128  # synthetic images whose activations are kept at once


class ClassMatchingSettings(SynthesizerSettings):
    """Settings of methods that compare classes."""

    network: str = Field("convnet-w128-in", description="network in which real and synthetic images are compared")
    real_batch: int = Field(256, ge=1, description="real images of each class in an iteration (or all, if fewer)")
    real_batches: Literal["representative"] | None = Field(
        None, description="the images nearest to centres of k-means (DREAM); default: drawn anew in every iteration"
    )
    representative_interval: int | None = Field(
        None, ge=1, description=f"iterations between two choices of representatives; default: {_INTERVAL}"
    )
    augmentation: AugmentationName = Field("dsa", description=AUGMENTATION_HELP)
    flip_closure: bool = Field(
        False, description="match the synthetic images together with their mirror images (FYI; not for digits)"
    )

    def mirrored(self, info: DataInfo) -> bool:
        """With a flip closure."""
        return self.flip_closure


ClassSettingsT = TypeVar("ClassSettingsT", bound=ClassMatchingSettings)


class ClassMatching(Synthesizer[ClassSettingsT]):
    """A synthesizer with random networks, batches of real images of each class, and one augmentation per class.

    Representative real batches (Liu et al., ICCV 2023: DREAM, whose own values are `--recipe dream-published` of idc)
    are, for each class, the images nearest to the centres of as many clusters as the batch has images, by features of
    the network that is at hand. They are chosen anew from time to time and used in every iteration until then. No image
    is in a batch twice, and images are normalised as the network sees them: the released code differs in both.
    """

    def __init__(self, job: Job, settings: ClassSettingsT) -> None:
        super().__init__(job, settings)
        info = job.data.info
        self.classes = len(info.classes)
        self.augmentation = Augmentation.named(settings.augmentation, mirror=info.mirror)
        self.network = self.new_network(0)
        self.engine = Engine(self.network, job.plan)
        self.representatives: list[Tensor] = []  # training indices, class by class

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: ClassSettingsT) -> None:
        """The network must fit the images."""
        super().check(data, budget, settings)
        network = build_network(*network_of(settings, data.info), seed=0)
        if batch_norms(network):
            say(
                f"note: {network.name} has BatchNorm, and sets that are matched in such networks are often reported to "
                "score near chance; the usual choice is instance norm, as in convnet-in"
            )

    def new_network(self, number: int) -> Network:
        """The random network with this number, on the run's device."""
        name, shape, classes = network_of(self.settings, self.data.info)
        return build_network(name, shape, classes, derive_seed(self.job.seed, "network", number)).to(self.job.device)

    def new_parameters(self, number: int) -> Parameters:
        """The parameters of that network, as the engine takes them."""
        return {name: value.detach() for name, value in self.new_network(number).named_parameters()}

    def choose_representatives(self, iteration: int, parameters: Parameters) -> None:
        """Choose the representative real images by this network, if they are asked for and it is time to."""
        interval = self.settings.representative_interval or _INTERVAL
        if self.settings.real_batches is None or iteration % interval:
            return
        self.representatives = []
        for label in range(self.classes):
            members = self.data.class_indices(label)
            parts = members.tensor_split(math.ceil(len(members) / _FEATURES_AT_ONCE))
            features = torch.cat([self._features(parameters, part) for part in parts])
            seed = derive_seed(self.job.seed, "representatives", iteration, label)
            count = min(self.settings.real_batch, len(members))
            self.representatives.append(members[nearest_to_centres(features, count, seed, starts=1)])

    def _features(self, parameters: Parameters, indices: Tensor) -> Tensor:
        with torch.no_grad():
            return self.engine.features(parameters, self.data.images(indices).to(self.job.device)).cpu()

    def real_batch(self, iteration: int, label: int) -> Tensor:
        """Training indices of `real_batch` images of a class, without replacement within the batch."""
        if self.representatives:
            return self.representatives[label]
        draws = generator(self.job.seed, "real batch", iteration, label)
        return sample(self.data.class_indices(label), self.settings.real_batch, draws)

    def real_batches(self, iteration: int) -> Tensor:
        """The `real_batch` of every class, one after the other."""
        return torch.cat([self.real_batch(iteration, label) for label in range(self.classes)])

    def rows(self, label: int) -> slice:
        """Where the stored images of a class are."""
        return slice(label * self.job.ipc, (label + 1) * self.job.ipc)

    def presented(self, stored: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Stored images as networks are to see them: decoded, preprocessed, with mirror images if these are asked for.

        `labels` are those of the stored images; the result has those of the images in it.
        """
        images, labels = self.decoded(stored, labels)
        return flip_closure(images, labels) if self.settings.flip_closure else (images, labels)

    def presented_class(self, label: int) -> tuple[Tensor, Tensor, Tensor]:
        """A leaf with the stored images of a class, what networks see of it, and the labels of that."""
        leaf = self.images[self.rows(label)].detach().requires_grad_()
        return leaf, *self.presented(leaf, self.labels[self.rows(label)])

    def class_draws(self, iteration: int, purpose: str = "augmentation") -> Draws | None:
        """The augmentation of every class in this iteration; None without augmentation."""
        if self.augmentation is None:
            return None
        draws = generator(self.job.seed, purpose, iteration)
        return draw_per_class(self.augmentation, self.data.info.image_shape, self.classes, draws)

    def augmented(self, images: Tensor, labels: Tensor, draws: Draws | None) -> Tensor:
        """Every image through the draw of its class."""
        if self.augmentation is None or draws is None:
            return images
        return augment(self.augmentation, images, draws.expand(labels))

    def descend_by_groups(self, loss: Callable[[Tensor, Tensor, slice], Tensor]) -> float:
        """One step on all images down the sum over classes of a loss; returns the sum.

        `loss` gets the images of some classes as networks see them, their labels, and which classes these are. Classes
        go in groups, so that the activations of a few are in memory at once; all go together where BatchNorm, in
        training mode, looks at the whole batch.
        """
        groups = math.ceil(self.classes * presented_images(self.job.ipc, self.settings) / _IMAGES_IN_GROUP)
        at_once = self.classes if self.engine.whole_batches else math.ceil(self.classes / groups)
        total, gradient = 0.0, torch.zeros_like(self.images)
        for first in range(0, self.classes, at_once):
            last = min(first + at_once, self.classes)
            rows = slice(first * self.job.ipc, last * self.job.ipc)
            leaf = self.images[rows].detach().requires_grad_()
            value = loss(*self.presented(leaf, self.labels[rows]), slice(first, last))
            (gradient[rows],) = torch.autograd.grad(value, leaf)
            total += value.item()
        self.descend(gradient)
        return total

    def descend_class(self, label: int, gradient: Tensor) -> None:
        """One step of the image optimiser with the gradient of one class; those of the other classes are zero.

        The published code of methods that step class by class has one optimiser for all images, so momentum keeps
        moving the other classes.
        """
        everything = torch.zeros_like(self.images)
        everything[self.rows(label)] = gradient
        self.descend(everything)

    def state(self) -> dict[str, Tensor]:
        """With the representatives, which live for several iterations."""
        chosen = {f"representatives.{label}": indices for label, indices in enumerate(self.representatives)}
        return super().state() | chosen

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        count = sum(name.startswith("representatives.") for name in state)
        self.representatives = [state[f"representatives.{label}"] for label in range(count)]

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: ClassSettingsT) -> list[Workload]:
        """Features of the real batch, and their gradient for all synthetic images."""
        network = network_of(settings, data.info)
        synthetic = presented_images(budget.images_per_class, settings) * len(data.info.classes)
        return [
            Workload("features", *network, batch=int(real_batch_sizes(data, settings).sum())),
            Workload("feature gradient", *network, batch=synthetic),
        ]


def network_of(settings: ClassMatchingSettings, info: DataInfo) -> tuple[str, tuple[int, int, int], int]:
    """Name, image shape and classes of the networks that these settings ask for."""
    return canonical_name(settings.network, info.image_shape), info.image_shape, len(info.classes)


def real_batch_sizes(data: TrainingData, settings: ClassMatchingSettings) -> Tensor:
    """How many real images of each class are in a batch; int64 [C]."""
    return torch.bincount(data.labels, minlength=len(data.info.classes)).clamp(max=settings.real_batch)


def presented_images(ipc: int, settings: ClassMatchingSettings) -> int:
    """How many images of a class networks see."""
    decoder = decoder_of(settings, ipc)
    return (ipc if decoder is None else decoder.images_in(ipc)) * (2 if settings.flip_closure else 1)
