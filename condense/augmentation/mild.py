"""The augmentation under which FRePo trains networks on its sets: one gentle operation for a batch.

Released code of Zhou, Nezhadarya & Ba, NeurIPS 2022. Pixels are interpolated bilinearly, and those beyond the border
are as the nearest one on it. Images are preprocessed, so a hole has the mean colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_BRIGHTNESS = 0.25  # added, at most
_COLOR = math.exp(0.25)  # factor of contrast and saturation, at most; its inverse at least
_ZOOM = 1.25
_SHIFT = 0.125  # part of a side
_ANGLE = 15.0  # degrees
_HOLE = 4  # part of a side: a quarter
OPERATIONS = ("color", "crop", "rotate", "translate", "cutout", "flip")


@dataclass(frozen=True, eq=False)
class MildDraws:
    """An operation, and a row for each of N images, on the processor; axes are ordered (vertical, horizontal)."""

    operation: str
    brightness: Tensor  # float64 [N]
    contrast: Tensor  # float64 [N], factor of the distance from the image's mean
    saturation: Tensor  # float64 [N], factor of the distance from the pixel's mean over channels
    zoom: Tensor  # float64 [N], above 1 enlarges
    centre: Tensor  # float64 [N, 2], of what is seen when zoomed: from -1, as far up or left as the image goes, to 1
    angle: Tensor  # float64 [N], degrees
    shift: Tensor  # float64 [N, 2], part of a side
    corner: Tensor  # float64 [N, 2], of the hole: from 0, at the top or left, to 1
    flip: Tensor  # bool [N]


def draw_mild(count: int, *, mirror: bool, generator: torch.Generator) -> MildDraws:
    """One operation for `count` images, and a row for each of them; no flips without `mirror`."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator, dtype=torch.float64)

    allowed = len(OPERATIONS) if mirror else len(OPERATIONS) - 1  # flips are the last
    return MildDraws(
        operation=OPERATIONS[int(torch.randint(allowed, (), generator=generator))],
        brightness=uniform(-_BRIGHTNESS, _BRIGHTNESS),
        contrast=uniform(-1, 1).mul(math.log(_COLOR)).exp(),
        saturation=uniform(-1, 1).mul(math.log(_COLOR)).exp(),
        zoom=uniform(-1, 1).mul(math.log(_ZOOM)).exp(),
        centre=uniform(-1, 1, 2),
        angle=uniform(-_ANGLE, _ANGLE),
        shift=uniform(-_SHIFT, _SHIFT, 2),
        corner=uniform(0, 1, 2),
        flip=uniform(0, 1) < 0.5,
    )


def augment_mild(images: Tensor, draws: MildDraws) -> Tensor:
    """Images [N, C, H, W] after the operation, each by its own row, with their type and device.

    >>> draws = draw_mild(3, mirror=True, generator=torch.Generator().manual_seed(0))
    >>> augment_mild(torch.zeros(3, 1, 8, 8), draws).shape
    torch.Size([3, 1, 8, 8])
    """
    return _OPERATIONS[draws.operation](images, draws)


def _like(images: Tensor, values: Tensor) -> Tensor:
    """One value for each image, ready to broadcast."""
    return values.to(images).view(-1, 1, 1, 1)


def _color(images: Tensor, draws: MildDraws) -> Tensor:
    """Brightness, contrast, saturation, in this order."""
    images = images + _like(images, draws.brightness)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * _like(images, draws.contrast) + mean
    gray = images.mean(1, keepdim=True)
    return (images - gray) * _like(images, draws.saturation) + gray


def _crop(images: Tensor, draws: MildDraws) -> Tensor:
    """Zoomed about a point: pixel u, from the centre, shows (u + c) / zoom, with c within |zoom - 1| / 2 of a side."""
    reach = (draws.zoom - 1).abs()[:, None] / draws.zoom[:, None]  # in halves of a side
    return _seen(images, torch.eye(2).double()[None] / draws.zoom[:, None, None], reach * draws.centre)


def _rotate(images: Tensor, draws: MildDraws) -> Tensor:
    angle, (height, width) = torch.deg2rad(draws.angle), images.shape[2:]
    cosine, sine = angle.cos(), angle.sin()
    rows = [torch.stack([cosine, sine * width / height], 1), torch.stack([-sine * height / width, cosine], 1)]
    return _seen(images, torch.stack(rows, 1), torch.zeros(len(images), 2))


def _translate(images: Tensor, draws: MildDraws) -> Tensor:
    return _seen(images, torch.eye(2).double().expand(len(images), 2, 2), -2 * draws.shift)


def _seen(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """What pixels show: matrix [N, 2, 2] u + offset [N, 2] for u (vertical, horizontal) in halves of a side."""
    maps = torch.cat([matrix.flip(1, 2), offset.flip(1)[:, :, None]], 2).to(images)  # torch has (x, y)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _cutout(images: Tensor, draws: MildDraws) -> Tensor:
    """A hole of a quarter of either side, all of it on the image."""
    inside = []
    for side, corner in zip(images.shape[2:], draws.corner.unbind(1)):
        size = side // _HOLE
        first = (corner * (side - size + 1)).long().clamp(max=side - size)[:, None]
        places = torch.arange(side)
        inside.append((places >= first) & (places < first + size))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole.to(images.device), 0)


def _flip(images: Tensor, draws: MildDraws) -> Tensor:
    return torch.where(draws.flip.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)


_OPERATIONS: dict[str, Callable[[Tensor, MildDraws], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "rotate": _rotate,
    "translate": _translate,
    "cutout": _cutout,
    "flip": _flip,
}
