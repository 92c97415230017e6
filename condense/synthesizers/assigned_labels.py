"""TESLA: Cui et al., Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory, ICML 2023.

Trajectory matching with labels that an expert assigns, and with the gradient that its authors compute.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from condense.labels import LogitLabels
from condense.synthesizers.trajectory_matching import (
    GRADIENT_HELP,
    GradientName,
    TrajectoryMatching,
    TrajectoryMatchingSettings,
    Window,
)


class SoftLabelTrajectorySettings(TrajectoryMatchingSettings):
    """Settings of TESLA; the defaults are those published for CIFAR-10 at one image per class, image_lr halved.

    The released code loses a factor 2 in the gradient of the images, so its learning rate is twice that of a correct
    gradient.
    """

    iterations: int = Field(10_000, ge=1, description="updates of the images")
    image_lr: float = Field(500.0, gt=0, description="learning rate of the images (SGD)")
    max_start: int = Field(5, ge=1, description="starts are below this epoch")
    gradient: GradientName = Field("frozen", description=GRADIENT_HELP)
    labels: Literal["assigned", "hard"] | None = Field(
        None,
        description="assigned: by the expert at the end of the window; default: that of the recipe, else hard up to 10 "
        "classes",
    )


class SoftLabelTrajectoryMatching(TrajectoryMatching[SoftLabelTrajectorySettings]):
    """TESLA: labels that the expert at the end of the window assigns, and the frozen gradient.

    At the end all labels are assigned by one expert, the first one after its last epoch, so that the set does not
    depend on the last draw. Assigned labels follow the images: nothing brings back one that an update has made another
    class to its expert. The metric `in_class` is the fraction that are still what they began as; where it falls, the
    learning rate of the images is too large.
    """

    @property
    def assigned(self) -> bool:
        """Whether labels are assigned."""
        asked = self.settings.labels or ("hard" if len(self.data.info.classes) <= 10 else "assigned")
        return bool(asked == "assigned")

    def targets(self, window: Window) -> Tensor:
        """The logits of the expert at the end of the window, or class indices."""
        if not self.assigned:
            return super().targets(window)
        return self.opinions.logits(self.images.detach(), window.expert, window.epoch + self.settings.span)

    def of_labels(self, labels: Tensor) -> dict[str, float]:
        """The fraction of assigned labels that are still what they began as."""
        if not self.assigned:
            return {}
        return {"in_class": (labels.argmax(1).cpu() == self.labels).double().mean().item()}

    def learned(self) -> dict[str, Any]:
        """With the labels of the first expert after its last epoch."""
        if not self.assigned:
            return super().learned()
        return super().learned() | {"labels": LogitLabels(self.opinions.logits(self.stored(), 0), self.labels)}
