"""What teachers say of images: of each as it is, or of every view of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from condense.labels.advisers import Voter
from condense.labels.codecs import DENSE, Codec
from condense.labels.plain import PlainImages
from condense.labels.rows import RowsToMake
from condense.labels.showing import Place, Showing
from condense.labels.views import row_shape
from condense.runtime.memory import keep_freed_memory

_ASKED_AT_ONCE = 128  # images, where it makes no difference


def clean_logits(plain: PlainImages, voter: Voter, device: torch.device) -> Tensor:
    """The logits of all images as they are: float32 [N, K], on the processor."""
    keep_freed_memory()
    batches = torch.arange(len(plain)).split(_ASKED_AT_ONCE)
    return torch.cat([voter.logits(plain.read(ids).to(device)).float().cpu() for ids in batches])


def view_logits(
    showing: Showing,
    plain: PlainImages,
    voter: Voter,
    classes: int,
    device: torch.device,
    done: Callable[[int], None] = lambda views: None,
    codec: Codec = DENSE,
) -> RowsToMake:
    """The logits of every view, as `condense.labels.ViewLabels` have them, made while they are written.

    No more of them is in memory than a few hundred images', or those of one epoch where batches are mixed. `done` is
    told how many views are made. Raises `CondenseError` for logits that the codec cannot hold.
    """
    assert showing.views is not None, "views that are stored have a number"
    width = codec.width(classes)
    rows, group = row_shape(len(plain), width * codec.dtype.itemsize)

    def make() -> Iterator[np.ndarray]:
        keep_freed_memory()
        for view in range(showing.views or 0):
            for ids, encoded in _encoded(showing, view, plain, voter, device, codec, group):
                padded = np.zeros((-(-len(ids) // group) * group, width), codec.dtype)  # beyond the last image: zero
                padded[ids - ids.min()] = encoded
                yield padded.reshape(-1, group, width)
            done(view + 1)

    return RowsToMake((showing.views * rows, group, width), codec.dtype, make)


def _encoded(
    showing: Showing, view: int, plain: PlainImages, voter: Voter, device: torch.device, codec: Codec, group: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One view: images int64 [n] that follow one another, in any order, and their rows; n a multiple of `group`."""

    def asked(number: int, ids: Tensor) -> np.ndarray:
        shown = showing.shown(plain.read(ids).to(device), Place.of(view, number, ids), ids)
        return codec.encode(showing.ask(voter, shown).float().cpu())

    if showing.by_batch:
        batches = showing.batches_of_view(len(plain), view)
        yield torch.cat(batches).numpy(), np.concatenate([asked(number, ids) for number, ids in enumerate(batches)])
        return
    for ids in torch.arange(len(plain)).split(group * max(1, _ASKED_AT_ONCE // group)):
        yield ids.numpy(), np.concatenate([asked(0, part) for part in ids.split(_ASKED_AT_ONCE)])
