"""Decoders: how a few stored images become more training images.

A set with a decoder stores images that networks never see as they are. What is stored is what the set costs; what is
decoded is what networks train on, and both numbers belong beside every accuracy of such a set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.runtime.errors import CondenseError


@dataclass(frozen=True)
class Tiles:
    """Every stored image is a mosaic of `factor` x `factor` small ones, each of which is enlarged to the full size.

    The multi-formation of IDC (Kim et al., ICML 2022) and, with factor 2, the partition and expansion of IDM (Zhao et
    al., CVPR 2023); their orders of tiles differ, and nothing depends on the order.
    """

    factor: int

    kind: ClassVar[str] = "tiles"
    bytes: ClassVar[int] = 8  # the factor, as the file holds it

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise CondenseError(f"a mosaic of {self.factor} x {self.factor} tiles is none; give a factor of at least 2")

    @property
    def images_each(self) -> int:
        """Training images in one stored image."""
        return self.factor**2

    def tile_size(self, height: int, width: int) -> tuple[int, int]:
        """Pixels of a tile; the last ones of a row and column are cut short where the factor does not divide the sides.

        Raises `CondenseError` if not every tile gets a pixel.

        >>> Tiles(2).tile_size(28, 28), Tiles(3).tile_size(28, 28)
        ((14, 14), (10, 10))
        """
        rows, columns = math.ceil(height / self.factor), math.ceil(width / self.factor)
        if min(height - (self.factor - 1) * rows, width - (self.factor - 1) * columns) < 1:
            raise CondenseError(
                f"images of {height}x{width} cannot be cut into {self.factor} x {self.factor} tiles; "
                "give a smaller --factor"
            )
        return rows, columns

    def decode(self, stored: Tensor, fill: float) -> Tensor:
        """All first tiles of `stored` [N, C, H, W], then all second ones, ...: [factor^2 N, C, H, W]; differentiable.

        Tiles are cut row by row and enlarged bilinearly; pixels that the last ones lack are `fill`.

        >>> mosaic = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
        >>> Tiles(2).decode(mosaic, fill=0.0)[:, 0, 0, 0]
        tensor([1., 2., 3., 4.])
        """
        height, width = stored.shape[2:]
        rows, columns = self.tile_size(height, width)
        whole = F.pad(stored, (0, self.factor * columns - width, 0, self.factor * rows - height), value=fill)
        tiles = [strip for band in whole.split(rows, 2) for strip in band.split(columns, 3)]
        return F.interpolate(torch.cat(tiles), (height, width), mode="bilinear", align_corners=False)

    def arrange(self, images: Tensor, sampling: str) -> Tensor:
        """The mosaics of images [factor^2 N, C, H, W] in the order of `decode`, each made smaller by `sampling`.

        `sampling` is `nearest` or `bilinear`. The result is [N, C, H, W].
        """
        height, width = images.shape[2:]
        corners = None if sampling == "nearest" else False
        small = F.interpolate(images, self.tile_size(height, width), mode=sampling, align_corners=corners)
        tiles = small.chunk(self.images_each)
        bands = [torch.cat(tiles[row * self.factor : (row + 1) * self.factor], 3) for row in range(self.factor)]
        return torch.cat(bands, 2)[:, :, :height, :width]

    def repeat(self, values: Tensor) -> Tensor:
        """What belongs to the stored images (labels, say; [N, ...]) for the images of `decode`."""
        return values.repeat(self.images_each, *[1] * (values.ndim - 1))


def decoder_from_attributes(kind: str, factor: int) -> Tiles:
    """The decoder that a file describes; raises `CondenseError` for a kind that this version does not know."""
    if kind != Tiles.kind:
        raise CondenseError(f"its images are decoded by {kind!r}, which this condense does not know; upgrade condense")
    return Tiles(factor)
