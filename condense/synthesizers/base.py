"""What every synthesizer shares: images, their optimiser, the state to save. A method fills one hole: `step`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from condense.augmentation.dsa import Augmentation
from condense.compute.costs import Workload
from condense.compute.planning import expected_seconds
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.info import DataInfo
from condense.labels import HardLabels
from condense.methods.interface import Configured, Job, MethodSettings, Pace, Product, class_major_labels
from condense.methods.loop import RunRecord, run
from condense.methods.pace import measured_pace
from condense.runtime.global_draws import network_draws
from condense.runtime.progress import say
from condense.runtime.seeds import derive_seed
from condense.sets.spaces import SPACES, Space
from condense.sets.tiles import Tiles
from condense.synthesizers.initialization import (
    BY_FEATURES,
    NAMES,
    Initialization,
    file_digest,
    initial_images,
    start_note,
    start_training,
)
from condense.training.state import load_optimizer_state, optimizer_state

INITIALIZATION_HELP = f"what the images start from: {', '.join(NAMES)}, or the .h5 file of a set"


_LARGEST_SHARE = 0.5  # of the first images in an average that passes without a word


class SynthesizerSettings(MethodSettings):
    """The settings that every synthesizer has. A method's own settings extend them."""

    iterations: int = Field(1000, ge=1, description="updates of the images")
    image_lr: float = Field(1.0, gt=0, description="learning rate of the images (SGD)")
    image_momentum: float = Field(0.5, ge=0, lt=1, description="momentum of the images")
    initialization: Initialization = Field("real", description=INITIALIZATION_HELP)
    image_average: float | None = Field(
        None, gt=0, lt=1, description="store the exponential average of the images, which keeps this much in an update"
    )
    image_average_left: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="instead: store one of which this part is still the first images at the end of the run",
    )
    alternatives: ClassVar[tuple[tuple[str, str], ...]] = (("image_average", "image_average_left"),)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for one, other in self.alternatives:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"{one} and {other} say the same in two ways; give one of them")
        return self

    def for_length(self, iterations: int) -> Self:
        """These settings for a run of so many updates: what is given for the whole run, for an update.

        >>> round(SynthesizerSettings(image_average_left=0.5).for_length(100).image_average, 4)
        0.9931
        """
        left = self.image_average_left
        average = self.image_average if left is None else left ** (1 / iterations)
        return self.model_copy(update={"image_average": average, "image_average_left": None})

    def mirrored(self, info: DataInfo) -> bool:
        """Whether the images are learned with their mirror images beside them."""
        return False

    def files(self) -> dict[str, str]:
        """The set that images start from, if they start from one."""
        digest = file_digest(self.initialization)
        return {} if digest is None else {"initial images": digest}


SettingsT = TypeVar("SettingsT", bound=SynthesizerSettings)


class Synthesizer(Configured[SettingsT], ABC):
    """A method that learns images by gradient descent.

    A subclass is derived for its settings and writes `step`; it gets settings that are `for_length` of the run. The
    loop around it (progress, budget, checkpoints, resume, guards) is `condense.methods.loop.run`.
    """

    space: ClassVar[Space] = SPACES["preprocessed"]  # of `images`
    usual_precision: ClassVar[Literal["auto", "float32"]] = "auto"  # of the engine, where the user leaves it open
    augmentation: Augmentation | None = None  # that images are made for
    rate: ClassVar[str] = "image_lr"
    skips: ClassVar[bool] = False  # whether it passes over updates that are not finite; otherwise they end the run
    tile_sampling: ClassVar[Literal["nearest", "bilinear"]] = "nearest"  # how real images become tiles at the start

    def __init__(self, job: Job, settings: SettingsT) -> None:
        self.job = job
        self.data = job.data
        self.settings = settings
        self.prepare()
        self.decoder = decoder_of(settings, job.ipc)
        images, self.earlier_seconds = self.start()
        self.images = images.to(job.device).requires_grad_()
        self.labels = class_major_labels(len(job.data.info.classes), job.ipc)
        self.average = None if settings.image_average is None else self.images.detach().clone()
        self.optimizer = self.make_optimizer()

    def prepare(self) -> None:
        """Whatever must be there before the images are; called first."""

    def start(self) -> tuple[Tensor, float]:
        """The images to start from, in the method's space, and the seconds that cached features saved."""
        return initial_images(
            self.settings.initialization,
            self.job,
            network=_start_network(self.settings),
            space=self.space,
            decoder=self.decoder,
            sampling=self.tile_sampling,
        )

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of the images: SGD, unless a method has another one."""
        return torch.optim.SGD([self.images], lr=self.settings.image_lr, momentum=self.settings.image_momentum)

    def advance(self, iteration: int) -> dict[str, float]:
        """`step`, and what follows every one of them."""
        with network_draws(derive_seed(self.job.seed, "network draws", iteration)):
            metrics = self.step(iteration)
        kept = self.settings.image_average
        if self.average is not None and kept is not None:
            self.average.lerp_(self.images.detach(), 1 - kept)
        return metrics

    def learned(self) -> dict[str, Any]:
        """What was learned beside the images, by the names of `Product`; `labels` are the class indices otherwise."""
        return {}

    def remarks(self, iterations: int) -> list[str]:
        """What the user should know of a finished run of so many updates, as sentences."""
        keeps = self.settings.image_average
        share = 0.0 if keeps is None else keeps**iterations
        if share <= _LARGEST_SHARE:
            return []
        return [
            f"after {iterations} updates the stored average is still {share:.0%} the images that it began with; "
            f"give a smaller --image-average than {keeps}, or none"
        ]

    def stored(self) -> Tensor:
        """The images as the set keeps them, in the method's space."""
        images = self.images.detach() if self.average is None else self.average
        return (images.clamp(0, 1) if self.space.name == "unit" else images).cpu()

    def decoded(self, stored: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Stored images as networks are to see them, decoded and preprocessed, with the labels of each.

        `labels` are those of the stored images: class indices, or a row for each.
        """
        if self.decoder is not None:
            labels = labels[self.decoder.rows(len(stored))]
            stored = self.decoder.decode(stored, fill=self.space.grey)
        return self.space.prepared(stored, self.data.info.preprocessing), labels

    @abstractmethod
    def step(self, iteration: int) -> dict[str, float]:
        """One update of the images; returns the numbers to show and record.

        Every random draw must come from `generator(self.job.seed, purpose, iteration, ...)`: then a run that was
        killed goes on exactly.
        """

    def update(self, loss: Tensor) -> None:
        """One step of the image optimiser down the gradient of `loss`."""
        self.descend(*torch.autograd.grad(loss, [self.images]))

    def descend(self, gradient: Tensor) -> None:
        """One step of the image optimiser down `gradient`, which has the shape of the images."""
        self.images.grad = gradient
        self.optimizer.step()

    def results(self) -> dict[str, Tensor]:
        """The images and their average; a method that learns more extends it."""
        average = {} if self.average is None else {"average": self.average}
        return {"images": self.images.detach()} | average

    def state(self) -> dict[str, Tensor]:
        """Everything that `step` changes; a method with more state extends it."""
        return self.results() | optimizer_state(self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        with torch.no_grad():
            self.images.copy_(state["images"])
            if self.average is not None:
                self.average.copy_(state["average"])
        load_optimizer_state(self.optimizer, state)

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> None:
        """The size must be so many images per class, and the decoder fit them; a method adds what it needs.

        Mirror images of another class get a note, and a start from as many real images as there are learned ones.
        """
        ipc = budget.images_per_class
        decoder = decoder_of(settings, ipc)
        if decoder is not None:
            decoder.tile_size(*data.info.image_shape[1:])  # refuses a factor that is too large
        note = start_note(settings.initialization, data, ipc, decoder)
        if note:
            say(f"note: {note}")
        if settings.mirrored(data.info) and not data.info.mirror:
            say(
                f"note: mirror images of {data.info.name} are of no class or another one; to learn beside them may harm"
            )

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> list[Workload]:
        """The network whose features choose the images to start from, if one does; a method adds what it trains."""
        return start_training(settings.initialization, data, _start_network(settings))

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: SettingsT) -> list[Workload]:
        """What the engine does in one iteration; a method that uses the engine says so here."""
        return []

    @classmethod
    def pace(cls, job: Job, settings: SettingsT) -> Pace:
        """That of the first few updates, which are made and thrown away."""
        training = expected_seconds(cls.preparation(job.data, job.budget, settings), job.plan, job.device)
        settings = settings.for_length(settings.iterations)
        if settings.initialization in BY_FEATURES:
            settings = settings.model_copy(update={"initialization": "real"})
        return measured_pace(lambda: cls(replace(job, progress=False, rehearsal=True), settings), training)

    @classmethod
    def make(cls, job: Job, settings: SettingsT) -> Product:
        """Run the method from its start or its checkpoint to the end of its budget."""
        started = time.monotonic()
        synthesizer = cls(job, settings)
        preparation = time.monotonic() - started + synthesizer.earlier_seconds
        record = run(synthesizer, job, preparation=preparation, keep=synthesizer.keep)
        for remark in synthesizer.remarks(record.iterations):
            say(f"note: {remark}")
        return synthesizer.product(record)

    def keep(self, record: RunRecord) -> None:
        """Hand on what there is after the updates that `record` counts."""
        assert self.job.keep is not None, "only called for a job that keeps sets"
        self.job.keep(self.product(record))

    def product(self, record: RunRecord) -> Product:
        """The set after the updates that `record` counts, as if they had been all."""
        return Product(
            stored=self.stored(),
            **{"labels": HardLabels(self.labels)} | self.learned(),
            space=self.space.name,
            decoder=self.decoder,
            augmentation=None if self.augmentation is None else self.augmentation.to_dict(),
            mirrored=self.settings.mirrored(self.data.info),
            settings=self.settings.model_copy(update={"iterations": record.iterations}),
            metrics=record.metrics,
            facts={"seconds": record.seconds, "resumed_at": record.resumed_at},
        )


def _start_network(settings: SynthesizerSettings) -> str:
    """The network whose features choose images to start from: that of the method, if it has one."""
    return getattr(settings, "network", "convnet-w128-in")


def decoder_of(settings: SynthesizerSettings, ipc: int) -> Tiles | None:
    """The decoder that a method's settings ask for, for so many images of a class.

    That is by their `factor` and, where a method has more ways than one, their `decoding`: bound by as many training
    images as its `synthetic_batch` has of a class.
    """
    factor, decoding = getattr(settings, "factor", 1), getattr(settings, "decoding", None)
    if factor == 1:
        return None
    if decoding == "bound":
        return Tiles.bounded(factor, ipc, getattr(settings, "synthetic_batch", ipc))
    return Tiles(factor, decoding or "uniform")
