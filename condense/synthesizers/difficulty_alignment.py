"""DATM: Guo et al., Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching, ICLR 2024.

Small sets should match the early part of a trajectory, where networks learn what is easy, large ones its late part. So
starts come from a window that opens step by step, images start from real ones that experts classify rightly, and every
image has a soft label that starts from the experts' and is learned too.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from condense.data.sampling import check_class_sizes
from condense.runtime.seeds import generator
from condense.synthesizers.base import INITIALIZATION_HELP
from condense.synthesizers.initialization import Initialization
from condense.synthesizers.trajectory_matching import TrajectoryMatching, TrajectoryMatchingSettings, Window
from condense.unroll import TrajectoryGradient

_ASKED_AT_ONCE = 64  # images of a class, in random order, until enough are classified rightly


class DifficultyAlignmentSettings(TrajectoryMatchingSettings):
    """Settings of DATM; the defaults are those published for CIFAR-10 at one image per class."""

    iterations: int = Field(10_000, ge=1, description="updates of the images")
    inner_steps: int = Field(80, ge=1, description="T: steps on the synthetic images")
    max_start: int = Field(4, ge=1, description="starts are below this epoch")
    first_max_start: int | None = Field(
        None, ge=1, description="the same in the first iteration, from where it grows; default: max_start"
    )
    growth: int = Field(1000, ge=1, description="iterations until starts reach max_start")
    initialization: Initialization = Field("correct", description=f"{INITIALIZATION_HELP}; or correct, as experts say")
    label_lr: float = Field(5.0, ge=0, description="learning rate of the soft labels (SGD, momentum 0.9)")
    skip_above: float = Field(1.1, gt=0, description="no update is made where the loss is larger")


def open_to(iteration: int, first: int, last: int, growth: int) -> int:
    """The epoch below which starts are drawn: min(last, first + floor((last - first) iteration / growth)).

    >>> [open_to(iteration, 10, 20, 1000) for iteration in (0, 99, 100, 1000, 5000)]
    [10, 10, 11, 20, 20]
    """
    return min(last, first + (last - first) * iteration // growth)


def _without(order: list[int], found: list[int]) -> list[int]:
    known = set(found)
    return [index for index in order if index not in known]


class DifficultyAlignment(TrajectoryMatching):
    """Trajectory matching with a window that opens, learned soft labels and a gate.

    Labels are logits, whose softmax is the target of the inner cross-entropy; each starts as the average over the
    experts, after their last epoch, that classify the image rightly (over all of them where none does). An iteration
    whose loss is above `skip_above` changes nothing.
    """

    Settings = DifficultyAlignmentSettings

    def start(self) -> tuple[Tensor, float]:
        """With `correct`, real images that an expert classifies rightly after its last epoch."""
        if self.settings.initialization != "correct":
            return super().start()
        check_class_sizes(self.data, self.job.ipc)
        chosen = [self._correct(label) for label in range(len(self.data.info.classes))]
        return self.data.images(torch.cat(chosen)), 0.0

    def _correct(self, label: int) -> Tensor:
        """The first images of a class, in random order, that expert 0 classifies rightly; then those of the next one.

        Where all experts together find too few, the first of the others follow.
        """
        members = self.data.class_indices(label)
        draws = generator(self.job.seed, "initial images", label)
        order = members[torch.randperm(len(members), generator=draws)].tolist()
        found: list[int] = []
        for expert in range(self.buffer.experts):
            vector = self._vector(expert, self.buffer.epochs)
            for part in torch.tensor(_without(order, found)).split(_ASKED_AT_ONCE):
                if len(found) >= self.job.ipc:
                    return torch.tensor(found[: self.job.ipc])
                images = self.data.images(part).to(self.job.device)
                right = self.logits(images, vector, expert, self.buffer.epochs).argmax(1).cpu() == label
                found += part[right].tolist()
        return torch.tensor((found + _without(order, found))[: self.job.ipc])

    def more_learned(self) -> list[dict[str, Any]]:
        """The logits of the labels."""
        self.label_logits = self._initial_logits()
        return [{"params": [self.label_logits], "lr": self.settings.label_lr, "momentum": 0.9}]

    def _initial_logits(self) -> Tensor:
        images, labels, epoch = self.images.detach(), self.labels.to(self.job.device), self.buffer.epochs
        experts = range(self.buffer.experts if self.settings.initialization == "correct" else 1)
        every = torch.stack(
            [self.logits(images, self._vector(expert, epoch), expert, epoch) for expert in experts]
        )  # (K, N, C)
        right = every.argmax(2) == labels  # (K, N)
        counted = torch.where(right.any(0), right, torch.ones_like(right)).to(every.dtype)
        return (every * counted[:, :, None]).sum(0) / counted.sum(0)[:, None]

    def last_start(self, iteration: int) -> int:
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

    def apply(self, found: TrajectoryGradient) -> bool:
        """One step on the labels too."""
        self.label_logits.grad = found.labels
        return super().apply(found)

    def learned(self) -> dict[str, Any]:
        """With the labels."""
        return super().learned() | {"targets": self.label_logits.detach().cpu(), "label_kind": "logits"}

    def state(self) -> dict[str, Tensor]:
        """With the labels."""
        return super().state() | {"label_logits": self.label_logits.detach()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self.label_logits.copy_(state["label_logits"])
