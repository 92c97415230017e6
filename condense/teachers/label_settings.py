"""Which labels a teacher is to give, as plain data: this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field

from condense.runtime.errors import CondenseError
from condense.runtime.validation import Closed, option_name, validated

CODEC_FORMS = r"dense|int8|int4|topk:[1-9]\d{0,4}"
LabelName = Literal["hard", "static", "interpolated", "views", "online"]

_USUAL_VIEWS = 300  # epochs of the trainings that labels are made for
_OF_VIEWS = ("views", "crop", "least", "flip", "shuffle", "mix", "batch_size", "teacher_bn", "bn_groups", "seed")
_OF_SOFT_LABELS = ("temperature", "loss", "class_weight")
_UNUSED = {
    "hard": (*_OF_SOFT_LABELS, *_OF_VIEWS, "codec"),
    "static": (*_OF_VIEWS, "codec"),
    "interpolated": (*_OF_VIEWS, "codec"),
    "online": ("codec",),
}


class LabelSettings(Closed):
    """Which labels are made, and how."""

    labels: LabelName = Field(
        "static",
        description="hard: the class index; static: one soft label an image; interpolated: the same, mixed with the "
        "images; views: one for each view, stored; online: for each view, asked for in training",
    )
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of both softmaxes [20; interpolated: 30; topk: 1; mse: none]"
    )
    loss: Literal["cross-entropy", "kl", "kl-t2", "mse"] = Field(
        "kl", description="what networks are trained by; kl-t2 is T^2 times as large, for SGD"
    )
    class_weight: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="of mse: weight of the cross-entropy of the class beside it"
    )
    views: int | None = Field(None, ge=1, description="views of an image [300; online: a new one in each epoch]")
    crop: Literal["padded", "resized", "none"] = Field("padded", description="which part of an image a view shows")
    least: float = Field(0.08, gt=0, le=1, description="of resized crops: smallest share of the area")
    flip: bool | None = Field(None, description="half of the views are mirror images [as the data says]")
    shuffle: int = Field(1, ge=1, le=16, description="strips on a side of a mosaic that are put in random order")
    mix: Literal["none", "mixup", "cutmix"] = Field("none", description="how the images of a batch are mixed")
    batch_size: int | None = Field(
        None, ge=2, description="where images are mixed, or --teacher-bn is batch: images in a batch, also of trainings"
    )
    teacher_bn: Literal["running", "batch"] = Field(
        "running", description="whose statistics the teacher's BatchNorm takes: its own, or those of the batch"
    )
    bn_groups: int = Field(1, ge=1, le=2, description="2: the teacher is asked about either half of a batch (CV-DD)")
    seed: int = Field(0, ge=0, description="of views, order and mixing")
    codec: str = Field(
        "dense",
        pattern=rf"^(?:{CODEC_FORMS})$",
        description="of stored views: dense (half precision), int8, int4, or topk:K, the K largest probabilities",
    )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The settings with these values, checked.

        Raises `CondenseError` for unknown ones, for values out of range, and for those that the labels do not have.
        """
        found = validated(cls, values, spell=option_name)
        for name in _UNUSED.get(found.labels, ()):
            if getattr(found, name) != cls.model_fields[name].default:
                raise CondenseError(f"{option_name(name)} has no meaning for --labels {found.labels}; leave it out")
        return found

    @property
    def used_temperature(self) -> float:
        """That of the loss: what was asked for, or else the usual one."""
        if self.temperature is not None:
            return self.temperature
        if self.loss == "mse" or self.codec.startswith("topk"):
            return 1.0
        return 30.0 if self.labels == "interpolated" else 20.0

    @property
    def used_views(self) -> int | None:
        """Views of an image; None for a new one in each epoch."""
        return _USUAL_VIEWS if self.views is None and self.labels == "views" else self.views

    def settled(self, *, mirror: bool) -> dict[str, Any]:
        """All that decides the labels of images whose mirror images keep their class, or do not: JSON-able."""
        used = {
            "temperature": self.used_temperature,
            "views": self.used_views,
            "flip": mirror if self.flip is None else self.flip,
        }
        unused = _UNUSED.get(self.labels, ())
        values = self.model_copy(update=used).model_dump(mode="json", exclude_none=True)
        usual = {"codec": "dense"}  # that came later: what is as before says nothing of it
        return {name: value for name, value in values.items() if name not in unused and value != usual.get(name)}
