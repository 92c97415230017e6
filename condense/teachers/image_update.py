"""Images that are moved so that a projector says of them what its teachers said of the originals.

HeLlO (arXiv 2408.08201) changes the shrunken patches of its mosaics so that the encoder takes them for the patches
before. Here the images are those of any set, and what is compared is what is trained on: logits.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.labels.advisers import Voter
from condense.labels.showing import Showing
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.classifier import Voters

_LR = 0.01  # of Adam, where black is 0 and white is 1
_AT_ONCE = 64  # images


def updated_images(
    base: SyntheticSet, projector: Voters, teachers: Voter, showing: Showing, updates: int, device: torch.device
) -> SyntheticSet:
    """The set with its images after so many updates of each, rounded to 8 bits.

    Update u descends the mean squared difference between the projector's logits of view u of an image and the teachers'
    logits of the same view of the image as it was, by Adam, within [0, 1]. Raises `CondenseError` for a set that has
    no pixel of each image: one that is decoded, or kept in another space.
    """
    check_movable(base)
    moved = [
        _in_8_bits(_moved(base.plain.read(ids).to(device), ids, projector, teachers, showing, updates))
        for ids in torch.arange(len(base)).split(_AT_ONCE)
    ]
    return replace(base, stored=torch.cat(moved), source_indices=None, scores=None)  # they are no copies any more


def check_movable(base: SyntheticSet) -> None:
    """Raise `CondenseError` for a set whose images cannot be moved."""
    if base.decoder is not None or base.stored.dtype != torch.uint8:
        raise CondenseError(
            "--image-updates changes pixels of 8 bits, and these images are stored in another form; leave it out"
        )


def _in_8_bits(pixels: Tensor) -> Tensor:
    return pixels.mul(255).round().to(torch.uint8).cpu()


def _moved(pixels: Tensor, ids: Tensor, projector: Voters, teachers: Voter, showing: Showing, updates: int) -> Tensor:
    """Pixels [n, C, H, W] in [0, 1] of the images `ids` (int64 [n]), moved."""
    moved = pixels.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=_LR)
    for update in range(updates):
        views = torch.full_like(ids, update)
        wanted = teachers.logits(showing.seen(pixels, views, ids))
        loss = F.mse_loss(projector.votes(showing.seen(moved, views, ids)), wanted)
        (moved.grad,) = torch.autograd.grad(loss, moved)
        optimizer.step()
        with torch.no_grad():
            moved.clamp_(0, 1)
    return moved.detach()
