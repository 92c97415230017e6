"""A training on what a showing shows: every batch with the logits that a teacher gives, or has given, to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.data.info import DataInfo
from condense.labels.objectives import Objective
from condense.labels.plain import PlainImages
from condense.labels.showing import Place, Showing
from condense.runtime.errors import CondenseError
from condense.training.rule import TrainingRule
from condense.training.sources import Batch, BatchSource

_SURE = 50.0  # a logit above others by which nothing is left for them at temperature 1
Answer = Callable[[Place, Tensor, Tensor], Tensor]  # of a place, ids int64 [n], and what is shown: logits [n, K]


class Answers(Protocol):
    """Where the logits of what is shown come from: stored labels, or a teacher."""

    def on(self, device: torch.device) -> Answer:
        """Ready to be asked, on a device."""


@dataclass(frozen=True, eq=False)
class ShownImages:
    """A `TrainingSource` of views: the student sees them preprocessed, the teacher as pixels.

    `classes` int64 [N] and `weights` float32 [N] are those of the images, where there are any. What is seen is for the
    showing to say: the augmentation and CutMix of a training's rule do not count.
    """

    showing: Showing
    objective: Objective
    answers: Answers
    plain: PlainImages
    info: DataInfo
    classes: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.plain)

    def presented(self, rule: TrainingRule, seed: int, device: torch.device) -> ShownBatches:
        """The batches of a training; raises `CondenseError` where the rule has others than the labels."""
        wanted = self.showing.batch_size
        if wanted is not None and rule.batch_size != wanted:
            raise CondenseError(
                f"the labels were made for batches of {wanted} images, and the training has batches of "
                f"{rule.batch_size}; choose a protocol with batches of {wanted}, or relabel with --batch-size "
                f"{rule.batch_size}"
            )
        return ShownBatches(self, device)


class ShownBatches(BatchSource):
    """The batches of `source` on a device; they depend on the labels, not on a training's seed."""

    def __init__(self, source: ShownImages, device: torch.device) -> None:
        self.source, self.device, self.answer = source, device, source.answers.on(device)

    def batches(self, epoch: int) -> list[Tensor] | None:
        """Those of the showing, if it has any."""
        return self.source.showing.batches(len(self.source), epoch)

    def batch(self, epoch: int, number: int, ids: Tensor) -> Batch:
        """What is shown of these images."""
        source = self.source
        pixels, place = source.plain.read(ids).to(self.device), source.showing.place(epoch, number, ids, len(source))
        shown = source.showing.shown(pixels, place, ids)
        logits = self.answer(place, ids, shown).to(self.device)
        known = ~logits.isnan().all(1)
        logits = torch.where(known[:, None], logits, 0.0)
        if source.showing.plain:
            plain = source.showing.seen_plain(epoch, ids).to(self.device)
            shown, logits = self._as_they_are(plain, ids, (pixels, shown), logits)
            known |= plain
        classes = None if source.classes is None else source.classes[ids].to(self.device)

        def mixed() -> tuple[Tensor, Tensor]:
            assert classes is not None, "whoever asks for mixed classes has some"
            _, *size = source.info.image_shape
            one_hot = F.one_hot(classes, len(source.info.classes)).float()
            return source.showing.mixed_classes(one_hot, (size[0], size[1]), place)

        targets = source.objective.targets(logits, classes, self._weights(place, ids, known), mixed)
        apply = source.info.preprocessing.apply
        return Batch(epoch, ids, apply(shown), targets, apply(pixels))

    def _as_they_are(
        self, plain: Tensor, ids: Tensor, images: tuple[Tensor, Tensor], logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Some images (`plain`, bool [n]) as they are, with their class instead of what a teacher said of the view."""
        pixels, shown = images
        assert self.source.classes is not None, "labels want classes where images are seen as they are"
        count = len(self.source.info.classes)
        of_class = F.one_hot(self.source.classes[ids].to(self.device), count)
        sure = _SURE * of_class.repeat_interleave(logits.shape[1] // count, 1).to(logits)  # nobody knows which part
        return torch.where(plain[:, None, None, None], pixels, shown), torch.where(plain[:, None], sure, logits)

    def _weights(self, place: Place, ids: Tensor, known: Tensor) -> Tensor | None:
        """How much each image counts; a mixed one by its parts, and one without a label not at all."""
        source = self.source
        if source.weights is None:
            return None if bool(known.all()) else known.to(torch.float32)
        _, height, width = source.info.image_shape
        everywhere = source.weights[ids].view(-1, 1, 1, 1).expand(-1, 1, height, width)
        return source.showing.mixed(everywhere, place).mean((1, 2, 3)).to(self.device) * known
