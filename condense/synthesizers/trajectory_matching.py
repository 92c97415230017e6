"""Trajectory matching (MTT): Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022.

Networks trained on real images leave trajectories of parameters. From a point on one of them a network is trained for
some steps on the synthetic images; images, and the learning rate of these steps, change so that it ends nearer to where
the expert was some epochs later. `ftd` (Du et al., CVPR 2023) is the same loop with experts from flat regions and an
average of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.compute.costs import Kind, Workload
from condense.compute.derivatives import check_mixed_product
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.data import DataInfo, TrainingData
from condense.data.budget import Budget
from condense.networks import build_network, canonical_name
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.synthesizers.base import INITIALIZATION_HELP, Synthesizer, SynthesizerSettings
from condense.synthesizers.chosen_images import chosen_images
from condense.synthesizers.expert_opinions import ExpertOpinions
from condense.synthesizers.initialization import BY_EXPERTS, Initialization
from condense.unroll import Augment, Target, TrajectoryGradient, trajectory_gradient

START_HELP = f"{INITIALIZATION_HELP}; or images that experts choose: correct (as DATM) or representative (as AST)"
GradientName = Literal["adjoint", "frozen", "unrolled"]
GRADIENT_HELP = "adjoint: exact; frozen: as TESLA computes it; unrolled: exact, with memory in the number of steps"
_LOWEST_RATE, _HIGHEST_RATE = 1e-6, 1.0  # of the learned learning rate; settings can say another highest one
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
    inner_lr_most: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description=f"highest value that the learned rate may reach; default: {_HIGHEST_RATE:g}",
    )
    synthetic_batch: int | None = Field(None, ge=1, description="images in a step; default: all")
    gradient: GradientName = Field("adjoint", description=GRADIENT_HELP)
    store_every: int | None = Field(
        None,
        ge=1,
        description="keep the parameters of each so many-th step only, and train again from there: less "
        "memory for up to twice the forward work; default: of every step",
    )
    truncate: int | None = Field(
        None, ge=1, description="differentiate the last so many steps only (AST's code can, with 8); default: all"
    )
    augmentation: Literal["dsa", "dsa-flip-first", "none"] = Field(
        "dsa", description="parameters per image, one operation a step"
    )
    flip_closure: bool = Field(
        False, description="half of the images in a step, together with their mirror images (FYI; not for digits)"
    )
    max_experts: int | None = Field(None, ge=1, description="match the first so many experts only; default: all")

    @property
    def highest_rate(self) -> float:
        """What bounds the learned learning rate."""
        return _HIGHEST_RATE if self.inner_lr_most is None else self.inner_lr_most

    @model_validator(mode="after")
    def _starts_within_its_bound(self) -> Self:
        if self.inner_lr > self.highest_rate:
            raise ValueError(
                f"inner_lr {self.inner_lr:g} begins above its bound, inner_lr_most {self.highest_rate:g}; raise the "
                "bound or begin lower"
            )
        return self

    def images_in_step(self, count: int) -> int:
        """How many of `count` stored images go into a step; their mirror images are not counted.

        A flip closure halves them, also where all would go in, as in FYI's released code.

        >>> TrajectoryMatchingSettings(flip_closure=True).images_in_step(10)
        5
        """
        size = self.synthetic_batch or count
        return min(count, max(1, size // 2) if self.flip_closure else size)

    def mirrored(self, info: DataInfo) -> bool:
        """With a flip closure."""
        return self.flip_closure


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


TrajectorySettingsT = TypeVar("TrajectorySettingsT", bound=TrajectoryMatchingSettings)


class TrajectoryMatching(Synthesizer[TrajectorySettingsT]):
    """L = |theta_T - theta*|^2 / |theta_0 - theta*|^2, theta_0 an expert's epoch s and theta* its epoch s + M.

    theta_T comes of T steps of SGD on the synthetic images, each through its own differentiable augmentation
    (aligned corners, as in this line of work). One SGD step on images and learning rate follows; the learning rate is
    then clamped to [1e-6, `inner_lr_most`], which no released code does: there it can become negative or explode. The
    metrics `clamped` and `skipped` count how often that was necessary and how many updates were not made, so far: those
    of a loss or a gradient that is not finite; `gradient` is the norm of that of the images, `contrast` the standard
    deviation of their pixels. Inner steps compute in float32 unless bfloat16 is asked for: L is the difference of close
    vectors. With a flip closure (Son et al., ECCV 2024: FYI) half as many images go into a step, before their mirror
    images and the augmentation.
    """

    usual_precision = "float32"
    skips = True

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: TrajectorySettingsT) -> None:
        """The network must have the derivatives that the gradient takes."""
        super().check(data, budget, settings)
        if settings.gradient != "unrolled":
            name = canonical_name(settings.network, data.info.image_shape)
            network = build_network(name, data.info.image_shape, len(data.info.classes), seed=0)
            check_mixed_product(network, data.info.image_shape)

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
        self.opinions = ExpertOpinions(self.buffer, info, job.device)
        self.augmentation = Augmentation.named(settings.augmentation, mirror=info.mirror, align_corners=True)

    def start(self) -> tuple[Tensor, float]:
        """With `correct` and `representative`, real images that experts choose."""
        name = self.settings.initialization
        if name not in BY_EXPERTS:
            return super().start()
        return chosen_images(name, self.job, self.opinions), 0.0

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
            truncate=self.settings.truncate,
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
        self.inner_lr.clamp_(_LOWEST_RATE, self.settings.highest_rate)
        return self.inner_lr.item() != raw

    def remarks(self, iterations: int) -> list[str]:
        """With a learning rate that ran into its bounds."""
        said = super().remarks(iterations)
        if self.clamped:
            said.append(
                f"the learned learning rate of the inner steps was clamped in {self.clamped} of {iterations} updates, "
                f"to stay from {_LOWEST_RATE:g} to {self.settings.highest_rate:g}; give a smaller --inner-lr-lr, or "
                "another --inner-lr-most"
            )
        return said

    def batches(self, iteration: int) -> list[Tensor] | None:
        """The images of each step, twice each with a flip closure; None for all of them, once."""
        count, settings = len(self.images), self.settings
        size = settings.images_in_step(count)
        if size == count and not settings.flip_closure:
            return None
        if size == count:
            batches = [torch.arange(count)] * settings.inner_steps
        else:
            draws = generator(self.job.seed, "inner batches", iteration)
            batches = minibatches(count, size, settings.inner_steps, draws)
        if settings.flip_closure:
            batches = [torch.cat([batch, batch]) for batch in batches]
        return [batch.to(self.job.device) for batch in batches]

    def augment(self, iteration: int, batches: Sequence[Tensor] | None) -> Augment | None:
        """What networks see of the images of each step, with draws that are made once."""
        strategy, shape, closed = self.augmentation, self.data.info.image_shape, self.settings.flip_closure
        if strategy is None:
            return (lambda images, step: _second_half_mirrored(images)) if closed else None
        sizes = [len(self.images)] * self.settings.inner_steps if batches is None else [len(batch) for batch in batches]
        draws = [
            draw_per_image(strategy, shape, size, generator(self.job.seed, "augmentation", iteration, step))
            for step, size in enumerate(sizes)
        ]

        def see(images: Tensor, step: int) -> Tensor:
            return augment(strategy, _second_half_mirrored(images) if closed else images, draws[step])

        return see

    def _vectors(self, expert: int, *epochs: int) -> list[Tensor]:
        return [vector.to(self.job.device) for vector in self.buffer.snapshots(expert, *epochs)]

    def learned(self) -> dict[str, Any]:
        """The learning rate, for whoever trains on the set."""
        return {"learned_lr": self.inner_lr.item()}

    def results(self) -> dict[str, Tensor]:
        """With the learning rate."""
        return super().results() | {"inner_lr": self.inner_lr.detach()}

    def state(self) -> dict[str, Tensor]:
        """With what is counted."""
        return super().state() | {"counts": torch.tensor([self.clamped, self.skipped, self.lost])}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self.inner_lr.copy_(state["inner_lr"])
        self.clamped, self.skipped, self.lost = state["counts"].tolist()

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: TrajectorySettingsT) -> list[Workload]:
        """Gradients on the way and mixed products on the way back; nothing for `unrolled`, which uses no engine."""
        if settings.gradient == "unrolled":
            return []
        info = data.info
        name, classes = canonical_name(settings.network, info.image_shape), len(info.classes)
        batch = settings.images_in_step(budget.images_per_class * classes) * (2 if settings.flip_closure else 1)
        steps = settings.inner_steps
        back: Kind = "image product" if settings.gradient == "frozen" else "mixed product"
        return [
            Workload("gradient", name, info.image_shape, classes, batch, steps),
            Workload(back, name, info.image_shape, classes, batch, min(steps, settings.truncate or steps)),
        ]


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


def _second_half_mirrored(images: Tensor) -> Tensor:
    """Images that come twice, one half after the other, as images and mirror images."""
    once, again = images.chunk(2)
    return torch.cat([once, again.flip(-1)])


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


class FlatTrajectoryMatching(TrajectoryMatching[FlatTrajectorySettings]):
    """FTD: experts of `condense experts --optimizer flat`, and the exponential average of the images."""
