"""Distribution matching (DM): Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023.

Every iteration draws a new, untrained network and moves the synthetic images so that the mean of their features in it,
class by class, comes nearer to the mean over a batch of real images, both seen through the same augmentation.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from condense.matching import class_means, match_means
from condense.synthesizers.class_matching import ClassMatching, ClassMatchingSettings


class DistributionMatchingSettings(ClassMatchingSettings):
    """Settings of distribution matching; the defaults are the published ones."""

    iterations: int = Field(20000, ge=1, description="updates of the images")


class DistributionMatching(ClassMatching[DistributionMatchingSettings]):
    """L = sum_c |mean embed(A_c(real_c)) - mean embed(A_c(synthetic_c))|^2 in a new random network every iteration.

    One SGD step on all images follows, without averaging over classes or features, as in the paper's released code.
    Real images of all classes go through one stream, synthetic ones in groups of classes: with norms that look at one
    image at a time this equals one class after the other, at any number of images per class. With BatchNorm all images
    of a kind go through one forward, as in the released code.
    """

    def step(self, iteration: int) -> dict[str, float]:
        """Match the class means of one batch of real images in one new network."""
        parameters = self.new_parameters(iteration)
        self.choose_representatives(iteration, parameters)
        indices = self.real_batches(iteration)
        draws = self.class_draws(iteration)

        def means(images: Tensor, labels: Tensor) -> Tensor:
            features = self.engine.features(parameters, self.augmented(images, labels, draws))
            return class_means(features, labels.to(features.device), self.classes)  # (C, D)

        with torch.no_grad():
            real = means(self.data.images(indices).to(self.job.device), self.data.labels[indices])

        def loss(images: Tensor, labels: Tensor, classes: slice) -> Tensor:
            return match_means(real[classes], means(images, labels)[classes])

        return {"loss": self.descend_by_groups(loss)}
