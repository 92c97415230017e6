"""IDC: Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022.

Gradient matching with two changes: every stored image is a mosaic of small ones, each of which is enlarged to a
training image, so the same bytes hold more images of less detail; and the network in which gradients are compared is
trained on real images, because networks trained on few synthetic ones soon have no gradient left.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from condense.augmentation.dsa import AugmentationName
from condense.augmentation.names import MatchingAugmentation
from condense.data import TrainingData
from condense.labels import classified
from condense.runtime.seeds import derive_seed, generator
from condense.sets.spaces import SPACES
from condense.sets.tiles import Decoding
from condense.synthesizers.base import INITIALIZATION_HELP
from condense.synthesizers.class_matching import AUGMENTATION_HELP, presented_images
from condense.synthesizers.gradient_matching import (
    DISTANCE_HELP,
    DistanceName,
    GradientMatching,
    GradientMatchingSettings,
)
from condense.synthesizers.initialization import Initialization
from condense.training.rule import TrainingRule

FACTOR_HELP = "tiles on either side of a stored image, each enlarged to a training image; 1 stores whole images"


class MultiFormationSettings(GradientMatchingSettings):
    """Settings of IDC; the defaults are those published for CIFAR-10 at ten images per class."""

    iterations: int = Field(200_000, ge=1, description="updates of the images of every class")
    image_lr: float = Field(5e-3, gt=0, description="learning rate of the images (SGD)")
    factor: int = Field(2, ge=1, le=8, description=FACTOR_HELP)
    decoding: Decoding | None = Field(
        None,
        description="multi: every stored image is a mosaic by each factor up to this one; bound: the first ones of a "
        "class are, as long as it has at most synthetic_batch training images; default: uniform, by this factor",
    )
    initialization: Initialization = Field("tiles", description=INITIALIZATION_HELP)
    augmentation: AugmentationName = Field("color-crop-cutout", description=AUGMENTATION_HELP)
    real_batch: int = Field(64, ge=1, description="real images of each class in an iteration (or all, if fewer)")
    synthetic_batch: int = Field(128, ge=1, description="training images of each class in an iteration, at most")
    matching_steps: int = Field(100, ge=1, description="updates of the images before the next random network")
    network_images: int = Field(2048, ge=1, description="real images that the network is trained on after an update")
    cutmix: float = Field(0.5, ge=0, le=1, description="share of the batches of that training that CutMix mixes")
    inner_epochs: int = Field(1, ge=1, description="passes over these images")
    network_lr: float = Field(0.01, gt=0, description="learning rate of that training (SGD, momentum 0.9)")
    distance: DistanceName = Field("l2", description=DISTANCE_HELP)


class MultiFormation(GradientMatching[MultiFormationSettings]):
    """L_c = D(grad of the loss on A(real_c), grad of the loss on A(decoded synthetic_c)), one SGD step for each class.

    The network is trained by SGD with momentum 0.9 and weight decay 5e-4 on real images in batches of 64, augmented
    image by image and mixed by CutMix. Images are stored in [0, 1] and clamped when a new network begins. As in the
    released code, one optimiser has the images of all classes, so its momentum also moves classes whose turn it is not.
    """

    space = SPACES["unit"]

    @classmethod
    def inner_rule(cls, settings: MultiFormationSettings) -> TrainingRule:
        """Passes over real images."""
        return TrainingRule(
            lr=settings.network_lr,
            momentum=0.9,
            weight_decay=5e-4,
            batch_size=64,
            epochs=settings.inner_epochs,
            augmentation=training_augmentation(settings.augmentation, settings.cutmix),
            cutmix=settings.cutmix,
        )

    def begin_network(self, number: int) -> None:
        """A new network, and images back in their range."""
        super().begin_network(number)
        with torch.no_grad():
            self.images.clamp_(0, 1)

    def match(self, iteration: int) -> float:
        """One step for each class in turn; returns the sum of the distances."""
        draws = self.class_draws(iteration)
        total = torch.zeros((), device=self.job.device)
        for label in range(self.classes):
            value, gradient = self.class_gradient(iteration, label, draws)
            self.descend_class(label, gradient)
            total += value
        return total.item()

    def part(self, images: Tensor, iteration: int, label: int) -> Tensor:
        """At most `synthetic_batch` of the decoded images."""
        draws = generator(self.job.seed, "synthetic batch", iteration, label)
        chosen = torch.randperm(len(images), generator=draws)[: self.settings.synthetic_batch]
        return images if len(chosen) == len(images) else images[chosen.to(images.device)]

    def train_inner(self, iteration: int) -> None:
        """Train the network on real images of all classes."""
        seed = derive_seed(self.job.seed, "inner training", iteration)
        draws = generator(self.job.seed, "inner images", iteration)
        chosen = torch.randperm(len(self.data), generator=draws)[: self.settings.network_images]
        self.inner.train(classified(self.data.subset(chosen)), self.engine, seed=seed, device=self.job.device)

    @classmethod
    def matched_images(cls, ipc: int, settings: MultiFormationSettings) -> int:
        """As many as `part` leaves."""
        return min(presented_images(ipc, settings), settings.synthetic_batch)

    @classmethod
    def inner_images(cls, data: TrainingData, ipc: int, settings: MultiFormationSettings) -> int:
        """Real images."""
        return min(settings.network_images, len(data))


def training_augmentation(matched: AugmentationName, cutmix: float) -> MatchingAugmentation | None:
    """With what networks are trained on real images: that of the match, its cutout left out where CutMix stands for it.

    Source: the released code of IDC, which that of NCFM took over.

    >>> training_augmentation("color-crop-cutout", cutmix=0.5)
    'color-crop'
    """
    if matched == "none":
        return None
    return "color-crop" if matched == "color-crop-cutout" and cutmix else matched
