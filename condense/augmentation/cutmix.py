"""CutMix: Yun et al., ICCV 2019. A window of every image comes from another one, and its label in proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mix:
    """One draw for a batch of N images: who gives to whom, and the window (first and last + 1 row and column)."""

    partner: Tensor  # int64 [N]
    rows: tuple[int, int]
    columns: tuple[int, int]


def draw_mix(
    image_shape: tuple[int, int, int], count: int, probability: float, generator: torch.Generator
) -> Mix | None:
    """A mix of `count` images (C, H, W) in this share of the batches, else None.

    The window takes a share of the image that is uniform in [0, 1] (Beta(1, 1)), has its sides in their proportion and
    a centre anywhere; what lies outside the image is cut off.
    """
    chance, share, down, right = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    if chance >= probability:
        return None
    _, *sides = image_shape
    return window_mix((sides[0], sides[1]), torch.randperm(count, generator=generator), share, down, right)


def window_mix(size: tuple[int, int], partner: Tensor, share: float, down: float, right: float) -> Mix:
    """A mix with a window of this share of the area of images of `size` (H, W), its centre at `down` and `right`.

    All three are numbers of [0, 1).
    """
    rows, columns = window(size, share, down, right)
    return Mix(partner, rows, columns)


def window(size: tuple[int, int], share: float, down: float, right: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last + 1 row, and column, of a window as `window_mix` has it."""
    side = math.sqrt(share)
    return _window(size[0], side, down), _window(size[1], side, right)


def _window(side: int, fraction: float, place: float) -> tuple[int, int]:
    length, centre = int(side * fraction), int(place * side)
    return max(0, centre - length // 2), min(side, centre + length // 2)


def pasted(images: Tensor, others: Tensor, windows: list[tuple[tuple[int, int], tuple[int, int]]]) -> Tensor:
    """Images [N, C, H, W], each with a window of its own that comes from the image in its place of `others`.

    >>> ones = torch.ones(1, 1, 2, 2)
    >>> pasted(0 * ones, ones, [((0, 1), (0, 2))])[0, 0].tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    inside = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
    for row, (rows, columns) in enumerate(windows):
        inside[row, 0, slice(*rows), slice(*columns)] = True
    return torch.where(inside.to(images.device), others, images)


def mix_images(images: Tensor, probabilities: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] with the window of their partners, and labels [N, K] mixed by area.

    >>> mix = Mix(torch.tensor([1, 0]), (0, 1), (0, 1))
    >>> images, labels = mix_images(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2), torch.eye(2), mix)
    >>> images[0, 0].tolist(), labels[0].tolist()
    ([[1.0, 0.0], [0.0, 0.0]], [0.75, 0.25])
    """
    height, width = images.shape[2:]
    return paste(images, mix), mixed_by_area(probabilities, mix, (height, width))


def mixed_by_area(probabilities: Tensor, mix: Mix, size: tuple[int, int]) -> Tensor:
    """Labels [N, K] of images of `size` (H, W), mixed by the area of the window."""
    area = (mix.rows[1] - mix.rows[0]) * (mix.columns[1] - mix.columns[0]) / (size[0] * size[1])
    return (1 - area) * probabilities + area * probabilities[mix.partner.to(probabilities.device)]


def paste(images: Tensor, mix: Mix) -> Tensor:
    """Images [N, C, H, W] with the window of their partners."""
    inside = torch.zeros(images.shape[2:], dtype=torch.bool, device=images.device)
    inside[slice(*mix.rows), slice(*mix.columns)] = True
    return torch.where(inside, images[mix.partner.to(images.device)], images)
