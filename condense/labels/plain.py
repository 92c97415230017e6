"""Images as pixels in [0, 1]: what views are taken of, and what teachers are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from condense.data.real import Split
from condense.runtime.errors import CondenseError

_READ_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class PlainImages:
    """So many images, which `read` gives by their indices (int64 [n]) as pixels: float32 [n, C, H, W] in [0, 1]."""

    count: int
    read: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return self.count

    @cached_property
    def digest(self) -> str:
        """32 hex digits of all pixels in their order: blake2b of their float32 values."""
        digest = hashlib.blake2b(digest_size=16)
        for indices in torch.arange(self.count).split(_READ_AT_ONCE):
            digest.update(self.read(indices).contiguous().numpy().data)
        return digest.hexdigest()

    def check(self, digest: str, count: int) -> None:
        """Raise `CondenseError` unless they are so many images of this digest: those that labels were made for."""
        if len(self) != count or self.digest != digest:
            raise CondenseError(
                f"the labels were made for other images (digest {digest[:12]}) than these ({self.digest[:12]}); "
                "relabel these"
            )


def plain_pixels(split: Split) -> PlainImages:
    """Those of a split of real data."""
    return PlainImages(len(split), lambda indices: split.pixels(indices).to(torch.float32).div_(255))
