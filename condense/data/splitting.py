"""Splits that we make ourselves: stratified, and decided by the content of the images, not by a seed or an order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from condense.data.sources import PixelSource

TEST_FRACTION = 0.2


def stratified_split(labels: Tensor, keys: Sequence[Any], fraction: float) -> tuple[Tensor, Tensor]:
    """Split indices into (kept, held out): of every class, the `fraction` with the smallest keys is held out.

    `labels` is int64 [N], `keys` any N values that sort. At least one image of a class goes to either side; the only
    image of a class is kept. Both results are int64 and ascending.

    >>> stratified_split(torch.tensor([0, 0, 0, 1, 1]), [3, 1, 2, 8, 7], 0.4)
    (tensor([0, 2, 3]), tensor([1, 4]))
    """
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten().tolist()
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out[sorted(members, key=lambda index: keys[index])[:count]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def content_keys(pixels: PixelSource) -> list[bytes]:
    """A digest of the pixels of every image, to split by."""
    return [content_key(image.numpy()) for chunk in pixels.chunks() for image in chunk]


def content_key(content: Any) -> bytes:
    """The digest of one image: of its contiguous pixels or of its file's bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()
