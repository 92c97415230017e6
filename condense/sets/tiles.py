"""Mosaics: a decoder whose stored images each hold several small ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.validation import validated

Decoding = Literal["uniform", "multi", "bound"]
_LARGEST_FACTOR = 1000  # tiles on a side of a stored image: no image has as many pixels


@dataclass(frozen=True)
class Tiles:
    """Every stored image is a mosaic of `factor` x `factor` small ones, each of which is enlarged to the full size.

    The multi-formation of IDC (Kim et al., ICML 2022) and, with factor 2, the partition and expansion of IDM (Zhao et
    al., CVPR 2023); their orders of tiles differ, and nothing depends on the order. IDC has two other ways to decode:
    `multi` takes every image for a mosaic of 1 x 1, of 2 x 2, ... and of `factor` x `factor` tiles at once; `bound`
    takes the first images of a class for finer mosaics than the later ones, by `factors`, one for each image of a class
    in turn, so that a class has no more training images than a bound (see `bounded`).

    Raises `CondenseError` where the factor makes no mosaic.
    """

    factor: int
    decoding: Decoding = "uniform"
    factors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise CondenseError(f"a mosaic of {self.factor} x {self.factor} tiles is none; give a factor of at least 2")
        if bool(self.factors) != (self.decoding == "bound") or not all(
            1 <= each <= self.factor for each in self.factors
        ):
            raise CondenseError(
                f"factors {list(self.factors)} do not fit tiles decoded as {self.decoding}; give one from 1 to "
                f"{self.factor} for each image of a class where that is bound, else none"
            )

    @classmethod
    def bounded(cls, factor: int, ipc: int, bound: int) -> Self:
        """For `ipc` images of a class, as many as possible of the largest factors with at most `bound` training images.

        >>> Tiles.bounded(3, ipc=6, bound=30).factors
        (3, 3, 2, 2, 1, 1)
        """
        factors: list[int] = []
        spare = bound - ipc  # training images beyond one for each stored image
        for each in range(factor, 1, -1):
            count = min(max(0, spare) // each**2, ipc - len(factors))
            factors += [each] * count
            spare = bound - sum(chosen**2 for chosen in factors) - (ipc - len(factors))
        return cls(factor, "bound", (*factors, *[1] * (ipc - len(factors))))

    @property
    def kind(self) -> str:
        """What files call this way to decode."""
        return _KINDS[self.decoding]

    @property
    def attributes(self) -> dict[str, Any]:
        """What a file says of it beside its kind."""
        return {"factor": self.factor} | ({"factors": list(self.factors)} if self.factors else {})

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    @property
    def by_place(self) -> bool:
        """Whether the place of a stored image in its class decides how it is decoded."""
        return bool(self.factors)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """No pixels: tiles are enlarged."""
        return (torch.float32,)

    def stored_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """That of an image."""
        return image_shape

    def at(self, rows: Tensor) -> Self:
        """The same: it knows nothing of single images."""
        return self

    @classmethod
    def from_parts(cls, kind: str, attributes: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """The decoder that a file describes; raises `CondenseError` for values that make none."""
        if arrays:
            raise CondenseError(
                f"its decoder {kind} has the array {min(arrays)}, and such ones have none; make it again"
            )
        facts = validated(_Attributes, {"kind": kind, **attributes})
        decoding = next(decoding for decoding, name in _KINDS.items() if name == facts.kind)
        return cls(facts.factor, decoding, tuple(facts.factors))

    @property
    def bytes(self) -> int:
        """What the file holds of it: the factor or factors, as int64."""
        return 8 * (1 + len(self.factors))

    def check(self, image_shape: tuple[int, int, int], stored: int) -> None:
        """Raise `CondenseError` unless it decodes so many images of this shape (C, H, W)."""
        self.tile_size(*image_shape[1:])
        self._check_whole_classes(stored)

    def describe(self, images: int) -> str:
        """What is made of the stored images, so many, for people."""
        return f"{_IN_WORDS[self.decoding].format(self.factor)}, which are enlarged to {images} training images"

    @property
    def tiles(self) -> int:
        """Tiles of a stored image."""
        return self.factor**2

    def images_in(self, stored: int) -> int:
        """Training images in so many stored ones.

        >>> Tiles(2).images_in(3), Tiles(2, "multi").images_in(3)
        (12, 15)
        """
        each = [sum(factor**2 for factor in factors) for factors in self._factors_in_turn]
        self._check_whole_classes(stored)
        return stored // len(each) * sum(each)

    def tile_size(self, height: int, width: int) -> tuple[int, int]:
        """Pixels of a tile; the last ones of a row and column are cut short where the factor does not divide the sides.

        Raises `CondenseError` if not every tile gets a pixel, by any factor that is used.

        >>> Tiles(2).tile_size(28, 28), Tiles(3).tile_size(28, 28)
        ((14, 14), (10, 10))
        """
        for factor in self._used:
            _tile_size(factor, height, width)
        return _tile_size(self.factor, height, width)

    def decode(self, stored: Tensor, fill: float) -> Tensor:
        """All first tiles of `stored` [N, C, H, W], then all second ones, ...: [`images_in(N)`, C, H, W].

        Tiles are cut row by row and enlarged bilinearly; pixels that the last ones lack are `fill`. What is decoded
        by smaller factors comes first. The result is differentiable.

        >>> mosaic = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
        >>> Tiles(2).decode(mosaic, fill=0.0)[:, 0, 0, 0]
        tensor([1., 2., 3., 4.])
        """
        pieces = [_decoded(stored[rows], factor, fill) for factor, rows in self._parts(len(stored))]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def arrange(self, images: Tensor, sampling: str) -> Tensor:
        """The mosaics of images [factor^2 N, C, H, W] in the order of `decode`, each made smaller by `sampling`.

        `sampling` is `nearest` or `bilinear`. The result is [N, C, H, W].
        """
        height, width = images.shape[2:]
        corners = None if sampling == "nearest" else False
        small = F.interpolate(images, self.tile_size(height, width), mode=sampling, align_corners=corners)
        tiles = small.chunk(self.tiles)
        bands = [torch.cat(tiles[row * self.factor : (row + 1) * self.factor], 3) for row in range(self.factor)]
        return torch.cat(bands, 2)[:, :, :height, :width]

    def rows(self, stored: int) -> Tensor:
        """The stored image that each image of `decode` is a part of; int64 [`images_in(stored)`].

        >>> Tiles(2).rows(2).tolist()
        [0, 1, 0, 1, 0, 1, 0, 1]
        """
        every = torch.arange(stored)
        return torch.cat([every[rows].repeat(factor**2) for factor, rows in self._parts(stored)])

    @property
    def _factors_in_turn(self) -> list[tuple[int, ...]]:
        """The factors by which each image of a class is decoded; one entry if it is the same for all."""
        match self.decoding:
            case "uniform":
                return [(self.factor,)]
            case "multi":
                return [tuple(range(1, self.factor + 1))]
            case "bound":
                return [(factor,) for factor in self.factors]

    @property
    def _used(self) -> list[int]:
        return sorted({factor for factors in self._factors_in_turn for factor in factors})

    def _parts(self, stored: int) -> list[tuple[int, slice | list[int]]]:
        """Factors from small to large, and the rows of so many stored images that are decoded with each of them."""
        self._check_whole_classes(stored)
        turn = self._factors_in_turn
        if len(turn) == 1:
            return [(factor, slice(None)) for factor in self._used]
        return [(factor, [row for row in range(stored) if factor in turn[row % len(turn)]]) for factor in self._used]

    def _check_whole_classes(self, stored: int) -> None:
        """Raise `CondenseError` for parts of a class, if an image's place in its class decides how it is decoded."""
        if self.factors and stored % len(self.factors):
            raise CondenseError(
                f"{stored} stored images are not whole classes of {len(self.factors)}, for which their decoder is made"
            )


def _tile_size(factor: int, height: int, width: int) -> tuple[int, int]:
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    if min(height - (factor - 1) * rows, width - (factor - 1) * columns) < 1:
        raise CondenseError(
            f"images of {height}x{width} cannot be cut into {factor} x {factor} tiles; give a smaller --factor"
        )
    return rows, columns


def _decoded(stored: Tensor, factor: int, fill: float) -> Tensor:
    """The tiles of all images by one factor; with factor 1 the images themselves."""
    if factor == 1:
        return stored
    height, width = stored.shape[2:]
    rows, columns = _tile_size(factor, height, width)
    whole = F.pad(stored, (0, factor * columns - width, 0, factor * rows - height), value=fill)
    tiles = [strip for band in whole.split(rows, 2) for strip in band.split(columns, 3)]
    return F.interpolate(torch.cat(tiles), (height, width), mode="bilinear", align_corners=False)


_KINDS: dict[Decoding, str] = {"uniform": "tiles", "multi": "multi-tiles", "bound": "bound-tiles"}
_IN_WORDS = {
    "uniform": "each is {0} x {0} tiles",
    "multi": "each is 1 x 1, 2 x 2, ... and {0} x {0} tiles",
    "bound": "each is up to {0} x {0} tiles",
}


class _Attributes(BaseModel):
    """Those of a file, of the types that they are written with."""

    model_config = ConfigDict(strict=True, extra="forbid")

    kind: Literal["tiles", "multi-tiles", "bound-tiles"]
    factor: int = Field(le=_LARGEST_FACTOR)
    factors: list[int] = []
