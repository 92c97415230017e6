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
from condense.labels.labels import Attributes, Labels, Stored, read_number, settled, whole
from condense.runtime.errors import CondenseError
from condense.training.sources import Targets


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


class _Distributions(_Rows):
    """A distribution over K classes for each image, trained on by the cross-entropy of probabilities."""

    what = "soft labels"

    def __init__(self, rows: Tensor, classes: Tensor | None = None, temperature: float = 1.0) -> None:
        super().__init__(rows, classes)
        self.temperature = temperature
        if not (math.isfinite(temperature) and temperature > 0):
            raise CondenseError(f"temperature {temperature} must be a positive number")

    @property
    def attributes(self) -> Attributes:
        """The temperature."""
        return {"temperature": self.temperature}

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """The probabilities."""
        probabilities = self.probabilities
        assert probabilities is not None, "distributions have probabilities"
        return Targets(probabilities[ids], cross_entropy)

    def at(self, rows: Tensor) -> Self:
        """The labels of the images `rows`."""
        return type(self)(self.rows[rows], self._classes_at(rows), self.temperature)

    def check(self, images: int, classes: int) -> None:
        """There must be a number for each class."""
        super().check(images, classes)
        if self.rows.shape[1] != classes:
            raise CondenseError(f"soft labels have {self.rows.shape[1]} numbers for an image, for {classes} classes")

    def describe(self) -> str:
        """What they are, for people."""
        return f"one soft label per image ({self.kind}, temperature {self.temperature:g})"

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """The rows and their temperature."""
        return cls(whole(arrays, "values"), classes, read_number(attributes, "temperature"))


class ProbabilityLabels(_Distributions):
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


class LogitLabels(_Distributions):
    """Logits float32 [N, K], which become probabilities as `softmax(logits / temperature)`."""

    kind = "logits"

    def __init__(self, rows: Tensor, classes: Tensor | None = None, temperature: float = 1.0) -> None:
        super().__init__(rows, classes, temperature)
        if not torch.isfinite(self.rows / temperature).all():
            raise CondenseError(f"temperature {temperature:g} is too low for the logits, which it makes infinite")

    @functools.cached_property
    def probabilities(self) -> Tensor:
        """The softmax, computed once: every batch is indexed from it."""
        return torch.softmax(self.rows / self.temperature, dim=1)


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


KINDS: dict[str, type[Labels]] = {
    kind.kind: kind for kind in (HardLabels, ProbabilityLabels, LogitLabels, RegressionLabels)
}


def labels_from_arrays(
    kind: str, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None
) -> Labels:
    """The labels that a file describes.

    Raises `CondenseError` for a kind that this version does not know, for parts that do not make it, and for arrays
    that such labels do not have: they would be trained on as something else than they say.
    """
    if kind not in KINDS:
        raise CondenseError(f"its labels are of the kind {kind!r}, which this condense does not know; upgrade condense")
    labels = KINDS[kind].from_arrays(arrays, attributes, classes)
    superfluous = sorted(arrays.keys() - labels.arrays.keys())
    if superfluous:
        raise CondenseError(f"its labels are {kind}, which have no {superfluous[0]}; make it again")
    return labels
