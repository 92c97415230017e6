"""What every method that chooses real images shares. A method fills one hole: `choose`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from torch import Tensor

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.sampling import check_class_sizes
from condense.methods.interface import Configured, Job, Pace, Product, SettingsT


class Selector(Configured[SettingsT], ABC):
    """A method that chooses `ipc` real images of every class; the set keeps their original 8-bit pixels.

    The order of choice is kept within each class, so the first k images of a greedy method are its choice for k.
    """

    def __init__(self, job: Job, settings: SettingsT) -> None:
        self.job = job
        self.data = job.data
        self.settings = settings
        self.earlier_seconds = 0.0  # that made what was found in the cache: part of the cost of the choice

    @abstractmethod
    def choose(self) -> Tensor:
        """Training indices of the chosen images, class by class in order of choice; int64 [C*ipc]."""

    @classmethod
    def check(cls, data: TrainingData, ipc: int, settings: SettingsT) -> None:
        """Every class must have so many images."""
        check_class_sizes(data, ipc)

    @classmethod
    def preparation(cls, data: TrainingData, ipc: int, settings: SettingsT) -> list[Workload]:
        """Nothing, unless a method trains networks first."""
        return []

    @classmethod
    def work(cls, data: TrainingData, ipc: int, settings: SettingsT) -> list[Workload]:
        """Nothing: there are no iterations to plan."""
        return []

    @classmethod
    def pace(cls, job: Job, settings: SettingsT) -> Pace | None:
        """None: a choice is made in one go."""
        return None

    @classmethod
    def make(cls, job: Job, settings: SettingsT) -> Product:
        """Choose, and copy the pixels of the chosen images."""
        started = time.monotonic()
        selector = cls(job, settings)
        indices = selector.choose()
        seconds = selector.earlier_seconds + time.monotonic() - started
        return Product(
            stored=job.data.pixels(indices),
            labels=job.data.labels[indices],
            settings=settings,
            facts={"seconds": seconds, "indices": indices.tolist()},
        )
