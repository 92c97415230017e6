"""Distribution matching (DM): Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023.

Every iteration draws a new, untrained network and moves the synthetic images so that the mean of their features in it,
class by class, comes nearer to the mean over a batch of real images, both seen through the same augmentation.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from condense.augmentation import Augmentation, augment, draw_per_class
from condense.data.sampling import sample
from condense.making import Job
from condense.matching import class_means, match_means
from condense.networks import Network, build_network, canonical_name
from condense.runtime.seeds import derive_seed, generator
from condense.synthesizers.base import Synthesizer, SynthesizerSettings

_IMAGES_AT_ONCE = 32  # features of real images in cache-sized batches: twice as fast as 256 at once on two cores


class DistributionMatchingSettings(SynthesizerSettings):
    """Settings of distribution matching; the defaults are the published ones."""

    iterations: int = Field(20000, ge=1, description="updates of the images")
    network: str = Field("convnet-w128-in", description="network whose features are matched, new in every iteration")
    real_batch: int = Field(256, ge=1, description="real images of each class in an iteration (or all, if fewer)")
    augmentation: Literal["dsa", "none"] = Field(
        "dsa", description="differentiable augmentation, one draw per class shared by real and synthetic images"
    )


class DistributionMatching(Synthesizer):
    """L = sum_c |mean embed(A_c(real_c)) - mean embed(A_c(synthetic_c))|^2 in a new random network every iteration.

    One SGD step on all images follows, without averaging over classes or features, as in the paper's released code.
    All classes go through one stream: with norms that look at one image at a time this equals one class after the
    other; with BatchNorm all images of a kind go through one forward, as the paper does.
    """

    Settings = DistributionMatchingSettings

    def __init__(self, job: Job, settings: Any) -> None:
        super().__init__(job, settings)
        self.network_name = canonical_name(settings.network, job.data.info.image_shape)
        self.augmentation = Augmentation.dsa(mirror=job.data.info.mirror) if settings.augmentation == "dsa" else None

    def step(self, iteration: int) -> dict[str, float]:
        """Match the class means of one batch of real images in one new network."""
        info, seed = self.data.info, self.job.seed
        network = build_network(
            self.network_name, info.image_shape, len(info.classes), derive_seed(seed, "network", iteration)
        )
        network.to(self.job.device).requires_grad_(False)
        indices = self._real_batch(iteration)
        real, synthetic = self._augmented(
            iteration,
            (self.data.images(indices).to(self.job.device), self.data.labels[indices]),
            (self.images, self.labels),
        )
        with torch.no_grad():
            real_means = self._class_means(features_in_batches(network, real), self.data.labels[indices])  # (C, D)
        synthetic_means = self._class_means(network.embed(synthetic), self.labels)
        loss = match_means(real_means, synthetic_means)
        self.update(loss)
        return {"loss": loss.item()}

    def _real_batch(self, iteration: int) -> Tensor:
        """Training indices of `real_batch` images of every class, without replacement within the batch."""
        return torch.cat(
            [
                sample(
                    self.data.class_indices(label),
                    self.settings.real_batch,
                    generator(self.job.seed, "real batch", iteration, label),
                )
                for label in range(len(self.data.info.classes))
            ]
        )

    def _augmented(self, iteration: int, *batches: tuple[Tensor, Tensor]) -> list[Tensor]:
        """The batches of (images, labels), every image seen through the draw of its class."""
        if self.augmentation is None:
            return [images for images, _ in batches]
        info = self.data.info
        draws = draw_per_class(
            self.augmentation,
            info.image_shape,
            len(info.classes),
            generator(self.job.seed, "augmentation", iteration),
        )
        return [augment(self.augmentation, images, draws.expand(labels)) for images, labels in batches]

    def _class_means(self, features: Tensor, labels: Tensor) -> Tensor:
        return class_means(features, labels.to(features.device), len(self.data.info.classes))


def features_in_batches(network: Network, images: Tensor) -> Tensor:
    """`network.embed(images)` in small batches; at once if the network's BatchNorm looks at the whole batch.

    `images` is [N, c, h, w], the result [N, D].
    """
    whole = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    batches = [images] if whole else images.split(_IMAGES_AT_ONCE)
    return torch.cat([network.embed(batch) for batch in batches])
