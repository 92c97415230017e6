"""Differentiating through an inner training: how a trajectory's end moves with the images that it was trained on.

The inner training is T steps of SGD on a flat parameter vector (with momentum mu and weight decay w; both may be 0)

    g_t = c dCE(A_t(x_t), y_t; theta_t) / dtheta,    m_t = mu m_{t-1} + g_t + w theta_t,
    theta_{t+1} = theta_t - eta_t m_t,

and the outer loss compares where it ends, or passes, with given vectors:

    L = |theta_T - target|^2 / |start - target|^2
        + sum_k weight_k |theta_{t_k} - between_k|^2 / |start - between_k|^2,

denominators being constants. Its exact gradient needs no graph over the steps. With lambda_t = dL/dtheta_t and
kappa_t = dL/dm_t, one sweep back over stored vectors, theta_t and m_{t-1}, gives it, T to 0 (kappa_T = 0):

    kappa_t      = mu kappa_{t+1} - eta_t lambda_{t+1}
    dL/d(x, y)  += d<g_t, kappa_t> / d(x_t, y_t)                    a mixed product
    dL/deta_t    = -<lambda_{t+1}, m_t>
    lambda_t     = lambda_{t+1} + H_t kappa_t + w kappa_t            H_t kappa_t comes with the same product

`adjoint` is this sweep: exact, with the activations of one step at a time. `unrolled` is the same gradient by
automatic differentiation of the whole training through the package `higher`: the oracle, with memory in T. `frozen`
leaves out the last line, so that lambda only changes where targets add to it and H_t kappa_t need not be computed: the
gradient that TESLA (Cui et al., ICML 2023) really computes, which differs from the exact one by O(eta) for T > 1.
Truncation, in any mode, leaves out the mixed products of earlier steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import higher
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.networks.layout import Layout
from condense.runtime.errors import CondenseError, unknown_name
from condense.runtime.global_draws import drawing, network_draws_of_step

__all__ = ["Augment", "Target", "TrajectoryGradient", "trajectory_gradient"]

Augment = Callable[[Tensor, int], Tensor]
Target = tuple[int, Tensor, float]  # the step it is met at, the vector, its weight
Mode = Literal["adjoint", "unrolled", "frozen"]


@dataclass(frozen=True, eq=False)
class TrajectoryGradient:
    """The outer loss L and its gradients, all in the type of the start vector.

    `images` is [N, C, H, W]; `labels` [N, K], or None for class indices; `inner_lr` has the shape that was given;
    `start` is [P], with the denominators of L held fixed (with `frozen`, the pull of the targets alone).
    """

    loss: Tensor
    images: Tensor
    labels: Tensor | None
    inner_lr: Tensor
    start: Tensor


@dataclass(frozen=True, eq=False)
class _Training:
    """An inner training and its targets: everything that all modes need."""

    engine: Engine
    layout: Layout
    images: Tensor
    labels: Tensor
    rates: Tensor  # [T]
    batches: Sequence[Tensor] | None
    augment: Augment | None
    momentum: float
    weight_decay: float
    loss_scale: float
    first: int  # the step from which on gradients of the inner loss are differentiated
    targets: dict[int, list[tuple[Tensor, Tensor]]]  # step -> (vector, weight of each parameter's squared distance)

    @property
    def steps(self) -> int:
        return len(self.rates)

    def pick(self, values: Tensor, step: int) -> Tensor:
        """The rows of the batch of this step."""
        return values if self.batches is None else values[self.batches[step]]

    def aims(self, labels: Tensor) -> Tensor:
        """What the inner cross-entropy compares with: class indices, or the probabilities of logits."""
        return labels.softmax(1) if labels.is_floating_point() else labels

    def seen(self, images: Tensor, step: int) -> Tensor:
        """Augmented images."""
        return images if self.augment is None else self.augment(images, step)

    def advance(self, theta: Tensor, velocity: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """One step of the inner training: theta_{t+1} and m_t."""
        with torch.no_grad():
            images = self.seen(self.pick(self.images, step), step)
            labels = self.aims(self.pick(self.labels, step))
            with network_draws_of_step(step):
                _, gradient = self.engine.gradient(self.layout.unflatten(theta), images, labels)
            velocity = self.moved(velocity, self.layout.flatten(gradient), theta)
            return theta - self.rates[step] * velocity, velocity

    def moved(self, velocity: Tensor, gradient: Tensor, theta: Tensor) -> Tensor:
        """m_t from m_{t-1}."""
        return self.momentum * velocity + self.loss_scale * gradient + self.weight_decay * theta

    def distance(self, theta: Tensor, step: int) -> Tensor:
        """The terms of L for theta_step; zero where there is no target."""
        terms = [(weight * (theta - vector).square()).sum() for vector, weight in self.targets.get(step, [])]
        return torch.stack(terms).sum() if terms else theta.new_zeros(())

    def pull(self, theta: Tensor, step: int) -> Tensor:
        """The partial derivative of L with respect to theta_step."""
        terms = [2 * weight * (theta - vector) for vector, weight in self.targets.get(step, [])]
        return torch.stack(terms).sum(0) if terms else torch.zeros_like(theta)


def trajectory_gradient(
    network: nn.Module | Engine,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    inner_lr: Tensor | float,
    steps: int = 20,
    batches: Sequence[Tensor] | None = None,
    augment: Augment | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    loss_scale: float = 1.0,
    between: Sequence[Target] = (),
    mask: Tensor | None = None,
    store_every: int = 1,
    mode: Mode = "adjoint",
    truncate: int | None = None,
) -> TrajectoryGradient:
    """The trajectory matching loss of the module's docstring and its gradients.

    Args:
        network: gives the structure; its own parameter values are not used, nor is it changed. BatchNorm in training
            mode uses the statistics of each batch. An `Engine` around a network runs it by its plan, else, and always
            with `unrolled`, every batch goes through at once, uncompiled and in the type of the start vector.
        start, target: flat vectors [P] in the order of `network.parameters()`.
        images: float [N, C, H, W].
        labels: class indices int64 [N], or logits [N, K] whose softmax is the target of the cross-entropy.
        inner_lr: one rate, or one for each step [T].
        steps: T, at least 1.
        batches: T index tensors, the images of each step; default: all images in every step.
        augment: A pure function (images, step) -> images of the same number; called more than once with equal
            arguments, so its draws must depend on the step only.
        momentum, weight_decay: of the inner SGD (no dampening, not Nesterov).
        loss_scale: c, the factor of every inner loss.
        between: targets (step, vector, weight) on the way, with 0 < step < T.
        mask: [P], the weight of each parameter in every squared distance and its denominator.
        store_every: keep each so many-th parameter vector, with its velocity, and train again from there on the way
            back: less memory for up to twice the forward work. Only for `adjoint` and `frozen`.
        mode: `adjoint`, `unrolled` or `frozen`.
        truncate: differentiate the inner gradients g_t of the last so many steps only; those of earlier steps are held
            fixed, so that images have their effect in the last steps alone. Rates, momentum and decay are
            differentiated in all steps. Default: all steps.

    Raises:
        CondenseError: for vectors of another length than the network's, a start that equals a target (the loss is
            then undefined), or arguments out of range.

    Source: Cazenavette et al., CVPR 2022 (the loss); Shen et al., 2023 (truncation); the recursion is the adjoint
        method for SGD.
    """
    engine = network if isinstance(network, Engine) else Engine(network, Plan(micro_batch=len(images)))
    rates = torch.as_tensor(inner_lr, dtype=start.dtype, device=start.device)
    layout = Layout.of_parameters(engine.network)
    _check(layout, start, rates, steps, batches, between, mode)
    for name, value in (("steps", steps), ("store_every", store_every), ("truncate", truncate)):
        if value is not None and value < 1:
            raise CondenseError(f"{name} {value} must be at least 1")
    targets = _targets(start, [*between, (steps, target, 1.0)], mask)
    training = _Training(
        engine=engine,
        layout=layout,
        images=images.detach().to(start.dtype),
        labels=labels.detach().to(start.dtype) if labels.is_floating_point() else labels,
        rates=rates.detach().expand(steps),
        batches=batches,
        augment=augment,
        momentum=momentum,
        weight_decay=weight_decay,
        loss_scale=loss_scale,
        first=0 if truncate is None else max(0, steps - truncate),
        targets=targets,
    )
    if mode == "unrolled":
        found = _unrolled(training, start.detach())
    else:
        found = _swept(training, start.detach(), store_every, exact=mode == "adjoint")
    if rates.dim() == 0:
        found = TrajectoryGradient(found.loss, found.images, found.labels, found.inner_lr.sum(), found.start)
    return found


def _check(
    layout: Layout,
    start: Tensor,
    rates: Tensor,
    steps: int,
    batches: Sequence[Tensor] | None,
    between: Sequence[Target],
    mode: str,
) -> None:
    if mode not in get_args(Mode):
        raise unknown_name("gradient mode", mode, get_args(Mode))
    if start.shape != (layout.size,):
        raise CondenseError(
            f"the network has {layout.size} parameters, the start vector has the shape {tuple(start.shape)}"
        )
    if rates.shape not in ((), (steps,)):
        raise CondenseError(f"inner_lr of shape {tuple(rates.shape)} does not fit {steps} steps; give 1 or {steps}")
    if batches is not None and len(batches) != steps:
        raise CondenseError(f"{len(batches)} batches do not fit {steps} steps")
    for step, _, _ in between:
        if not 0 < step < steps:
            raise CondenseError(f"a target at step {step} does not lie between the start and the end, step {steps}")


def _targets(start: Tensor, asked: Sequence[Target], mask: Tensor | None) -> dict[int, list[tuple[Tensor, Tensor]]]:
    """Every target with the weight of each parameter in it: weight * mask / D."""
    counted = torch.ones_like(start) if mask is None else mask.to(start.dtype)
    targets: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for step, vector, weight in asked:
        if vector.shape != start.shape:
            raise CondenseError(
                f"a target of shape {tuple(vector.shape)} does not fit a start vector of shape {tuple(start.shape)}"
            )
        vector = vector.detach().to(start.dtype)
        distance = (counted * (start.detach() - vector).square()).sum()
        if distance == 0:
            raise CondenseError("a target equals the start of its trajectory: there is no distance to compare with")
        targets.setdefault(step, []).append((vector, weight * counted / distance))
    return targets


def _swept(training: _Training, start: Tensor, store_every: int, *, exact: bool) -> TrajectoryGradient:
    """The sweep of the module's docstring; without `exact`, lambda does not pass through the steps."""
    soft = training.labels.is_floating_point()
    images = torch.zeros_like(training.images)
    labels = torch.zeros_like(training.labels) if soft else None
    rates = torch.zeros_like(training.rates)
    stored, end, loss = _trained(training, start, store_every)
    lam, kappa = training.pull(end[0], training.steps), torch.zeros_like(start)
    for step, theta, velocity in _backwards(training, stored, end, store_every):
        kappa = training.momentum * kappa - training.rates[step] * lam
        rates[step] = -lam @ velocity
        if step >= training.first:
            product = _through(training, step, theta, kappa, images, labels, exact=exact)
            lam = lam if product is None else lam + product
        if exact:
            lam = lam + training.weight_decay * kappa
        lam = lam + training.pull(theta, step)
    return TrajectoryGradient(loss, images, labels, rates, lam)


def _through(
    training: _Training,
    step: int,
    theta: Tensor,
    kappa: Tensor,
    images: Tensor,
    labels: Tensor | None,
    *,
    exact: bool,
) -> Tensor | None:
    """H_t kappa_t (only if `exact`); adds what the images and soft labels of this step get to `images` and `labels`."""
    batch = training.pick(training.images, step).detach().requires_grad_()
    seen = training.seen(batch, step)
    told = training.pick(training.labels, step).detach().requires_grad_(labels is not None)
    aims = training.aims(told)
    with network_draws_of_step(step):
        product = training.engine.mixed_product(
            training.layout.unflatten(theta),
            seen,
            aims,
            training.layout.unflatten(training.loss_scale * kappa),
            images_only=not exact,
        )
    _add(training, images, torch.autograd.grad(seen, batch, product.images)[0], step)
    if labels is not None and product.labels is not None:
        _add(training, labels, torch.autograd.grad(aims, told, product.labels)[0], step)
    return training.layout.flatten(product.parameters) if exact else None


def _add(training: _Training, total: Tensor, part: Tensor, step: int) -> None:
    """Add the gradient of one batch to that of all images or labels."""
    if training.batches is None:
        total += part
    else:
        total.index_add_(0, training.batches[step], part)


State = tuple[Tensor, Tensor]  # theta_t and m_{t-1}


def _trained(training: _Training, start: Tensor, store_every: int) -> tuple[list[State], State, Tensor]:
    """The state before each `store_every`-th step, that after the last one, and L."""
    stored: list[State] = []
    theta, velocity = start, torch.zeros_like(start)
    loss = start.new_zeros(())
    for step in range(training.steps):
        if step % store_every == 0:
            stored.append((theta, velocity))
        theta, velocity = training.advance(theta, velocity, step)
        loss = loss + training.distance(theta, step + 1)
    return stored, (theta, velocity), loss


def _backwards(
    training: _Training, stored: list[State], end: State, store_every: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Step, theta_t and m_t from the last step to the first; states that were not stored are computed again."""
    _, velocity = end
    for number in reversed(range(len(stored))):
        first = number * store_every
        states = [stored.pop()]
        for step in range(first, min(first + store_every, training.steps) - 1):
            states.append(training.advance(*states[-1], step))
        while states:
            theta, before = states.pop()
            yield first + len(states), theta, velocity
            velocity = before


def _unrolled(training: _Training, start: Tensor) -> TrajectoryGradient:
    """The same by automatic differentiation through every step, with `higher`."""
    soft = training.labels.is_floating_point()
    images = training.images.clone().requires_grad_()
    labels = training.labels.clone().requires_grad_(soft)
    rates = training.rates.clone().requires_grad_()
    theta = start.clone().requires_grad_()
    network = copy.deepcopy(training.engine.network).to(start.dtype)
    sgd = torch.optim.SGD(network.parameters(), lr=1.0, momentum=training.momentum, weight_decay=training.weight_decay)
    pure = higher.patch.monkeypatch(network)
    pure.update_params(list(training.layout.unflatten(theta).values()))
    optimizer = higher.optim.get_diff_optim(sgd, network.parameters(), fmodel=pure)
    loss = start.new_zeros(())
    for step in range(training.steps):
        seen = training.seen(training.pick(images, step), step)
        with network_draws_of_step(step), drawing(training.engine.network, seen):
            logits = pure(seen)
        inner = training.loss_scale * F.cross_entropy(logits, training.aims(training.pick(labels, step)))
        rate, hold = {"lr": [rates[step]]}, None if step >= training.first else _held
        end = torch.cat([value.reshape(-1) for value in optimizer.step(inner, override=rate, grad_callback=hold)])
        loss = loss + training.distance(end, step + 1)
    leaves = [images, rates, theta, *([labels] if soft else [])]
    found = torch.autograd.grad(loss, leaves)
    return TrajectoryGradient(loss.detach(), found[0], found[3] if soft else None, found[1], found[2])


def _held(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Gradients as plain numbers."""
    return [gradient.detach() for gradient in gradients]
