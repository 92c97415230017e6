"""Jitter: one crop, one mirroring and one circular shift for a whole batch, as recovery shows images to a teacher."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.augmentation.views import ViewRule, draw_crop
from condense.runtime.seeds import uniforms


@dataclass(frozen=True)
class Jitter:
    """One draw: a `box` (first row, first column, height, width) or none, a mirroring, a shift down and right."""

    box: tuple[int, int, int, int] | None
    flip: bool
    shift: tuple[int, int]


def draw_jitter(
    image_shape: tuple[int, int, int],
    *,
    least: float | None,
    flip: bool,
    shift: int,
    seed: int,
    purpose: str,
    indices: tuple[int, ...],
) -> Jitter:
    """A draw for images of this shape (C, H, W) that depends on (seed, purpose, indices) only.

    `least` is the smallest share of the area of a crop, None for no crop; shifts are from 0 to `shift` pixels.

    >>> draw_jitter((3, 32, 32), least=None, flip=False, shift=0, seed=0, purpose="example", indices=(1,))
    Jitter(box=None, flip=False, shift=(0, 0))
    """
    mirrored, down, right = uniforms(3, seed, purpose, *indices)
    box = None
    if least is not None:
        box = draw_crop(ViewRule(crop="resized", least=least), image_shape, seed, f"{purpose} crop", *indices)
    return Jitter(box, flip and mirrored < 0.5, (int(down * (shift + 1)), int(right * (shift + 1))))


def jittered(images: Tensor, draw: Jitter) -> Tensor:
    """The images [N, C, H, W] cropped and enlarged, then mirrored, then shifted around; differentiable in them."""
    if draw.box is not None:
        top, left, rows, columns = draw.box
        part = images[:, :, top : top + rows, left : left + columns]
        images = F.interpolate(part, images.shape[2:], mode="bilinear", align_corners=False)
    if draw.flip:
        images = images.flip(-1)
    return torch.roll(images, draw.shift, dims=(2, 3)) if any(draw.shift) else images
