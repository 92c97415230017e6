"""Kept patches: a decoder whose stored images are only some of their patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.validation import validated

_LEVELS = 255
_MOST_TIMES = 1000  # patches of an image for each one that is stored: no small file may become a large memory


def patches_of(images: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] cut into their P patches, row by row: [N, P, C, side, side].

    Where `side` does not divide the sides of images, what the last patches have beyond an image is 0.

    >>> patches_of(torch.arange(1, 7).view(1, 1, 2, 3), 2).flatten(2).tolist()
    [[[1, 2, 4, 5], [3, 0, 6, 0]]]
    """
    height, width = images.shape[2:]
    whole = F.pad(images, (0, -width % side, 0, -height % side))
    cut = whole.unfold(2, side, side).unfold(3, side, side)  # (N, C, down, across, side, side)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def joined_patches(patches: Tensor, height: int, width: int) -> Tensor:
    """The images [N, C, height, width] of all their patches [N, P, C, side, side], as `patches_of` cuts them.

    >>> joined_patches(torch.tensor([1, 2, 4, 5, 3, 0, 6, 0]).view(1, 2, 1, 2, 2), 2, 3).tolist()
    [[[[1, 2, 3], [4, 5, 6]]]]
    """
    grid = patches.unflatten(1, (-1, -(-width // patches.shape[-1])))  # (N, down, across, C, side, side)
    bands = grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)  # (N, C, down * side, across * side)
    images: Tensor = bands[:, :, :height, :width]
    return images


def patch_count(side: int, height: int, width: int) -> int:
    """Patches of an image.

    >>> patch_count(4, 28, 30)
    56
    """
    return -(-height // side) * -(-width // side)


@dataclass(frozen=True, eq=False)
class KeptPatches:
    """Of each image only K of its P patches are stored, uint8 [K, C, patch, patch]; the rest of it is one colour.

    The patch dropping of Dataset Quantization (Zhou et al., ICCV 2023) without the masked autoencoder that the paper
    fills the gaps with, a network of 300 million parameters that was trained on other images: these are plainly filled.

    `bitmap` uint8 [N, ceil(P / 8)] has a bit for each patch of each of N images, row by row, as `numpy.packbits` packs
    them; it is 1 where the patch is stored. `patch` is the side of patches, `size` the height and width of images, and
    `colour` what is not stored, a number in [0, 1] for each channel. Stored patches are in the order of their bits, and
    what those at the edge have beyond the image is not looked at.

    Raises `CondenseError` where these do not fit together.
    """

    bitmap: np.ndarray
    patch: int
    size: tuple[int, int]
    colour: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (1 <= self.patch <= max(self.size) and all(0 <= value <= 1 for value in self.colour)):
            raise CondenseError(
                f"patches of side {self.patch} of images of {_times(self.size)}, filled up with {list(self.colour)}, "
                "are none: give a side within the image, and colours from 0 to 1"
            )
        columns = -(-self.patches // 8)
        if self.bitmap.dtype != np.uint8 or self.bitmap.ndim != 2 or self.bitmap.shape[1] != columns:
            raise CondenseError(
                f"the bitmap of {self.patches} patches is uint8 [images, {columns}], not {self.bitmap.dtype} of shape "
                f"{list(self.bitmap.shape)}; make it again"
            )
        if np.unpackbits(self.bitmap, axis=1)[:, self.patches :].any():
            raise CondenseError(f"the bitmap has more patches than the {self.patches} of an image; make it again")
        counts = self.kept.sum(1)
        if (counts != counts[:1]).any() or (counts * _MOST_TIMES < self.patches).any():
            raise CondenseError(
                f"the bitmap keeps {counts.min()} to {counts.max()} of {self.patches} patches; as many must be kept of "
                f"every image, and at least one of {_MOST_TIMES}"
            )

    @classmethod
    def of(cls, images: Tensor, kept: Tensor, patch: int, colour: tuple[float, ...]) -> tuple[Self, Tensor]:
        """The decoder and what it decodes, uint8 [N, K, C, patch, patch], of images uint8 [N, C, H, W].

        `kept` bool [N, P] is true for the patches that are stored, as many of every image.
        """
        height, width = images.shape[2:]
        decoder = cls(np.packbits(kept.numpy(), axis=1), patch, (height, width), colour)
        return decoder, patches_of(images, patch)[kept].unflatten(0, (len(images), -1))

    @classmethod
    def from_parts(cls, kind: str, attributes: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """The decoder that a file describes; raises `CondenseError` for parts that make none."""
        if set(arrays) != {"bitmap"}:
            raise CondenseError(f"its decoder {kind} has not just the array bitmap; make it again")
        facts = validated(_Attributes, attributes)
        return cls(np.array(arrays["bitmap"]), facts.patch, (facts.size[0], facts.size[1]), tuple(facts.colour))

    @property
    def kind(self) -> str:
        """What files call it."""
        return "patches"

    @property
    def attributes(self) -> dict[str, Any]:
        """What a file says of it beside its kind."""
        return {"patch": self.patch, "size": list(self.size), "colour": list(self.colour)}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The bitmap."""
        return {"bitmap": self.bitmap}

    @property
    def bytes(self) -> int:
        """What the file holds of it: the bitmap, side and size as int64, and the colour as float64."""
        return self.bitmap.nbytes + 8 * (1 + len(self.size) + len(self.colour))

    @property
    def by_place(self) -> bool:
        """No: an image is decoded by its own bits."""
        return False

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Pixels only: the colour is one of [0, 1]."""
        return (torch.uint8,)

    @property
    def patches(self) -> int:
        """P: of each image."""
        return patch_count(self.patch, *self.size)

    @cached_property
    def kept(self) -> Tensor:
        """Which patches are stored; bool [N, P]."""
        return torch.from_numpy(np.unpackbits(self.bitmap, axis=1, count=self.patches)).bool()

    @property
    def count(self) -> int:
        """K: of each image that are stored; 0 where there is no image."""
        return int(self.kept[:1].sum())

    def stored_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Of a stored image: (K, C, patch, patch)."""
        return self.count, image_shape[0], self.patch, self.patch

    def check(self, image_shape: tuple[int, int, int], stored: int) -> None:
        """Raise `CondenseError` unless it decodes so many images of this shape (C, H, W)."""
        mine = (len(self.colour), *self.size)
        if mine != tuple(image_shape):
            raise CondenseError(f"patches of images of {list(mine)} do not fit images of {list(image_shape)}")
        if len(self.bitmap) != stored:
            raise CondenseError(f"the bitmap is of {len(self.bitmap)} images, and {stored} are stored; make it again")

    def at(self, rows: Tensor) -> Self:
        """The decoder of the stored images at `rows` (int64 [n]) by themselves."""
        return replace(self, bitmap=self.bitmap[rows.numpy()])

    def images_in(self, stored: int) -> int:
        """As many training images as there are stored ones."""
        return stored

    def rows(self, stored: int) -> Tensor:
        """The stored image that each training image is made of; int64 [stored]."""
        return torch.arange(stored)

    def decode(self, stored: Tensor, fill: float) -> Tensor:
        """The images of the patches `stored` uint8 [N, K, C, patch, patch]: float32 [N, C, H, W] of [0, 255].

        Pixels that are stored come back as they were; `fill` is not used, since the colour is known.

        >>> decoder = KeptPatches(np.array([[0b01000000]], np.uint8), 1, (1, 2), (0.2,))
        >>> decoder.decode(torch.tensor([7], dtype=torch.uint8).view(1, 1, 1, 1, 1), fill=0.0).tolist()
        [[[[51.0, 7.0]]]]
        """
        colour = torch.tensor(self.colour) * _LEVELS
        patches = colour[:, None, None].repeat(*self.kept.shape, 1, self.patch, self.patch)  # (N, P, C, patch, patch)
        patches[self.kept] = stored.flatten(0, 1).float()
        return joined_patches(patches, *self.size)

    def describe(self, images: int) -> str:
        """What is made of the stored images, so many, for people."""
        return (
            f"of each {self.count} of {self.patches} patches of {self.patch}x{self.patch} with a bitmap, and the rest "
            "filled with the mean colour (not by the paper's masked autoencoder)"
        )


def _times(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


class _Attributes(BaseModel):
    """Those of a file, of the types that they are written with."""

    model_config = ConfigDict(strict=True, extra="forbid")

    patch: int
    size: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]
    colour: list[float]
