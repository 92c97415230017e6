"""What every method that makes condensed graphs is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from condense.graphs.methods.budget import GraphBudget
from condense.graphs.real import TrainingGraphs, TrainingNodes, ValidationGraphs
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.methods.interface import MethodSettings

TrainingPart = TrainingGraphs | TrainingNodes
DataT = TypeVar("DataT", TrainingGraphs, TrainingNodes)


@dataclass(frozen=True, kw_only=True)
class GraphJob(Generic[DataT]):
    """One request to make a condensed set of graphs; the part that is tested on never gets here.

    Args:
        data: the training part.
        budget: how large the set may be.
        seed: of everything random.
        device: where networks are.
        iterations: updates after which a method that learns ends; None where only the time ends it.
        minutes: the time after which it ends.
        checkpoint: where an unfinished run is kept; None keeps nothing.
        configuration: what a checkpoint must agree with.
        keep_every: sets on the way are not kept.
        progress: whether to show a bar.
        validation: graphs to choose one setting by, for methods that say so.
    """

    data: DataT
    budget: GraphBudget
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    iterations: int | None = None
    minutes: float | None = None
    checkpoint: Path | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    keep_every: int | None = None
    progress: bool = False
    validation: ValidationGraphs | None = None


@dataclass(frozen=True)
class GraphProduct:
    """The set that a method made; its provenance is written by who runs the method.

    `settings` replaces those asked for where the run changed them (iterations reached); `metrics` has one value for
    each update; `facts` goes to the JSON beside the file and may hold times.
    """

    made: GraphSet | NodeGraphSet
    settings: MethodSettings
    metrics: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class GraphMaker(Protocol):
    """The class behind the registry line of a method for graphs or for nodes."""

    Settings: ClassVar[type[MethodSettings]]

    @classmethod
    def check(cls, data: Any, budget: GraphBudget, settings: Any) -> None:
        """Raise `CondenseError` for what the settings alone cannot tell: that the data or the size does not fit."""

    @classmethod
    def make(cls, job: GraphJob[Any], settings: Any) -> GraphProduct:
        """Do the work of `job`."""
