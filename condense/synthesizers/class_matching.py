"""What methods share that compare real and synthetic images class by class in one network."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.augmentation import Augmentation, Draws, augment, draw_per_class, flip_closure
from condense.data import DataInfo, TrainingData
from condense.data.sampling import sample
from condense.derivatives import Parameters
from condense.making import Job
from condense.networks import Network, build_network, canonical_name
from condense.planning import Work
from condense.runtime.progress import say
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.base import Synthesizer, SynthesizerSettings

AugmentationName = Literal["dsa", "dsa-flip-first", "none"]
AUGMENTATION_HELP = "differentiable augmentation, one draw per class shared by real and synthetic images"


class ClassMatchingSettings(SynthesizerSettings):
    """Settings of methods that compare classes."""

    network: str = Field("convnet-w128-in", description="network in which real and synthetic images are compared")
    real_batch: int = Field(256, ge=1, description="real images of each class in an iteration (or all, if fewer)")
    augmentation: AugmentationName = Field("dsa", description=AUGMENTATION_HELP)
    flip_closure: bool = Field(
        False, description="match the synthetic images together with their mirror images (FYI; not for digits)"
    )


class ClassMatching(Synthesizer):
    """A synthesizer with random networks, batches of real images of each class, and one augmentation per class."""

    Settings: ClassVar[type[ClassMatchingSettings]] = ClassMatchingSettings

    def __init__(self, job: Job, settings: Any) -> None:
        super().__init__(job, settings)
        self.classes = len(job.data.info.classes)
        self.augmentation = None
        if settings.augmentation != "none":
            first = settings.augmentation == "dsa-flip-first"
            self.augmentation = Augmentation.dsa(mirror=job.data.info.mirror, flip_first=first)
        if settings.flip_closure and not job.data.info.mirror:
            say(f"note: mirror images of {job.data.info.name} are of no class or another one; a flip closure may harm")

    def new_network(self, number: int) -> Network:
        """The random network with this number, on the run's device."""
        name, shape, classes = network_of(self.settings, self.data.info)
        return build_network(name, shape, classes, derive_seed(self.job.seed, "network", number)).to(self.job.device)

    def new_parameters(self, number: int) -> Parameters:
        """The parameters of that network, as the engine takes them."""
        return {name: value.detach() for name, value in self.new_network(number).named_parameters()}

    def real_batch(self, iteration: int, label: int) -> Tensor:
        """Training indices of `real_batch` images of a class, without replacement within the batch."""
        draws = generator(self.job.seed, "real batch", iteration, label)
        return sample(self.data.class_indices(label), self.settings.real_batch, draws)

    def real_batches(self, iteration: int) -> Tensor:
        """The `real_batch` of every class, one after the other."""
        return torch.cat([self.real_batch(iteration, label) for label in range(self.classes)])

    def closed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Synthetic images as they are matched: with their mirror images, if the flip closure is asked for."""
        return flip_closure(images, labels) if self.settings.flip_closure else (images, labels)

    def class_draws(self, iteration: int) -> Draws | None:
        """The augmentation of every class in this iteration; None without augmentation."""
        if self.augmentation is None:
            return None
        draws = generator(self.job.seed, "augmentation", iteration)
        return draw_per_class(self.augmentation, self.data.info.image_shape, self.classes, draws)

    def seen(self, images: Tensor, labels: Tensor, draws: Draws | None) -> Tensor:
        """Every image through the draw of its class."""
        if self.augmentation is None or draws is None:
            return images
        return augment(self.augmentation, images, draws.expand(labels))

    @classmethod
    def work(cls, data: TrainingData, ipc: int, settings: Any) -> list[Work]:
        """Features of the real batch, and their gradient for all synthetic images."""
        network = network_of(settings, data.info)
        return [
            Work("features", *network, batch=int(real_batch_sizes(data, settings).sum())),
            Work("feature gradient", *network, batch=ipc * len(data.info.classes)),
        ]


def network_of(settings: Any, info: DataInfo) -> tuple[str, tuple[int, int, int], int]:
    """Name, image shape and classes of the networks that these settings ask for."""
    return canonical_name(settings.network, info.image_shape), info.image_shape, len(info.classes)


def real_batch_sizes(data: TrainingData, settings: Any) -> Tensor:
    """How many real images of each class are in a batch; int64 [C]."""
    return torch.bincount(data.labels, minlength=len(data.info.classes)).clamp(max=settings.real_batch)
