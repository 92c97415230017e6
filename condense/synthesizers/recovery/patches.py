"""Patches: parts of real images, chosen by what teachers think of them, and the mosaics that are made of them.

Sun et al., RDED, CVPR 2024, section 4 and the released code: of some random images of a class, each gives the one of
its crops that a teacher finds easiest; these are ranked by the same loss.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.augmentation.views import square_crop
from condense.compute.plan import Plan
from condense.data import TrainingData
from condense.data.sampling import sample
from condense.methods.interface import Job
from condense.runtime.seeds import generator
from condense.synthesizers.recovery.objective import shared_objective
from condense.teachers.committee import Committee

Difficulty = Literal["easy", "medium", "hard"]
_LEAST = 0.08  # smallest share of the area of a crop
_AT_ONCE = 64  # images that teachers look at


@dataclass(frozen=True)
class Patch:
    """A crop of a training image, and the cross-entropy that the teachers have on it."""

    index: int
    box: tuple[int, int, int, int]  # first row, first column, height, width
    loss: float


def ranked_patches(job: Job, label: int, *, images: int, crops: int, size: tuple[int, int]) -> tuple[Patch, ...]:
    """One patch of each of some random training images of a class, the easiest first.

    `crops` square crops of an image, of 8 to 100 % of its area, are scaled to `size` (height, width), laid in the
    middle of an image of the teachers' mean colour, and the one of the lowest cross-entropy of the class is kept; a
    committee is asked by its weights. A class with fewer images gives as many as it has. Patches are remembered for as
    long as the process asks for those of the same run.
    """
    assert job.teacher is not None, "patches are chosen by teachers"
    return _ranked(job.data, job.teacher, job.device, job.plan, job.seed, label, images, crops, size)


@functools.cache  # a few numbers for each image that was looked at
def _ranked(
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
    chosen = sample(data.class_indices(label), images, generator(seed, "patch images", label)).tolist()
    candidates = [
        (index, square_crop(data.info.image_shape, _LEAST, seed, "patch", index, number))
        for index in chosen
        for number in range(crops)
    ]
    losses: list[float] = []
    for start in range(0, len(candidates), _AT_ONCE):
        pixels = cut(data, candidates[start : start + _AT_ONCE], size)
        losses += class_losses(committee, pixels, label, data, device, plan).tolist()
    best: dict[int, Patch] = {}
    for (index, box), loss in zip(candidates, losses):
        if index not in best or loss < best[index].loss:
            best[index] = Patch(index, box, loss)
    return tuple(sorted(best.values(), key=lambda patch: patch.loss))


def class_losses(
    committee: Committee, pixels: Tensor, label: int, data: TrainingData, device: torch.device, plan: Plan
) -> Tensor:
    """The cross-entropy of a class for each of the pixels [n, C, h, w], by the weights of the teachers; float32 [n].

    Pixels smaller than the data's images are laid in the middle of the teacher's mean colour.
    """
    height, width = data.info.image_shape[1:]
    total = torch.zeros(len(pixels))
    for weight, member in zip(committee.weights, committee.members):
        objective = shared_objective(member, device, plan, purpose="classes")
        laid = torch.tensor(member.manifest.mean)[:, None, None].expand(len(pixels), -1, height, width).clone()
        top, left = (height - pixels.shape[2]) // 2, (width - pixels.shape[3]) // 2
        laid[:, :, top : top + pixels.shape[2], left : left + pixels.shape[3]] = pixels
        with torch.no_grad():
            logits = objective.classifier(laid.to(device)).float().cpu()
        total += weight * F.cross_entropy(logits, torch.full((len(pixels),), label), reduction="none")
    return total


def cut(data: TrainingData, crops: Sequence[tuple[int, tuple[int, int, int, int]]], size: tuple[int, int]) -> Tensor:
    """Crops (training index, box) as pixels [n, C, *size] in [0, 1], scaled bilinearly, without aliasing."""
    images = data.pixels(torch.tensor([index for index, _ in crops])).float() / 255
    parts = [
        F.interpolate(
            image[None, :, top : top + rows, left : left + columns],
            size,
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        for image, (_, (top, left, rows, columns)) in zip(images, crops)
    ]
    return torch.cat(parts).clamp(0, 1)


def of_difficulty(patches: Sequence[Patch], count: int, difficulty: Difficulty) -> list[Patch]:
    """So many of ranked patches: the first, those in the middle, or the last; in their order, and again if too few.

    >>> ranked = [Patch(index, (0, 0, 1, 1), float(index)) for index in range(5)]
    >>> [[patch.index for patch in of_difficulty(ranked, 2, how)] for how in ("easy", "medium", "hard")]
    [[0, 1], [1, 2], [3, 4]]
    """
    spare = max(0, len(patches) - count)
    first = {"easy": 0, "medium": spare // 2, "hard": spare}[difficulty]
    chosen = list(patches[first : first + count])
    return [chosen[number % len(chosen)] for number in range(count)]


def mosaic(cells: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """One image (C, H, W) of cells [factor^2, C, h, w], row by row; cells that do not fill it are enlarged.

    >>> mosaic(torch.arange(4.0).view(4, 1, 1, 1), (1, 2, 2)).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    channels, height, width = image_shape
    factor = round(len(cells) ** 0.5)
    rows = cells.view(factor, factor, *cells.shape[1:]).permute(2, 0, 3, 1, 4)  # (C, factor, h, factor, w)
    image = rows.reshape(channels, factor * cells.shape[2], factor * cells.shape[3])
    if image.shape == image_shape:
        return image
    return F.interpolate(image[None], (height, width), mode="nearest")[0]
