"""What every recovery shares: images of one slice, learned by Adam from what teachers think of them.

Slices never meet, so each is a job of its own (`condense.methods.slices`), and a set of any size needs the memory of
one. A method fills `step`, or only changes how images are shown (`least_area`), where they start or which teachers are
asked.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from condense.augmentation.jitter import draw_jitter, jittered
from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.methods.interface import Job, Pace
from condense.methods.loop import run
from condense.methods.pace import measured_pace
from condense.methods.slices.layouts import Layout, Slice, slices_of
from condense.methods.slices.sliced import Sliced, SlicedSettings, stored_pixels
from condense.methods.slices.storing import SliceResult
from condense.runtime.global_draws import network_draws
from condense.runtime.seeds import derive_seed
from condense.synthesizers.recovery.objective import TeacherObjective, shared_objective
from condense.synthesizers.recovery.starts import Start, starting_pixels
from condense.synthesizers.recovery.units import units
from condense.teachers.committee import Committee
from condense.teachers.teacher import Teacher
from condense.training.state import load_optimizer_state, optimizer_state


class RecoverySettings(SlicedSettings):
    """The settings that every recovery has. A method's own settings extend them."""

    iterations: int = Field(1000, ge=1, description="updates of the images of each slice")
    image_lr: float = Field(
        0.25, gt=0, description="Adam's, at the beginning of a cosine to 0; in standard deviations of a channel"
    )
    statistics_weight: float = Field(0.01, ge=0, description="of the distance to the statistics of BatchNorm")
    layout: Layout = Field("ipc-index", description="what shares a batch: one image a class, several, or of one class")
    initialization: Start = Field("noise", description="what the images start from: noise, real images or patches")
    crop: float | None = Field(
        0.08, gt=0, le=1, description="smallest share of the area that a crop shows, one crop an update; none: no crops"
    )
    flip: bool = Field(True, description="show mirror images in half of the updates")
    shift: int | None = Field(
        None, ge=0, description="pixels by which images are shifted around, at most; none: 4 at 32 and 64, 32 at 224"
    )
    patch_images: int = Field(300, ge=1, description="patches: real images of a class that they are taken from")
    patch_crops: int = Field(5, ge=1, description="patches: crops of each, of which teachers choose one")
    patch_difficulty: Literal["easy", "medium", "hard"] = Field(
        "medium", description="patches: those that teachers find easiest, those in the middle, or the hardest"
    )


SettingsT = TypeVar("SettingsT", bound=RecoverySettings)


class Recovery(Sliced[SettingsT]):
    """One slice in recovery: images in units of the teachers' normalisation, float32 [n, C, H, W].

    Pixels are mean + std * image for each channel, so a start of N(0, 1) and the learning rate are those of papers,
    and clamping pixels to [0, 1] after every update is what they do. Several teachers with different normalisations
    are asked about the same pixels; the units are then means of theirs.
    """

    skips: ClassVar[bool] = False
    rate: ClassVar[str] = "image_lr"

    def __init__(self, job: Job, settings: SettingsT, part: Slice) -> None:
        assert job.teacher is not None, "a recovery is never begun without teachers"
        super().__init__(job, settings, part)
        self.committee = self.voters(job.teacher)
        self.mean, self.std = units(self.committee, job.device)
        self.labels = part.labels.to(job.device)
        self.images = self.normalized(self.start().to(job.device)).requires_grad_()
        self.optimizer = torch.optim.Adam(self.learned(), lr=settings.image_lr, betas=(0.5, 0.9), eps=1e-8)
        self.objectives = [self.objective(member) for member in self.committee.members]

    # What methods change

    def voters(self, committee: Committee) -> Committee:
        """The teachers of this slice: all."""
        return committee

    def start(self) -> Tensor:
        """The pixels to start from, float32 [n, C, H, W]; noise may leave [0, 1]."""
        return starting_pixels(self.settings.initialization, self.job, self.slice, self.settings)

    def learned(self) -> list[Tensor]:
        """What the optimiser moves: the images."""
        return [self.images]

    def objective(self, teacher: Teacher) -> TeacherObjective:
        """What is asked of a teacher."""
        statistics = self.settings.statistics_weight > 0
        return shared_objective(teacher, self.job.device, self.job.plan, statistics=statistics)

    def least_area(self, iteration: int) -> float | None:
        """The smallest share of the area that a crop of this update shows; None for no crops."""
        return self.settings.crop

    def step(self, iteration: int) -> dict[str, float]:
        """One update of the images down the loss of the committee; then pixels are clamped to [0, 1]."""
        loss, metrics = self.loss(self.pixels(self.shown(self.images, iteration)))
        self.descend(iteration, *torch.autograd.grad(loss, self.learned()))
        with torch.no_grad():
            self.images.copy_(self.clamped(self.images))
        return metrics

    def result(self) -> dict[str, Tensor]:
        """What the slice gives: its images as they are stored."""
        return {"images": stored_pixels(self.pixels(self.images.detach()), self.settings.float_pixels)}

    # What they build on

    def shown(self, images: Tensor, iteration: int) -> Tensor:
        """The images as the teachers see them in this update: one crop, mirroring and shift for all of them."""
        settings = self.settings
        draw = draw_jitter(
            self.job.data.info.image_shape,
            least=self.least_area(iteration),
            flip=settings.flip and self.job.data.info.mirror,
            shift=usual_shift(min(images.shape[2:])) if settings.shift is None else settings.shift,
            seed=self.job.seed,
            purpose="recovery jitter",
            indices=(self.slice.number, iteration),
        )
        return jittered(images, draw)

    def loss(self, pixels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """sum_m w_m (CE_m + r L_m) over the teachers, and its parts for people."""
        classes, statistics = torch.zeros((), device=pixels.device), torch.zeros((), device=pixels.device)
        for weight, objective in zip(self.committee.weights, self.objectives):
            own_classes, own_statistics = objective(pixels, self.labels)
            classes, statistics = classes + weight * own_classes, statistics + weight * own_statistics
        loss = classes + self.settings.statistics_weight * statistics
        return loss, {"loss": loss.item(), "classes": classes.item(), "statistics": statistics.item()}

    def descend(self, iteration: int, *gradients: Tensor) -> None:
        """One step of Adam at the rate lr (1 + cos(pi t / T)) / 2 of update t, counted from 0."""
        rate = 0.5 * self.settings.image_lr * (1 + math.cos(math.pi * iteration / self.settings.iterations))
        self.optimizer.param_groups[0]["lr"] = rate
        for value, gradient in zip(self.learned(), gradients, strict=True):
            value.grad = gradient
        self.optimizer.step()

    def pixels(self, images: Tensor) -> Tensor:
        """Images in units of the normalisation as pixels."""
        return self.mean + self.std * images

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels in units of the normalisation."""
        return (pixels - self.mean) / self.std

    def clamped(self, images: Tensor) -> Tensor:
        """Images whose pixels are in [0, 1]."""
        return torch.clamp(
            images, self.normalized(torch.zeros_like(self.mean)), self.normalized(torch.ones_like(self.mean))
        )

    # What the loop needs

    def advance(self, iteration: int) -> dict[str, float]:
        """`step`, with draws of networks that follow the slice and the update."""
        with network_draws(derive_seed(self.job.seed, "network draws", self.slice.number, iteration)):
            return self.step(iteration)

    def results(self) -> dict[str, Tensor]:
        """What is learned."""
        return {f"learned.{number}": value.detach() for number, value in enumerate(self.learned())}

    def state(self) -> dict[str, Tensor]:
        """What is learned, and Adam's moments of it."""
        return self.results() | optimizer_state(self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        with torch.no_grad():
            for number, value in enumerate(self.learned()):
                value.copy_(state[f"learned.{number}"])
        load_optimizer_state(self.optimizer, state)

    # The method as a whole

    @classmethod
    def check_teachers(cls, data: TrainingData, budget: Budget, settings: SettingsT, committee: Committee) -> None:
        """They must have statistics, unless these weigh nothing."""
        if settings.statistics_weight:
            committee.check_statistics("recovery by statistics")

    @classmethod
    def work(
        cls, data: TrainingData, budget: Budget, settings: SettingsT, committee: Committee | None = None
    ) -> list[Workload]:
        """One update of every slice by every teacher."""
        if committee is None:
            return []
        classes = len(data.info.classes)
        parts = slices_of(settings.layout, classes, budget.images_per_class, settings.slice_size)
        size = max(map(len, parts))
        return [
            Workload("training", member.manifest.network, data.info.image_shape, classes, size, times=len(parts))
            for member in committee.members
        ]

    @classmethod
    def pace(cls, job: Job, settings: SettingsT) -> Pace | None:
        """That of a few updates of the first slice, for all of them one after the other."""
        parts = cls.slices(job, settings)
        first = measured_pace(lambda: cls(replace(job, progress=False, rehearsal=True), settings, parts[0]), 0.0)
        return Pace(first.preparation, first.seconds_per_iteration * len(parts))

    @classmethod
    def slices(cls, job: Job, settings: SettingsT) -> list[Slice]:
        """The slices of a set."""
        return slices_of(settings.layout, len(job.data.info.classes), job.ipc, settings.slice_size)

    @classmethod
    def slice_result(cls, job: Job, settings: SettingsT, part: Slice) -> SliceResult:
        """One slice from its start, or from where it stopped, to its end."""
        slice_run = cls(job, settings, part)
        record = run(slice_run, replace(job, iterations=settings.iterations, minutes=None, keep_every=None))
        return SliceResult(slice_run.result(), record.metrics, record.seconds)


def usual_shift(side: int) -> int:
    """The largest shift of images with a side of so many pixels: 4 at 32 and 64 and 32 at 224, as released code has it.

    Between and beyond these an eighth up to 4, a seventh above 64.

    >>> [usual_shift(side) for side in (8, 32, 64, 128, 224)]
    [1, 4, 4, 18, 32]
    """
    return min(4, side // 8) if side <= 64 else round(side / 7)
