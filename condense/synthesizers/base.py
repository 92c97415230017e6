"""What every synthesizer shares: images, their optimiser, the state to save. A method fills one hole: `step`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from condense.data import TrainingData
from condense.making import Job, Product, class_major_labels
from condense.planning import Work
from condense.runtime.validation import Closed
from condense.synthesizers.initialization import Initialization, initial_images
from condense.synthesizers.loop import run


class SynthesizerSettings(Closed):
    """The settings that every synthesizer has. A method's own settings extend them."""

    iterations: int = Field(1000, ge=1, description="updates of the images")
    image_lr: float = Field(1.0, gt=0, description="learning rate of the images (SGD)")
    image_momentum: float = Field(0.5, ge=0, lt=1, description="momentum of the images")
    initialization: Initialization = Field("real", description="what the images start from: real images or noise")


class Synthesizer(ABC):
    """A method that learns images by gradient descent.

    A subclass names its `Settings` and writes `step`. The loop around it (progress, budget, checkpoints, resume,
    guards) is `condense.synthesizers.loop.run`.
    """

    Settings: ClassVar[type[SynthesizerSettings]] = SynthesizerSettings

    def __init__(self, job: Job, settings: Any) -> None:
        self.job = job
        self.data = job.data
        self.settings = settings
        self.images = initial_images(settings.initialization, job.data, job.ipc, job.seed).to(job.device)
        self.images.requires_grad_()
        self.labels = class_major_labels(len(job.data.info.classes), job.ipc)
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
            [self.images], lr=settings.image_lr, momentum=settings.image_momentum
        )

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

    def state(self) -> dict[str, Tensor]:
        """Everything that `step` changes; a method with more state extends it."""
        buffers = self.optimizer.state_dict()["state"]
        return {"images": self.images.detach()} | {
            f"optimizer.{index}.{name}": value
            for index, entries in buffers.items()
            for name, value in entries.items()
            if isinstance(value, Tensor)
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        with torch.no_grad():
            self.images.copy_(state["images"])
        buffers: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                buffers.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": buffers, "param_groups": groups})

    @classmethod
    def work(cls, data: TrainingData, ipc: int, settings: Any) -> list[Work]:
        """What the engine does in one iteration; a method that uses the engine says so here."""
        return []

    @classmethod
    def make(cls, job: Job, settings: Any) -> Product:
        """Run the method from its start or its checkpoint to the end of its budget."""
        synthesizer = cls(job, settings)
        record = run(synthesizer, job)
        return Product(
            stored=synthesizer.images.detach().cpu(),
            labels=synthesizer.labels,
            settings=settings.model_copy(update={"iterations": record.iterations}),
            metrics=record.metrics,
            facts={"seconds": record.seconds, "resumed_at": record.resumed_at},
        )
