"""What every method that chooses real images shares. A method fills one hole, `choose`; some also `product`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.sampling import check_enough
from condense.labels import HardLabels
from condense.methods.interface import Configured, Job, Pace, Product, SettingsT
from condense.runtime.errors import CondenseError
from condense.runtime.progress import say
from condense.sets.large import real_images


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen: training indices int64 [n], group by group in order of choice.

    `weights` float32 [n] say how much each counts in training, for methods that weigh; `scores` float64 [n] are what
    each was chosen by, for methods that rank.
    """

    indices: Tensor
    weights: Tensor | None = None
    scores: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Group:
    """Training indices `members` (int64 [n], ascending) of which `count` are chosen; `name` only serves to seed draws.

    Where the budget is balanced there is one for each class, named by its index.
    """

    members: Tensor
    count: int
    name: int | str


def check_mosaics(data: TrainingData, budget: Budget, factor: int) -> None:
    """Make sure that every class has enough images for its mosaics of factor x factor; else raise `CondenseError`."""
    if not budget.balanced:
        raise CondenseError("a mosaic is of one class: leave --no-balanced out")
    sizes = data.class_counts()
    for name, size, count in zip(data.info.classes, sizes, budget.counts(sizes)):
        if count * factor**2 > size:
            raise CondenseError(
                f"{count} mosaics of {factor} x {factor} take {count * factor**2} images, and class {name!r} has "
                f"{size}; give fewer, or a smaller --factor"
            )


class Selector(Configured[SettingsT], ABC):
    """A method that chooses real images; the set keeps their original 8-bit pixels.

    The order of choice is kept, within each class where the budget is balanced, so the first k images of a greedy
    method are its choice for k.
    """

    def __init__(self, job: Job, settings: SettingsT) -> None:
        self.job = job
        self.data = job.data
        self.settings = settings
        self.earlier_seconds = 0.0  # that made what was found in the cache: part of the cost of the choice

    @abstractmethod
    def choose(self) -> Choice:
        """The choice, group by group (see `groups`)."""

    def product(self, chosen: Choice) -> Product:
        """The pixels of the chosen images; a method that stores them otherwise fills this."""
        data = self.data
        return Product(
            stored=real_images(data, chosen.indices),
            labels=HardLabels(data.labels[chosen.indices]),
            settings=self.settings,
            weights=chosen.weights,
            source_indices=chosen.indices,
            scores=chosen.scores,
        )

    def groups(self) -> list[Group]:
        """The images among which choices are made, and how many in each."""
        budget, sizes = self.job.budget, self.data.class_counts()
        if not budget.balanced:
            return [Group(torch.arange(len(self.data)), budget.total(sizes), "all classes")]
        return [
            Group(self.data.class_indices(label), count, label)
            for label, count in enumerate(budget.counts(sizes))
            if count
        ]

    @classmethod
    def keeps_images(cls, settings: SettingsT) -> bool:
        """Whether what is stored are the chosen images, as they are."""
        return True

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> None:
        """There must be so many images; a class that gets none is said."""
        check_enough(data, budget)
        if budget.balanced:
            counts = budget.counts(data.class_counts())
            without = [name for name, count in zip(data.info.classes, counts) if not count]
            if without:
                say(f"note: {budget} gives no image of {len(without)} of {len(counts)} classes, {without[0]!r} for one")

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> list[Workload]:
        """Nothing, unless a method trains networks first."""
        return []

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> list[Workload]:
        """Nothing: there are no iterations to plan."""
        return []

    @classmethod
    def pace(cls, job: Job, settings: SettingsT) -> Pace | None:
        """None: a choice is made in one go."""
        return None

    @classmethod
    def make(cls, job: Job, settings: SettingsT) -> Product:
        """Choose, and store what was chosen."""
        started = time.monotonic()
        selector = cls(job, settings)
        product = selector.product(selector.choose())
        seconds = selector.earlier_seconds + time.monotonic() - started
        return replace(product, facts=product.facts | {"seconds": seconds})
