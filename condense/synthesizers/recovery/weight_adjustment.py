"""DWA: sre2l from real images, with variances weighted more, and a teacher whose weights are moved for each slice.

Du et al., "Diversity-Driven Synthesis: Enhancing Dataset Distillation through Directed Weight Adjustment", NeurIPS
2024, equations 7 to 9. Before the first update the weights go up the classification loss of the images that the slice
starts from: K times theta <- theta + (rho / K) g / (|g| + 1e-12), g being the gradient at the present theta on the
images as the first update shows them. Statistics stay those of the training.

The released code leaks: the gradients of these K steps stay in that of the pixels' first update, and where there are
several chunks of classes their perturbations add up. Both are mended here: every slice begins with the pristine
teacher.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from condense.methods.interface import Job
from condense.methods.slices.layouts import Slice
from condense.synthesizers.recovery.base import Recovery, RecoverySettings
from condense.synthesizers.recovery.objective import TeacherObjective, classification_loss, shared_objective
from condense.synthesizers.recovery.starts import Start
from condense.teachers.teacher import Teacher

_PURPOSE = "moved weights"  # no other recovery meets them


class WeightAdjustmentSettings(RecoverySettings):
    """Settings of `dwa`."""

    initialization: Start = Field("real", description="what the images start from: noise, real images or patches")
    variance_weight: float = Field(11.0, gt=0, description="of variances beside means")
    radius: float = Field(0.015, ge=0, description="rho: how far weights are moved; 0 leaves them")
    ascent_steps: int = Field(12, ge=1, description="K: steps in which they are moved")


class WeightAdjustment(Recovery[WeightAdjustmentSettings]):
    """Teachers are moved before the first update, by less than bfloat16 could tell apart."""

    only_float32 = True

    def __init__(self, job: Job, settings: WeightAdjustmentSettings, part: Slice) -> None:
        super().__init__(job, settings, part)
        with torch.no_grad():
            seen = self.pixels(self.shown(self.images, 0))
        for objective in self.objectives:
            ascend(objective.classifier, seen, self.labels, settings.radius, settings.ascent_steps)

    def objective(self, teacher: Teacher) -> TeacherObjective:
        """A pristine teacher that may be moved."""
        objective = shared_objective(
            teacher,
            self.job.device,
            self.job.plan,
            statistics=self.settings.statistics_weight > 0,
            variance_weight=self.settings.variance_weight,
            purpose=_PURPOSE,
        )
        objective.classifier.network.load_state_dict(dict(teacher.state))
        return objective


def ascend(classifier: nn.Module, images: Tensor, labels: Tensor, radius: float, steps: int) -> None:
    """Move the parameters of a classifier in place: up the cross-entropy of images, by at most `radius` altogether."""
    parameters = list(classifier.parameters())
    for value in parameters:
        value.requires_grad_(True)
    try:
        for _ in range(steps):
            loss = classification_loss(classifier(images), labels)
            gradients = torch.autograd.grad(loss, parameters)
            length = torch.stack([gradient.norm() for gradient in gradients]).norm()
            with torch.no_grad():
                step = (radius / steps / (length + 1e-12)).item()
                for value, gradient in zip(parameters, gradients):
                    value.add_(gradient, alpha=step)
    finally:
        for value in parameters:
            value.requires_grad_(False)
