"""Labels of views: what a teacher says of each image as it is seen in each epoch, stored or asked for in training.

FKD (Shen & Xing, ECCV 2022) stores them for the crops of an image; SRe2L (Yin et al., NeurIPS 2023) and its successors
for the mixed crops of every epoch of the student's training. Here a view is a function of (seed, epoch, image), so that
nothing but logits is stored of it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from condense.augmentation.views import ViewRule
from condense.data.info import DataInfo
from condense.labels.advisers import Advisers, Asking, TeacherFacts
from condense.labels.codecs import DENSE, DISTANCES, Codec, codec_named
from condense.labels.labels import Attributes, Labels, Stored, read_text, settled
from condense.labels.objectives import DistanceObjective, Objective
from condense.labels.plain import PlainImages
from condense.labels.rows import RowArray
from condense.labels.showing import Place, Showing
from condense.labels.shown import Answer, Answers, ShownImages
from condense.labels.subclasses import check_parts, read_parts
from condense.runtime.errors import CondenseError
from condense.runtime.validation import validated
from condense.training.sources import ImageSource, Targets, TrainingSource

_MOST_OUTPUTS = 2**20
_ROW_BYTES = 4096  # about: the unit that is read and verified at once


class LabelsOfViews(Labels):
    """Labels that belong to what a showing shows of `count` images, whose pixels have the digest `images`.

    `classes` int64 [N] are those of the images, or None. They are trained on through `source` only: no label belongs to
    an image as it is.
    """

    soft_per = "view"
    stored: ClassVar[bool] = False  # whether there is a row for each view

    def __init__(
        self,
        showing: Showing,
        objective: Objective,
        teacher: TeacherFacts,
        images: str,
        count: int,
        classes: Tensor | None,
    ) -> None:
        self.showing, self.objective, self.teacher = showing, objective, teacher
        self.images, self.count = images, count
        self.classes = None if classes is None else settled(classes, "class indices", torch.int64, 1)
        if self.classes is not None and len(self.classes) != count:
            raise CondenseError(f"there are labels of views of {count} images but {len(self.classes)} class indices")
        check_classes(objective, self.classes)
        if isinstance(objective, DistanceObjective) and not self.stored:
            raise CondenseError("distances are stored, and not asked for in training; give another loss")
        if showing.plain and (self.classes is None or objective.temperature != 1):
            raise CondenseError("images that are seen as they are need their classes, and labels at temperature 1")
        showing.check(count)

    def __len__(self) -> int:
        return self.count

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """There is none for images as they are."""
        raise CondenseError(
            f"labels of the kind {self.kind} belong to views and not to images as they are; train on what replay() "
            "gives, or through condense evaluate"
        )

    def at(self, rows: Tensor) -> Self:
        """There are none of other images."""
        raise CondenseError(
            f"labels of the kind {self.kind} belong to all images of a set together; relabel a part of them"
        )

    @property
    def attributes(self) -> Attributes:
        """All that decides what is shown and compared."""
        showing = self.showing
        facts: Attributes = {
            "count": self.count,
            "images": self.images,
            "teacher": self.teacher.name,
            "teacher_hash": self.teacher.hash,
            "teacher_bytes": self.teacher.bytes,
            "temperature": self.objective.temperature,
            **self.objective.attributes(),
            "seed": showing.seed,
            "crop": showing.rule.crop,
            "least": showing.rule.least,
            "flip": showing.rule.flip,
            "shuffle": showing.rule.shuffle,
            "fill": list(showing.fill),
            "mix": showing.mix,
            "batch_norm": showing.batch_norm,
            "bn_groups": showing.bn_groups,
        }
        numbers: dict[str, float | None] = {"views": showing.views, "batch_size": showing.batch_size}
        numbers |= {"drawn": showing.drawn or None, "plain": showing.plain or None}
        return facts | {name: number for name, number in numbers.items() if number is not None}

    @abstractmethod
    def answers(self, advisers: Advisers | None) -> Answers:
        """Where logits come from in a training; raises `CondenseError` where the teachers are missing, or others."""

    def source(
        self,
        images: ImageSource,
        plain: PlainImages,
        info: DataInfo,
        *,
        weights: Tensor | None = None,
        advisers: Advisers | None = None,
    ) -> TrainingSource:
        """Images as they are shown, with their labels."""
        return self.shown(plain, info, weights=weights, advisers=advisers)

    def shown(
        self, plain: PlainImages, info: DataInfo, *, weights: Tensor | None = None, advisers: Advisers | None = None
    ) -> ShownImages:
        """Images as they are shown, with their labels; raises `CondenseError` for other ones than were labelled."""
        plain.check(self.images, self.count)
        if len(self.showing.fill) != info.image_shape[0]:
            raise CondenseError(
                f"its labels have {len(self.showing.fill)} numbers for what lies beyond an image of "
                f"{info.image_shape[0]} channels; make them again"
            )
        return ShownImages(self.showing, self.objective, self.answers(advisers), plain, info, self.classes, weights)

    def _described(self, how_many: str) -> str:
        return f"{how_many} ({self.objective.describe()}, teacher {self.teacher.described}; {self.showing.describe()})"


def check_classes(objective: Objective, classes: Tensor | None) -> None:
    """Raise `CondenseError` for a loss that needs the classes of images which have none."""
    if classes is None and (objective.class_weight or isinstance(objective, DistanceObjective)):
        raise CondenseError(
            f"the loss {objective.loss} with classes in it needs the class of each image; give it, or another loss"
        )


class ViewLabels(LabelsOfViews):
    """Stored logits of K `outputs`: rows [views * G, g, width] as a codec has them.

    View v of image i is `rows[v * G + i // g, i % g]`. G * g is at least the number of images; what is beyond them is
    zero. There are as many outputs as classes, or where these are divided, `parts` times as many.
    """

    kind = "views"
    stored = True

    def __init__(
        self,
        rows: RowArray,
        showing: Showing,
        objective: Objective,
        teacher: TeacherFacts,
        images: str,
        count: int,
        classes: Tensor | None = None,
        codec: Codec = DENSE,
        outputs: int | None = None,
        parts: int = 1,
    ) -> None:
        super().__init__(showing, objective, teacher, images, count, classes)
        if rows.dtype != codec.dtype or len(rows.shape) != 3 or showing.views is None:
            raise CondenseError(
                f"labels of views are {codec.dtype} of 3 dimensions, not {rows.dtype} of {list(rows.shape)}"
            )
        self.rows, self.group, self.codec = rows, rows.shape[1], codec
        self.outputs = rows.shape[2] if outputs is None else outputs
        check_parts(parts, self.outputs)
        self.parts = parts
        if parts > 1 and (objective.class_weight or codec == DISTANCES):
            raise CondenseError("labels of parts of classes are not trained on beside the class itself; leave it out")
        if rows.shape[2] != codec.width(self.outputs):
            raise CondenseError(
                f"{codec.name} labels of {self.outputs} classes have {codec.width(self.outputs)} numbers for an image, "
                f"not {rows.shape[2]}; make them again"
            )
        if (codec == DISTANCES) != isinstance(objective, DistanceObjective):
            raise CondenseError(f"{codec.name} labels are not trained on by {objective.describe()}; give another loss")
        if codec.temperature is not None and (objective.temperature != codec.temperature or objective.loss == "mse"):
            raise CondenseError(
                f"codec {codec.name} keeps probabilities at temperature {codec.temperature:g}: they are trained on by "
                f"cross-entropy or kl at that temperature, not by {objective.describe()}"
            )
        self.per_view = math.ceil(count / self.group) if self.group else 0
        if rows.shape[0] != showing.views * self.per_view or not all(rows.shape):
            raise CondenseError(
                f"{showing.views} views of {count} images are not those in rows of shape {list(rows.shape)}; make them "
                "again"
            )

    @property
    def arrays(self) -> dict[str, Stored]:
        """The rows: logits as they are, or those of a codec."""
        return {"logits" if self.codec == DENSE else "codes": self.rows}

    @property
    def attributes(self) -> Attributes:
        """With the codec, and of how many logits it is, where they are not stored as they are; and parts of classes."""
        coded: Attributes = {} if self.codec == DENSE else {"codec": self.codec.name, "outputs": self.outputs}
        divided: Attributes = {} if self.parts == 1 else {"parts": self.parts}
        return super().attributes | coded | divided

    def logits(self, views: int | Tensor, ids: Tensor) -> Tensor:
        """Those of one view of the images `ids` (int64 [n]), or of one of each (int64 [n]): float32 [n, K]."""
        rows, places = (views * self.per_view + ids // self.group).unique(return_inverse=True)
        stored = np.stack(self.rows.each(*rows.tolist()))[places.numpy(), (ids % self.group).numpy()]  # [n, width]
        return self.codec.decode(stored, self.outputs)

    def answers(self, advisers: Advisers | None) -> Answers:
        """The stored ones; teachers are not asked."""
        return _Stored(self)

    def check(self, images: int, classes: int) -> None:
        """There must be a number for each class, or for each part of one."""
        super().check(images, classes)
        if self.outputs != classes * self.parts:
            raise CondenseError(f"labels of views have {self.outputs} numbers, for {classes} classes")

    def describe(self) -> str:
        """What they are, for people."""
        coded = "" if self.codec == DENSE else f" in {self.codec.name}"
        divided = "" if self.parts == 1 else f", each class in {self.parts}"
        return self._described(f"{self.showing.views} views per image{coded}{divided}")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """What a file describes."""
        codec = codec_named(read_text(attributes, "codec") or DENSE.name)
        outputs, name = attributes.get("outputs"), "logits" if codec == DENSE else "codes"
        rows = arrays.get(name)
        if rows is None or isinstance(rows, Tensor):
            raise CondenseError(f"its labels of views lack {name} in rows; make it again")
        if codec != DENSE and (type(outputs) is not int or not 1 <= outputs <= _MOST_OUTPUTS):
            raise CondenseError("its labels of views do not tell of how many classes they are; make it again")
        return cls(rows, *facts_of(attributes), classes, codec, outputs, read_parts(attributes))


class AskedLabels(LabelsOfViews):
    """Labels that are asked for while a network is trained: those who give them are part of what the set costs."""

    asks = True

    @property
    def bytes(self) -> int:
        """Those of what is stored, and of who is asked."""
        return super().bytes + self.teacher.bytes

    def checked(self, advisers: Advisers | None) -> Advisers:
        """The teachers, who must be those that the labels name; raises `CondenseError` for others."""
        by = f"labels are given in training by teacher {self.teacher.name}, hash {self.teacher.hash}"
        if advisers is None:
            raise CondenseError(f"{by}; give it as --teacher")
        if advisers.hash != self.teacher.hash:
            raise CondenseError(
                f"{by}, and not by --teacher {advisers.name}, hash {advisers.hash}; give that one, or relabel"
            )
        return advisers


class OnlineLabels(AskedLabels):
    """Nothing is stored: the teachers are asked about every view."""

    kind = "online"

    def answers(self, advisers: Advisers | None) -> Answers:
        """The teachers."""
        return Asked(self.showing, self.checked(advisers))

    def describe(self) -> str:
        """What they are, for people."""
        views = self.showing.views
        return self._described("online, a view per epoch" if views is None else f"online, {views} views per image")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """What a file describes."""
        return cls(*facts_of(attributes), classes)


@dataclass(frozen=True, eq=False)
class _Stored:
    """Logits that labels have stored."""

    labels: ViewLabels

    def on(self, device: torch.device) -> Answer:
        """They are read on the processor."""
        return lambda place, ids, shown: self.labels.logits(place.views, ids)


@dataclass(frozen=True, eq=False)
class Asked:
    """Teachers that are asked about what is shown."""

    showing: Showing
    advisers: Asking

    def on(self, device: torch.device) -> Answer:
        """Copies of them on the device."""
        voter = self.advisers.classifiers(device)

        def answer(place: Place, ids: Tensor, shown: Tensor) -> Tensor:
            logits = self.showing.ask(voter, shown)
            if logits.isnan().any():
                raise CondenseError(f"teacher {self.advisers.name} gives no numbers for some views; give another one")
            return logits

        return answer


def row_shape(images: int, size: int) -> tuple[int, int]:
    """Rows G of a view, and images g of `size` bytes in each: as many as take about 4 KiB, and few empty places.

    >>> row_shape(100, 20), row_shape(5000, 200), row_shape(10_000, 2000)
    ((1, 100), (250, 20), (5000, 2))
    """
    most = max(1, _ROW_BYTES // size)
    rows = math.ceil(images / most)
    return rows, math.ceil(images / rows)


class _Attributes(BaseModel):
    """Those of labels of views in a file, of the types that they are written with."""

    model_config = ConfigDict(strict=True, extra="ignore")

    count: int = Field(ge=1)
    images: str
    teacher: str
    teacher_hash: str
    teacher_bytes: int = Field(ge=0)
    temperature: float
    seed: int
    crop: str
    least: float
    flip: bool
    shuffle: int
    fill: list[float]
    mix: str
    batch_norm: str
    bn_groups: int
    views: int | None = None
    drawn: bool = False
    plain: float = 0.0
    batch_size: int | None = None


def facts_of(attributes: Mapping[str, Any]) -> tuple[Showing, Objective, TeacherFacts, str, int]:
    """What all labels of views are made from beside class indices, as a file tells it."""
    facts = validated(_Attributes, attributes)
    rule = validated(ViewRule, facts.model_dump(include=set(ViewRule.model_fields)))
    names = set(Showing.model_fields) - {"rule", "fill"}
    showing = validated(Showing, facts.model_dump(include=names) | {"rule": rule, "fill": tuple(facts.fill)})
    objective = Objective.from_attributes(attributes, facts.temperature)
    teacher = TeacherFacts(facts.teacher, facts.teacher_hash, facts.teacher_bytes)
    return showing, objective, teacher, facts.images, facts.count
