"""INFER: real images, and a few images that are added to one of every class.

Zhang et al., "Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature Compensator", ICLR 2025,
section 3 and the released code. For each of n places there is one real image of every class; for each teacher m, on its
own, a compensator u, the same for all classes, begins at 0 and descends CE(f_m(x + u)) + r L_m on these images. A set
has the real images and their sums with the M compensators. A compensator costs as much as one image, so in the bytes of
ipc images a class there is room for n = floor(ipc / (1 + M / K)) places of K classes. Sums are clipped, compensators
are not; here they are stored in 8 bits.

Where there are more classes than a slice has room for, the gradient is the sum over parts of the classes, with
statistics of each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.labels import HardLabels
from condense.methods.interface import Job, Product, class_major_labels
from condense.methods.slices.layouts import Slice, slices_of
from condense.methods.slices.storing import StoredSlice
from condense.runtime.errors import CondenseError
from condense.sets.compensators import Compensators
from condense.synthesizers.recovery.base import Recovery, RecoverySettings
from condense.synthesizers.recovery.starts import real_indices
from condense.teachers.committee import Committee


class CompensationSettings(RecoverySettings):
    """Settings of `infer`; its slices and where they start are a part of the method."""

    layout: Literal["ipc-index"] = Field("ipc-index", description="what shares a batch: one image a class")
    initialization: Literal["real"] = Field("real", description="what compensators are added to: real images")
    statistics_weight: float = Field(1.0, ge=0, description="of the distance to the statistics of BatchNorm")


def places_within(ipc: int, classes: int, teachers: int) -> int:
    """n: real images of a class beside which the compensators fit into the bytes of `ipc` images a class.

    >>> places_within(10, classes=10, teachers=4), places_within(10, classes=100, teachers=4)
    (7, 9)
    """
    return ipc * classes // (classes + teachers)


class FeatureCompensation(Recovery[CompensationSettings]):
    """The compensators of one place, learned side by side."""

    def __init__(self, job: Job, settings: CompensationSettings, part: Slice) -> None:
        assert job.teacher is not None, "a recovery is never begun without teachers"
        shape = job.data.info.image_shape
        self.additions = [
            torch.zeros(1, *shape, device=job.device, requires_grad=True) for _ in job.teacher.members
        ]  # in units of the normalisation
        super().__init__(job, settings, part)
        self.images.requires_grad_(False)

    def start(self) -> Tensor:
        """One real image of every class."""
        indices = [real_indices(self.job, label)[place] for label, place in self._chosen()]
        self.originals = self.job.data.pixels(torch.stack(indices))
        return self.originals.float() / 255

    def _chosen(self) -> list[tuple[int, int]]:
        return list(zip(self.slice.labels.tolist(), self.slice.places.tolist()))

    def learned(self) -> list[Tensor]:
        """The compensators, one for each teacher."""
        return self.additions

    def step(self, iteration: int) -> dict[str, float]:
        """One update of every compensator, each down the loss of its own teacher."""
        totals = {"loss": 0.0, "classes": 0.0, "statistics": 0.0}
        gradients, size = [], self.settings.slice_size
        for objective, addition in zip(self.objectives, self.additions):
            gradient = torch.zeros_like(addition)
            for images, labels in zip(self.images.split(size), self.labels.split(size)):
                share = len(images) / len(self.images)
                seen = self.pixels(self.shown(images + addition, iteration))
                classes, statistics = objective(seen, labels)
                loss = share * (classes + self.settings.statistics_weight * statistics)
                gradient += torch.autograd.grad(loss, addition)[0]
                for name, value in (("loss", loss), ("classes", share * classes), ("statistics", share * statistics)):
                    totals[name] += value.item() / len(self.objectives)
            gradients.append(gradient)
        self.descend(iteration, *gradients)
        return totals

    def result(self) -> dict[str, Tensor]:
        """The real images as they are, and the compensators in units of pixels, [1, M, C, H, W]."""
        additions = torch.cat([self.std * addition.detach() for addition in self.additions])
        return {"images": self.originals, "compensators": additions[None].cpu()}

    @classmethod
    def slices(cls, job: Job, settings: CompensationSettings) -> list[Slice]:
        """A slice for each place, of one image of every class."""
        assert job.teacher is not None, "a recovery is never begun without teachers"
        classes = len(job.data.info.classes)
        return slices_of("ipc-index", classes, places_within(job.ipc, classes, len(job.teacher)), classes)

    @classmethod
    def check_teachers(
        cls, data: TrainingData, budget: Budget, settings: CompensationSettings, committee: Committee
    ) -> None:
        """There must be room for a real image of every class beside the compensators."""
        super().check_teachers(data, budget, settings, committee)
        classes, teachers = len(data.info.classes), len(committee)
        if not places_within(budget.images_per_class, classes, teachers):
            least = -(-(classes + teachers) // classes)
            raise CondenseError(
                f"in the bytes of {budget} there is no room for real images of {classes} classes beside {teachers} "
                f"compensators; give --ipc {least} or more, or fewer teachers"
            )
        if settings.float_pixels:
            raise CondenseError("infer stores real images, which have 8 bits: leave --float-pixels out")

    @classmethod
    def work(
        cls, data: TrainingData, budget: Budget, settings: CompensationSettings, committee: Committee | None = None
    ) -> list[Workload]:
        """One update of every place by every teacher."""
        if committee is None:
            return []
        classes = len(data.info.classes)
        places = places_within(budget.images_per_class, classes, len(committee))
        size = min(classes, settings.slice_size)
        times = places * -(-classes // size)
        return [
            Workload("training", member.manifest.network, data.info.image_shape, classes, size, times=times)
            for member in committee.members
        ]

    @classmethod
    def product(
        cls, job: Job, settings: CompensationSettings, parts: Sequence[Slice], stored: Sequence[StoredSlice]
    ) -> Product:
        """The real images, and a decoder that adds the compensators."""
        classes = len(job.data.info.classes)
        additions = torch.cat([torch.from_numpy(each.rows["compensators"].read((0, 1))) for each in stored])
        indices = [real_indices(job, label)[: len(stored)] for label in range(classes)]
        return replace(
            super().product(job, settings, parts, stored),
            labels=HardLabels(class_major_labels(classes, len(stored))),
            decoder=Compensators.of(additions),
            source_indices=torch.cat(indices),
        )
