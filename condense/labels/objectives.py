"""What soft labels are trained by: losses by name, and what logits are compared as under each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.compute.losses import DistancesAndClass, Divergence, Loss, SquaredErrorAndClass, cross_entropy
from condense.runtime.errors import CondenseError, unknown_name
from condense.training.sources import Targets

MixedClasses = Callable[[], tuple[Tensor, Tensor]]  # one-hot classes, float32 [n, K]: mixed, and those of the partners
LOSSES = ("cross-entropy", "kl", "kl-t2", "mse")


@dataclass(frozen=True)
class Objective:
    """How a network is brought to say what logits z of a teacher say; s are its own.

    - `cross-entropy`: of softmax(z / T) and softmax(s).
    - `kl`: KL(softmax(z / T) | softmax(s / T)), as in the released code of SRe2L, RDED and INFER.
    - `kl-t2`: T^2 times that (Hinton, Vinyals & Dean, 2015), which SGD needs and Adam does not notice.
    - `mse`: the mean of (s - z)^2 over the logits, and `class_weight` times the cross-entropy of the image's class
      ("MSE + GT" of G-VBSM and EDC). There is no temperature in it: it is 1.

    Raises `CondenseError` for an unknown loss, for a temperature that is not positive, and for numbers that have no
    place in the loss.
    """

    loss: str
    temperature: float = 1.0
    class_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise unknown_name("loss of soft labels", self.loss, LOSSES)
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise CondenseError(f"temperature {self.temperature} must be a positive number")
        if self.loss == "mse" and self.temperature != 1:
            raise CondenseError(f"temperature {self.temperature:g}: the loss mse has none; leave it out, or give kl")
        if not (math.isfinite(self.class_weight) and self.class_weight >= 0):
            raise CondenseError(f"class weight {self.class_weight} must be a number from 0 on")
        if self.class_weight and self.loss != "mse":
            raise CondenseError(f"class weight {self.class_weight:g} belongs to the loss mse, not to {self.loss}")

    @property
    def function(self) -> Loss:
        """The loss itself: one object, or equal ones, for equal objectives."""
        match self.loss:
            case "cross-entropy":
                return cross_entropy
            case "mse":
                return SquaredErrorAndClass(self.class_weight)
            case _:
                return Divergence(self.temperature, scaled=self.loss == "kl-t2")

    def targets(
        self,
        logits: Tensor,
        classes: Tensor | None,
        weights: Tensor | None = None,
        mixed: MixedClasses | None = None,
    ) -> Targets:
        """What a batch is compared with: `logits` float32 [n, K] of the teacher, class indices int64 [n] or None.

        `weights` float32 [n] say how much each image counts; `mixed` are the classes of images that are mixed.

        >>> Objective("cross-entropy", 2.0).targets(torch.zeros(1, 2), None).values
        tensor([[0.5000, 0.5000]])
        """
        values = logits
        if self.loss == "cross-entropy":
            values = torch.softmax(logits / self.temperature, 1)
        elif self.loss == "mse":
            classes = self._wanted(classes)
            one_hot = torch.zeros_like(logits) if classes is None else F.one_hot(classes, logits.shape[1]).to(logits)
            values = torch.cat([logits, one_hot], 1)
        return Targets(values, self.function, weights)

    def _wanted(self, classes: Tensor | None) -> Tensor | None:
        if classes is None and self.class_weight:
            raise CondenseError(
                f"the loss mse with class weight {self.class_weight:g} needs the class of each image; give it, or 0"
            )
        return classes

    def attributes(self, default: str | None = None) -> Mapping[str, str | float]:
        """What a file says of it beside the temperature; nothing of what is as `default`, the loss, has it."""
        found: dict[str, str | float] = {}
        if self.loss != default:
            found["loss"] = self.loss
        if self.class_weight:
            found["class_weight"] = self.class_weight
        return found

    @classmethod
    def from_attributes(
        cls, attributes: Mapping[str, Any], temperature: float, default: str | None = None
    ) -> Objective:
        """What a file describes; raises `CondenseError` for what is none."""
        loss, weight = attributes.get("loss", default), attributes.get("class_weight", 0.0)
        distances = attributes.get("distance_weight", 1.0)
        if not isinstance(loss, str) or not isinstance(weight, float) or not isinstance(distances, float):
            raise CondenseError("its labels do not tell their loss; make it again")
        if loss == "distance":
            return DistanceObjective(temperature=temperature, weight=distances)
        return cls(loss, temperature, weight)

    def describe(self) -> str:
        """For people.

        >>> Objective("kl", 20.0).describe(), Objective("mse", class_weight=0.1).describe()
        ('kl, temperature 20', 'mse + 0.1 cross-entropy of the class')
        """
        if self.loss == "mse":
            weight = f" + {self.class_weight:g} cross-entropy of the class" if self.class_weight else ""
            return f"mse{weight}"
        return f"{self.loss}, temperature {self.temperature:g}"


@dataclass(frozen=True)
class DistanceObjective(Objective):
    """How a network is brought to have a teacher's distances from the two classes of a mixed image: see the loss."""

    loss: str = "distance"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature != 1:
            raise CondenseError(f"temperature {self.temperature:g}: distances are those of probabilities at 1")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise CondenseError(f"distance weight {self.weight} must be a number from 0 on")

    @property
    def function(self) -> Loss:
        """Equal ones for equal objectives."""
        return DistancesAndClass(self.weight)

    def targets(
        self,
        logits: Tensor,
        classes: Tensor | None,
        weights: Tensor | None = None,
        mixed: MixedClasses | None = None,
    ) -> Targets:
        """`logits` are distances float32 [n, 2] here; the classes of images must be known."""
        assert classes is not None, "labels of distances want classes"
        assert mixed is not None, "they are of what is shown"
        shares, partners = mixed()
        own = F.one_hot(classes, shares.shape[1]).to(shares)
        return Targets(torch.cat([shares, own, partners, logits], 1), self.function, weights)

    def attributes(self, default: str | None = None) -> Mapping[str, str | float]:
        """The weight of distances."""
        return {"loss": self.loss, "distance_weight": self.weight}

    def describe(self) -> str:
        """For people."""
        return f"class and {self.weight:g} distances from two classes"
