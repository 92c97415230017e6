"""The kinds of labels: a class index alone, a distribution as probabilities or logits, values to be predicted."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.compute.losses import cross_entropy, squared_error
from condense.data.info import DataInfo
from condense.labels.advisers import Advisers
from condense.labels.labels import Attributes, Labels, Stored, read_number, read_text, settled, whole
from condense.labels.objectives import Objective
from condense.labels.plain import PlainImages
from condense.runtime.errors import CondenseError
from condense.training.sources import ImageSource, Targets, TrainingSource


class HardLabels(Labels):
    """The class index of each image, int64 [N], trained on by cross-entropy.

    >>> HardLabels(torch.tensor([2, 0])).for_batch(0, torch.tensor([1])).values
    tensor([0])
    """

    kind = "hard"

    def __init__(self, classes: Tensor) -> None:
        self.indices = settled(classes, "class indices", torch.int64, 1)
        self.classes = self.indices

    def __len__(self) -> int:
        return len(self.indices)

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """The class indices."""
        return Targets(self.indices[ids], cross_entropy)

    def at(self, rows: Tensor) -> Self:
        """The labels of the images `rows`."""
        return type(self)(self.indices[rows])

    def describe(self) -> str:
        """They are what every image has."""
        return "hard"

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """The class indices, without which there are no such labels."""
        if classes is None:
            raise CondenseError("its labels are hard, but it has no class index for each image; make it again")
        return cls(classes)


class SmoothedLabels(Labels):
    """The class index of each image, int64 [N], a share `smoothing` a of which goes to all K classes alike.

    Trained on by the cross-entropy of (1 - a) y + a / K (Szegedy et al., CVPR 2016). Nothing is stored but a and K.

    >>> SmoothedLabels(torch.tensor([1]), 0.2, outputs=4).for_batch(0, torch.tensor([0])).values
    tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """

    kind = "smoothed"
    soft_per = "image"

    def __init__(self, classes: Tensor, smoothing: float, outputs: int) -> None:
        self.indices = settled(classes, "class indices", torch.int64, 1)
        self.classes, self.smoothing, self.outputs = self.indices, smoothing, outputs
        if not 0 <= smoothing < 1:
            raise CondenseError(f"smoothing {smoothing} must be a part, from 0 to below 1")
        super().check(len(classes), outputs)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def attributes(self) -> Attributes:
        """The share, and how many classes share it."""
        return {"smoothing": self.smoothing, "outputs": self.outputs}

    @functools.cached_property
    def probabilities(self) -> Tensor:
        """Of each image, float32 [N, K]."""
        return (1 - self.smoothing) * F.one_hot(self.indices, self.outputs).float() + self.smoothing / self.outputs

    @property
    def likeliest(self) -> Tensor:
        """The class."""
        return self.indices

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """The probabilities."""
        return Targets(self.probabilities[ids], cross_entropy)

    def at(self, rows: Tensor) -> Self:
        """The labels of the images `rows`."""
        return type(self)(self.indices[rows], self.smoothing, self.outputs)

    def check(self, images: int, classes: int) -> None:
        """They must be shared by all classes."""
        super().check(images, classes)
        if self.outputs != classes:
            raise CondenseError(f"labels are smoothed over {self.outputs} classes, and there are {classes}")

    def describe(self) -> str:
        """What they are, for people."""
        return f"smoothed, {self.smoothing:g} shared by all classes"

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """The class indices and the share."""
        outputs = attributes.get("outputs")
        if classes is None or type(outputs) is not int or not 1 <= outputs <= 2**20:
            raise CondenseError("its labels are smoothed, but it does not tell classes and their number; make it again")
        return cls(classes, read_number(attributes, "smoothing"), outputs)


class _Rows(Labels):
    """A row of numbers for each image, float32 [N, K], and perhaps its class index."""

    what: ClassVar[str]

    def __init__(self, rows: Tensor, classes: Tensor | None) -> None:
        self.rows = settled(rows, self.what, torch.float32, 2)
        self.classes = None if classes is None else settled(classes, "class indices", torch.int64, 1)
        if not self.rows.shape[1]:
            raise CondenseError(f"{self.what} have no number for an image; give at least one")
        if self.classes is not None and len(self.classes) != len(self.rows):
            raise CondenseError(f"there are {len(self.rows)} {self.what} but {len(self.classes)} class indices")
        if not torch.isfinite(self.rows).all():
            raise CondenseError(f"{self.what} hold values that are not finite; the run that made them diverged")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def arrays(self) -> dict[str, Stored]:
        """The rows."""
        return {"values": self.rows}

    def _classes_at(self, rows: Tensor) -> Tensor | None:
        return None if self.classes is None else self.classes[rows]


class SoftRows(_Rows):
    """A soft label of K classes for each image.

    Where a teacher gave it, `teacher` says which, for people, and `images` is the digest of the pixels that it saw.
    """

    what = "soft labels"
    soft_per = "image"

    def __init__(
        self,
        rows: Tensor,
        classes: Tensor | None = None,
        temperature: float = 1.0,
        *,
        teacher: str | None = None,
        images: str | None = None,
    ) -> None:
        super().__init__(rows, classes)
        self.temperature, self.teacher, self.images = temperature, teacher, images
        if not (math.isfinite(temperature) and temperature > 0):
            raise CondenseError(f"temperature {temperature} must be a positive number")

    @property
    def attributes(self) -> Attributes:
        """The temperature, the teacher and the digest."""
        facts: Attributes = {"temperature": self.temperature}
        known = {"teacher": self.teacher, "images": self.images}
        return facts | {name: value for name, value in known.items() if value is not None}

    def source(
        self,
        images: ImageSource,
        plain: PlainImages,
        info: DataInfo,
        *,
        weights: Tensor | None = None,
        advisers: Advisers | None = None,
    ) -> TrainingSource:
        """As of all labels of images as they are; raises `CondenseError` for other ones than the teacher saw."""
        if self.images is not None:
            plain.check(self.images, len(self))
        return super().source(images, plain, info, weights=weights)

    @property
    def likeliest(self) -> Tensor:
        """The largest number of each row."""
        return self.rows.argmax(1)

    def check(self, images: int, classes: int) -> None:
        """There must be a number for each class."""
        super().check(images, classes)
        if self.rows.shape[1] != classes:
            raise CondenseError(f"soft labels have {self.rows.shape[1]} numbers for an image, for {classes} classes")

    def _described(self, how: str) -> str:
        by = "" if self.teacher is None else f", teacher {self.teacher}"
        return f"one soft label per image ({self.kind}, {how}{by})"


class ProbabilityLabels(SoftRows):
    """Probabilities float32 [N, K], rows that sum to 1; `temperature` is the one that they were made with."""

    kind = "probabilities"

    def __init__(self, rows: Tensor, classes: Tensor | None = None, temperature: float = 1.0) -> None:
        super().__init__(rows, classes, temperature)
        if (self.rows < 0).any() or ((self.rows.sum(1) - 1).abs() > 1e-3).any():
            raise CondenseError(
                "soft labels are no probabilities (some are negative or do not sum to 1); are they logits?"
            )

    @property
    def probabilities(self) -> Tensor:
        """As they are."""
        return self.rows

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """The probabilities."""
        return Targets(self.rows[ids], cross_entropy)

    def at(self, rows: Tensor) -> Self:
        """The labels of the images `rows`."""
        return type(self)(self.rows[rows], self._classes_at(rows), self.temperature)

    def describe(self) -> str:
        """What they are, for people."""
        return self._described(f"temperature {self.temperature:g}")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """The rows and their temperature."""
        return cls(whole(arrays, "values"), classes, read_number(attributes, "temperature"))


class LogitLabels(SoftRows):
    """Logits float32 [N, K], trained on by a loss of `condense.labels.objectives`."""

    kind = "logits"
    usual_loss: ClassVar[str] = "cross-entropy"  # which files leave out

    def __init__(
        self,
        rows: Tensor,
        classes: Tensor | None = None,
        temperature: float = 1.0,
        loss: str | None = None,
        class_weight: float = 0.0,
        *,
        teacher: str | None = None,
        images: str | None = None,
    ) -> None:
        super().__init__(rows, classes, temperature, teacher=teacher, images=images)
        self.objective = Objective(loss or self.usual_loss, temperature, class_weight)
        if not torch.isfinite(self.rows / temperature).all():
            raise CondenseError(f"temperature {temperature:g} is too low for the logits, which it makes infinite")

    @property
    def attributes(self) -> Attributes:
        """Temperature, teacher, and the loss where it is another than usual."""
        return {**super().attributes, **self.objective.attributes(self.usual_loss)}

    @functools.cached_property
    def probabilities(self) -> Tensor | None:
        """The softmax of logits / T where the loss is its cross-entropy, computed once: batches are indexed from it."""
        if self.objective.loss != "cross-entropy":
            return None
        return torch.softmax(self.rows / self.temperature, dim=1)

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """Probabilities for the cross-entropy, else what the loss compares with."""
        if self.probabilities is not None:
            return Targets(self.probabilities[ids], cross_entropy)
        return self.objective.targets(self.rows[ids], self._classes_at(ids))

    def at(self, rows: Tensor) -> Self:
        """The labels of the images `rows`, of which no digest is known."""
        about = self.temperature, self.objective.loss, self.objective.class_weight
        return type(self)(self.rows[rows], self._classes_at(rows), *about, teacher=self.teacher)

    def describe(self) -> str:
        """What they are, for people."""
        usual = self.objective.loss == "cross-entropy"
        return self._described(f"temperature {self.temperature:g}" if usual else self.objective.describe())

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """The rows, and how they are trained on."""
        rows, temperature = whole(arrays, "values"), read_number(attributes, "temperature")
        objective = Objective.from_attributes(attributes, temperature, cls.usual_loss)
        known = {name: read_text(attributes, name) for name in ("teacher", "images")}
        return cls(rows, classes, temperature, objective.loss, objective.class_weight, **known)


class RegressionLabels(_Rows):
    """Values float32 [N, D] to be predicted by their squared error; never softmaxed, and no class is read off them.

    >>> RegressionLabels(torch.zeros(3, 7)).probabilities is None
    True
    """

    kind = "regression"
    what = "regression labels"

    def __init__(self, rows: Tensor, classes: Tensor | None = None) -> None:
        super().__init__(rows, classes)

    @property
    def values(self) -> Tensor:
        """As they are."""
        return self.rows

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """The values."""
        return Targets(self.rows[ids], squared_error)

    def at(self, rows: Tensor) -> Self:
        """The labels of the images `rows`."""
        return type(self)(self.rows[rows], self._classes_at(rows))

    def describe(self) -> str:
        """What they are, for people."""
        return f"{self.rows.shape[1]} numbers to be predicted per image (regression)"

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """The rows."""
        return cls(whole(arrays, "values"), classes)


def centred_one_hot(classes: Tensor, count: int) -> RegressionLabels:
    """Class indices (int64 [N], of `count` classes) as values to be predicted: 1 - 1/K for the class, -1/K for others.

    What FRePo trains networks on (Zhou, Nezhadarya & Ba, NeurIPS 2022, released code).

    >>> centred_one_hot(torch.tensor([1]), 4).values
    tensor([[-0.2500,  0.7500, -0.2500, -0.2500]])
    """
    return RegressionLabels(F.one_hot(classes, count).float() - 1 / count, classes)
