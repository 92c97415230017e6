"""Values of more than 8 bits as pixels: a window says which becomes black and which white."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from condense.runtime.errors import CondenseError


@dataclass(frozen=True)
class Window:
    """Values from `low` to `high` become 0 to 255 in proportion; those outside are clipped.

    Raises `CondenseError` unless both are finite and `low` is below `high`.

    >>> Window(0, 4095).apply(np.array([-1, 0, 2048, 4095, 65535]))
    array([  0,   0, 128, 255, 255], dtype=uint8)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise CondenseError(
                f"--window {self.low:g} {self.high:g} must be two finite values, the lower first, for example 0 4095"
            )

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Numbers of any type and shape as uint8; those that are none (NaN) become 0."""
        shares = (values.astype(np.float64) - self.low) / (self.high - self.low)
        pixels: np.ndarray = np.rint(255 * np.nan_to_num(shares, nan=0.0).clip(0, 1)).astype(np.uint8)
        return pixels

    @property
    def bounds(self) -> list[float]:
        """[low, high], whole numbers without a point, as `--window` takes them."""
        return [int(value) if float(value).is_integer() else float(value) for value in (self.low, self.high)]
