"""Trajectory matching (MTT): Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022.

Networks trained on real images leave trajectories of parameters. From a point on one of them a network is trained for
some steps on the synthetic images; images, and the learning rate of these steps, change so that it ends nearer to where
the expert was some epochs later. `tesla` (Cui et al., ICML 2023) and `ftd` (Du et al., CVPR 2023) are the same loop:
the first with labels that an expert assigns and the gradient that its authors compute, the second with experts from
flat regions and an average of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from condense.augmentation import Augmentation, augment, draw_per_image
from condense.data import TrainingData
from condense.engine import Engine
from condense.networks import build_network, canonical_name
from condense.planning import Kind, Work
from condense.runtime.errors import CondenseError
from condense.runtime.plan import Plan
from condense.runtime.seeds import generator
from condense.synthesizers.base import INITIALIZATION_HELP, Synthesizer, SynthesizerSettings
from condense.synthesizers.chosen_images import chosen_images
from condense.synthesizers.initialization import BY_EXPERTS, Initialization
from condense.unroll import Target, TrajectoryGradient, trajectory_gradient

START_HELP = f"{INITIALIZATION_HELP}; or images that experts choose: correct (as DATM) or representative (as AST)"
GradientName = Literal["adjoint", "frozen", "unrolled"]
GRADIENT_HELP = "adjoint: exact; frozen: as TESLA computes it; unrolled: exact, with memory in the number of steps"
_LOWEST_RATE, _MOST_GROWTH = 1e-6, 10.0  # of the learned learning rate, the second times its start
_MOST_LOST = 20  # updates in a row that are not finite, after which there is no hope


class TrajectoryMatchingSettings(SynthesizerSettings):
    """Settings of trajectory matching; the defaults are those published for CIFAR-10 at one image per class."""

    iterations: int = Field(5000, ge=1, description="updates of the images")
    image_lr: float = Field(100.0, gt=0, description="learning rate of the images (SGD)")
    initialization: Initialization = Field("real", description=START_HELP)
    network: str = Field("convnet-w64-in", description="network of the experts")
    inner_steps: int = Field(50, ge=1, description="T: steps on the synthetic images")
    span: int = Field(2, ge=1, description="M: epochs of the expert that these steps should be worth")
    min_start: int = Field(0, ge=0, description="first epoch of an expert to start from")
    max_start: int = Field(2, ge=1, description="starts are below this epoch")
    inner_lr: float = Field(0.01, gt=0, description="learning rate of the steps at the start; it is learned")
    inner_lr_lr: float = Field(1e-7, ge=0, description="learning rate of that learning rate (SGD, momentum 0.5)")
    synthetic_batch: int | None = Field(None, ge=1, description="images in a step; default: all")
    gradient: GradientName = Field("adjoint", description=GRADIENT_HELP)
    store_every: int | None = Field(
        None,
        ge=1,
        description="keep the parameters of each so many-th step only, and train again from there: less "
        "memory for up to twice the forward work; default: of every step",
    )
    augmentation: Literal["dsa", "none"] = Field("dsa", description="parameters per image, one operation a step")


class SoftLabelTrajectorySettings(TrajectoryMatchingSettings):
    """Settings of TESLA; the defaults are those published for CIFAR-10 at one image per class, image_lr halved.

    The released code loses a factor 2 in the gradient of the images, so its learning rate is twice that of a correct
    gradient.
    """

    iterations: int = Field(10_000, ge=1, description="updates of the images")
    image_lr: float = Field(500.0, gt=0, description="learning rate of the images (SGD)")
    max_start: int = Field(5, ge=1, description="starts are below this epoch")
    gradient: GradientName = Field("frozen", description=GRADIENT_HELP)
    labels: Literal["assigned", "hard"] | None = Field(
        None,
        description="assigned: by the expert at the end of the window; default: that of the recipe, else hard up to 10 "
        "classes",
    )


class FlatTrajectorySettings(TrajectoryMatchingSettings):
    """Settings of FTD; the defaults are those published for CIFAR-10 at one image per class."""

    image_average: float | None = Field(
        0.9999,
        gt=0,
        lt=1,
        description="store the exponential average of the images, which keeps this much in an update",
    )


@dataclass(frozen=True, eq=False)
class Window:
    """A part of an expert's trajectory: vectors at its start and end, and targets on the way."""

    expert: int
    epoch: int
    start: Tensor
    target: Tensor
    between: tuple[Target, ...] = ()


class TrajectoryMatching(Synthesizer):
    """L = |theta_T - theta*|^2 / |theta_0 - theta*|^2, theta_0 an expert's epoch s and theta* its epoch s + M.

    theta_T comes of T steps of SGD on the synthetic images, each through its own differentiable augmentation
    (aligned corners, as in this line of work). One SGD step on images and learning rate follows; the learning rate is
    then clamped to [1e-6, 10 times its start]. The metrics `clamped` and `skipped` count how often that was necessary
    and how many updates were not made, so far: those of a loss or a gradient that is not finite; `gradient` is the norm
    of that of the images, `contrast` the standard deviation of their pixels. Inner steps compute in
    float32 unless bfloat16 is asked for: L is the difference of close vectors.
    """

    Settings: ClassVar[type[TrajectoryMatchingSettings]] = TrajectoryMatchingSettings
    usual_precision = "float32"
    skips = True

    def prepare(self) -> None:
        """Experts and their network."""
        job, settings, info = self.job, self.settings, self.data.info
        if settings.gradient == "unrolled":
            _check_unrolled(settings, job.plan)
        self.inner_lr = torch.tensor(settings.inner_lr, device=job.device)
        self.clamped, self.skipped, self.lost = 0, 0, 0
        assert job.buffer is not None, "a request without experts is refused"
        self.buffer = job.buffer
        name = canonical_name(settings.network, info.image_shape)
        self.network = build_network(name, info.image_shape, len(info.classes), seed=0).to(job.device)
        self.engine = Engine(self.network, job.plan)
        self.augmentation = Augmentation.named(settings.augmentation, mirror=info.mirror, align_corners=True)

    def start(self) -> tuple[Tensor, float]:
        """With `correct` and `representative`, real images that experts choose."""
        name = self.settings.initialization
        if name not in BY_EXPERTS:
            return super().start()
        return chosen_images(name, self.job, self.buffer.experts, self._opinion), 0.0

    def _opinion(self, images: Tensor, expert: int) -> Tensor:
        epoch = self.buffer.epochs
        return self.logits(images.to(self.job.device), expert, epoch).cpu()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """SGD for the images, and for the learning rate with its own."""
        settings = self.settings
        return torch.optim.SGD(
            [
                {"params": [self.images], "lr": settings.image_lr, "momentum": settings.image_momentum},
                {"params": [self.inner_lr], "lr": settings.inner_lr_lr, "momentum": 0.5},
                *self.more_learned(),
            ]
        )

    def more_learned(self) -> list[dict[str, Any]]:
        """What a method learns beside images and learning rate, as groups of the optimiser."""
        return []

    def step(self, iteration: int) -> dict[str, float]:
        """Train for T steps from an expert's epoch, and move images and learning rate by the gradient of L."""
        window = self.window(iteration)
        batches, labels = self.batches(iteration), self.targets(window)
        found = trajectory_gradient(
            self.engine,
            window.start,
            window.target,
            self.images,
            labels,
            self.inner_lr,
            steps=self.settings.inner_steps,
            batches=batches,
            augment=self.augment(iteration, batches),
            between=window.between,
            store_every=self.settings.store_every or 1,
            mode=self.settings.gradient,
            **self.inner_options(window),
        )
        rate = self.inner_lr.item()
        if self._usable(found, iteration) and self.accepts(found):
            self.clamped += self.apply(found)
        else:
            self.skipped += 1
        return {
            "loss": found.loss.item(),
            "inner_lr": rate,
            "clamped": self.clamped,
            "skipped": self.skipped,
            "gradient": found.images.norm().item(),
            "contrast": self.images.detach().std().item(),
            **self.of_labels(labels),
        }

    def window(self, iteration: int) -> Window:
        """The part of an expert's trajectory that this iteration matches."""
        settings = self.settings
        expert, epoch = self.buffer.draw(self.job.seed, iteration, self.start_limit(iteration), settings.min_start)
        start, target = self._vectors(expert, epoch, epoch + settings.span)
        return Window(expert, epoch, start, target)

    def start_limit(self, iteration: int) -> int:
        """The epoch below which an expert's start is drawn."""
        return int(self.settings.max_start)

    def targets(self, window: Window) -> Tensor:
        """The labels of the inner training: class indices, or logits."""
        return self.labels.to(self.job.device)

    def of_labels(self, labels: Tensor) -> dict[str, float]:
        """What is to be counted of the labels of an iteration."""
        return {}

    def inner_options(self, window: Window) -> dict[str, Any]:
        """What else the inner training is to do, by the names of `trajectory_gradient`."""
        return {}

    def accepts(self, found: TrajectoryGradient) -> bool:
        """Whether an update that is finite is made."""
        return True

    def _usable(self, found: TrajectoryGradient, iteration: int) -> bool:
        """Whether an update is finite; gives up after too many in a row that are not."""
        finite = _finite(found)
        self.lost = 0 if finite else self.lost + 1
        if self.lost == _MOST_LOST:
            raise CondenseError(
                f"the inner training diverged in {_MOST_LOST} updates in a row, until iteration {iteration}: the "
                f"learning rate of its steps is {self.inner_lr.item():.3g}; start again with --no-resume and a "
                "smaller --inner-lr, --inner-lr-lr or --image-lr"
            )
        return finite

    def apply(self, found: TrajectoryGradient) -> bool:
        """One step of the optimiser; whether the learning rate had to be clamped."""
        self.images.grad, self.inner_lr.grad = found.images, found.inner_lr
        self.optimizer.step()
        raw = self.inner_lr.item()
        self.inner_lr.clamp_(_LOWEST_RATE, _MOST_GROWTH * self.settings.inner_lr)
        return self.inner_lr.item() != raw

    def batches(self, iteration: int) -> list[Tensor] | None:
        """The images of each step; None for all of them."""
        count, size = len(self.images), self.settings.synthetic_batch
        if size is None or size >= count:
            return None
        draws = generator(self.job.seed, "inner batches", iteration)
        return [batch.to(self.job.device) for batch in minibatches(count, size, self.settings.inner_steps, draws)]

    def augment(self, iteration: int, batches: Sequence[Tensor] | None) -> Any:
        """The augmentation of each step, with draws that are made once."""
        strategy, shape = self.augmentation, self.data.info.image_shape
        if strategy is None:
            return None
        sizes = [len(self.images)] * self.settings.inner_steps if batches is None else [len(batch) for batch in batches]
        draws = [
            draw_per_image(strategy, shape, size, generator(self.job.seed, "augmentation", iteration, step))
            for step, size in enumerate(sizes)
        ]
        return lambda images, step: augment(strategy, images, draws[step])

    def logits(self, images: Tensor, expert: int, epoch: int) -> Tensor:
        """What the expert says of `images` after so many epochs, in evaluation mode; float32 [N, C]."""
        (vector,) = self._vectors(expert, epoch)
        statistics = {name: value.to(vector.device) for name, value in self.buffer.statistics(expert, epoch).items()}
        state = self.buffer.layout.unflatten(vector) | statistics
        self.network.eval()
        with torch.no_grad():
            parts = [functional_call(self.network, state, (part,)) for part in images.split(50)]
        self.network.train()
        return torch.cat(parts)

    def _vectors(self, expert: int, *epochs: int) -> list[Tensor]:
        return [vector.to(self.job.device) for vector in self.buffer.snapshots(expert, *epochs)]

    def learned(self) -> dict[str, Any]:
        """The learning rate, for whoever trains on the set."""
        return {"learned_lr": self.inner_lr.item()}

    def state(self) -> dict[str, Tensor]:
        """With the learning rate and what is counted."""
        counts = torch.tensor([self.clamped, self.skipped, self.lost])
        return super().state() | {"inner_lr": self.inner_lr.detach(), "counts": counts}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self.inner_lr.copy_(state["inner_lr"])
        self.clamped, self.skipped, self.lost = state["counts"].tolist()

    @classmethod
    def work(cls, data: TrainingData, ipc: int, settings: Any) -> list[Work]:
        """Gradients on the way and mixed products on the way back; nothing for `unrolled`, which uses no engine."""
        if settings.gradient == "unrolled":
            return []
        info = data.info
        name, count = canonical_name(settings.network, info.image_shape), ipc * len(info.classes)
        batch = min(settings.synthetic_batch or count, count)
        network = (name, info.image_shape, len(info.classes), batch, settings.inner_steps)
        back: Kind = "image product" if settings.gradient == "frozen" else "mixed product"
        return [Work("gradient", *network), Work(back, *network)]


def _check_unrolled(settings: TrajectoryMatchingSettings, plan: Plan) -> None:
    """Raise `CondenseError` if more is asked than automatic differentiation through all steps can do."""
    for asked, words in (
        (plan.precision != "float32", f"computes in float32 only; leave --precision {plan.precision} out"),
        (settings.store_every is not None, "keeps every step; leave --store-every out"),
    ):
        if asked:
            raise CondenseError(f"--gradient unrolled {words}, or give --gradient adjoint, which is the same gradient")


def _finite(found: TrajectoryGradient) -> bool:
    """Whether an update would leave images, labels and learning rate finite."""
    parts = [found.loss, found.images, found.inner_lr, *([] if found.labels is None else [found.labels])]
    return all(bool(torch.isfinite(part).all()) for part in parts)


def minibatches(count: int, size: int, steps: int, draws: torch.Generator) -> list[Tensor]:
    """The indices of `steps` batches of at most `size` of `count` images, a pass over all after the other.

    As in the released code, the last, smaller batch of a pass comes first.

    >>> [len(batch) for batch in minibatches(5, 2, 4, torch.Generator().manual_seed(0))]
    [1, 2, 2, 1]
    """
    batches: list[Tensor] = []
    while len(batches) < steps:
        batches += reversed(torch.randperm(count, generator=draws).split(size))
    return batches[:steps]


class SoftLabelTrajectoryMatching(TrajectoryMatching):
    """TESLA: labels that the expert at the end of the window assigns, and the frozen gradient.

    At the end all labels are assigned by one expert, the first one after its last epoch, so that the set does not
    depend on the last draw. Assigned labels follow the images: nothing brings back one that an update has made another
    class to its expert. The metric `in_class` is the fraction that are still what they began as; where it falls, the
    learning rate of the images is too large.
    """

    Settings = SoftLabelTrajectorySettings

    @property
    def assigned(self) -> bool:
        """Whether labels are assigned."""
        asked = self.settings.labels or ("hard" if len(self.data.info.classes) <= 10 else "assigned")
        return bool(asked == "assigned")

    def targets(self, window: Window) -> Tensor:
        """The logits of the expert at the end of the window, or class indices."""
        if not self.assigned:
            return super().targets(window)
        return self.logits(self.images.detach(), window.expert, window.epoch + self.settings.span)

    def of_labels(self, labels: Tensor) -> dict[str, float]:
        """The fraction of assigned labels that are still what they began as."""
        if not self.assigned:
            return {}
        return {"in_class": (labels.argmax(1).cpu() == self.labels).double().mean().item()}

    def learned(self) -> dict[str, Any]:
        """With the labels of the first expert after its last epoch."""
        if not self.assigned:
            return super().learned()
        epoch = self.buffer.epochs
        found = self.logits(self.stored().to(self.job.device), 0, epoch)
        return super().learned() | {"targets": found.cpu(), "label_kind": "logits"}


class FlatTrajectoryMatching(TrajectoryMatching):
    """FTD: experts of `condense experts --optimizer flat`, and the exponential average of the images."""

    Settings = FlatTrajectorySettings
