"""What methods that learn graphs by gradient descent share: parameters with optimisers, the state to save, the loop."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from condense.graphs.methods.interface import DataT, GraphJob, GraphProduct
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.methods.interface import MethodSettings
from condense.methods.loop import RunRecord, run
from condense.training.state import load_optimizer_state, optimizer_state


class LearningSettings(MethodSettings):
    """The settings that every method has that learns graphs. A method's own settings extend them."""

    iterations: int = Field(1000, ge=1, description="updates of what is learned")
    half: bool = Field(False, description="store features and weights of edges in float16, in half the bytes")


SettingsT = TypeVar("SettingsT", bound=LearningSettings)


class GraphSynthesizer(ABC, Generic[DataT, SettingsT]):
    """A method that learns graphs.

    A subclass sets `self.learned`, tensors by name that are changed in place, and `self.optimizers`, by name, in its
    constructor, and writes `step` and `synthetic`. Every random draw must come from
    `generator(self.job.seed, purpose, iteration, ...)`: then a run that was killed goes on exactly.
    """

    skips: ClassVar[bool] = False
    rate: ClassVar[str] = "feature_lr"

    def __init__(self, job: GraphJob[DataT], settings: SettingsT) -> None:
        self.job: GraphJob[DataT] = job
        self.data: DataT = job.data
        self.settings = settings
        self.learned: dict[str, Tensor] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    @abstractmethod
    def step(self, iteration: int) -> dict[str, float]:
        """One update; returns the numbers to show and record."""

    @abstractmethod
    def synthetic(self) -> GraphSet | NodeGraphSet:
        """The set as it is now, in float32."""

    def advance(self, iteration: int) -> dict[str, float]:
        """What the loop calls."""
        return self.step(iteration)

    def results(self) -> dict[str, Tensor]:
        """What is learned."""
        return {name: value.detach() for name, value in self.learned.items()}

    def state(self) -> dict[str, Tensor]:
        """Everything that `step` changes."""
        state = self.results()
        for name, optimizer in self.optimizers.items():
            state |= optimizer_state(optimizer, f"optimizer.{name}")
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        with torch.no_grad():
            for name, value in self.learned.items():
                value.copy_(state[name])
        for name, optimizer in self.optimizers.items():
            load_optimizer_state(optimizer, state, f"optimizer.{name}")

    @classmethod
    def make(cls, job: GraphJob[DataT], settings: SettingsT) -> GraphProduct:
        """Run the method from its start or its checkpoint to the end of its budget."""
        started = time.monotonic()
        synthesizer = cls(job, settings)
        record = run(synthesizer, job, preparation=time.monotonic() - started)
        return synthesizer.product(record)

    def product(self, record: RunRecord) -> GraphProduct:
        """The set after the updates that `record` counts."""
        made = self.synthetic()
        return GraphProduct(
            made.rounded() if self.settings.half else made,
            self.settings.model_copy(update={"iterations": record.iterations}),
            record.metrics,
            {"seconds": record.seconds, "resumed_at": record.resumed_at},
        )
