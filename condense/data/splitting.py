"""Splits that we make ourselves: stratified, and decided by the content of the images, not by a seed or an order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
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
        count = _share(len(members), fraction)
        held_out[sorted(members, key=lambda index: keys[index])[:count]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def grouped_split(
    labels: Tensor, keys: Sequence[bytes], groups: Sequence[Hashable], fraction: float
) -> tuple[Tensor, Tensor]:
    """Split indices into (kept, held out) near `fraction` of every class, with all images of a group on one side.

    `labels` is int64 [N], `keys` digest the images, `groups` name their groups; a group may have images of several
    classes. Groups come in the order of what their images hold, and one is held out where that brings the held-out
    numbers of its classes nearer to the fraction and leaves each class an image. A class of which nothing would be held
    out gives the smallest group that it can spare. Both results are int64 and ascending.

    >>> grouped_split(torch.tensor([0, 0, 0, 1, 1]), [b"d", b"a", b"e", b"c", b"b"], ["p", "q", "p", "q", "r"], 0.4)
    (tensor([0, 2, 4]), tensor([1, 3]))
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    order = sorted(members, key=lambda group: content_key(b"".join(sorted(keys[index] for index in members[group]))))
    sizes = {group: Counter(labels[members[group]].tolist()) for group in order}
    totals = Counter(labels.tolist())
    left = {label: _share(total, fraction) for label, total in totals.items()}  # how many more to hold out
    held_out = torch.zeros(len(labels), dtype=torch.bool)

    def can_spare(group: Hashable) -> bool:
        return all(count < totals[label] for label, count in sizes[group].items())

    def hold_out(group: Hashable) -> None:
        held_out[members[group]] = True
        for label, count in sizes[group].items():
            left[label] -= count
            totals[label] -= count

    for group in order:
        gain = sum(abs(left[label]) - abs(left[label] - count) for label, count in sizes[group].items())
        if gain > 0 and can_spare(group):
            hold_out(group)
    for label in sorted(totals):
        spare = [group for group in order if label in sizes[group] and can_spare(group)]
        if spare and not held_out[labels == label].any():
            hold_out(min(spare, key=lambda group: sizes[group].total()))
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def _share(total: int, fraction: float) -> int:
    """How many of the images of a class are held out: at least one, and never the last."""
    return min(max(1, round(fraction * total)), total - 1)


def content_keys(pixels: PixelSource) -> list[bytes]:
    """A digest of the pixels of every image, to split by."""
    return [content_key(image.numpy()) for chunk in pixels.chunks() for image in chunk]


def content_key(content: Any) -> bytes:
    """The digest of one image: of its contiguous pixels or of its file's bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()
