"""How experts are trained, as plain data: plainly, towards flat regions, or smoothly."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from condense.runtime.errors import CondenseError
from condense.runtime.validation import Closed, option_name, validated

Kind = Literal["sgd", "flat", "smooth"]
_ONLY_FOR = {"radius": "flat", "ascent_weight": "flat", "clipped_epochs": "smooth", "penalty": "smooth"}


class ExpertRule(Closed):
    """The training of an expert, epoch by epoch, on batches with DSA augmentation."""

    optimizer: Kind = Field(
        default="sgd", description="sgd: plain, as MTT; flat: GSAM, as FTD and DATM; smooth: as AST"
    )
    lr: float = Field(default=0.01, gt=0, description="learning rate")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(default=0.0, ge=0, description="of every parameter")
    batch_size: int = Field(default=256, ge=1, description="images in a step; a smaller last batch is kept")
    augmentation: Literal["dsa"] | None = Field(default="dsa", description="with aligned corners")
    drop: float = Field(default=1.0, gt=0, le=1, description="factor of the learning rate after epoch E // 2 + 1")
    radius: float = Field(default=0.01, gt=0, description="flat: rho, how far the weights are perturbed")
    ascent_weight: float = Field(
        default=0.3, ge=0, description="flat: alpha, weight of what is across the perturbed gradient"
    )
    clipped_epochs: int | None = Field(
        default=None, ge=0, description="smooth: epochs until the loss has its full weight, from half; none: a fifth"
    )
    penalty: float = Field(default=2.0, ge=0, description="smooth: lambda, weight of the penalty on image gradients")

    def resolved(self, epochs: int) -> ExpertRule:
        """With what depends on the number of epochs: the loss of smooth experts is clipped in a fifth of them.

        The published rule has 10 of 50.

        >>> expert_rule("smooth").resolved(8).clipped_epochs
        2
        """
        if self.optimizer != "smooth" or self.clipped_epochs is not None:
            return self
        return self.model_copy(update={"clipped_epochs": round(epochs / 5)})

    @property
    def used(self) -> dict[str, Any]:
        """The values that experts of this kind depend on.

        >>> "radius" in ExpertRule(optimizer="flat").used, "radius" in ExpertRule().used
        (True, False)
        """
        return {name: value for name, value in self.model_dump().items() if _has(self.optimizer, name)}


def expert_rule(optimizer: Kind, **changes: Any) -> ExpertRule:
    """The published rule of a kind of expert, with `changes` to its values.

    Cazenavette et al., CVPR 2022 (sgd); Du et al., CVPR 2023 (flat: rho 0.01; alpha 0.3 for CIFAR-10 at 1 and 10 images
    per class, else 1); Shen et al., 2023 (smooth).

    Raises `CondenseError` for values that experts of this kind do not have, and those out of range.

    >>> expert_rule("smooth").momentum, expert_rule("flat", ascent_weight=1.0).ascent_weight
    (0.9, 1.0)
    """
    for name in changes:
        if not _has(optimizer, name):
            raise CondenseError(
                f"{option_name(name)} is a value of {_ONLY_FOR[name]} experts, and these are {optimizer}; "
                f"leave it out, or give --optimizer {_ONLY_FOR[name]}"
            )
    smooth = {"lr": 0.003, "momentum": 0.9, "weight_decay": 1e-3, "drop": 0.6}
    published = smooth if optimizer == "smooth" else {}
    return validated(ExpertRule, {"optimizer": optimizer} | published | changes, spell=option_name)


def _has(optimizer: Kind, name: str) -> bool:
    return _ONLY_FOR.get(name, optimizer) == optimizer
