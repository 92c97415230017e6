"""Patches: parts of real images, chosen by what teachers think of them, and the mosaics that are made of them.

Sun et al., RDED, CVPR 2024, section 4 and the released code: of some random images of a class, each gives the one of
its crops that a teacher finds easiest; these are ranked by the same loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.augmentation.views import square_crop
from condense.data import TrainingData
from condense.data.sampling import sample
from condense.methods.interface import Job
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.sets.mosaics import mosaic
from condense.synthesizers.recovery.objective import shared_objective
from condense.teachers.committee import Committee

Difficulty = Literal["easy", "medium", "hard"]
Box = tuple[int, int, int, int]  # first row, first column, height, width
AT_ONCE = 64  # images that teachers look at
_LEAST = 0.08  # smallest share of the area of a crop


@dataclass(frozen=True)
class Patch:
    """A crop of a training image, and the cross-entropy that the teachers have on it."""

    index: int
    box: Box
    loss: float


def chosen_patches(
    job: Job, label: int, *, count: int, difficulty: Difficulty, images: int, crops: int, size: tuple[int, int]
) -> tuple[Patch, ...]:
    """So many patches of a class of this difficulty, each of another one of some random training images.

    These are `images`, or as many as patches are needed. `crops` square crops of an image, of 8 to 100 % of its area,
    are scaled to `size` (height, width), laid in the middle of an image of the teachers' mean colour, and the one of
    the lowest cross-entropy of the class is kept; a committee is asked by its weights. A class with too few images
    gives patches again.
    """
    images = max(images, count)

    def choose() -> Sequence[Patch]:
        return of_difficulty(_ranked(job, label, images, crops, size), count, difficulty)

    return remembered(job, ("patches", label, count, difficulty, images, crops, size), choose)


_Kept = WeakKeyDictionary[Committee, dict[tuple[Any, ...], tuple[Patch, ...]]]
_kept: WeakKeyDictionary[TrainingData, _Kept] = WeakKeyDictionary()


def remembered(job: Job, key: tuple[Any, ...], choose: Callable[[], Sequence[Patch]]) -> tuple[Patch, ...]:
    """What `choose` gives, asked once for all slices of this process; it is forgotten with the data or the teachers."""
    assert job.teacher is not None, "patches are chosen by teachers"
    kept = _kept.setdefault(job.data, WeakKeyDictionary()).setdefault(job.teacher, {})
    key = (job.device, job.plan, job.seed, *key)
    if key not in kept:
        kept[key] = tuple(choose())
    return kept[key]


def candidate_images(job: Job, label: int, count: int) -> Tensor:
    """The training images of a class that patches are taken from; int64 [at most `count`]."""
    return sample(job.data.class_indices(label), count, generator(job.seed, "patch images", label))


def candidate_crops(job: Job, index: int, count: int) -> list[Box]:
    """The crops of a training image among which teachers choose."""
    return [square_crop(job.data.info.image_shape, _LEAST, job.seed, "patch", index, number) for number in range(count)]


def ranked(job: Job, label: int, crops: Sequence[tuple[int, Box]], size: tuple[int, int]) -> list[Patch]:
    """Crops (training index, box) with their losses at this size, the easiest first."""
    losses: list[float] = []
    for start in range(0, len(crops), AT_ONCE):
        losses += class_losses(job, cut(job.data, crops[start : start + AT_ONCE], size), label).tolist()
    patches = [Patch(index, box, loss) for (index, box), loss in zip(crops, losses)]
    return sorted(patches, key=lambda patch: patch.loss)


def _ranked(job: Job, label: int, images: int, crops: int, size: tuple[int, int]) -> list[Patch]:
    """The easiest crop of each image, the easiest first."""
    chosen = candidate_images(job, label, images).tolist()
    candidates = [(index, box) for index in chosen for box in candidate_crops(job, index, crops)]
    best: dict[int, Patch] = {}
    for patch in ranked(job, label, candidates, size):
        best.setdefault(patch.index, patch)
    return list(best.values())


def class_losses(job: Job, pixels: Tensor, label: int) -> Tensor:
    """The cross-entropy of a class for each of the pixels [n, C, h, w], by the weights of the teachers; float32 [n].

    Pixels smaller than the data's images are laid in the middle of the teacher's mean colour.
    """
    assert job.teacher is not None, "patches are chosen by teachers"
    height, width = job.data.info.image_shape[1:]
    total = torch.zeros(len(pixels))
    for weight, member in zip(job.teacher.weights, job.teacher.members):
        classifier = shared_objective(member, job.device, job.plan, statistics=False).classifier
        laid = torch.tensor(member.manifest.mean)[:, None, None].expand(len(pixels), -1, height, width).clone()
        top, left = (height - pixels.shape[2]) // 2, (width - pixels.shape[3]) // 2
        laid[:, :, top : top + pixels.shape[2], left : left + pixels.shape[3]] = pixels
        with torch.no_grad():
            logits = classifier(laid.to(job.device)).float().cpu()
        total += weight * F.cross_entropy(logits, torch.full((len(pixels),), label), reduction="none")
    return total


def cut(data: TrainingData, crops: Sequence[tuple[int, Box]], size: tuple[int, int]) -> Tensor:
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
    """So many of ranked patches: from the first on, from the one in the middle outwards, or from the last on.

    Fewer are the first ones of more. Where there are too few, they begin again.

    >>> ranked = [Patch(index, (0, 0, 1, 1), float(index)) for index in range(5)]
    >>> [[patch.index for patch in of_difficulty(ranked, 3, how)] for how in ("easy", "medium", "hard")]
    [[0, 1, 2], [2, 1, 3], [4, 3, 2]]
    """
    last = len(patches) - 1
    distance = {"easy": lambda rank: rank, "medium": lambda rank: abs(2 * rank - last), "hard": lambda rank: -rank}
    order = sorted(range(len(patches)), key=distance[difficulty])
    return [patches[order[number % len(order)]] for number in range(count)]


def cells(asked: int | None, image_shape: tuple[int, int, int]) -> tuple[int, tuple[int, int]]:
    """Patches on a side of a mosaic, as asked or by the released code's rule, and their size (h, w).

    Raises `CondenseError` for cells of less than two pixels.

    >>> cells(None, (3, 32, 32)), cells(None, (3, 224, 224))
    ((1, (32, 32)), (2, (112, 112)))
    """
    _, height, width = image_shape
    usual = 2 if min(height, width) >= 128 else 1
    factor = usual if asked is None else asked
    if min(height, width) < 2 * factor:
        raise CondenseError(
            f"--factor {factor} leaves cells of less than two pixels of images of {height}x{width}; give a smaller one"
        )
    return factor, (height // factor, width // factor)


def laid_patches(job: Job, patches: Sequence[Patch], place: int, size: tuple[int, int]) -> Tensor:
    """The image (C, H, W) at a place of its class: cell k, row by row, is patch k * ipc + place."""
    cells = [(patch.index, patch.box) for patch in patches[place :: job.ipc]]
    return mosaic(cut(job.data, cells, size), job.data.info.image_shape)
