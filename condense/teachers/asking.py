"""What teachers say of images: of each as it is, or of every view of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from condense.labels.advisers import Voter
from condense.labels.codecs import DENSE, Codec, distances
from condense.labels.plain import PlainImages
from condense.labels.reliability import Calibration
from condense.labels.rows import RowsToMake
from condense.labels.showing import Place, Showing
from condense.labels.views import row_shape
from condense.runtime.memory import keep_freed_memory
from condense.runtime.progress import say

_ASKED_AT_ONCE = 128  # images, where it makes no difference


def clean_logits(plain: PlainImages, voter: Voter, device: torch.device) -> Tensor:
    """The logits of all images as they are: float32 [N, K], on the processor."""
    keep_freed_memory()
    batches = torch.arange(len(plain)).split(_ASKED_AT_ONCE)
    return torch.cat([voter.logits(plain.read(ids).to(device)).float().cpu() for ids in batches])


@dataclass(frozen=True)
class ViewAsking:
    """Who is asked about which views of which images, and how what is said is kept.

    `classes` is how many there are, `codec` the form of a row, `calibration` what becomes of labels that are not
    believed; `indices` are the classes of the images (int64 [N]) where distances from them are kept.
    """

    showing: Showing
    plain: PlainImages
    voter: Voter
    classes: int
    device: torch.device
    codec: Codec = DENSE
    calibration: Calibration | None = None
    indices: Tensor | None = None

    @property
    def views(self) -> int:
        """Of each image."""
        assert self.showing.views is not None, "views that are stored have a number"
        return self.showing.views

    def rows(self, done: Callable[[int], None] = lambda views: None) -> RowsToMake:
        """The labels of every view, as `condense.labels.ViewLabels` have them, made while they are written.

        No more of them is in memory than a few hundred images', or those of one epoch where batches are mixed. `done`
        is told how many views are made. Raises `CondenseError` for logits that the codec cannot hold.
        """
        width = self.codec.width(self.classes)
        rows, group = row_shape(len(self.plain), width * self.codec.dtype.itemsize)

        def make() -> Iterator[np.ndarray]:
            keep_freed_memory()
            for view in range(self.views):
                for ids, encoded in self._of_view(view, group):
                    padded = np.zeros((-(-len(ids) // group) * group, width), self.codec.dtype)  # beyond the last: zero
                    padded[ids - ids.min()] = encoded
                    yield padded.reshape(-1, group, width)
                done(view + 1)
            if self.calibration is not None:
                say(f"note: {self.calibration.describe()}")

        return RowsToMake((self.views * rows, group, width), self.codec.dtype, make)

    def _of_view(self, view: int, group: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images int64 [n] that follow one another, in any order, and their rows; n a multiple of `group` but last."""
        images = len(self.plain)
        if self.showing.by_batch:
            batches = self.showing.batches_of_view(images, view)
            asked = [self._asked(Place.of(view, number, ids), ids) for number, ids in enumerate(batches)]
            yield torch.cat(batches).numpy(), np.concatenate(asked)
            return
        for ids in torch.arange(images).split(group * max(1, _ASKED_AT_ONCE // group)):
            asked = [self._asked(Place.of(view, 0, part), part) for part in ids.split(_ASKED_AT_ONCE)]
            yield ids.numpy(), np.concatenate(asked)

    def _asked(self, place: Place, ids: Tensor) -> np.ndarray:
        """The rows of one batch."""
        shown = self.showing.shown(self.plain.read(ids).to(self.device), place, ids)
        logits = self.showing.ask(self.voter, shown).float().cpu()
        if self.indices is not None:  # of distances
            own = F.one_hot(self.indices[ids], self.classes).float()
            height, width = shown.shape[2:]
            _, partners = self.showing.mixed_classes(own, (height, width), place)
            logits = distances(logits, own.argmax(1), partners.argmax(1))
        if self.calibration is None:
            return self.codec.encode(logits)
        return self.codec.encode_some(*self.calibration.applied(logits, ids))
