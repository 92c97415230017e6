"""A method that makes a set in slices: jobs that know nothing of each other, gathered class by class."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.labels import HardLabels
from condense.methods.interface import Configured, Job, MethodSettings, Pace, Product, class_major_labels
from condense.methods.slices.jobs import SlicedRun, settled_job
from condense.methods.slices.layouts import Slice, slices_of
from condense.methods.slices.storing import SliceJob, SliceResult, StoredSlice, mean_metrics, run_slices, slices_folder
from condense.runtime.device import set_threads, threads_restored
from condense.runtime.hdf5.reader import Rows
from condense.sets.large import LARGE, Images, gathered
from condense.teachers.committee import Committee

_PIXEL_LEVELS = 255


class SlicedSettings(MethodSettings):
    """The settings of every method that works in slices."""

    slice_size: int = Field(100, ge=1, description="images of a slice, at most: those that are in memory")
    float_pixels: bool = Field(False, description="store float32 instead of 8-bit pixels")


SettingsT = TypeVar("SettingsT", bound=SlicedSettings)


class Sliced(Configured[SettingsT]):
    """One slice of a set, of one class unless a method cuts it otherwise. A method fills `result`."""

    usual_precision: ClassVar[Literal["auto", "float32"]] = "float32"  # of the teachers, where the user leaves it open
    only_float32: ClassVar[bool] = False  # whether there is no other

    def __init__(self, job: Job, settings: SettingsT, part: Slice) -> None:
        self.job, self.settings, self.slice = job, settings, part

    @abstractmethod
    def result(self) -> dict[str, Tensor]:
        """Arrays with a row for each image of the slice; `images` as they are stored."""

    @classmethod
    def slices(cls, job: Job, settings: SettingsT) -> list[Slice]:
        """The slices of a set."""
        return slices_of("per-class", len(job.data.info.classes), job.ipc, settings.slice_size)

    @classmethod
    def slice_result(cls, job: Job, settings: SettingsT, part: Slice) -> SliceResult:
        """One slice."""
        started = time.monotonic()
        arrays = cls(job, settings, part).result()
        return SliceResult(arrays, {}, time.monotonic() - started)

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> None:
        """The size must be so many images per class."""
        _ = budget.images_per_class

    @classmethod
    def check_teachers(cls, data: TrainingData, budget: Budget, settings: SettingsT, committee: Committee) -> None:
        """Raise `CondenseError` for teachers that do not do for such a set; a method adds what it needs of them."""

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> list[Workload]:
        """Nothing: teachers are trained before."""
        return []

    @classmethod
    def work(
        cls, data: TrainingData, budget: Budget, settings: SettingsT, committee: Committee | None = None
    ) -> list[Workload]:
        """Nothing to plan, unless a method has updates."""
        return []

    @classmethod
    def pace(cls, job: Job, settings: SettingsT) -> Pace | None:
        """None, unless a method has updates."""
        return None

    @classmethod
    def make(cls, job: Job, settings: SettingsT) -> Product:
        """Make all slices that are not there yet, and gather them."""
        parts = cls.slices(job, settings)
        run_of = SlicedRun.of(cls, job, settings, remote=job.packed is not None)
        with slices_folder(job) as folder:
            stored = run_slices(
                len(parts),
                partial(made_slice, run_of),
                folder,
                job.executor,
                keeps=job.checkpoint is not None,
                progress=job.progress,
            )
            return cls.product(job, settings, parts, stored)

    @classmethod
    def product(cls, job: Job, settings: SettingsT, parts: Sequence[Slice], stored: Sequence[StoredSlice]) -> Product:
        """The set of all slices."""
        return Product(
            stored=class_major([each.rows["images"] for each in stored], parts, keeps=job.checkpoint is not None),
            labels=HardLabels(class_major_labels(len(job.data.info.classes), job.ipc)),
            space="unit" if settings.float_pixels else "pixels",
            settings=settings,
            metrics=mean_metrics(stored),
            facts={"seconds": sum(each.seconds for each in stored), "slices": len(stored)},
        )


def made_slice(run_of: SlicedRun, asked: SliceJob) -> SliceResult:
    """One slice of a run, by its plan wherever that is; what executors are given."""
    job = settled_job(run_of, asked.checkpoint)
    part = run_of.method.slices(job, run_of.settings)[asked.number]
    with threads_restored():
        set_threads(job.plan.threads)
        result: SliceResult = run_of.method.slice_result(job, run_of.settings, part)
    return result


def stored_pixels(pixels: Tensor, as_float: bool) -> Tensor:
    """Pixels as a set stores them, on the processor: 8 bits, rounded, or float32 of [0, 1].

    Released code cuts off what is behind the point instead of rounding, half a level darker.
    """
    pixels = pixels.detach().clamp(0, 1).cpu()
    return pixels if as_float else (pixels * _PIXEL_LEVELS).round().to(torch.uint8)


def class_major(files: Sequence[Rows], parts: Sequence[Slice], *, keeps: bool) -> Images:
    """The images of all slices, class by class, by their places.

    They are in memory, unless they are large and their files are kept until the set is stored.
    """
    places: dict[tuple[int, int], Any] = {
        (label, place): (part.number, row)
        for part in parts
        for row, (label, place) in enumerate(zip(part.labels.tolist(), part.places.tolist()))
    }
    images = gathered(files, [places[key] for key in sorted(places)])
    large = images.numel() * images.element_size() > LARGE
    return images if large and keeps else images.whole()
