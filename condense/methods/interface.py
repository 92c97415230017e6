"""What every method is given and what it gives back, whether it learns images or chooses real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, get_args

import torch
from torch import Tensor

from condense.compute.costs import Workload
from condense.compute.plan import Plan
from condense.data import DataInfo, TrainingData
from condense.data.budget import Budget
from condense.data.travelling import PackedData
from condense.labels import Labels
from condense.networks.layout import Layout
from condense.runtime.executors import Executor
from condense.runtime.validation import Closed
from condense.sets.decoders import Decoder
from condense.sets.large import Images
from condense.teachers.committee import Committee


class MethodSettings(Closed):
    """The settings of a method; each has its own."""

    alternatives: ClassVar[tuple[tuple[str, str], ...]] = ()  # pairs of fields that say the same in two ways

    def for_length(self, iterations: int) -> Self:
        """These settings for a run of so many updates: what is given for the whole run, for an update."""
        return self

    def files(self) -> dict[str, str]:
        """Digests of the files that decide the result, by what they are for; raises `CondenseError` for wrong ones."""
        return {}


SettingsT = TypeVar("SettingsT", bound=MethodSettings)


class Configured(Generic[SettingsT]):
    """A class whose objects have settings of one model: that which it is derived for, `class Mine(Base[MySettings])`.

    `Settings` is that model. A class that leaves it open to those derived from it has the widest one it allows.
    """

    Settings: ClassVar[type[MethodSettings]] = MethodSettings

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in vars(cls).get("__orig_bases__", ()) if "Settings" not in vars(cls) else ():
            for argument in get_args(base):
                model: Any = argument.__bound__ if isinstance(argument, TypeVar) else argument
                cls.Settings = model


class ExpertSource(Protocol):
    """Recorded trajectories, as methods need them; `buffers.ExpertBuffer` is one.

    Epoch 0 is the initialisation; vectors are flat float32 [P] in the order of `layout`. `identity` is a digest of
    everything that decides the vectors.
    """

    @property
    def experts(self) -> int:
        """How many there are."""

    @property
    def epochs(self) -> int:
        """Of each."""

    @property
    def layout(self) -> Layout:
        """Where each parameter lies in a vector."""

    @property
    def network(self) -> str:
        """Its full name."""

    @property
    def kind(self) -> str:
        """How they were trained: an `--optimizer` of `condense experts`."""

    @property
    def training(self) -> Mapping[str, Any]:
        """The values of that by the options of `condense experts`; empty where nobody knows."""

    @property
    def identity(self) -> str:
        """A digest of the experts."""

    def first(self, count: int) -> Self:
        """The first so many by themselves; raises `CondenseError` if there are fewer."""

    def seconds(self, expert: int) -> float:
        """That its training took; not a number where nobody knows."""

    def draw(self, seed: int, iteration: int, max_start: int, min_start: int = 0) -> tuple[int, int]:
        """An expert and an epoch from `min_start` to below `max_start`."""

    def snapshots(self, expert: int, *epochs: int) -> list[Tensor]:
        """Its parameters after each of so many epochs."""

    def statistics(self, expert: int, epoch: int) -> dict[str, Tensor]:
        """Its statistics of BatchNorm after so many epochs."""

    def check_matches(self, network: str, info: DataInfo) -> None:
        """Raise `CondenseError` unless the experts are such networks on this data."""

    def check_window(self, max_start: int, span: int, min_start: int = 0) -> None:
        """Raise `CondenseError` unless the experts have these epochs."""


@dataclass(frozen=True)
class Job:
    """One request to make a set: the training data, how many images, from which seed, how, and for how long.

    Test data never gets here: `data` must be a `TrainingData`.
    """

    data: TrainingData
    budget: Budget
    seed: int
    device: torch.device
    plan: Plan = field(default_factory=Plan)
    progress: bool = False
    iterations: int | None = None  # stop after this many updates; None: only the time ends the run
    minutes: float | None = None  # stop after this time
    checkpoint: Path | None = None  # where an unfinished run is kept; None keeps nothing
    configuration: dict[str, Any] = field(default_factory=dict)  # what a checkpoint must agree with
    buffer: ExpertSource | None = None  # for methods that match trajectories
    keep_every: int | None = None  # updates after each of which `keep` gets the set as it is then
    keep: Callable[[Product], None] | None = None
    label_buffer: ExpertSource | None = None  # whose experts say what images are; None: those of `buffer`
    teacher: Committee | None = None  # for methods that ask trained networks
    executor: Executor | None = None  # where methods that work in slices do them; None: here, one after the other
    packed: PackedData | None = None  # the real data as one file, where the executor's jobs travel
    rehearsal: bool = False  # a few updates for their time and memory: what a run trains first is left untrained

    def __post_init__(self) -> None:
        if not isinstance(self.data, TrainingData):
            raise TypeError(f"a method only ever gets TrainingData, not {type(self.data).__name__}")

    @property
    def ipc(self) -> int:
        """Images per class, for methods that learn them; raises `CondenseError` for a budget of another kind."""
        return self.budget.images_per_class


@dataclass(frozen=True)
class Product:
    """The images that a method made, class by class in the order of the classes where the budget is balanced.

    `stored` is float32 [N, c, h, w], uint8 pixels where real images were chosen, or what `decoder` takes; `labels`,
    `space`, `decoder`, what there is of each image, a learned learning rate, `mirrored` and the augmentation that they
    were made for are what a `SyntheticSet` has to know about it; `metrics` has one value per iteration; `settings`
    replaces those asked for where the run changed them (iterations reached); `facts` goes to the JSON beside the file
    and may hold times.
    """

    stored: Images
    labels: Labels
    settings: MethodSettings
    space: str = ""
    decoder: Decoder | None = None
    weights: Tensor | None = None
    source_indices: Tensor | None = None
    scores: Tensor | None = None
    learned_lr: float | None = None
    mirrored: bool = False
    augmentation: dict[str, Any] | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pace:
    """What a run takes."""

    preparation: float  # seconds: of training networks first, of compilation, of making the images to start from
    seconds_per_iteration: float

    def within(self, minutes: float, at_most: int | None = None) -> int:
        """Iterations that a run of so many minutes makes, at least 1.

        >>> Pace(preparation=30.0, seconds_per_iteration=0.5).within(1.0)
        60
        """
        held = max(1, int((60 * minutes - self.preparation) / self.seconds_per_iteration))
        return held if at_most is None else min(held, at_most)


class Maker(Protocol):
    """The class behind a method's registry line."""

    Settings: ClassVar[type[MethodSettings]]

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: Any) -> None:
        """Raise `CondenseError` for what the settings alone cannot tell: that the data or the network does not fit."""

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: Any) -> list[Workload]:
        """Networks that are trained on the real data first: part of what the run costs."""

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: Any) -> list[Workload]:
        """What the engine does in one iteration, from which the run is planned; empty if there is nothing to plan."""

    @classmethod
    def pace(cls, job: Job, settings: Any) -> Pace | None:
        """How fast the run of `job` would go, from a few of its updates; None for a method that makes none.

        Nothing is written, and no network is trained first: the time for that is counted by the measured rates of the
        plan.
        """

    @classmethod
    def make(cls, job: Job, settings: Any) -> Product:
        """Do the work of `job`."""


def class_major_labels(classes: int, ipc: int) -> Tensor:
    """The labels of a set in class order.

    >>> class_major_labels(2, 3)
    tensor([0, 0, 0, 1, 1, 1])
    """
    return torch.arange(classes).repeat_interleave(ipc)
