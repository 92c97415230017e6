"""Arrays of images in the forms that programs write, as uint8 with the channels last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condense.data.images.decoding import ImageShape
from condense.data.images.depth import to_uint8
from condense.data.images.window import Window
from condense.runtime.errors import CondenseError

_CHANNELS = (1, 3)


@dataclass(frozen=True)
class ArrayForm:
    """How the rows of an array become images: `what` names it in errors, `shape` (N, ...) and `dtype` are its own."""

    what: str
    shape: tuple[int, ...]
    dtype: np.dtype
    window: Window | None

    @property
    def channels_first(self) -> bool:
        """Whether the channels come before height and width."""
        return len(self.shape) == 4 and self.shape[3] not in _CHANNELS and self.shape[1] in _CHANNELS

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W)."""
        if len(self.shape) == 3:
            return 1, self.shape[1], self.shape[2]
        _, *sides = self.shape
        channels, height, width = sides if self.channels_first else (sides[2], sides[0], sides[1])
        return channels, height, width

    @property
    def note(self) -> str:
        """What to say about an unusual form; empty for none."""
        parts = []
        if self.dtype.kind == "f" and self.window is None:
            parts.append(f"is {self.dtype} in [0, 1] and was rounded to 8 bits")
        if self.channels_first:
            parts.append("has its channels before height and width")
        return f"{self.what} {' and '.join(parts)}" if parts else ""

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Some rows as uint8 (n, H, W) or (n, H, W, C); raises `CondenseError` for floats beyond [0, 1]."""
        if self.window is not None:
            rows = self.window.apply(rows)
        elif self.dtype.kind == "f" and rows.size:
            lowest, highest = rows.min(), rows.max()
            if not (lowest >= 0 and highest <= 1):
                raise CondenseError(
                    f"{self.what} is {self.dtype} from {lowest:.4g} to {highest:.4g}; images must be uint8, or "
                    "floating point in [0, 1], or give --window LOW HIGH, the values that become black and white"
                )
            rows = np.rint(rows.astype(np.float64) * 255).astype(np.uint8)
        return rows.transpose(0, 2, 3, 1) if self.channels_first else rows


def array_form(path: Path, key: str, images: Any, window: Window | None) -> ArrayForm:
    """The form of `images`, an array or rows of one; only its dtype and shape are looked at.

    Raises `CondenseError` for another dtype or shape than images have.
    """
    form = ArrayForm(f"{key} of {path.name}", tuple(images.shape), images.dtype, window)
    if window is not None and (images.dtype == np.uint8 or images.dtype.kind not in "iuf"):
        raise CondenseError(
            f"{key} of {path} is {images.dtype}, and --window is for values of more than 8 bits: leave it out"
        )
    if window is None and images.dtype != np.uint8 and images.dtype.kind != "f":
        raise CondenseError(
            f"{key} of {path} is {images.dtype}; images must be uint8, 0 to 255 ({to_uint8(images.dtype)})"
        )
    shape = form.shape
    if not (len(shape) == 3 or (len(shape) == 4 and {shape[1], shape[3]} & {*_CHANNELS})):
        raise CondenseError(
            f"{key} of {path} has shape {shape}; give (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3"
        )
    if 0 in shape[1:]:
        raise CondenseError(f"{key} of {path} has shape {shape}; images need at least one pixel")
    return form
