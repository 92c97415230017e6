"""Decoders: how a few stored images become more training images.

A set with a decoder stores images that networks never see as they are. What is stored is what the set costs; what is
decoded is what networks train on, and both numbers belong beside every accuracy of such a set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.sets.compensators import Compensators
from condense.sets.kept_patches import KeptPatches
from condense.sets.tiles import Tiles


class Decoder(Protocol):
    """A way to decode. Files store its `kind`, its attributes (numbers, texts, lists of them) and its arrays."""

    @property
    def kind(self) -> str:
        """What files call it."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What a file says of it beside its kind."""

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """What it has learned, if anything."""

    @property
    def bytes(self) -> int:
        """What the file holds of it."""

    @property
    def by_place(self) -> bool:
        """Whether the place of a stored image in its class decides how it is decoded."""

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """What stored images may be."""

    def stored_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """The shape of a stored image, for training images of this shape (C, H, W)."""

    def check(self, image_shape: tuple[int, int, int], stored: int) -> None:
        """Raise `CondenseError` unless it decodes so many images of this shape (C, H, W)."""

    def at(self, rows: Tensor) -> Decoder:
        """What decodes the stored images at `rows` (int64 [n]) by themselves; not asked where `by_place` is true."""

    def images_in(self, stored: int) -> int:
        """Training images in so many stored ones."""

    def rows(self, stored: int) -> Tensor:
        """The stored image that each training image is a part of; int64 [`images_in(stored)`]."""

    def decode(self, stored: Tensor, fill: float) -> Tensor:
        """The training images of `stored` [N, ...]; what nothing is known of is `fill`."""

    def describe(self, images: int) -> str:
        """What is made of the stored images, so many, for people."""


FromParts = Callable[[str, Mapping[str, Any], Mapping[str, np.ndarray]], Decoder]

DECODERS: dict[str, FromParts] = {
    **dict.fromkeys(("tiles", "multi-tiles", "bound-tiles"), Tiles.from_parts),
    "compensators": Compensators.from_parts,
    "patches": KeptPatches.from_parts,
}


def decoder_from_parts(kind: str, attributes: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Decoder:
    """The decoder that a file describes; raises `CondenseError` for a kind that this version does not know."""
    if kind not in DECODERS:
        raise CondenseError(f"its images are decoded by {kind!r}, which this condense does not know; upgrade condense")
    return DECODERS[kind](kind, attributes, arrays)
