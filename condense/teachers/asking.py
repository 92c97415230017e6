"""What teachers say of images: of each as it is, or of every view of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from condense.labels.advisers import Voter
from condense.labels.plain import PlainImages
from condense.labels.rows import RowsToMake
from condense.labels.showing import Showing
from condense.labels.views import LOGITS, row_shape
from condense.runtime.errors import CondenseError
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
) -> RowsToMake:
    """The logits of every view, as `condense.labels.ViewLabels` have them, made while they are written.

    No more of them is in memory than a few hundred images', or those of one epoch where batches are mixed. `done` is
    told how many views are made. Raises `CondenseError` for logits that half precision cannot hold.
    """
    assert showing.views is not None, "views that are stored have a number"
    rows, group = row_shape(len(plain), classes)

    def make() -> Iterator[np.ndarray]:
        keep_freed_memory()
        for view in range(showing.views or 0):
            for piece in _pieces(showing, view, plain, voter, device, (rows, group, classes)):
                yield _halved(piece)
            done(view + 1)

    return RowsToMake((showing.views * rows, group, classes), LOGITS, make)


def _pieces(
    showing: Showing, view: int, plain: PlainImages, voter: Voter, device: torch.device, shape: tuple[int, int, int]
) -> Iterator[Tensor]:
    """The rows of one view, float32 [.., g, K]; places beyond the last image are zero."""
    rows, group, classes = shape

    def asked(number: int, ids: Tensor) -> Tensor:
        shown = showing.shown(plain.read(ids).to(device), view, number, ids)
        return showing.ask(voter, shown).float().cpu()

    batches = showing.batches(len(plain), view)
    if batches is not None:
        every = torch.zeros(rows * group, classes)
        for number, ids in enumerate(batches):
            every[ids] = asked(number, ids)
        yield every.view(rows, group, classes)
        return
    for ids in torch.arange(len(plain)).split(group * max(1, _ASKED_AT_ONCE // group)):
        logits = torch.cat([asked(0, part) for part in ids.split(_ASKED_AT_ONCE)])
        whole = torch.zeros(-(-len(ids) // group) * group, classes)
        whole[: len(ids)] = logits
        yield whole.view(-1, group, classes)


def _halved(logits: Tensor) -> np.ndarray:
    half = logits.to(torch.float16)
    if not torch.isfinite(half).all():
        raise CondenseError("the teacher gives logits beyond 65,504, or none at all, for some views; give another one")
    return half.numpy()
