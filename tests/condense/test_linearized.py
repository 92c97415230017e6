"""RCIG's mathematics in float64 against explicit Jacobians, autograd, and finite differences of the solved problem."""

from __future__ import annotations

from functools import cached_property

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, jacrev

from condense.augmentation.dsa import flip_closure
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.linearized import Inner, LinearizedNetwork, adam, direct_slopes, outer_gradient
from condense.networks import build_network
from condense.runtime.seeds import generator

SHAPE, CLASSES, RIDGE = (1, 8, 8), 3, 0.05


def normal(*shape: int, purpose: str = "images") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


class Case:
    """Four images with labels and six real ones in a small network, with all Jacobians spelled out."""

    def __init__(self, name: str = "conv-d2-w2-nonorm-softplus") -> None:
        self.network = build_network(name, SHAPE, CLASSES, seed=1).double().eval()
        self.images, self.labels = normal(4, *SHAPE), normal(4, CLASSES, purpose="labels")
        self.real, self.classes = normal(6, *SHAPE, purpose="real"), torch.arange(6) % CLASSES
        values = {
            name: value.detach() for name, value in self.network.state_dict().items() if value.dtype.is_floating_point
        }
        self.linearized = LinearizedNetwork(Engine(self.network, Plan(micro_batch=3)), values)
        self.parameters = {name: value.detach() for name, value in self.network.named_parameters()}

    def jacobian(self, images: Tensor) -> Tensor:
        """[n K, P], zero for the last weight matrix; the order of rows is image by image."""
        blocks = jacrev(lambda parameters: functional_call(self.network, parameters, (images,)))(self.parameters)
        still = {
            name: torch.zeros_like(block) if name == "classifier.weight" else block for name, block in blocks.items()
        }
        return torch.cat([block.flatten(2).flatten(0, 1) for block in still.values()], 1)

    def features(self, images: Tensor) -> Tensor:
        return self.network.embed(images)

    @cached_property
    def inner(self) -> Inner:
        return self.linearized.inner(self.images, self.labels, RIDGE)

    @cached_property
    def joint(self) -> Tensor:
        """A x I + J J^T [m K, m K]."""
        phi, jacobian = self.features(self.images).detach(), self.jacobian(self.images)
        gram = phi @ phi.T + RIDGE * torch.eye(4, dtype=torch.float64)
        return torch.kron(gram, torch.eye(CLASSES, dtype=torch.float64)) + jacobian @ jacobian.T

    def naive_loss(self, tangent: Tensor) -> Tensor:
        """[1/2 |Y - p(X)|^2 + lambda/2 (tr(a^T G a) + |w|^2)] / (m K), as the paper and its code have it."""
        phi, pushed = self.features(self.images), (self.jacobian(self.images) @ tangent).view(4, CLASSES)
        gram = phi @ phi.T
        a = torch.linalg.solve(gram + RIDGE * torch.eye(4, dtype=torch.float64), self.labels - pushed)
        error = self.labels - pushed - gram @ a
        return (0.5 * error.square().sum() + 0.5 * RIDGE * ((a * (gram @ a)).sum() + tangent @ tangent)) / 12


@pytest.fixture(scope="module", params=["conv-d2-w2-nonorm-softplus", "conv-d2-w2-bn-softplus", "convnet-d2-w2-in"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def tangent_of(case: Case, purpose: str = "tangent") -> Tensor:
    """One that leaves the last weight matrix alone."""
    return case.linearized.pull(case.images, normal(4, CLASSES, purpose=purpose)) + 0.1 * case.linearized.pull(
        case.real, normal(6, CLASSES, purpose=purpose)
    )


def test_products_are_those_with_the_jacobian(case: Case):
    tangent, rows, jacobian = tangent_of(case), normal(4, CLASSES, purpose="rows"), case.jacobian(case.images)
    features, pushed = case.linearized.features_and_push(case.images, tangent)
    torch.testing.assert_close(features, case.features(case.images).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pushed.flatten(), jacobian @ tangent, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        case.linearized.pull(case.images, rows), jacobian.T @ rows.flatten(), rtol=1e-10, atol=1e-12
    )
    assert not case.linearized.zero().any()


def test_a_tangent_is_the_change_of_the_logits(case: Case):
    tangent, step = tangent_of(case), 1e-6
    direction = case.linearized.layout.unflatten(tangent)
    ends = [
        functional_call(
            case.network,
            {name: value + sign * step * direction[name] for name, value in case.parameters.items()},
            (case.images,),
        )
        for sign in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(case.inner.push(tangent), expected, rtol=1e-5, atol=1e-7)


def test_gradients_by_images_go_through_features_and_tangents(case: Case):
    tangent, of_features = tangent_of(case), normal(4, case.network.classifier.in_features, purpose="features")
    of_pushed, leaf = normal(4, CLASSES, purpose="pushed"), case.images.clone().requires_grad_()
    value = (of_features * case.features(leaf)).sum() + of_pushed.flatten() @ (case.jacobian(leaf) @ tangent)
    (expected,) = torch.autograd.grad(value, leaf)
    found = case.linearized.pull_to_images(case.images, tangent, of_features, of_pushed)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_the_inner_loss_its_gradient_and_its_hessian(case: Case):
    leaf = tangent_of(case).requires_grad_()
    naive = case.naive_loss(leaf)
    (slope,) = torch.autograd.grad(naive, leaf, create_graph=True)
    found, gradient = case.inner.loss(leaf.detach())
    assert found == pytest.approx(naive.item(), rel=1e-11)
    torch.testing.assert_close(gradient, slope.detach(), rtol=1e-10, atol=1e-13)
    other = tangent_of(case, "other")
    (expected,) = torch.autograd.grad(slope @ other, leaf)
    torch.testing.assert_close(case.inner.hessian_product(other), expected, rtol=1e-10, atol=1e-13)


def test_the_minimum_is_kernel_regression_with_the_tangent_kernel(case: Case):
    jacobian = case.jacobian(case.images)
    solved = torch.linalg.solve(case.joint, case.labels.flatten())
    tangent = case.inner.minimum(50, tolerance=1e-13).tangent
    torch.testing.assert_close(tangent, jacobian.T @ solved, rtol=1e-8, atol=1e-10)
    assert case.inner.loss(tangent)[1].norm() < 1e-10 * case.inner.loss(case.linearized.zero())[1].norm()
    phi, own = case.features(case.real).detach(), case.linearized.features_and_push(case.real, tangent)[1]
    said = own + phi @ case.inner.kernel.weights(case.labels - case.inner.push(tangent))
    rows = (
        case.jacobian(case.real) @ jacobian.T @ solved
        + (phi @ case.features(case.images).detach().T @ solved.view(4, -1)).flatten()
    )
    torch.testing.assert_close(said.flatten(), rows, rtol=1e-8, atol=1e-10)


def test_the_inverse_hessian(case: Case):
    wanted = tangent_of(case, "wanted") + case.linearized.pull(case.real, normal(6, CLASSES, purpose="more"))
    found = case.inner.inverse_product(wanted, 50, tolerance=1e-13).tangent
    torch.testing.assert_close(case.inner.hessian_product(found), wanted, rtol=1e-8, atol=1e-10)


def test_conjugate_gradients_end_after_as_many_steps_as_they_may(case: Case):
    exact = case.inner.minimum(50, tolerance=1e-13).tangent
    errors = [(case.inner.minimum(steps).tangent - exact).norm() / exact.norm() for steps in (1, 4, 12)]
    assert errors[0] > 1e-3
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5


def test_adam_approaches_both_solutions():
    case = Case()
    exact = case.inner.minimum(50, tolerance=1e-13).tangent
    found, values = adam(case.inner.loss, case.linearized.zero(), lr=0.05, steps=120)
    assert len(values) == 120
    assert values[0] == pytest.approx(case.inner.loss(case.linearized.zero())[0])
    assert values[-1] == pytest.approx(case.inner.loss(exact)[0], rel=1e-3)
    assert (found - exact).norm() < 0.05 * exact.norm()
    wanted = case.inner.loss(case.linearized.zero())[1]
    expected = case.inner.inverse_product(wanted, 50, tolerance=1e-13).tangent
    found, values = adam(case.inner.inverse(wanted), case.linearized.zero(), lr=0.05, steps=120)
    assert values[0] == 0
    assert values[-1] == pytest.approx(-torch.dot(wanted, expected).item(), rel=1e-3)
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_the_adam_is_that_of_torch():
    case = Case()
    found, _ = adam(case.inner.loss, case.linearized.zero(), lr=1e-3, steps=3)
    leaf = case.linearized.zero().requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        case.naive_loss(leaf).backward()
        optimizer.step()
    torch.testing.assert_close(found, leaf.detach(), rtol=1e-7, atol=1e-12)


def solved_loss(case: Case, images: Tensor, labels: Tensor, temperature: Tensor) -> Tensor:
    """The outer loss with the inner problem solved anew, by one dense solve."""
    phi, jacobian = case.features(images), case.jacobian(images)
    gram = phi @ phi.T + RIDGE * torch.eye(len(images), dtype=torch.float64)
    joint = torch.kron(gram, torch.eye(CLASSES, dtype=torch.float64)) + jacobian @ jacobian.T
    solved = torch.linalg.solve(joint, labels.flatten())
    own = case.jacobian(case.real) @ (jacobian.T @ solved)
    said = own.view(6, CLASSES) + case.features(case.real) @ (phi.T @ solved.view(len(images), CLASSES))
    return F.cross_entropy(temperature.exp() * said, case.classes)


@pytest.mark.parametrize("flips", [False, True])
def test_direct_and_implicit_gradients_are_those_of_the_solved_problem(flips: bool):
    """Against central differences in all labels, tau and some pixels; without the implicit part they fail."""
    case, temperature = Case(), torch.tensor(0.3, dtype=torch.float64)

    def everything(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return flip_closure(images, labels) if flips else (images, labels)

    leaves = [case.images.clone().requires_grad_(), case.labels.clone().requires_grad_()]
    images, labels = everything(*leaves)
    seen = images.detach()
    inner = case.linearized.inner(seen, labels.detach(), RIDGE)
    tangent = inner.minimum(100, tolerance=1e-14).tangent
    found = outer_gradient(
        case.linearized,
        seen,
        inner,
        tangent,
        (case.real, case.classes),
        temperature,
        lambda wanted: inner.inverse_product(wanted, 100, tolerance=1e-14).tangent,
        torch.arange(len(seen)),
    )
    assert found.loss.item() == pytest.approx(solved_loss(case, seen, labels, temperature).item(), rel=1e-9)
    assert found.predictions.shape == (6, CLASSES)
    parts = (found.direct, found.implicit)
    first, second = (torch.autograd.grad([images, labels], leaves, part, retain_graph=True) for part in parts)

    def central(place: int, index: tuple[int, ...]) -> float:
        ends = []
        for sign in (1, -1):
            moved = [case.images.clone(), case.labels.clone()]
            moved[place][index] += sign * 1e-5
            ends.append(solved_loss(case, *everything(*moved), temperature))
        return ((ends[0] - ends[1]) / 2e-5).item()

    places = [
        (0, (image, 0, row, column)) for image, row, column in ((0, 3, 3), (1, 0, 7), (2, 5, 2), (3, 6, 6), (3, 1, 4))
    ]
    places += [(1, (row, column)) for row in range(4) for column in range(CLASSES)]
    expected = torch.tensor([central(*place) for place in places])
    direct_part = torch.tensor([first[place][index] for place, index in places])
    implicit_part = torch.tensor([second[place][index] for place, index in places])
    assert (direct_part + implicit_part - expected).norm() < 1e-5 * expected.norm()
    assert (direct_part - expected).norm() > 1e-2 * expected.norm()
    ends = [solved_loss(case, seen, labels, temperature + sign * 1e-5) for sign in (1, -1)]
    assert found.log_temperature.item() == pytest.approx(((ends[0] - ends[1]) / 2e-5).item(), rel=1e-6)


def test_at_no_tangent_it_is_the_ridge_classifier_of_frepo_with_an_absolute_ridge():
    case = Case()
    nothing = case.linearized.zero()
    real = case.linearized.features_and_push(case.real, nothing)
    _, said, _ = direct_slopes(case.inner, case.inner.push(nothing), real, case.classes, torch.zeros(()))
    phi = case.features(case.images).detach()
    gram = phi.T @ phi + RIDGE * torch.eye(phi.shape[1], dtype=torch.float64)
    torch.testing.assert_close(said, real[0] @ torch.linalg.solve(gram, phi.T @ case.labels), rtol=1e-9, atol=1e-11)


def test_compiled_products_in_micro_batches_are_those_in_one_piece():
    network = build_network("conv-d2-w2-nonorm-softplus", SHAPE, CLASSES, seed=1).eval()
    values, images = dict(network.named_parameters()), normal(4, *SHAPE).float()
    plans = (Plan(), Plan(micro_batch=2, compile="on"))
    plain, fast = (
        LinearizedNetwork(Engine(network, plan), {k: v.detach() for k, v in values.items()}) for plan in plans
    )
    rows, tangent = normal(4, CLASSES), plain.pull(images, normal(4, CLASSES))
    of_features = normal(4, network.classifier.in_features)
    for found, expected in (
        (fast.pull(images, rows), plain.pull(images, rows)),
        (fast.features_and_push(images, tangent)[1], plain.features_and_push(images, tangent)[1]),
        (
            fast.pull_to_images(images, tangent, of_features, rows),
            plain.pull_to_images(images, tangent, of_features, rows),
        ),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
