"""How experts are trained, as plain data: plainly, towards flat regions, or smoothly."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from condense.runtime.validation import Closed


class ExpertRule(Closed):
    """The training of an expert, epoch by epoch, on batches with DSA augmentation."""

    optimizer: Literal["sgd", "flat", "smooth"] = Field(
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
    clipped_epochs: int = Field(
        default=10, ge=0, description="smooth: epochs until the loss has its full weight, from half"
    )
    penalty: float = Field(default=2.0, ge=0, description="smooth: lambda, weight of the penalty on image gradients")


def expert_rule(optimizer: Literal["sgd", "flat", "smooth"]) -> ExpertRule:
    """The published rule of a kind of expert.

    Cazenavette et al., CVPR 2022 (sgd); Du et al., CVPR 2023 (flat: rho 0.01, alpha 0.3); Shen et al., 2023 (smooth).

    >>> expert_rule("smooth").momentum
    0.9
    """
    if optimizer == "smooth":
        return ExpertRule(optimizer="smooth", lr=0.003, momentum=0.9, weight_decay=1e-3, drop=0.6)
    return ExpertRule(optimizer=optimizer)
