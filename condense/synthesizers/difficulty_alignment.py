"""DATM: Guo et al., Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching, ICLR 2024.

Small sets should match the early part of a trajectory, where networks learn what is easy, large ones its late part. So
starts come from a window that opens step by step, images start from real ones that experts classify rightly, and every
image has a soft label that starts from the experts' and is learned too.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor

from condense.labels import LogitLabels
from condense.synthesizers.expert_opinions import ExpertOpinions
from condense.synthesizers.initialization import Initialization
from condense.synthesizers.trajectory_matching import (
    START_HELP,
    TrajectoryMatching,
    TrajectoryMatchingSettings,
    Window,
)
from condense.unroll import TrajectoryGradient


class DifficultyAlignmentSettings(TrajectoryMatchingSettings):
    """Settings of DATM; the defaults are those published for CIFAR-10 at one image per class."""

    iterations: int = Field(10_000, ge=1, description="updates of the images")
    inner_steps: int = Field(80, ge=1, description="T: steps on the synthetic images")
    max_start: int = Field(4, ge=1, description="starts are below this epoch")
    first_max_start: int | None = Field(
        None, ge=1, description="the same in the first iteration, from where it grows; default: max_start"
    )
    growth: float = Field(
        1000, gt=0, description="iterations until starts reach max_start; below 1, as a part of the run"
    )
    initialization: Initialization = Field("correct", description=START_HELP)
    label_epoch: int | None = Field(
        None,
        ge=0,
        description="epoch after which experts choose images and say what labels start from; default: the last",
    )
    label_lr: float = Field(5.0, ge=0, description="learning rate of the soft labels (SGD, momentum 0.9)")
    skip_above: float = Field(1.1, gt=0, description="no update is made where the loss is larger")

    def for_length(self, iterations: int) -> Self:
        """With the growth in iterations."""
        growth = self.growth if self.growth >= 1 else max(1, round(self.growth * iterations))
        return super().for_length(iterations).model_copy(update={"growth": growth})


def open_to(iteration: int, first: int, last: int, growth: float) -> int:
    """The epoch below which starts are drawn: min(last, first + floor((last - first) iteration / growth)).

    >>> [open_to(iteration, 10, 20, 1000) for iteration in (0, 99, 100, 1000, 5000)]
    [10, 10, 11, 20, 20]
    """
    return min(last, first + int((last - first) * iteration // growth))


class DifficultyAlignment(TrajectoryMatching[DifficultyAlignmentSettings]):
    """Trajectory matching with a window that opens, images that experts know, learned soft labels and a gate.

    Labels are logits, whose softmax is the target of the inner cross-entropy; each starts as the average over the
    experts, after their last epoch or `label_epoch`, that classify the image rightly (over all of them where none
    does); without the start `correct` there is one expert. These experts, which also choose the images, can be others
    than the ones that are matched. An iteration whose loss is above `skip_above` changes nothing.
    """

    def prepare(self) -> None:
        """With the experts that say what images are."""
        super().prepare()
        experts = self.job.label_buffer or self.buffer
        self.opinions = ExpertOpinions(experts, self.data.info, self.job.device, self.settings.label_epoch)

    def more_learned(self) -> list[dict[str, Any]]:
        """The logits of the labels."""
        self.label_logits = self._initial_logits()
        return [{"params": [self.label_logits], "lr": self.settings.label_lr, "momentum": 0.9}]

    def _initial_logits(self) -> Tensor:
        images, labels = self.images.detach(), self.labels.to(self.job.device)
        experts = range(self.opinions.experts if self.settings.initialization == "correct" else 1)
        total = trusted = torch.zeros(len(images), len(self.data.info.classes), device=self.job.device)
        counted = torch.zeros(len(images), 1, device=self.job.device)
        for expert in experts:
            logits = self.opinions.logits(images, expert)  # (N, C)
            right = (logits.argmax(1) == labels).to(logits.dtype)[:, None]
            total, counted, trusted = total + logits, counted + right, trusted + right * logits
        return torch.where(counted > 0, trusted / counted.clamp(min=1), total / len(experts))

    def start_limit(self, iteration: int) -> int:
        """The starts that are open by now."""
        settings = self.settings
        last = settings.max_start
        end = open_to(iteration, min(settings.first_max_start or last, last), last, settings.growth)
        return max(end, settings.min_start + 1)

    def targets(self, window: Window) -> Tensor:
        """The learned logits."""
        return self.label_logits

    def accepts(self, found: TrajectoryGradient) -> bool:
        """Whether the loss is small enough."""
        return found.loss.item() <= self.settings.skip_above

    def remarks(self, iterations: int) -> list[str]:
        """With a run whose losses were too large to change much."""
        found = super().remarks(iterations)
        if self.skipped > iterations / 2:
            found.append(
                f"{self.skipped} updates changed nothing, most with a loss above --skip-above "
                f"{self.settings.skip_above:g}; give a smaller --inner-lr than {self.settings.inner_lr:g}, or a larger "
                "--skip-above"
            )
        return found

    def apply(self, found: TrajectoryGradient) -> bool:
        """One step on the labels too."""
        self.label_logits.grad = found.labels
        return super().apply(found)

    def learned(self) -> dict[str, Any]:
        """With the labels."""
        return super().learned() | {"labels": LogitLabels(self.label_logits, self.labels)}

    def results(self) -> dict[str, Tensor]:
        """With the labels."""
        return super().results() | {"label_logits": self.label_logits.detach()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self.label_logits.copy_(state["label_logits"])
