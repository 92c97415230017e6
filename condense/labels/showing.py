"""Showings: what of the images is seen in each epoch of a training, by the student and by the teacher that labels it.

All of it is a function of (seed, epoch, image) and, where whole batches matter, of (seed, epoch, batch): so what a
label was made for can be shown again, the very same pixels, in whatever order, process or library.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from condense.augmentation.cutmix import Mix, mixed_by_area, paste, pasted, window, window_mix
from condense.augmentation.mixup import Mixup, mix_up, mixup_of
from condense.augmentation.views import ViewRule, draw_views, see
from condense.data.info import DataInfo
from condense.labels.advisers import Voter
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import uniforms
from condense.runtime.validation import Closed

MIXUP_ALPHA = 0.8  # of Beta(alpha, alpha), as in FKD-Mix, SRe2L and INFER
Mixing = Literal["none", "mixup", "cutmix", "selfmix"]
BatchNormMode = Literal["running", "batch"]


@dataclass(frozen=True, eq=False)
class Place:
    """Which of the views that labels are of: `views` int64 [n], one for each image of a batch.

    Where batches are part of what is shown, the images are `batch` of that view, which is the same for all.
    """

    views: Tensor
    batch: int

    @classmethod
    def of(cls, view: int, batch: int, ids: Tensor) -> Place:
        """One view of the images `ids`."""
        return cls(torch.full_like(ids, view), batch)


class Showing(Closed):
    """Which view of an image is seen in an epoch, whether images are mixed, and how a teacher looks at them.

    Batches are part of it (`by_batch`) where images are mixed (one permutation and one share or window a batch, as in
    FKD and SRe2L) or where the teacher's BatchNorm takes the statistics of the batch: then a label depends on the
    images beside it, and their order is that of the labels, whatever the training.
    """

    seed: int = Field(ge=0, description="of views, order and mixing; not that of a training")
    views: int | None = Field(default=None, ge=1, description="views of an image; epoch e shows view e modulo so many")
    drawn: bool = Field(
        default=False,
        description="in every epoch a view is drawn for each image, or where batches are part of it, a batch for each",
    )
    plain: float = Field(
        default=0.0, ge=0, lt=1, description="how often an image is seen as it is, with its class for a label"
    )
    rule: ViewRule = Field(description="which views there are")
    fill: tuple[float, ...] = Field(description="what lies beyond an image, a number in [0, 1] for each channel")
    mix: Mixing = Field(
        default="none",
        description="mixup: of Beta(0.8, 0.8); cutmix: a window of Beta(1, 1) of the area; selfmix: such a window of "
        "each image comes from another view of the same image (FerKD)",
    )
    batch_size: int | None = Field(default=None, ge=2, description="images of a batch, where batches are part of it")
    batch_norm: BatchNormMode = Field(default="running", description="whose statistics the teacher's BatchNorm takes")
    bn_groups: int = Field(default=1, ge=1, le=2, description="equal parts of a batch that the teacher is asked about")

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.by_batch and self.batch_size is None:
            raise ValueError(
                "labels of mixed images, or by the statistics of a batch, are of batches; give --batch-size N"
            )
        if self.batch_size is not None and not self.by_batch:
            raise ValueError(
                f"batch size {self.batch_size}: neither are images mixed nor are a batch's statistics taken, so that "
                "batches make no difference; leave it out"
            )
        if self.plain and self.by_batch:
            raise ValueError("images of batches are seen as the batch has them; leave plain out")
        if self.drawn and self.views is None:
            raise ValueError("views are drawn among a number of them; give views")
        if self.bn_groups > 1 and self.batch_norm == "running":
            raise ValueError("bn groups divide a batch whose statistics are taken; give them with batch norm batch")
        return self

    @property
    def by_batch(self) -> bool:
        """Whether batches are part of it."""
        return self.mix in ("mixup", "cutmix") or self.batch_norm == "batch"

    def place(self, epoch: int, number: int, ids: Tensor, images: int) -> Place:
        """What batch `number` of an epoch shows of the images `ids` (int64 [n]), of so many in all."""
        if not self.drawn:
            return Place.of(self._in_turn(epoch), number, ids)
        assert self.views is not None, "views are drawn among a number of them"
        if self.by_batch:
            return Place.of(*self._drawn_batches(images, epoch)[number], ids)
        chances = [uniforms(1, self.seed, "record", epoch, image)[0] for image in ids.tolist()]
        return Place(torch.tensor([int(chance * self.views) for chance in chances]), 0)

    def _in_turn(self, epoch: int) -> int:
        return epoch if self.views is None else epoch % self.views

    def _drawn_batches(self, images: int, epoch: int) -> list[tuple[int, int]]:
        assert self.views is not None, "views are drawn among a number of them"
        assert self.batch_size is not None, "batches are part of it"
        return _drawn_batches(self.seed, self.views, -(-images // self.batch_size), epoch)

    def check(self, images: int) -> None:
        """Raise `CondenseError` where a batch, or a part of one that the teacher is asked about, would be one image."""
        if self.batch_size is None:
            return
        for count in {min(self.batch_size, images), images % self.batch_size or self.batch_size}:
            if count // self.bn_groups < 2:
                groups = f" in {self.bn_groups} groups" if self.bn_groups > 1 else ""
                raise CondenseError(
                    f"batch size {self.batch_size} for {images} images leaves a batch of {count}{groups}, and there "
                    "are no statistics of a single image; give another batch size"
                )

    def seen_plain(self, epoch: int, ids: Tensor) -> Tensor:
        """Which of the images `ids` (int64 [n]) an epoch shows as they are: bool [n]."""
        if not self.plain:
            return torch.zeros(len(ids), dtype=torch.bool)
        return torch.tensor([uniforms(1, self.seed, "plain", epoch, image)[0] < self.plain for image in ids.tolist()])

    def batches(self, images: int, epoch: int) -> list[Tensor] | None:
        """The images of each batch of an epoch, int64 [n] each; None where a training may choose."""
        if self.batch_size is None:
            return None
        if not self.drawn:
            return self.batches_of_view(images, self._in_turn(epoch))
        drawn, orders = self._drawn_batches(images, epoch), dict[int, list[Tensor]]()
        for view, _ in drawn:
            orders[view] = orders.get(view) or self.batches_of_view(images, view)
        return [orders[view][batch] for view, batch in drawn]

    def batches_of_view(self, images: int, view: int) -> list[Tensor]:
        """The images of each batch of a view, int64 [n] each, where batches are part of it."""
        assert self.batch_size is not None, "batches are part of it"
        numbers = uniforms(images, self.seed, "order", view)
        return list(torch.tensor(sorted(range(images), key=numbers.__getitem__)).split(self.batch_size))

    def shown(self, pixels: Tensor, place: Place, ids: Tensor) -> Tensor:
        """What is seen of the images `ids` (int64 [n]; `pixels` [n, C, H, W] in [0, 1]) at a place."""
        seen = self.seen(pixels, place.views, ids)
        if self.mix != "selfmix":
            return self.mixed(seen, place)
        others, (height, width) = self.seen(pixels, -1 - place.views, ids), pixels.shape[2:]
        drawn = zip(place.views.tolist(), ids.tolist(), strict=True)
        return pasted(seen, others, [window((height, width), *uniforms(3, self.seed, "selfmix", *of)) for of in drawn])

    def seen(self, pixels: Tensor, views: Tensor, ids: Tensor) -> Tensor:
        """The views (int64 [n], one of each) of images before anything is mixed."""
        channels, height, width = pixels.shape[1:]
        drawn = draw_views(self.rule, (channels, height, width), self.seed, views, ids)
        return see(pixels, drawn, torch.tensor(self.fill))

    def mixed(self, values: Tensor, place: Place) -> Tensor:
        """Images [n, C, H, W] mixed as in this batch; or one number for each, [n, 1, H, W], in the same shares."""
        _, height, width = values.shape[1:]
        match self._mix(len(values), (height, width), place):
            case None:
                return values
            case Mixup() as mix:
                return mix_up(values, mix)
            case mix:
                return paste(values, mix)

    def mixed_classes(self, classes: Tensor, size: tuple[int, int], place: Place) -> tuple[Tensor, Tensor]:
        """One-hot classes float32 [n, K] in the shares of images of `size` (H, W), and those of each one's partner."""
        match self._mix(len(classes), size, place):
            case None:
                return classes, classes
            case Mixup() as mix:
                return mix_up(classes, mix), classes[mix.partner.to(classes.device)]
            case mix:
                return mixed_by_area(classes, mix, size), classes[mix.partner.to(classes.device)]

    def _mix(self, count: int, size: tuple[int, int], place: Place) -> Mixup | Mix | None:
        if self.mix not in ("mixup", "cutmix"):
            return None
        share, down, right, *rest = uniforms(3 + count, self.seed, self.mix, int(place.views[0]), place.batch)
        partner = torch.tensor(sorted(range(count), key=rest.__getitem__))
        if self.mix == "mixup":
            return mixup_of(partner, MIXUP_ALPHA, share)
        return window_mix(size, partner, share, down, right)

    def ask(self, voter: Voter, shown: Tensor) -> Tensor:
        """What a teacher says of a batch, logits [n, K].

        Batches of CV-DD are asked in two halves, as its released code does: every statistic is one of 8 of 16 images.
        """
        parts = shown.tensor_split(self.bn_groups)
        return torch.cat([voter.logits(part, batch_norm=self.batch_norm) for part in parts])

    def describe(self) -> str:
        """For people: what is seen."""
        words = ["padded crops" if self.rule.crop == "padded" else "whole images"]
        if self.rule.crop == "resized" and self.rule.least < 1:
            words = [f"crops of {self.rule.least:g} to 1"]
        words += ["flips"] if self.rule.flip else []
        words += [f"{self.rule.shuffle}x{self.rule.shuffle} strips shuffled"] if self.rule.shuffle > 1 else []
        words += [self.mix] if self.mix != "none" else []
        words += ["drawn in every epoch"] if self.drawn else []
        words += [f"{self.plain:.0%} as they are"] if self.plain else []
        words += [f"batches of {self.batch_size}"] if self.batch_size else []
        if self.batch_norm == "batch":
            words.append("batch statistics" + (f" of {self.bn_groups} groups" if self.bn_groups > 1 else ""))
        return ", ".join(words)


@functools.lru_cache(maxsize=1)  # every batch of an epoch asks
def _drawn_batches(seed: int, views: int, count: int, epoch: int) -> list[tuple[int, int]]:
    """Which batches of which views an epoch shows: as many as a view has, drawn from all of them, none twice."""
    chances = uniforms(views * count, seed, "pool", epoch)
    order = sorted(range(views * count), key=chances.__getitem__)
    return [divmod(which, count) for which in order[:count]]


def colour_beyond(info: DataInfo) -> tuple[float, ...]:
    """What lies beyond an image: the mean colour by the preprocessing, which is zero to whoever sees it preprocessed.

    >>> from condense.data.preprocessing import Normalization
    >>> colour_beyond(DataInfo("d", ("a",), (1, 4, 4), False, "", Normalization((0.25,), (0.5,))))
    (0.25,)
    """
    pixels = info.preprocessing.invert(torch.zeros(1, *info.image_shape))
    return tuple(pixels.mean((0, 2, 3)).clamp(0, 1).tolist())
