"""RCIG's updates against the gradient of the problem solved anew, its pool, its averages and its solver's rates."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import condense
from condense.data import RealData
from condense.data.budget import Budget
from condense.labels import HardLabels, RegressionLabels
from condense.linearized import Inner, Problem, Solution, adam
from condense.methods.interface import Job
from condense.networks import Network, build_network, network_name
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed
from condense.synthesizers.adam_rates import AdamRates, falls, fastest
from condense.synthesizers.implicit_gradients import ImplicitGradients, shortened

CPU = torch.device("cpu")
NETWORK = "conv-d2-w2-nonorm-softplus"
QUICK = {"network": NETWORK, "real_batch": 12, "networks": 2, "iterations": 10, "solver": "cg", "inner_steps": 60}


def made(data: RealData, ipc: int = 1, **settings) -> ImplicitGradients:
    values = ImplicitGradients.Settings(**QUICK | settings)
    return ImplicitGradients(Job(data.train, Budget(ipc=ipc), 0, CPU), values.for_length(values.iterations))


@pytest.fixture
def near_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for rates of Adam begins nearer to those that it finds."""
    monkeypatch.setattr("condense.synthesizers.implicit_gradients._FIRST_RATES", (3e-3, 0.5))


def jacobian(network: Network, images: Tensor) -> Tensor:
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    blocks = jacrev(lambda parameters: functional_call(network, parameters, (images,)))(parameters)
    blocks = {name: block * 0 if name == "classifier.weight" else block for name, block in blocks.items()}
    return torch.cat([block.flatten(2).flatten(0, 1) for block in blocks.values()], 1)


def naive_loss(
    network: Network, leaves: list[Tensor], real: Tensor, classes: Tensor, ridge: float, flips: bool
) -> Tensor:
    """The whole loss with the inner problem solved by one dense solve: kernel regression with J J^T + Phi Phi^T x I."""
    images, labels, tau = leaves
    margins = labels.sort(1).values
    margin = -torch.minimum(margins[:, -1] - margins[:, -2], torch.tensor(1 / 6).double()).mean()
    if flips:
        images, labels = torch.cat([images, images.flip(3)]), torch.cat([labels, labels])
    phi, rows = network.embed(images), jacobian(network, images)
    gram = phi @ phi.T + ridge * torch.eye(len(phi), dtype=phi.dtype)
    joint = torch.kron(gram, torch.eye(3, dtype=phi.dtype)) + rows @ rows.T
    solved = torch.linalg.solve(joint, labels.flatten())
    said = (jacobian(network, real) @ (rows.T @ solved)).view(-1, 3) + network.embed(real) @ phi.T @ solved.view(-1, 3)
    return F.cross_entropy(tau.exp() * said, classes) + margin


def adabelief(slope: Tensor, lr: float) -> Tensor:
    """Its first step."""
    return -lr * slope / (((slope - 0.1 * slope) ** 2 + 1e-13).sqrt() + 1e-16)


@pytest.mark.parametrize("flips", [False, True])
def test_an_update_goes_down_the_gradient_of_the_problem_solved_anew(
    data, flips: bool, monkeypatch: pytest.MonkeyPatch
):
    """Where the implicit part is not shortened."""
    monkeypatch.setattr("condense.synthesizers.implicit_gradients.shortened", lambda vector, most: vector)
    method = made(data, ipc=2, flips=flips)
    place = method.place_of(0)
    network = copy.deepcopy(method.pool.members[place].network).double()
    before = [
        method.images.detach().clone(),
        method.label_values.detach().clone(),
        method.log_temperature.detach().clone(),
    ]
    found = method.step(0)
    after = [method.images.detach(), method.label_values.detach(), method.log_temperature.detach()]
    leaves = [value.double().requires_grad_() for value in before]
    indices = method.real_indices(0)
    real, classes = data.train.images(indices).double(), data.train.labels[indices]
    loss = naive_loss(network, leaves, real, classes, 5e-4 * 6, flips)
    margin = 1 / 6  # of centred one-hot labels it is more
    assert found["loss"] == pytest.approx(loss.item() + margin, rel=1e-3)
    for one, other, slope, lr in zip(before, after, torch.autograd.grad(loss, leaves), (3e-3, 3e-3, 0.03)):
        expected = adabelief(slope, lr)
        large = slope.abs() > 1e-2 * slope.abs().max()  # rounding turns the smallest
        moved = (other - one).double()
        assert (moved - expected)[large].norm() < 2e-3 * expected[large].norm()


@pytest.mark.usefixtures("near_rates")
@pytest.mark.parametrize(("solver", "steps"), [("adam", 6), ("cg", 20)])
def test_the_implicit_part_is_at_most_as_long_as_the_direct_one(
    data, solver: str, steps: int, monkeypatch: pytest.MonkeyPatch
):
    lengths = []

    def watched(vector: Tensor, most: Tensor) -> Tensor:
        result = shortened(vector, most)
        lengths.append((result.norm().item(), most.item(), vector.norm().item()))
        return result

    monkeypatch.setattr("condense.synthesizers.implicit_gradients.shortened", watched)
    method = made(data, solver=solver, inner_steps=steps)
    for iteration in range(3):
        method.step(iteration)
    assert len(lengths) == 6  # images and labels, each update
    assert all(found == pytest.approx(min(most, whole), rel=1e-4) for found, most, whole in lengths)
    assert any(whole > 1.01 * most for _, most, whole in lengths)


def test_what_is_not_finite_is_left_out():
    assert not shortened(torch.tensor([float("nan"), 1.0]), torch.tensor(1.0)).any()
    assert not shortened(torch.zeros(2), torch.tensor(1.0)).any()
    assert shortened(torch.tensor([0.3, 0.4]), torch.tensor(1.0)).tolist() == pytest.approx([0.3, 0.4])


def test_hard_labels_stay(data):
    method = made(data, labels="hard")
    before, images = method.label_values.clone(), method.images.detach().clone()
    method.step(0)
    assert torch.equal(method.label_values, before)
    assert not torch.equal(method.images, images)
    short = QUICK | {"iterations": 1, "inner_steps": 2}
    kinds = [
        type(condense.distill("rcig", data, 1, **short, labels=labels).stored_labels) for labels in ("hard", "learned")
    ]
    assert kinds == [HardLabels, RegressionLabels]


@pytest.mark.parametrize("average", [0.5, None])
def test_the_set_has_the_average_over_the_run(data, average: float | None):
    method = made(data, image_average=average, inner_steps=4)
    values = [[method.images.detach().clone()], [method.label_values.detach().clone()]]
    for iteration in range(3):
        method.advance(iteration)
        for kept, value in zip(values, (method.images, method.label_values)):
            kept.append(value.detach().clone())
    for (first, second, third, last), found in zip(values, (method.stored(), method.learned()["labels"].values)):
        expected = last if average is None else 0.125 * first + 0.125 * second + 0.25 * third + 0.5 * last
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def parameters(method: ImplicitGradients) -> list[Tensor]:
    return [
        torch.cat([value.detach().flatten() for value in inner.network.state_dict().values()]).clone()
        for inner in method.pool.members
    ]


def test_the_network_is_trained_a_random_number_of_times_on_all_images_and_replaced(data):
    method = made(data, flips=True, most_updates=3, network_updates=5, network_lr=0.01, inner_steps=2)
    counts, ages, begun = set(), [0, 0], 2
    for iteration in range(24):
        place, before = method.place_of(iteration), copy.deepcopy(method.pool.members)
        method.step(iteration)
        assert torch.equal(parameters(method)[1 - place], _flat(before[1 - place].network))
        if method.pool.begun > begun:
            begun, ages[place] = begun + 1, 0
            fresh = build_network(NETWORK, (1, 8, 8), 3, derive_seed(0, "network", begun - 1))
            assert torch.equal(parameters(method)[place], _flat(fresh))
            assert method.ages[place] == 0
            continue
        done = method.ages[place] - ages[place]
        counts.add(done)
        ages[place] = method.ages[place]
        assert ages[place] < 5
        network, optimizer = before[place].network.train(), before[place].optimizer
        images, labels = (
            torch.cat([value, value.flip(3) if value.dim() == 4 else value])
            for value in (method.images.detach(), method.label_values.detach())
        )
        for _ in range(done):
            optimizer.zero_grad()
            (0.5 * ((network(images) - labels) ** 2).sum(1)).mean().backward()
            optimizer.step()
        torch.testing.assert_close(parameters(method)[place], _flat(network), rtol=1e-3, atol=1e-5)
    assert counts == {1, 2, 3}
    assert begun > 3


def _flat(network: Network) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.state_dict().values()])


def test_gradients_go_through_some_rows_only(data, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("condense.synthesizers.implicit_gradients.shortened", lambda vector, most: vector)
    method = made(data, ipc=4, flips=False, gradient_rows=5)
    before = method.images.detach().clone()
    method.step(0)
    moved = (method.images.detach() != before).flatten(1).any(1)
    assert moved.sum() == 5
    whole = made(data, ipc=4, flips=False)
    whole.step(0)
    torch.testing.assert_close(method.images.grad[moved], whole.images.grad[moved])
    torch.testing.assert_close(method.label_values.grad, whole.label_values.grad)


@pytest.mark.usefixtures("near_rates")
@pytest.mark.parametrize("settings", [{"solver": "adam"}, {"network": "conv-d2-w2-bn-softplus"}])
def test_a_run_goes_on_to_the_same_bits(data, settings: dict, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("condense.synthesizers.implicit_gradients._RATES_KEPT", 3)
    options = {"network_updates": 12, "most_updates": 6, "inner_steps": 3} | settings
    whole, first, second = (made(data, **options) for _ in range(3))
    expected = [whole.advance(iteration) for iteration in range(9)]
    for iteration in range(4):
        first.advance(iteration)
    second.load_state({name: value.clone() for name, value in first.state().items()})
    assert [second.advance(iteration) for iteration in range(4, 9)] == expected[4:]
    left, right = whole.state(), second.state()
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[name]) for name, value in left.items())
    assert torch.equal(whole.stored(), second.stored())


@pytest.mark.usefixtures("near_rates")
def test_rates_are_as_fast_as_values_fall(data, monkeypatch: pytest.MonkeyPatch):
    """On the problems of the first update; 0.84 of the first rate that is too fast is about its predecessor."""
    method, problems = made(data, solver="adam", inner_steps=10), []

    def noted(problem: Problem, start: Tensor, first: float, steps: int) -> float:
        problems.append((problem, start, steps, found := fastest(problem, start, first, steps)))
        return found

    monkeypatch.setattr("condense.synthesizers.implicit_gradients.fastest", noted)
    method.step(0)
    method.step(1)
    (inner, start, steps, first), (inverse, _, _, second) = problems
    assert (method.rates.inner, method.rates.inverse) == (first, second)
    for problem, rate in ((inner, first), (inverse, second)):
        assert not falls(adam(problem, start, rate / 0.84, steps)[1])
    wanted = -inverse(torch.zeros_like(start))[1]
    assert wanted.norm() > 3 * inner(start)[1].norm()  # of the loss of real images, which is much steeper

    def steep(tangent: Tensor) -> tuple[float, Tensor]:
        return float((tangent**2).sum()), 2 * tangent

    start = torch.tensor([1.0], dtype=torch.float64)
    found = fastest(steep, start, 0.01, 20) / 0.84
    assert not falls(adam(steep, start, found, 20)[1])
    assert falls(adam(steep, start, found / 1.2, 20)[1])
    assert found > 0.012
    assert falls([2.0, 1.0, 0.5])
    assert not falls([1.0, 1.0])


@pytest.mark.usefixtures("near_rates")
def test_a_run_follows_what_its_solver_did(data, monkeypatch: pytest.MonkeyPatch):
    """Each run of the inner problem counts, and after so many updates the rate follows them."""
    monkeypatch.setattr("condense.synthesizers.implicit_gradients._RATES_KEPT", 3)
    method, values = made(data, solver="adam", inner_steps=4), []

    def noted(problem: Problem, start: Tensor, lr: float, steps: int) -> tuple[Tensor, list[float]]:
        values.append(found := adam(problem, start, lr, steps))
        return found

    monkeypatch.setattr("condense.synthesizers.implicit_gradients.adam", noted)
    for iteration in range(4):
        method.step(iteration)
    expected = AdamRates(1.0, 1.0)
    for _, found in values[::2]:  # every second run is of the inverse Hessian
        expected.count(found)
    expected.adapt()
    method_rate = method.rates.inner
    fresh = made(data, solver="adam", inner_steps=4)
    fresh.step(0)
    assert method_rate == pytest.approx(fresh.rates.inner * expected.inner)
    assert expected.inner != 1.0


@pytest.mark.parametrize(("steps", "said"), [(2, True), (200, False)])
def test_conjugate_gradients_say_how_far_they_came(data, steps: int, said: bool):
    method = made(data, ipc=3, inner_steps=steps)
    method.step(0)
    remarks = [remark for remark in method.remarks(1) if "conjugate gradients" in remark]
    assert bool(remarks) is said
    assert (method.worst_residual > 1e-3) is said
    if said:
        assert f"after 2 steps conjugate gradients still left up to {method.worst_residual:.1%} of their" in remarks[0]
    other = made(data, ipc=3, inner_steps=steps)
    other.load_state({name: value.clone() for name, value in method.state().items()})
    assert other.worst_residual == method.worst_residual


def test_networks_that_do_not_end_in_a_linear_layer_are_refused(data):
    parts = [nn.Flatten(), nn.Linear(64, 3)]
    for more, refused in (([], False), ([nn.Softplus()], True)):
        settings = ImplicitGradients.Settings(network=network_name(nn.Sequential(*parts, *more), (1, 8, 8), 3))
        with (
            pytest.raises(CondenseError, match="is not one linear layer, which rcig replaces by a ridge classifier")
            if refused
            else nullcontext()
        ):
            ImplicitGradients.check(data.train, Budget(ipc=1), settings)


def test_the_inner_rate_follows_its_runs():
    rates = AdamRates(1.0, 5.0)
    for _ in range(71):
        rates.count([3.0, 2.0, 1.0])
    for _ in range(29):
        rates.count([1.0, 3.0, 2.0])
    rates.adapt()
    assert (rates.inner, rates.inverse) == (0.9, 5.0)
    for _ in range(70):
        rates.count([3.0, 2.0, 1.0])
    for _ in range(29):
        rates.count([3.0, 4.0, 2.0])  # neither
    rates.adapt()
    assert rates.inner == pytest.approx(0.9 * 1.05)
    rates.count([3.0, 4.0, 2.0])
    rates.adapt()
    assert rates.inner == pytest.approx(0.9 * 1.05)
    rates.count([1.0, 2.0])
    assert AdamRates.of_state(rates.state()) == rates


@pytest.mark.usefixtures("near_rates")
def test_solvers_are_asked_for_by_name(data, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(
        Inner, "minimum", lambda self, steps: asked.append(steps) or Solution(self.pull(0 * self.labels), 0.0)
    )
    monkeypatch.setattr(
        Inner, "inverse_product", lambda self, wanted, steps: asked.append(steps) or Solution(wanted, 0.0)
    )
    made(data, solver="adam", inner_steps=3).step(0)
    assert asked == []
    made(data, solver="cg", inner_steps=3).step(0)
    assert asked == [3, 3]


@pytest.mark.parametrize("solver", ["adam", "cg"])
def test_it_becomes_right_about_more_real_images(solver: str, regression_gain):
    digits = condense.load_data("digits")
    options = {
        "network": "conv-d1-w4-nonorm-softplus",
        "networks": 2,
        "real_batch": 64,
        "image_lr": 0.1,
        "most_updates": 5,
    }
    found = condense.distill("rcig", digits, 1, iterations=20, solver=solver, inner_steps=4, **options)
    right = found.metrics["accuracy"]
    assert right[-5:].mean() > right[:3].mean() + 0.08
    if solver == "cg":
        assert regression_gain(found, digits) > 0.05
