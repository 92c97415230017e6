"""Which labels a teacher is to give, as plain data: this module does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from condense.runtime.errors import CondenseError, near_names
from condense.runtime.validation import Closed, option_name, validated

LABELS = ("hard", "smoothed:A", "static", "interpolated", "views", "records:N", "online", "projector")
_LABELS = re.compile(r"hard|smoothed:(?:0?\.\d+|0)|static|interpolated|views|records:[1-9]\d{0,5}|online|projector")
_CODECS = r"dense|int8|int4|topk:[1-9]\d{0,4}|distance"
_PLAIN = 0.01  # of the times that an image of records is shown: as it is, with its class (Dataset Reinforcement)

USUAL_VIEWS = 300  # epochs of the trainings that labels are made for
_SOFT = ("temperature", "loss", "class_weight")
_SHOWN = ("crop", "least", "flip", "shuffle", "mix", "seed")
_STORED = ("codec", "distance_weight", "calibrate", "unreliable", "subclasses")
_BY_BATCH = ("batch_size", "teacher_bn", "bn_groups")
_MEANT = {  # which settings each kind of labels has
    "hard": (),
    "smoothed": (),
    "static": (*_SOFT, "subclasses"),
    "interpolated": _SOFT,
    "views": (*_SOFT, *_SHOWN, *_BY_BATCH, "views", "pool", *_STORED),
    "records": (*_SOFT, *_SHOWN, *_STORED),
    "online": (*_SOFT, *_SHOWN, *_BY_BATCH, "views"),
    "projector": (*_SOFT, *_SHOWN, "batch_size", "views", "rank", "epochs", "image_updates"),
}


class LabelSettings(Closed):
    """Which labels are made, and how."""

    labels: str = Field(
        "static",
        description="hard: the class index; smoothed:A: A of it shared by all classes; static: one soft label an "
        "image; interpolated: the same, mixed with the images; views: one for each view, stored; records:N: N views, "
        "of which one is drawn in each epoch; online: for each view, asked for in training; projector: the same, by an "
        "encoder that a few stored numbers adapt",
    )
    temperature: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="of both softmaxes [20; interpolated: 30; records, topk: 1; mse: none]",
    )
    loss: Literal["cross-entropy", "kl", "kl-t2", "mse"] = Field(
        "kl", description="what networks are trained by; kl-t2 is T^2 times as large, for SGD"
    )
    class_weight: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="of mse: weight of the cross-entropy of the class beside it"
    )
    views: int | None = Field(None, ge=1, description="views of an image [300; online: a new one in each epoch]")
    pool: float | None = Field(
        None,
        gt=0,
        le=1,
        description="part of the views that is stored; each epoch draws from these (LPLD) [all, in turn]",
    )
    crop: Literal["padded", "resized", "none"] = Field("padded", description="which part of an image a view shows")
    least: float = Field(0.08, gt=0, le=1, description="of resized crops: smallest share of the area")
    flip: bool | None = Field(None, description="half of the views are mirror images [as the data says]")
    shuffle: int = Field(1, ge=1, le=16, description="strips on a side of a mosaic that are put in random order")
    mix: Literal["none", "mixup", "cutmix", "selfmix"] = Field(
        "none", description="how the images of a batch are mixed; selfmix: two views of the same image"
    )
    batch_size: int | None = Field(
        None, ge=2, description="where images are mixed, or --teacher-bn is batch: images in a batch, also of trainings"
    )
    teacher_bn: Literal["running", "batch"] = Field(
        "running", description="whose statistics the teacher's BatchNorm takes: its own, or those of the batch"
    )
    bn_groups: int = Field(1, ge=1, le=2, description="2: the teacher is asked about either half of a batch (CV-DD)")
    seed: int = Field(0, ge=0, description="of views, order and mixing")
    calibrate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="labels of views whose probability of the class is lower are not believed (FerKD) [all are]",
    )
    unreliable: Literal["softened", "discarded"] = Field(
        "softened", description="what becomes of these: a smoothed class index, or nothing"
    )
    codec: str = Field(
        "dense",
        pattern=rf"^(?:{_CODECS})$",
        description="of stored views: dense (half precision), int8, int4, topk:K, the K largest probabilities, or "
        "distance: how far the view is from its class, and from that of the image that it is mixed with (DBR)",
    )
    distance_weight: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="of codec distance: their weight beside the cross-entropy of classes",
    )

    subclasses: int = Field(
        1, ge=1, le=64, description="parts of each class that the teacher's features tell apart, for few classes (LELP)"
    )

    rank: int = Field(4, ge=1, le=1024, description="of a projector: that of the factors of each layer")
    epochs: int = Field(3, ge=1, description="of a projector: passes over the real data that it learns in")
    image_updates: int = Field(
        0, ge=0, description="of a projector: moves of the images towards what its teachers say of them"
    )

    @field_validator("labels")
    @classmethod
    def _known(cls, labels: str) -> str:
        if _LABELS.fullmatch(labels) is None:
            raise ValueError(f"should be one of {', '.join(LABELS)}" + near_names(labels, LABELS))
        return labels

    @property
    def name(self) -> str:
        """Which labels they are, without a number."""
        return self.labels.partition(":")[0]

    @property
    def by_teacher(self) -> bool:
        """Whether a teacher gives them."""
        return self.name not in ("hard", "smoothed")

    @property
    def smoothing(self) -> float:
        """Of smoothed labels: the share of all classes."""
        return float(self.labels.partition(":")[2])

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The settings with these values, checked.

        Raises `CondenseError` for unknown ones, for values out of range, and for those that the labels do not have.
        """
        found = validated(cls, values, spell=option_name)
        for name, field in cls.model_fields.items():
            if name not in found._meant and getattr(found, name) != field.default:
                raise CondenseError(f"{option_name(name)} has no meaning for --labels {found.name}; leave it out")
        for name, beside, is_there in [
            ("least", "--crop resized", found.crop == "resized"),
            ("unreliable", "--calibrate", found.calibrate is not None),
            ("distance_weight", "--codec distance", found.codec == "distance"),
        ]:
            if not is_there and getattr(found, name) != cls.model_fields[name].default:
                raise CondenseError(f"{option_name(name)} has no meaning without {beside}; leave it out, or give both")
        if found.codec == "distance":
            _check_distances(found)
        if found.subclasses > 1:
            _check_subclasses(found)
        return found

    @property
    def used_temperature(self) -> float:
        """That of the loss: what was asked for, or else the usual one."""
        if self.temperature is not None:
            return self.temperature
        if self.loss == "mse" or self.name == "records" or self.codec.startswith(("topk", "distance")):
            return 1.0
        return 30.0 if self.name == "interpolated" else 20.0

    @property
    def used_views(self) -> int | None:
        """Views of an image that labels are of; None for a new one in each epoch."""
        if self.name == "records":
            return int(self.labels.partition(":")[2])
        views = USUAL_VIEWS if self.views is None and self.name == "views" else self.views
        return views if views is None or self.pool is None else max(1, round(self.pool * views))

    @property
    def drawn(self) -> bool:
        """Whether every epoch draws among the views."""
        return self.name == "records" or self.pool is not None

    @property
    def plain(self) -> float:
        """How often an image is shown as it is, with its class."""
        return _PLAIN if self.name == "records" else 0.0

    @property
    def _meant(self) -> set[str]:
        """The settings that they have; images as they are need a seed only where their classes are divided."""
        divided = ("seed",) if self.subclasses > 1 else ()
        return {"labels", *_MEANT[self.name], *divided}

    def settled(self, *, mirror: bool) -> dict[str, Any]:
        """All that decides the labels of images whose mirror images keep their class, or do not: JSON-able."""
        used = {
            "temperature": self.used_temperature,
            "views": self.used_views if self.pool is None else self.views,
            "flip": mirror if self.flip is None else self.flip,
        }
        values = self.model_copy(update=used).model_dump(mode="json", exclude_none=True)
        # settings that came later: what is as before says nothing of them
        usual = {"codec": "dense", "unreliable": "softened", "distance_weight": 1.0, "subclasses": 1}
        return {name: value for name, value in values.items() if name in self._meant and value != usual.get(name)}


def _check_distances(found: LabelSettings) -> None:
    """Raise `CondenseError` for what labels of distances cannot have."""
    if found.name == "records":
        raise CondenseError("--codec distance is for --labels views; give records another codec")
    for name, usual in {"loss": "kl", "class_weight": 0.0, "calibrate": None}.items():
        if getattr(found, name) != usual:
            raise CondenseError(f"--codec distance has a loss of its own: leave {option_name(name)} out")


def _check_subclasses(found: LabelSettings) -> None:
    """Raise `CondenseError` for what labels of subclasses cannot have."""
    usual = {"class_weight": 0.0, "calibrate": None, "teacher_bn": "running"}
    for name in (name for name, value in usual.items() if getattr(found, name) != value):
        raise CondenseError(f"{option_name(name)} has no meaning for parts of classes: leave it or --subclasses out")
    if found.codec == "distance":
        raise CondenseError("--codec distance is for whole classes; give --subclasses another codec")
