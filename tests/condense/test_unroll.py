"""Trajectory gradients: adjoint against unrolled, finite differences and a naive reference, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.unroll import TrajectoryGradient, trajectory_gradient

SHAPE, CLASSES, COUNT, STEPS = (3, 8, 8), 3, 7, 5
STRATEGY = Augmentation()


@dataclass
class Problem:
    network: nn.Module | Engine
    start: Tensor
    target: Tensor
    images: Tensor
    labels: Tensor
    options: dict[str, Any]

    def solve(self, **changes: Any) -> TrajectoryGradient:
        given = {"inner_lr": torch.tensor(0.2, dtype=torch.float64), "steps": STEPS} | self.options | changes
        images, labels = given.pop("images", self.images), given.pop("labels", self.labels)
        return trajectory_gradient(self.network, self.start, self.target, images, labels, **given)


def normal(*shape: int, name: str) -> Tensor:
    return torch.randn(shape, generator=generator(0, "test unroll", name), dtype=torch.float64)


def problem(name: str = "convnet-d2-w4-in", *, soft: bool = False, **options: Any) -> Problem:
    network = build_network(name, SHAPE, CLASSES, seed=0).double().train()
    start = torch.cat([value.detach().flatten() for value in network.parameters()])
    target = start + 0.1 * normal(*start.shape, name="target")
    hard = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    labels = normal(COUNT, CLASSES, name="labels") if soft else hard
    return Problem(network, start, target, normal(COUNT, *SHAPE, name="images"), labels, options)


def batches() -> list[Tensor]:
    """Batches of 3 of 7 images with a remainder, as a stream would give them."""
    return [torch.tensor(rows) for rows in ([6], [0, 3, 5], [1, 2, 4], [2], [6, 4, 0])]


def see(images: Tensor, step: int) -> Tensor:
    return augment(STRATEGY, images, draw_per_image(STRATEGY, SHAPE, len(images), generator(0, "see", step)))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def assert_equal(found: TrajectoryGradient, expected: TrajectoryGradient, tolerance: float = 1e-8) -> None:
    for name in ("loss", "images", "labels", "inner_lr", "start"):
        left, right = getattr(found, name), getattr(expected, name)
        if right is None:
            assert left is None
        else:
            assert left.shape == right.shape
            assert left.dtype == torch.float64
            assert not left.requires_grad
            assert relative_error(left, right) < tolerance, name


FULL = {"batches": batches(), "augment": see}
MOMENTUM = {"momentum": 0.9, "weight_decay": 0.01, "loss_scale": 1.3}
RATES = {"inner_lr": torch.tensor([0.3, 0.1, 0.2, 0.05, 0.25], dtype=torch.float64)}
CASES = {
    "plain": {},
    "batches and augmentation": FULL,
    "momentum and weight decay": MOMENTUM,
    "a rate for each step": RATES,
    "everything": FULL | MOMENTUM | RATES,
}


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("case", CASES)
def test_adjoint_equals_unrolled(case: str, soft: bool) -> None:
    given = problem(soft=soft, **CASES[case])
    assert_equal(given.solve(), given.solve(mode="unrolled"))


@pytest.mark.parametrize("name", ["convnet-d1-w4-bn", "convnet-d2-w4-gn-swish", "convnet-d1-w4-ln", "mlp"])
def test_adjoint_equals_unrolled_for_other_networks(name: str) -> None:
    given = problem(name, soft=True, **FULL)
    assert_equal(given.solve(), given.solve(mode="unrolled"))


def on_the_way(given: Problem) -> dict[str, Any]:
    vectors = [given.start + 0.1 * normal(*given.start.shape, name=f"between {k}") for k in range(2)]
    return {"between": [(2, vectors[0], 1.0), (4, vectors[1], 0.5)]}


@pytest.mark.parametrize("case", ["plain", "everything"])
def test_targets_on_the_way_and_masks(case: str) -> None:
    given = problem(**CASES[case])
    mask = (normal(*given.start.shape, name="mask") > 0).double()
    changes = on_the_way(given) | {"mask": mask}
    found = given.solve(**changes)
    assert_equal(found, given.solve(mode="unrolled", **changes))
    assert found.loss > given.solve(mask=mask).loss


@pytest.mark.parametrize("mode", ["adjoint", "frozen"])
@pytest.mark.parametrize("store_every", [2, 3, 5, 9])
def test_sparse_storage_changes_nothing(mode: str, store_every: int) -> None:
    given = problem(**FULL | MOMENTUM)
    assert_equal(given.solve(mode=mode, store_every=store_every), given.solve(mode=mode), 1e-14)


def naive_end(given: Problem, images: Tensor, rates: Tensor) -> Tensor:
    """The end of a plain inner training, by the definition."""
    theta = given.start.clone().requires_grad_()
    for step in range(STEPS):
        pieces = theta.split([value.numel() for value in given.network.parameters()])
        named = given.network.named_parameters()
        parameters = {name: piece.view(value.shape) for (name, value), piece in zip(named, pieces, strict=True)}
        logits = functional_call(given.network, parameters, (images,))
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, given.labels), theta, create_graph=True)
        theta = theta - rates[step] * gradient
    return theta


def test_the_unrolled_oracle_equals_a_hand_written_training() -> None:
    given = problem()
    images, rate = given.images.clone().requires_grad_(), torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    end = naive_end(given, images, rate.expand(STEPS))
    loss = (end - given.target).square().sum() / (given.start - given.target).square().sum()
    gradients = torch.autograd.grad(loss, [images, rate])
    found = given.solve(mode="unrolled")
    assert relative_error(found.loss, loss.detach()) < 1e-12
    assert relative_error(found.images, gradients[0]) < 1e-10
    assert relative_error(found.inner_lr, gradients[1]) < 1e-10


def test_finite_differences() -> None:
    """Of the learning rate, an image, a label and the start, through everything at once."""
    given = problem(soft=True, **FULL | MOMENTUM)
    found = given.solve()
    step = 1e-5
    rate = torch.tensor(0.2, dtype=torch.float64)
    slope = (given.solve(inner_lr=rate + step).loss - given.solve(inner_lr=rate - step).loss) / (2 * step)
    assert abs(slope / found.inner_lr - 1) < 1e-5
    for field in ("images", "labels"):
        values = getattr(given, field)
        direction = normal(*values.shape, name="direction")
        up, down = (given.solve(**{field: values + sign * step * direction}).loss for sign in (1, -1))
        expected = (getattr(found, field) * direction).sum()
        assert abs((up - down) / (2 * step) / expected - 1) < 1e-5
    direction, middle, losses = normal(*given.start.shape, name="direction"), given.start, []
    step = 1e-6  # every weight moves, and within a larger step some activation changes its sign
    denominator = (middle - given.target).square().sum()
    for sign in (1, -1):
        given.start = middle + sign * step * direction
        losses.append(given.solve().loss * (given.start - given.target).square().sum() / denominator)  # held fixed
    assert abs((losses[0] - losses[1]) / (2 * step) / (found.start * direction).sum() - 1) < 1e-5


def test_frozen_equals_adjoint_for_one_step_and_nears_it_as_the_rate_falls() -> None:
    given = problem(steps=1)
    frozen, adjoint = given.solve(mode="frozen"), given.solve()
    assert relative_error(frozen.images, adjoint.images) < 1e-14
    assert relative_error(frozen.inner_lr, adjoint.inner_lr) < 1e-14
    errors = []
    for rate in (0.1, 0.01, 0.001):
        given = problem(inner_lr=torch.tensor(rate, dtype=torch.float64))
        errors.append(relative_error(given.solve(mode="frozen").images, given.solve().images))
    assert errors[0] > 1e-4
    for larger, smaller in pairwise(errors):
        assert 5 < larger / smaller < 20  # of first order in the rate


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_frozen_is_the_gradient_with_the_parameters_of_every_step_held_fixed(soft: bool) -> None:
    """With momentum, weight decay and a target on the way: only inner gradients and decay see parameters as fixed."""
    given = problem(soft=soft, **FULL | MOMENTUM)
    between = normal(*given.start.shape, name="between")
    rate = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    images, labels = given.images.clone().requires_grad_(), given.labels.clone().requires_grad_(soft)
    theta, velocity, loss = given.start, torch.zeros_like(given.start), torch.zeros((), dtype=torch.float64)
    targets = {2: (between, 0.5), STEPS: (given.target, 1.0)}
    for step, rows in enumerate(given.options["batches"]):
        fixed = theta.detach().requires_grad_()
        pieces = fixed.split([value.numel() for value in given.network.parameters()])
        named = given.network.named_parameters()
        parameters = {name: piece.view(value.shape) for (name, value), piece in zip(named, pieces, strict=True)}
        logits = functional_call(given.network, parameters, (see(images[rows], step),))
        aim = labels[rows].softmax(1) if soft else labels[rows]
        (gradient,) = torch.autograd.grad(1.3 * F.cross_entropy(logits, aim), fixed, create_graph=True)
        velocity = 0.9 * velocity + gradient + 0.01 * fixed.detach()
        theta = theta - rate * velocity
        if step + 1 in targets:
            vector, weight = targets[step + 1]
            loss = loss + weight * (theta - vector).square().sum() / (given.start - vector).square().sum()
    expected = torch.autograd.grad(loss, [images, rate, *([labels] if soft else [])])
    found = given.solve(mode="frozen", between=[(2, between, 0.5)])
    assert relative_error(found.images, expected[0]) < 1e-10
    assert relative_error(found.inner_lr, expected[1]) < 1e-10
    assert not soft or relative_error(found.labels, expected[2]) < 1e-10


def truncated_reference(given: Problem, truncate: int, images: Tensor, labels: Tensor, rate: Tensor) -> Tensor:
    """L where the gradients of all but the last steps are numbers; rate, momentum and decay go on being differentiated.

    Written as AST's released code does it: a gradient without a graph until so many steps are left.
    """
    soft, theta, loss = labels.is_floating_point(), given.start, torch.zeros((), dtype=torch.float64)
    theta, velocity = theta.clone().requires_grad_(), torch.zeros_like(theta)
    targets = {step: (vector, weight) for step, vector, weight in [*given.options["between"], (STEPS, given.target, 1)]}
    for step, rows in enumerate(given.options["batches"]):
        pieces = theta.split([value.numel() for value in given.network.parameters()])
        named = given.network.named_parameters()
        parameters = {name: piece.view(value.shape) for (name, value), piece in zip(named, pieces, strict=True)}
        logits = functional_call(given.network, parameters, (see(images[rows], step),))
        inner = 1.3 * F.cross_entropy(logits, labels[rows].softmax(1) if soft else labels[rows])
        (gradient,) = torch.autograd.grad(inner, theta, create_graph=step >= STEPS - truncate, retain_graph=True)
        velocity = 0.9 * velocity + gradient + 0.01 * theta
        theta = theta - rate * velocity
        if step + 1 in targets:
            vector, weight = targets[step + 1]
            loss = loss + weight * (theta - vector).square().sum() / (given.start - vector).square().sum()
    return loss


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("truncate", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("mode", ["adjoint", "unrolled"])
def test_truncation_holds_the_gradients_of_earlier_steps_fixed(mode: str, truncate: int, soft: bool) -> None:
    given = problem(soft=soft, **FULL | MOMENTUM)
    given.options |= on_the_way(given)
    rate = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    images, labels = given.images.clone().requires_grad_(), given.labels.clone().requires_grad_(soft)
    loss = truncated_reference(given, truncate, images, labels, rate)
    expected = torch.autograd.grad(loss, [images, rate, *([labels] if soft else [])])
    found = given.solve(mode=mode, truncate=truncate)
    assert relative_error(found.loss, loss.detach()) < 1e-12
    assert relative_error(found.images, expected[0]) < 1e-10
    assert relative_error(found.inner_lr, expected[1]) < 1e-10
    assert not soft or relative_error(found.labels, expected[2]) < 1e-10
    whole = given.solve()
    assert (relative_error(found.images, whole.images) < 1e-8) == (truncate >= STEPS)


@pytest.mark.parametrize("mode", ["adjoint", "unrolled", "frozen"])
def test_images_of_earlier_steps_alone_get_no_gradient(mode: str) -> None:
    given = problem(**FULL)  # the last two batches are [2] and [6, 4, 0]
    moved = given.solve(mode=mode, truncate=2).images.flatten(1).norm(dim=1) > 0
    assert moved.nonzero().flatten().tolist() == [0, 2, 4, 6]


def test_truncation_of_the_frozen_gradient_leaves_out_the_earlier_steps() -> None:
    given = problem(soft=True, **FULL | RATES)
    earlier = given.solve(mode="frozen", truncate=4)
    last = given.solve(mode="frozen", truncate=1)
    for name in ("images", "labels"):
        assert relative_error(getattr(last, name), getattr(earlier, name)) > 0.1
    torch.testing.assert_close(last.inner_lr, earlier.inner_lr, rtol=1e-12, atol=0)  # all steps are of this
    assert_equal(given.solve(mode="frozen", truncate=5), given.solve(mode="frozen"), 1e-14)


@pytest.mark.parametrize("mode", ["adjoint", "frozen"])
def test_truncation_with_sparse_storage(mode: str) -> None:
    given = problem(**FULL | MOMENTUM)
    assert_equal(given.solve(mode=mode, truncate=3, store_every=2), given.solve(mode=mode, truncate=3), 1e-14)


def test_an_engine_may_run_the_network() -> None:
    given = problem(soft=True, **FULL | MOMENTUM)
    expected = given.solve()
    given.network = Engine(given.network, Plan(micro_batch=2))
    assert_equal(given.solve(), expected, 1e-12)


def test_results_have_the_type_of_the_start() -> None:
    given = problem(soft=True, **FULL)
    given.network.float()
    given.start, given.target = given.start.float(), given.target.float()
    found = given.solve()
    assert {getattr(found, name).dtype for name in ("loss", "images", "labels", "inner_lr", "start")} == {torch.float32}


def test_neither_the_network_nor_what_was_given_changes() -> None:
    given = problem("convnet-d1-w4-bn", **FULL)
    before = {key: value.clone() for key, value in given.network.state_dict().items()}
    copies = given.start.clone(), given.images.clone()
    for mode in ("adjoint", "unrolled", "frozen"):
        given.solve(mode=mode)
    assert all(torch.equal(before[key], value) for key, value in given.network.state_dict().items())
    assert torch.equal(given.start, copies[0])
    assert torch.equal(given.images, copies[1])
    assert not given.images.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "at least 1"),
        ({"truncate": 0}, "truncate 0 must be at least 1"),
        ({"mode": "adjiont"}, "did you mean adjoint"),
        ({"batches": [torch.tensor([0])]}, "1 batches do not fit 5 steps"),
        ({"inner_lr": torch.ones(3)}, "does not fit 5 steps"),
        ({"between": [(5, torch.zeros(1), 1.0)]}, "does not lie between"),
        ({"between": [(2, torch.zeros(1), 1.0)]}, "a target of shape"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CondenseError, match=message):
        problem().solve(**changes)


def test_a_target_at_the_start_is_refused() -> None:
    given = problem()
    given.target = given.start
    with pytest.raises(CondenseError, match="equals the start"):
        given.solve()


def test_a_vector_of_another_network_is_refused() -> None:
    given = problem()
    given.start = given.start[:-1]
    with pytest.raises(CondenseError, match="parameters, the start vector has the shape"):
        given.solve()
