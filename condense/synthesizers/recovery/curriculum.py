"""CDA: sre2l whose crops begin with the whole image and become smaller.

Yin & Shen, "Dataset Distillation via Curriculum Data Augmentation in Large Data Era", TMLR 2024, section 3.2 and the
released code. In the part m of T updates the smallest share of the area falls from 1 to that of `crop`, s:
s + (1 - s) (1 + cos(pi t / (m T))) / 2, or linearly s + (1 - s) (1 - t / (m T)), or it stays 1 (step); then it is s.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from condense.synthesizers.recovery.base import Recovery, RecoverySettings


class CurriculumSettings(RecoverySettings):
    """Settings of `cda`."""

    schedule: Literal["cosine", "linear", "step"] = Field("cosine", description="how the smallest crop shrinks")
    milestone: float = Field(1.0, gt=0, le=1, description="part of the updates after which it is as small as --crop")


class Curriculum(Recovery[CurriculumSettings]):
    """Crops become smaller over the updates of a slice."""

    def least_area(self, iteration: int) -> float | None:
        """The smallest share of the area that a crop of this update shows."""
        settings = self.settings
        if settings.crop is None:
            return None
        return least_area(settings.crop, settings.schedule, iteration / (settings.milestone * settings.iterations))


def least_area(last: float, schedule: Literal["cosine", "linear", "step"], part: float) -> float:
    """The smallest share of the area when this part of the schedule is over; `last` from 1 on.

    >>> [round(least_area(0.08, "cosine", part), 3) for part in (0.0, 0.5, 1.0, 2.0)]
    [1.0, 0.54, 0.08, 0.08]
    >>> least_area(0.08, "step", 0.99), round(least_area(0.08, "linear", 0.25), 2)
    (1.0, 0.77)
    """
    if part >= 1:
        return last
    left = {"cosine": 0.5 * (1 + math.cos(math.pi * part)), "linear": 1 - part, "step": 1.0}[schedule]
    return last + (1 - last) * left
