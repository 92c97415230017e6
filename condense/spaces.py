"""What the stored numbers of a synthetic set are, and how they become images.

A set stores either float32 images in preprocessed space (a method learned them) or uint8 pixels (a method chose real
images). Both are a `Space`. A method that stores something smaller and decodes it (several images packed into one, say)
adds a `Space` of its own to `SPACES`; whoever uses a set only ever sees `prepared` and `plain`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from condense.data.preprocessing import Preprocessing
from condense.runtime.errors import CondenseError


class Space(ABC):
    """One meaning of stored numbers; `name` stands for it in files, `dtype` is what it stores."""

    name: ClassVar[str]
    dtype: ClassVar[torch.dtype]

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

    def prepared(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Return `stored`."""
        return stored

    def plain(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Undo the preprocessing."""
        return preprocessing.invert(stored)


class Pixels(Space):
    """Real images, uint8 pixels in [0, 255].

    >>> Pixels().plain(torch.tensor([255], dtype=torch.uint8), None).item()
    1.0
    """

    name = "pixels"
    dtype = torch.uint8

    def prepared(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Apply the preprocessing to pixels scaled to [0, 1]."""
        return preprocessing.apply(stored.float() / 255)

    def plain(self, stored: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Scale the pixels to [0, 1]."""
        return stored.float() / 255


SPACES: tuple[Space, ...] = (Preprocessed(), Pixels())


def space_of(stored: Tensor) -> Space:
    """The space whose dtype `stored` has; raises `CondenseError` if there is none.

    >>> space_of(torch.zeros(1, dtype=torch.uint8)).name
    'pixels'
    """
    for space in SPACES:
        if stored.dtype == space.dtype:
            return space
    allowed = " or ".join(f"{_dtype_name(space.dtype)} ({space.name})" for space in SPACES)
    raise CondenseError(f"a synthetic set stores images as {allowed}, not {_dtype_name(stored.dtype)}; convert them")


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
