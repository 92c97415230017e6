"""AST: Shen et al., Efficient Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories.

Trajectory matching with experts that learn smoothly (`condense experts --optimizer smooth`), and a student that is
helped to follow them: momentum in the inner training, a loss that grows with the start, targets on the way and a small
perturbation of the start. For CIFAR-100 the authors begin with images that represent their class.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.runtime.seeds import generator
from condense.synthesizers.trajectory_matching import TrajectoryMatching, TrajectoryMatchingSettings, Window
from condense.unroll import Target


class SmoothTrajectorySettings(TrajectoryMatchingSettings):
    """Settings of AST; the defaults are those of the authors' commands for CIFAR-10 at ten images per class."""

    image_lr: float = Field(1000.0, gt=0, description="learning rate of the images (SGD)")
    inner_steps: int = Field(30, ge=1, description="T: steps on the synthetic images")
    max_start: int = Field(20, ge=1, description="starts are below this epoch")
    inner_lr_lr: float = Field(1e-5, ge=0, description="learning rate of that learning rate (SGD, momentum 0.5)")
    inner_momentum: float = Field(0.9, ge=0, lt=1, description="momentum of the inner steps")
    balanced: bool = Field(True, description="weigh the inner loss by the start: more, the later it is")
    intermediate: Literal["equal", "growing", "none"] = Field(
        "equal", description="weights of the targets at the epochs between start and end"
    )
    perturbation: float = Field(1.0, ge=0, description="of the start's convolution weights, relative to their norm")


def balanced_weight(epoch: int, max_start: int) -> float:
    """c = log_5(s - h + 8) from epoch h = floor(max_start / 2) on, else 1 / log_5(h - s + 8).

    >>> round(balanced_weight(10, 20), 3), round(balanced_weight(9, 20), 3)
    (1.292, 0.732)
    """
    half = max_start // 2
    return math.log(epoch - half + 8, 5) if epoch >= half else 1 / math.log(half - epoch + 8, 5)


class SmoothTrajectoryMatching(TrajectoryMatching[SmoothTrajectorySettings]):
    """L = |theta_T - theta*_M|^2 / |theta_0 - theta*_M|^2
         + sum_i beta_i |theta_{t_i} - theta*_i|^2 / |theta_0 - theta*_i|^2

    theta*_i is the expert i epochs after the start, met at step t_i = i floor(T / M), 0 < i < M; beta is 1, or
    i / (number of these targets + 1). The start is the expert's with its convolution weights changed by
    w <- w + a (d / |d|) w, d from N(0, 1).
    """

    def window(self, iteration: int) -> Window:
        """With a perturbed start, and targets on the way."""
        whole = super().window(iteration)
        start = self._perturbed(whole.start, iteration)
        return Window(whole.expert, whole.epoch, start, whole.target, tuple(self._between(whole)))

    def _between(self, window: Window) -> list[Target]:
        settings = self.settings
        apart = settings.inner_steps // settings.span
        if settings.intermediate == "none" or not apart:
            return []
        between = range(1, settings.span)
        vectors = self._vectors(window.expert, *(window.epoch + i for i in between))
        return [
            (i * apart, vector, 1.0 if settings.intermediate == "equal" else i / settings.span)
            for i, vector in zip(between, vectors)
        ]

    def _perturbed(self, vector: Tensor, iteration: int) -> Tensor:
        draws = generator(self.job.seed, "perturbation", iteration)
        parts = []
        for weight in self.buffer.layout.unflatten(vector).values():
            if weight.dim() == 4:
                noise = torch.randn(weight.shape, generator=draws).to(weight.device)
                weight = weight + self.settings.perturbation * noise / noise.norm() * weight
            parts.append(weight.reshape(-1))
        return torch.cat(parts)

    def inner_options(self, window: Window) -> dict[str, Any]:
        """Momentum, and the weight of the inner loss."""
        weight = balanced_weight(window.epoch, self.settings.max_start) if self.settings.balanced else 1.0
        return {"momentum": self.settings.inner_momentum, "loss_scale": weight}
