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

import functools

import torch
from pydantic import Field
from torch import Tensor

from condense.augmentation.views import square_crop
from condense.compute.plan import Plan
from condense.data import TrainingData
from condense.data.sampling import sample
from condense.methods.interface import Job
from condense.methods.slices.layouts import Slice
from condense.networks.class_activation import class_activation, last_maps
from condense.runtime.seeds import generator
from condense.synthesizers.recovery.base import Recovery, RecoverySettings
from condense.synthesizers.recovery.objective import shared_objective
from condense.synthesizers.recovery.patches import Patch, class_losses, cut, mosaic, of_difficulty
from condense.teachers.committee import Committee

_LEAST = 0.08
_AT_ONCE = 64


class RefinementSettings(RecoverySettings):
    """Settings of `nrr-dd`; where the images start from is a part of the method."""

    iterations: int = Field(500, ge=1, description="updates of the images of each slice")
    image_lr: float = Field(0.05, gt=0, description="Adam's, at the beginning of a cosine to 0; in standard deviations")
    critical: float = Field(0.5, gt=0, le=1, description="eps: the class activation from which pixels stay as they are")
    factor: int | None = Field(None, ge=1, le=8, description="patches on a side; none: 1 below 128 pixels, else 2")


class RegionRefinement(Recovery[RefinementSettings]):
    """Updates go where the teachers do not look."""

    def __init__(self, job: Job, settings: RefinementSettings, part: Slice) -> None:
        super().__init__(job, settings, part)
        pixels = self.pixels(self.images.detach())
        activation = mean_activation(self.committee, pixels, self.labels, job.device, job.plan)
        self.mask = (settings.critical - activation).clamp_min(0)[:, None]  # (n, 1, H, W)

    def start(self) -> Tensor:
        """Mosaics of patches that speak for their class and that teachers are not sure of."""
        job, settings, shape = self.job, self.settings, self.job.data.info.image_shape
        factor = settings.factor or (2 if min(shape[1:]) >= 128 else 1)
        size = (shape[1] // factor, shape[2] // factor)
        images = []
        for label, place in zip(self.slice.labels.tolist(), self.slice.places.tolist()):
            ranked = activated_patches(
                job.data,
                self.committee,
                job.device,
                job.plan,
                job.seed,
                label,
                settings.patch_images,
                settings.patch_crops,
                size,
            )
            cells = of_difficulty(ranked, job.ipc * factor**2, "hard")[::-1][place :: job.ipc]
            images.append(mosaic(cut(job.data, [(patch.index, patch.box) for patch in cells], size), shape))
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


def mean_activation(committee: Committee, pixels: Tensor, labels: Tensor, device: torch.device, plan: Plan) -> Tensor:
    """The class activation of pixels [n, C, H, W] by the weights of the teachers, [n, H, W]."""
    total = torch.zeros(len(pixels), *pixels.shape[2:], device=device)
    for weight, member in zip(committee.weights, committee.members):
        classifier = shared_objective(member, device, plan, purpose="classes").classifier
        layer = last_maps(classifier, member.manifest.image_shape)
        total += weight * class_activation(classifier, pixels, labels, layer)
    return total


@functools.cache  # a few numbers for each image that was looked at
def activated_patches(
    data: TrainingData,
    committee: Committee,
    device: torch.device,
    plan: Plan,
    seed: int,
    label: int,
    images: int,
    crops: int,
    size: tuple[int, int],
) -> tuple[Patch, ...]:
    """Of some random images of a class, of each the crop with the highest mean activation, by their loss, ascending."""
    chosen = sample(data.class_indices(label), images, generator(seed, "patch images", label))
    found: list[tuple[int, tuple[int, int, int, int]]] = []
    shape = data.info.image_shape
    for batch in chosen.split(_AT_ONCE):
        pixels = (data.pixels(batch).float() / 255).to(device)
        labels = torch.full((len(batch),), label, device=device)
        activation = mean_activation(committee, pixels, labels, device, plan).cpu()
        for index, seen in zip(batch.tolist(), activation):
            boxes = [square_crop(shape, _LEAST, seed, "patch", index, number) for number in range(crops)]
            means = [seen[top : top + rows, left : left + columns].mean().item() for top, left, rows, columns in boxes]
            found.append((index, boxes[max(range(crops), key=means.__getitem__)]))
    losses: list[float] = []
    for start in range(0, len(found), _AT_ONCE):
        pixels = cut(data, found[start : start + _AT_ONCE], size)
        losses += class_losses(committee, pixels, label, data, device, plan).tolist()
    patches = [Patch(index, box, loss) for (index, box), loss in zip(found, losses)]
    return tuple(sorted(patches, key=lambda patch: patch.loss))
