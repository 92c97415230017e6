"""Mosaics that are trained on as they are: how small images are laid to a large one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mosaic(cells: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """One image (C, H, W) of cells [factor^2, C, h, w], row by row.

    Where a side cannot be divided by `factor` the first cells are enlarged by a pixel, as in the released code of RDED
    (Sun et al., CVPR 2024).

    >>> mosaic(torch.arange(4.0).view(4, 1, 1, 1), (1, 2, 2)).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    factor = round(len(cells) ** 0.5)
    heights, widths = ([len(part) for part in torch.arange(side).tensor_split(factor)] for side in image_shape[1:])
    rows = [
        torch.cat([F.interpolate(cell[None], (height, width), mode="nearest") for cell, width in zip(row, widths)], 3)
        for row, height in zip(cells.split(factor), heights)
    ]
    return torch.cat(rows, 2)[0]
