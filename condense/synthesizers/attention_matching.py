"""Attention matching (DataDAM): Sajedi et al., Efficient Dataset Distillation with Attention Matching, ICCV 2023.

Distribution matching that also looks into the network: the maps in which each layer says where it looks in an image,
averaged over the images of a class, should be those of real images.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from condense.data import TrainingData
from condense.data.budget import Budget
from condense.matching import attention, class_means, match_means
from condense.networks import Network, build_network
from condense.runtime.errors import CondenseError
from condense.synthesizers.class_matching import ClassMatching, ClassMatchingSettings, network_of

_SCALE = 100.0  # of the whole loss in the released code; the published learning rate is tied to it


class AttentionMatchingSettings(ClassMatchingSettings):
    """Settings of attention matching; the defaults are those of its authors' table."""

    iterations: int = Field(8000, ge=1, description="updates of the images")
    real_batch: int = Field(64, ge=1, description="real images of each class in an iteration (or all, if fewer)")
    layers: int | None = Field(
        None, ge=1, description="activations whose maps are compared, from the first on; default: all but the last"
    )
    power: float = Field(4.0, ge=1, description="p of the attention maps, sum over channels of |f|^p")
    feature_weight: float = Field(
        0.01, ge=0, description="lambda: weight of the means of features beside those of attention"
    )


class AttentionMatching(ClassMatching[AttentionMatchingSettings]):
    """L = 100 (sum_layers sum_c |mean a(real_c) - mean a(synthetic_c)|^2
             + lambda sum_c |mean f(real_c) - mean f(synthetic_c)|^2)

    a are the normalised attention maps after every activation but the last (or the first `layers` ones), f the features
    behind it; a new random network every iteration, one SGD step on all images. Defaults are those of the authors'
    table (p = 4, instance norm, 8,000 iterations, lambda 0.01, or 0.02 at high resolution). Their released script has
    others (p = 1, BatchNorm, real and synthetic images each in one forward, 20,000 iterations): `--recipe script`.
    """

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: AttentionMatchingSettings) -> None:
        """The network must have as many maps as are to be compared."""
        super().check(data, budget, settings)
        network = build_network(*network_of(settings, data.info), seed=0)
        maps, _ = network.activations(torch.zeros(2, *data.info.image_shape))
        if settings.layers is not None and settings.layers > len(maps):
            raise CondenseError(f"--layers {settings.layers}: --network {network.name} has {len(maps)} activations")
        if settings.layers is None and len(maps) < 2:
            raise CondenseError(
                f"--network {network.name} has one activation, and attention matching leaves the last one out; "
                "give a depth of at least 2, or --layers 1"
            )

    def step(self, iteration: int) -> dict[str, float]:
        """Match attention and features of one batch of real images in one new network."""
        parameters = self.new_parameters(iteration)
        self.choose_representatives(iteration, parameters)
        indices = self.real_batches(iteration)
        draws = self.class_draws(iteration)

        def means(images: Tensor, labels: Tensor) -> list[Tensor]:
            rows = self.engine.read(parameters, self.augmented(images, labels, draws), self._read)
            return [class_means(values, labels.to(values.device), self.classes) for values in rows]

        with torch.no_grad():
            real = means(self.data.images(indices).to(self.job.device), self.data.labels[indices])

        def loss(images: Tensor, labels: Tensor, classes: slice) -> Tensor:
            pairs = zip(real, means(images, labels))
            distances = [match_means(left[classes], right[classes]) for left, right in pairs]
            return _SCALE * (torch.stack(distances[:-1]).sum() + self.settings.feature_weight * distances[-1])

        return {"loss": self.descend_by_groups(loss)}

    def _read(self, network: Network, images: Tensor) -> tuple[Tensor, ...]:
        """Attention of each compared layer [N, h*w], then the features [N, D]."""
        maps, features = network.activations(images)
        compared = maps[: self.settings.layers or -1]
        return (*(attention(values, self.settings.power) for values in compared), features)
