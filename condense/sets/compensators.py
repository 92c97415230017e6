"""Compensated images: a decoder that adds a few images, shared by all classes, to the stored ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError

_LEVELS = 255
_MIDDLE = 127.5  # the level of a compensator that changes nothing


@dataclass(frozen=True, eq=False)
class Compensators:
    """Each stored image is a training image, and once more with every compensator of its place in its class.

    Inter-class feature compensators (Zhang et al., INFER, ICLR 2025) are images added to one image of every class:
    `levels` uint8 [n, M, C, H, W] has M of them for each of n places. Level q adds (q - 127.5) 2 / 255 to a pixel of
    [0, 1], and sums are clipped: beyond one, more makes no difference.
    """

    levels: np.ndarray

    def __post_init__(self) -> None:
        if self.levels.dtype != np.uint8 or self.levels.ndim != 5 or not self.levels.size:
            raise CondenseError(
                f"compensators are uint8 [places, compensators, C, H, W], not {self.levels.dtype} of shape "
                f"{list(self.levels.shape)}"
            )

    @classmethod
    def of(cls, additions: Tensor) -> Self:
        """Those nearest to `additions` float32 [n, M, C, H, W], in units of pixels in [0, 1]."""
        levels = (additions.clamp(-1, 1) * _LEVELS / 2 + _MIDDLE).round().clamp(0, _LEVELS)
        return cls(levels.to(torch.uint8).cpu().numpy())

    @classmethod
    def from_parts(cls, kind: str, attributes: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """The decoder that a file describes; raises `CondenseError` for parts that make none."""
        if set(arrays) != {"levels"} or attributes:
            raise CondenseError(f"its decoder {kind} has not just the array levels; make it again")
        return cls(np.array(arrays["levels"]))

    @property
    def kind(self) -> str:
        """What files call it."""
        return "compensators"

    @property
    def attributes(self) -> dict[str, Any]:
        """Nothing beside the array."""
        return {}

    @property
    def by_place(self) -> bool:
        """Yes: places have compensators of their own."""
        return True

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Pixels, too."""
        return torch.uint8, torch.float32

    def stored_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """That of an image."""
        return image_shape

    def at(self, rows: Tensor) -> Self:
        """The same: it knows nothing of single images."""
        return self

    @property
    def places(self) -> int:
        """Stored images of each class."""
        return int(self.levels.shape[0])

    @property
    def count(self) -> int:
        """Compensators of each place."""
        return int(self.levels.shape[1])

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The compensators."""
        return {"levels": self.levels}

    @property
    def bytes(self) -> int:
        """What the file holds of it."""
        return self.levels.nbytes

    def check(self, image_shape: tuple[int, int, int], stored: int) -> None:
        """Raise `CondenseError` unless it decodes so many images of this shape (C, H, W)."""
        if tuple(self.levels.shape[2:]) != tuple(image_shape):
            shape = list(self.levels.shape[2:])
            raise CondenseError(f"compensators of {shape} do not fit images of {list(image_shape)}")
        if stored % self.places:
            raise CondenseError(f"{stored} images are no whole classes of {self.places}, which compensators are for")

    def images_in(self, stored: int) -> int:
        """Training images in so many stored ones.

        >>> Compensators(np.zeros((2, 3, 1, 4, 4), np.uint8)).images_in(10)
        40
        """
        return stored * (1 + self.count)

    def rows(self, stored: int) -> Tensor:
        """The stored image that each training image is made of; int64 [`images_in(stored)`]."""
        return torch.arange(stored).repeat(1 + self.count)

    def decode(self, stored: Tensor, fill: float) -> Tensor:
        """The stored images, then all of them with the first compensators, the second, and so on.

        Pixels come back as float32 of [0, 255], images of [0, 1] in their own units.
        """
        unit = float(_LEVELS) if stored.dtype == torch.uint8 else 1.0
        images = stored.float()
        additions = (torch.from_numpy(self.levels).float() - _MIDDLE) * (2 * unit / _LEVELS)  # (n, M, C, H, W)
        place = torch.arange(len(images)) % self.places
        sums = [(images + additions[place, number]).clamp(0, unit) for number in range(self.count)]
        return torch.cat([images, *sums])

    def describe(self, images: int) -> str:
        """What is made of the stored images, so many, for people."""
        return f"with {self.count} compensators for each place in a class, which make {images} training images of them"
