"""What the stored numbers of a synthetic set are, and how they become images.

A set stores float32 images in preprocessed space or in [0, 1] (a method learned them), or uint8 pixels (a method chose
real images). Each is a `Space`; whoever uses a set only ever sees `prepared` and `plain`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from condense.data.preprocessing import Preprocessing
from condense.runtime.errors import CondenseError
from condense.sets.large import Images


class Space(ABC):
    """One meaning of stored numbers.

    `name` stands for it in files, `dtype` is what it stores, `grey` is the value of pixels of which nothing is known.
    """

    name: ClassVar[str]
    dtype: ClassVar[torch.dtype]
    grey: ClassVar[float]

    @abstractmethod
    def prepared(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Training-ready images, float32 [N, C, H, W] in preprocessed space."""

    @abstractmethod
    def plain(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Images with the preprocessing undone, float32 [N, C, H, W] in about [0, 1], not clipped."""


class Preprocessed(Space):
    """Float32 images as networks see them."""

    name = "preprocessed"
    dtype = torch.float32
    grey = 0.0

    def prepared(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Return `stored`."""
        return stored

    def plain(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Undo the preprocessing."""
        return preprocessing.invert(stored)


class Unit(Space):
    """Float32 images with values in [0, 1], before preprocessing."""

    name = "unit"
    dtype = torch.float32
    grey = 0.5

    def prepared(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Apply the preprocessing."""
        return preprocessing.apply(stored)

    def plain(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Return `stored`."""
        return stored


class Pixels(Space):
    """Real images, uint8 pixels in [0, 255].

    >>> Pixels().plain(torch.tensor([255], dtype=torch.uint8), None).item()
    1.0
    """

    name = "pixels"
    dtype = torch.uint8
    grey = 127.5

    def prepared(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Apply the preprocessing to pixels scaled to [0, 1]."""
        return preprocessing.apply(stored.float() / 255)

    def plain(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Scale the pixels to [0, 1]."""
        return stored.float() / 255


SPACES: dict[str, Space] = {space.name: space for space in (Preprocessed(), Unit(), Pixels())}


def find_space(name: str) -> Space:
    """The space called `name`; raises `CondenseError` if there is none.

    >>> find_space("pixels").dtype
    torch.uint8
    """
    if name not in SPACES:
        raise CondenseError(f"its images are stored as {name!r}, which this condense cannot decode; upgrade condense")
    return SPACES[name]


def usual_space(stored: Images) -> Space:
    """The space of images of which only the dtype is known; raises `CondenseError` for a dtype that none has.

    >>> usual_space(torch.zeros(1, dtype=torch.uint8)).name
    'pixels'
    """
    for space in SPACES.values():
        if stored.dtype == space.dtype:
            return space
    allowed = " or ".join(dict.fromkeys(_dtype_name(space.dtype) for space in SPACES.values()))
    raise CondenseError(f"a synthetic set stores images as {allowed}, not {_dtype_name(stored.dtype)}; convert them")


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
