"""RCIG: Loo et al., Dataset Distillation with Convexified Implicit Gradients, ICML 2023.

As in FRePo a ridge classifier on a network's features is to be right about real images; but the rest of the network
learns too, linearised at its parameters, which keeps the inner training a quadratic problem. Its solution is
differentiated implicitly. The mathematics is in `condense.linearized`.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.kernel_ridge import label_margin
from condense.linearized import (
    CLASSIFIER,
    Inner,
    LinearizedNetwork,
    OuterGradient,
    Solution,
    adam,
    outer_gradient,
)
from condense.methods.interface import Job
from condense.networks.build import blank_state
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.synthesizers.adam_rates import AdamRates, fastest
from condense.synthesizers.image_optimizers import AdaBelief
from condense.synthesizers.inner_network import InnerNetwork
from condense.synthesizers.pooled_regression import PooledRegression, PooledRegressionSettings, network_of

_RATES_KEPT = 50  # updates after which the inner rate of Adam follows what its runs did
_SMALL_RESIDUAL = 1e-3  # of conjugate gradients, that passes without a word
_FIRST_RATES = (1e-5, 5e-5)  # from which those of Adam are searched for


class ImplicitGradientsSettings(PooledRegressionSettings):
    """Settings of RCIG; the defaults are those of the released code for CIFAR-10, but for its average of 0.99."""

    iterations: int = Field(10_000, ge=1, description="updates of the images")
    image_lr: float = Field(3e-3, gt=0, description="learning rate of images and labels (AdaBelief)")
    temperature_lr: float = Field(0.03, ge=0, description="learning rate of the logarithm of the scale of predictions")
    network: str = Field("conv-w128-nonorm-softplus", description="networks that are linearised")
    networks: int = Field(30, ge=1, description="M: networks in the pool")
    network_lr: float = Field(5e-5, gt=0, description="learning rate of their training on the set (Adam)")
    network_batch: int | None = Field(
        None, ge=1, description="images of the set in one update of a network; default: all"
    )
    network_updates: int = Field(100, ge=1, description="a network that has had as many updates is replaced")
    most_updates: int = Field(15, ge=1, description="updates of a network after one of the images: from 1 to this")
    solver: Literal["adam", "cg"] = Field(
        "adam", description="adam: as released, stopping early; cg: conjugate gradients, exact"
    )
    inner_steps: int = Field(20, ge=2, description="steps of the solver for each of its two problems, at most with cg")
    ridge: float = Field(5e-4, gt=0, description="lambda, for each training image of the set")


class ImplicitGradients(PooledRegression[ImplicitGradientsSettings]):
    """L = mean CE(e^tau p(x), class) - mean_i min(margin(y_i), 1/(2K)), p at the solution of the inner problem.

    A step of AdaBelief follows d + i, the implicit part shortened, images and labels each for themselves, to the length
    of the direct one, and another one moves tau. Then the network itself, not its linear form, is trained on the new
    set for a random number of updates (Adam, squared error, mirror images as well), and replaced when it has had
    `network_updates`. Images and labels are averaged over the run as `image_average` says; the first ones count in an
    average here, which for short runs wants a smaller share than the published one.

    `adam` solves both problems by so many steps from zero, as released, and so stops early; its rates are found in the
    first update, on its own problems, and the inner one follows what runs do. `cg` solves them to a millionth, or as
    far as so many steps go, and says how far: at ten images per class 20 are too few. Networks are computed in float32.
    Left out is what the released code does beside its paper: tangents whose optimiser keeps its step count, and base
    weights that drift by momentum in inner steps; for its largest sets also gradients through a part of the real
    images, and through other rows in each of the solvers. The ridge does not count mirror images, as there. Real images
    are drawn anew for every update.
    """

    usual_precision = "float32"

    def __init__(self, job: Job, settings: ImplicitGradientsSettings) -> None:
        super().__init__(job, settings)
        self.worst_residual = 0.0
        self.rates = AdamRates(*(_FIRST_RATES if job.rehearsal else (0.0, 0.0)))  # found in the first update

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: ImplicitGradientsSettings) -> None:
        """Also, networks must end in a linear layer, which the ridge classifier stands for."""
        super().check(data, budget, settings)
        name, shape, classes = network_of(settings, data.info)
        if CLASSIFIER not in blank_state(name, shape, classes):
            raise CondenseError(
                f"the last operation of network {name} is not one linear layer, which rcig replaces by a ridge "
                "classifier; let the module end in nn.Linear, or give another --network"
            )

    def optimizer_of(self, learned: list[Tensor]) -> torch.optim.Optimizer:
        """AdaBelief."""
        self.log_temperature = torch.zeros((), device=self.job.device, requires_grad=True)
        rates = self.settings.image_lr, self.settings.temperature_lr
        values = learned, [self.log_temperature]
        return AdaBelief([{"params": each, "lr": rate} for each, rate in zip(values, rates)], lr=rates[0])

    def step(self, iteration: int) -> dict[str, float]:
        """One update of images, labels and temperature, and some of the network that it was made in."""
        place = self.place_of(iteration)
        metrics = self._move(iteration, self.pool.members[place])
        draws, moved = generator(self.job.seed, "pool updates", iteration), self.regressed()
        for number in range(int(torch.randint(1, self.settings.most_updates + 1, (), generator=draws))):
            self.train_network(place, *moved, iteration, number)
        if self.ages[place] >= self.settings.network_updates:
            self.renew(place)
        if iteration and iteration % _RATES_KEPT == 0:
            self.rates.adapt()
        return metrics

    def _move(self, iteration: int, inner_network: InnerNetwork) -> dict[str, float]:
        """One step of images, labels and temperature down direct and implicit gradient."""
        network, (images, labels) = LinearizedNetwork(self.engine, inner_network.values), self.regressed()
        seen, indices = images.detach(), self.real_indices(iteration)
        real, classes = (each.to(self.job.device) for each in (self.data.images(indices), self.data.labels[indices]))
        inner = network.inner(seen, labels.detach(), self._ridge)
        found = outer_gradient(
            network,
            seen,
            inner,
            self._minimum(inner, network.zero()),
            (real, classes),
            self.log_temperature,
            lambda wanted: self._inverse_product(inner, wanted),
            self.moving_rows(iteration, len(seen))[0],
        )
        self._descend([images, labels], found)
        self.most_tenfold = max(self.most_tenfold, inner.kernel.tenfold)
        return {
            "loss": found.loss.item(),
            "accuracy": (found.predictions.argmax(1) == classes).double().mean().item(),
            "log_temperature": self.log_temperature.item(),
            "label_norm": self.label_values.detach().norm(dim=1).mean().item(),
        }

    @property
    def _ridge(self) -> float:
        return self.settings.ridge * self.settings.training_images(self.data.info, self.job.ipc)

    def _minimum(self, inner: Inner, start: Tensor) -> Tensor:
        """The tangent that solves the inner problem, as far as the solver goes."""
        if self.settings.solver == "cg":
            return self._noted(inner.minimum(self.settings.inner_steps))
        if not self.rates.inner:
            self.rates.inner = fastest(inner.loss, start, _FIRST_RATES[0], self.settings.inner_steps)
        tangent, values = adam(inner.loss, start, self.rates.inner, self.settings.inner_steps)
        self.rates.count(values)
        return tangent

    def _inverse_product(self, inner: Inner, wanted: Tensor) -> Tensor:
        """H^-1 wanted, as far as the solver goes."""
        if self.settings.solver == "cg":
            return self._noted(inner.inverse_product(wanted, self.settings.inner_steps))
        problem, start, steps = inner.inverse(wanted), torch.zeros_like(wanted), self.settings.inner_steps
        if not self.rates.inverse:
            self.rates.inverse = fastest(problem, start, _FIRST_RATES[1], steps)
        return adam(problem, start, self.rates.inverse, steps)[0]

    def _noted(self, found: Solution) -> Tensor:
        """The tangent that conjugate gradients found, and how far they came in the worst case."""
        self.worst_residual = max(self.worst_residual, found.residual)
        return found.tangent

    def remarks(self, iterations: int) -> list[str]:
        """With conjugate gradients that had too few steps."""
        found, steps = super().remarks(iterations), self.settings.inner_steps
        if self.worst_residual > _SMALL_RESIDUAL:
            found.append(
                f"after {steps} steps conjugate gradients still left up to {self.worst_residual:.1%} of their right "
                "side, so that gradients are not exact; give more --inner-steps"
            )
        return found

    def _descend(self, regressed: list[Tensor], found: OuterGradient) -> None:
        """One step of the optimiser down the gradients by images and labels as they are regressed on."""
        learned = self.optimizer.param_groups[0]["params"]
        direct, implicit = (self._of_learned(regressed, slopes) for slopes in (found.direct, found.implicit))
        if self.learns_labels:
            margin = label_margin(self.label_values, 1 / (2 * self.classes))
            direct[1] = direct[1] + torch.autograd.grad(margin, self.label_values)[0]
        for value, one, other in zip(learned, direct, implicit):
            value.grad = one + shortened(other, one.norm())
        self.log_temperature.grad = found.log_temperature.to(self.log_temperature)
        self.optimizer.step()

    def _of_learned(self, regressed: list[Tensor], slopes: tuple[Tensor, Tensor]) -> list[Tensor]:
        """The gradients by stored images, and by their labels where these are learned."""
        learned = self.optimizer.param_groups[0]["params"]
        given = [slope.to(value) for slope, value in zip(slopes, regressed)][: len(learned)]
        return list(torch.autograd.grad(regressed[: len(learned)], learned, given, retain_graph=True))

    def results(self) -> dict[str, Tensor]:
        """With the temperature."""
        return super().results() | {"log_temperature": self.log_temperature.detach()}

    def state(self) -> dict[str, Tensor]:
        """With the rates of the solver."""
        worst = torch.tensor(self.worst_residual, dtype=torch.float64)
        return super().state() | {"rates": self.rates.state(), "worst_residual": worst}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
        self.rates = AdamRates.of_state(state["rates"])
        self.worst_residual = state["worst_residual"].item()

    @classmethod
    def work(cls, data: TrainingData, budget: Budget, settings: ImplicitGradientsSettings) -> list[Workload]:
        """Products with the Jacobian in both solvers, then those of the outer loss, and the training of a network."""
        network, rows = network_of(settings, data.info), settings.rows(data.info, budget.images_per_class)
        real, moved = min(settings.real_batch, len(data)), min(rows, settings.gradient_rows or rows)
        solving, trained = 2 * settings.inner_steps, min(rows, settings.network_batch or rows)
        return [
            Workload("gradient", *network, batch=real),
            Workload("gradient", *network, batch=rows, times=2 * solving),
            Workload("image product", *network, batch=moved, times=3),
            Workload("training", *network, batch=trained, times=(settings.most_updates + 1) // 2),
        ]


def shortened(vector: Tensor, most: Tensor) -> Tensor:
    """The vector, or one of length `most` in its direction where it is longer; zero for one that is not finite.

    >>> shortened(torch.tensor([3.0, 4.0]), torch.tensor(1.0))
    tensor([0.6000, 0.8000])
    """
    length = vector.norm()
    return torch.nan_to_num(vector / length * torch.minimum(length, most), nan=0.0)
