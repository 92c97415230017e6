"""What every method is given and what it gives back, whether it learns images or chooses real ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from condense.data import TrainingData
from condense.decoders import Tiles
from condense.planning import Work
from condense.runtime.errors import CondenseError
from condense.runtime.plan import Plan
from condense.runtime.validation import Closed


@dataclass(frozen=True)
class Job:
    """One request to make a set: the training data, how many images, from which seed, how, and for how long.

    Test data never gets here: `data` must be a `TrainingData`.
    """

    data: TrainingData
    ipc: int  # images per class, at least 1
    seed: int
    device: torch.device
    plan: Plan = field(default_factory=Plan)
    progress: bool = False
    iterations: int | None = None  # stop after this many updates; None: only the time ends the run
    minutes: float | None = None  # stop after this time
    checkpoint: Path | None = None  # where an unfinished run is kept; None keeps nothing
    configuration: dict[str, Any] = field(default_factory=dict)  # what a checkpoint must agree with

    def __post_init__(self) -> None:
        if not isinstance(self.data, TrainingData):
            raise TypeError(f"a method only ever gets TrainingData, not {type(self.data).__name__}")
        if self.ipc < 1:
            raise CondenseError(f"--ipc {self.ipc} must be at least 1 image per class")


@dataclass(frozen=True)
class Product:
    """The images that a method made, class by class in the order of the classes.

    `stored` is float32 [C*ipc, c, h, w], or uint8 pixels where real images were chosen; `space` and `decoder` say what
    a `SyntheticSet` has to know about it; `metrics` has one value per iteration; `settings` replaces those asked for
    where the run changed them (iterations reached); `facts` goes to the JSON beside the file and may hold times.
    """

    stored: Tensor
    labels: Tensor
    settings: Closed
    space: str = ""
    decoder: Tiles | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Maker(Protocol):
    """The class behind a method's registry line."""

    Settings: ClassVar[type[Closed]]

    @classmethod
    def work(cls, data: TrainingData, ipc: int, settings: Any) -> list[Work]:
        """What the engine does in one iteration, from which the run is planned; empty if there is nothing to plan."""

    @classmethod
    def make(cls, job: Job, settings: Any) -> Product:
        """Do the work of `job`."""


def class_major_labels(classes: int, ipc: int) -> Tensor:
    """The labels of a set in class order.

    >>> class_major_labels(2, 3)
    tensor([0, 0, 0, 1, 1, 1])
    """
    return torch.arange(classes).repeat_interleave(ipc)
