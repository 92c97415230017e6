"""A linearised network under a ridge classifier, trained on a set, and how a loss of it depends on the set: RCIG.

Loo, Hasani, Lechner & Rus, Dataset Distillation with Convexified Implicit Gradients, ICML 2023. There are features Phi
[m, D], labels Y [m, K] and the Jacobian J of the logits by the parameters, but for the last weight matrix, which the
classifier stands for. A tangent w says o = J w, and the classifier in closed form learns what is left:

    p(x) = o(x; w) + phi(x) Phi^T a,   a = A^-1 (Y - J w),   A = Phi Phi^T + lambda I.

The squared error of the set with lambda for the classifier and for w is a quadratic in w,

    L(w) = lambda / (2 m K) [ <Y - J w, A^-1 (Y - J w)> + |w|^2 ],

with gradient lambda / (m K) [w - J^T A^-1 (Y - J w)] and Hessian H = lambda / (m K) [1 + J^T A^-1 J]. Its minimum is
kernel ridge regression with the kernel of J J^T and Phi Phi^T together: w = J^T b with (A + J J^T) b = Y. An outer
loss of p at the minimum has the gradient d + i: d by the set at fixed w, and i = -d/d(set) <v, dL/dw>, where
H v = d loss / dw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from condense.compute.derivatives import Parameters
from condense.compute.engine import Engine
from condense.kernel_ridge import RidgeKernel, absolute_ridge
from condense.networks.layout import Layout

Problem = Callable[[Tensor], tuple[float, Tensor]]  # of a tangent: a value, and its gradient


CLASSIFIER = "classifier.weight"  # the last weight matrix, which no tangent moves


class LinearizedNetwork:
    """A network at `values`, its parameters and statistics; tangents are flat vectors of its parameters [P].

    `engine` runs networks of this structure in evaluation mode.
    """

    def __init__(self, engine: Engine, values: Parameters) -> None:
        self.engine, self.values = engine, values
        self.layout = Layout.of_parameters(engine.network)

    def zero(self) -> Tensor:
        """The tangent that moves nothing."""
        return torch.zeros_like(self.layout.flatten(self.values))

    def features_and_push(self, images: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, D] and J w [n, K] of images, float64."""
        features, pushed = self.engine.push_forward(self.values, images, self.layout.unflatten(tangent))
        return features.double(), pushed.double()

    def pull(self, images: Tensor, rows: Tensor) -> Tensor:
        """J^T rows, for rows [n, K]; zero for the last weight matrix."""
        products = self.engine.pull_back(self.values, images, rows.to(images.dtype))
        return self.layout.flatten(products | {CLASSIFIER: torch.zeros_like(products[CLASSIFIER])})

    def pull_to_images(self, images: Tensor, tangent: Tensor, of_features: Tensor, of_pushed: Tensor) -> Tensor:
        """The gradient by the images of <of_features, features> + <of_pushed, J w>."""
        rows = (of_features.to(images.dtype), of_pushed.to(images.dtype))
        return self.engine.pull_back_to_images(self.values, images, self.layout.unflatten(tangent), *rows)

    def inner(self, images: Tensor, labels: Tensor, ridge: float) -> Inner:
        """The inner problem of images with labels [m, K]."""
        with torch.no_grad():
            kernel = absolute_ridge(self.engine.features(self.values, images), ridge)
        return Inner(
            kernel,
            labels.double(),
            push=lambda tangent: self.features_and_push(images, tangent)[1],
            pull=lambda rows: self.pull(images, rows),
        )


@dataclass(frozen=True, eq=False)
class Inner:
    """The quadratic L. Tangents are flat vectors [P], `labels` float64 [m, K].

    `push` gives J w, float64 [m, K], of a tangent, and `pull` the tangent J^T r of r [m, K].
    """

    kernel: RidgeKernel
    labels: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]

    @property
    def scale(self) -> Tensor:
        """lambda / (m K)."""
        return self.kernel.ridge / self.labels.numel()

    def loss(self, tangent: Tensor) -> tuple[float, Tensor]:
        """L, and its gradient."""
        left = self.labels - self.push(tangent)  # (m, K)
        solved = self.kernel.solve(left)
        value = 0.5 * self.scale * ((left * solved).sum() + tangent.double().square().sum())
        return value.item(), self.scale.to(tangent) * (tangent - self.pull(solved))

    def hessian_product(self, tangent: Tensor) -> Tensor:
        """H v."""
        return self.scale.to(tangent) * (tangent + self.pull(self.kernel.solve(self.push(tangent))))

    def inverse(self, wanted: Tensor) -> Problem:
        """The problem that H^-1 wanted solves: of v, <v, H v - 2 wanted>, and H v - wanted, half of its gradient."""

        def problem(tangent: Tensor) -> tuple[float, Tensor]:
            product = self.hessian_product(tangent)
            return torch.dot(tangent, product - 2 * wanted).item(), product - wanted

        return problem

    def minimum(self, steps: int, tolerance: float = 1e-6) -> Solution:
        """The tangent with the smallest L, J^T (A + J J^T)^-1 Y, by conjugate gradients."""
        return self._pulled_solution(self.labels, steps, tolerance)

    def inverse_product(self, wanted: Tensor, steps: int, tolerance: float = 1e-6) -> Solution:
        """H^-1 wanted = m K / lambda [wanted - J^T (A + J J^T)^-1 J wanted], by conjugate gradients."""
        solved = self._pulled_solution(self.push(wanted), steps, tolerance)
        return Solution((wanted - solved.tangent) / self.scale.to(wanted), solved.residual)

    def _pulled_solution(self, right: Tensor, steps: int, tolerance: float) -> Solution:
        """J^T (A + J J^T)^-1 right, for float64 [m, K], in at most so many steps; A^-1 prepares them."""
        features, ridge = self.kernel.features, self.kernel.ridge

        def product(rows: Tensor, pulled: Tensor) -> Tensor:
            return features @ (features.T @ rows) + ridge * rows + self.push(pulled)

        whole = _operator(lambda rows: product(rows, self.pull(rows)), right)
        found, _ = cg(whole, _flat(right), M=_operator(self.kernel.solve, right), maxiter=steps, rtol=tolerance)
        solved = torch.from_numpy(found).reshape(right.shape).to(right)
        pulled = self.pull(solved)
        left = right - product(solved, pulled)
        return Solution(pulled, (left.norm() / right.norm().clamp_min(torch.finfo(right.dtype).tiny)).item())


@dataclass(frozen=True, eq=False)
class Solution:
    """What conjugate gradients found: a tangent, and how long what is left of their right side is, as a part of it."""

    tangent: Tensor
    residual: float


def _operator(function: Callable[[Tensor], Tensor], like: Tensor) -> LinearOperator:
    """A function of tensors like this one as scipy takes it."""

    def flat(values: np.ndarray) -> np.ndarray:
        return _flat(function(torch.from_numpy(np.ascontiguousarray(values)).reshape(like.shape).to(like)))

    return LinearOperator((like.numel(), like.numel()), matvec=flat, dtype=np.float64)


def _flat(values: Tensor) -> np.ndarray:
    flat: np.ndarray = values.detach().cpu().numpy().ravel()
    return flat


def adam(problem: Problem, start: Tensor, lr: float, steps: int) -> tuple[Tensor, list[float]]:
    """A tangent after so many steps of Adam, and the value before each; as RCIG's code solves both problems."""
    tangent, values = start.clone(), []
    optimizer = torch.optim.Adam([tangent], lr=lr)
    for _ in range(steps):
        value, tangent.grad = problem(tangent)
        values.append(value)
        optimizer.step()
    return tangent, values


@dataclass(frozen=True, eq=False)
class Slopes:
    """Gradients by features [m, D], labels [m, K], J w [m, K], and by what else there is; in float64."""

    features: Tensor
    labels: Tensor
    pushed: Tensor
    others: tuple[Tensor, ...]


def direct_slopes(
    inner: Inner, pushed: Tensor, real: tuple[Tensor, Tensor], classes: Tensor, log_temperature: Tensor
) -> tuple[Tensor, Tensor, Slopes]:
    """The mean cross-entropy of e^tau p for real images at a fixed tangent, their p [n, K], and its gradients.

    `pushed` is J w of the set, `real` the features [n, D] and J w [n, K] of the real images, `classes` int64 [n]
    theirs. The other gradients are by J w of the real images and by tau.
    """
    leaves = [inner.kernel.features, inner.labels, pushed, real[1].double(), log_temperature.double()]
    features, labels, own, theirs, tau = (value.detach().requires_grad_() for value in leaves)
    kernel = absolute_ridge(features, inner.kernel.ridge.item())
    said = theirs + real[0].double() @ kernel.weights(labels - own)
    loss = F.cross_entropy(tau.exp() * said, classes)
    slopes = torch.autograd.grad(loss, [features, labels, own, theirs, tau])
    return loss.detach(), said.detach(), Slopes(slopes[0], slopes[1], slopes[2], slopes[3:])


def implicit_slopes(inner: Inner, pushed: Tensor, along: Tensor) -> Slopes:
    """The gradients of -<v, dL/dw> at fixed w and v, of which `pushed` is J w and `along` J v, both [m, K].

    That is lambda / (m K) <J v, A^-1 (Y - J w)>, but for what the set is not in. The other gradient is by J v.
    """
    leaves = [inner.kernel.features, inner.labels, pushed, along]
    features, labels, own, other = (value.detach().requires_grad_() for value in leaves)
    kernel = absolute_ridge(features, inner.kernel.ridge.item())
    value = inner.scale * (other * kernel.solve(labels - own)).sum()
    slopes = torch.autograd.grad(value, [features, labels, own, other])
    return Slopes(slopes[0], slopes[1], slopes[2], slopes[3:])


@dataclass(frozen=True, eq=False)
class OuterGradient:
    """The outer loss, the predictions [n, K] that it is of, and its gradients.

    By images [m, C, H, W] and labels [m, K], `direct` is at a fixed tangent and `implicit` through the tangent; their
    sum is the whole gradient where both problems are solved. `log_temperature` is the gradient by tau.
    """

    loss: Tensor
    predictions: Tensor
    direct: tuple[Tensor, Tensor]
    implicit: tuple[Tensor, Tensor]
    log_temperature: Tensor


def outer_gradient(
    network: LinearizedNetwork,
    images: Tensor,
    inner: Inner,
    tangent: Tensor,
    real: tuple[Tensor, Tensor],
    log_temperature: Tensor,
    inverse_product: Callable[[Tensor], Tensor],
    moving: Tensor,
) -> OuterGradient:
    """How the loss of `real` images with their class indices depends on the images of `inner` and their labels.

    `tangent` solves `inner`, `inverse_product` gives H^-1 of a tangent. Gradients by other images than `moving` (int64)
    are left at zero.
    """
    pushed = inner.push(tangent)
    found = network.features_and_push(real[0], tangent)
    loss, predictions, direct = direct_slopes(inner, pushed, found, real[1], log_temperature)
    of_real, of_temperature = direct.others
    other = inverse_product(network.pull(real[0], of_real) + inner.pull(direct.pushed))
    implicit = implicit_slopes(inner, pushed, inner.push(other))

    def of_images(tangent: Tensor, of_features: Tensor, of_pushed: Tensor) -> Tensor:
        gradient = torch.zeros_like(images)
        gradient[moving] = network.pull_to_images(images[moving], tangent, of_features[moving], of_pushed[moving])
        return gradient

    nothing = torch.zeros_like(implicit.features)
    through = of_images(tangent, implicit.features, implicit.pushed) + of_images(other, nothing, implicit.others[0])
    return OuterGradient(
        loss,
        predictions,
        direct=(of_images(tangent, direct.features, direct.pushed), direct.labels),
        implicit=(through, implicit.labels),
        log_temperature=of_temperature,
    )
