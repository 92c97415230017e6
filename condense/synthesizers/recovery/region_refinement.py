"""NRR-DD: mosaics of real patches whose less important pixels take on what a class has in common.

Non-Critical Region Refinement (arXiv 2503.18267). Its code is not published and the facts below are those of its
abstract and of summaries by others; what these leave open is marked "ours" and may differ from the paper.

1. Start: crops where the class activation is high, and of these the ones that teachers are least sure of ("high
   activation, low confidence"). Ours: of `patch_crops` crops of each image the one with the highest mean activation,
   ranked by the loss of the class, the hardest first; cells as in `rded`.
2. Refinement: with the activation c of each pixel, M = max(0, eps - c), x <- x + M dx, where dx is the update of Adam
   down CE + r L. M belongs to the update, not to the gradient, which Adam rescales. Pixels with c >= eps stay bit for
   bit. Ours: eps 0.5, activation computed once (Grad-CAM of the last maps, the mean over a committee), rate 0.05, 500
   updates, r 0.01, 2 x 2 cells from 128 pixels on.
3. Its labels are two distances for each view, which are a kind of label and made by relabelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.data import TrainingData
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.methods.slices.layouts import Slice
from condense.networks.class_activation import class_activation, last_maps
from condense.synthesizers.recovery.base import Recovery, RecoverySettings
from condense.synthesizers.recovery.objective import shared_objective
from condense.synthesizers.recovery.patches import (
    AT_ONCE,
    Box,
    Patch,
    candidate_crops,
    candidate_images,
    cells,
    laid_patches,
    of_difficulty,
    ranked,
    remembered,
)


class RefinementSettings(RecoverySettings):
    """Settings of `nrr-dd`; where the images start from is a part of the method."""

    iterations: int = Field(500, ge=1, description="updates of the images of each slice")
    image_lr: float = Field(0.05, gt=0, description="Adam's, at the beginning of a cosine to 0; in standard deviations")
    initialization: Literal["patches"] = Field("patches", description="what the images start from: patches")
    patch_difficulty: Literal["hard"] = Field("hard", description="those that teachers are least sure of")
    critical: float = Field(0.5, gt=0, le=1, description="eps: the class activation from which pixels stay as they are")
    factor: int | None = Field(None, ge=1, le=8, description="patches on a side; none: 1 below 128 pixels, else 2")


class RegionRefinement(Recovery[RefinementSettings]):
    """Updates go where the teachers do not look."""

    def __init__(self, job: Job, settings: RefinementSettings, part: Slice) -> None:
        super().__init__(job, settings, part)
        pixels = self.pixels(self.images.detach())
        activation = mean_activation(job, pixels, self.labels)
        self.mask = (settings.critical - activation).clamp_min(0)[:, None]  # (n, 1, H, W)

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: RefinementSettings) -> None:
        """Cells must have pixels."""
        super().check(data, budget, settings)
        cells(settings.factor, data.info.image_shape)

    def start(self) -> Tensor:
        """Mosaics of patches that speak for their class and that teachers are not sure of."""
        job, settings, shape = self.job, self.settings, self.job.data.info.image_shape
        factor, size = cells(settings.factor, shape)
        images = []
        for label, place in zip(self.slice.labels.tolist(), self.slice.places.tolist()):
            count = job.ipc * factor**2
            chosen = activated_patches(job, label, count, settings.patch_images, settings.patch_crops, size)
            images.append(laid_patches(job, chosen, place, size))
        return torch.stack(images)

    def step(self, iteration: int) -> dict[str, float]:
        """One update of Adam, of which each pixel takes the share that its mask says; then pixels are clamped."""
        loss, metrics = self.loss(self.pixels(self.shown(self.images, iteration)))
        before = self.images.detach().clone()
        self.descend(iteration, *torch.autograd.grad(loss, self.learned()))
        with torch.no_grad():
            moved = self.clamped(before + self.mask * (self.images - before))
            self.images.copy_(torch.where(self.mask > 0, moved, before))
        return metrics


def mean_activation(job: Job, pixels: Tensor, labels: Tensor) -> Tensor:
    """The class activation of pixels [n, C, H, W] by the weights of the teachers, [n, H, W]."""
    assert job.teacher is not None, "a recovery is never begun without teachers"
    total = torch.zeros(len(pixels), *pixels.shape[2:], device=job.device)
    for weight, member in zip(job.teacher.weights, job.teacher.members):
        classifier = shared_objective(member, job.device, job.plan, statistics=False).classifier
        layer = last_maps(classifier, member.manifest.image_shape)
        total += weight * class_activation(classifier, pixels, labels, layer)
    return total


def activated_patches(
    job: Job, label: int, count: int, images: int, crops: int, size: tuple[int, int]
) -> tuple[Patch, ...]:
    """So many patches of a class, the hardest first: each the crop of highest mean activation of a random image."""
    images = max(images, count)

    def choose() -> Sequence[Patch]:
        chosen = candidate_images(job, label, images)
        found = [pair for batch in chosen.split(AT_ONCE) for pair in _most_activated(job, label, batch, crops)]
        return of_difficulty(ranked(job, label, found, size), count, "hard")

    return remembered(job, ("activated", label, count, images, crops, size), choose)


def _most_activated(job: Job, label: int, indices: Tensor, crops: int) -> list[tuple[int, Box]]:
    """Each of these training images with its crop of the highest mean activation."""
    pixels = (job.data.pixels(indices).float() / 255).to(job.device)
    labels = torch.full((len(indices),), label, device=job.device)
    found = []
    for index, seen in zip(indices.tolist(), mean_activation(job, pixels, labels).cpu()):
        boxes = candidate_crops(job, index, crops)
        means = [seen[top : top + rows, left : left + columns].mean().item() for top, left, rows, columns in boxes]
        found.append((index, boxes[max(range(crops), key=means.__getitem__)]))
    return found
