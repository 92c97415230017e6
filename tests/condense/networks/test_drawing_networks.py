"""Networks that draw random numbers themselves (dropout, RReLU, stochastic depth): one seed, one result."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import condense
from condense.compute.costs import Workload
from condense.compute.derivatives import loss_gradient, mixed_product
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.compute.planning import choose_plan
from condense.evaluation import PROTOCOLS
from condense.labels import HardLabels, in_memory
from condense.networks import build_network, network_name
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import global_generators, global_states, network_draws
from condense.training.loop import Step, descend, train_network
from condense.training.prediction import predict
from condense.training.presentation import Labelled
from condense.training.rule import TrainingRule
from condense.unroll import trajectory_gradient

SHAPE, CLASSES, CPU = (1, 8, 8), 10, torch.device("cpu")


def layers(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *between, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, CLASSES))


class StochasticDepth(nn.Module):
    """A block that is left out now and then, by the generator of Python or numpy, as some implementations have it."""

    def __init__(self, numpy: bool) -> None:
        super().__init__()
        self.block, self.numpy = nn.Conv2d(4, 4, 3, padding=1), numpy

    def forward(self, maps: Tensor) -> Tensor:
        coin = np.random.rand() if self.numpy else random.random()
        return maps + self.block(maps) if coin < 0.5 else maps


class OfItsOwn(nn.Module):
    """Draws from a generator that no run can seed."""

    def __init__(self) -> None:
        super().__init__()
        self.source = np.random.default_rng(0)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * float(self.source.random())


DRAWING = {
    "dropout": lambda: layers(nn.ReLU(inplace=True), nn.Dropout(0.5)),
    "dropout2d": lambda: layers(nn.Dropout2d(0.5)),
    "rrelu": lambda: layers(nn.RReLU()),
    "python": lambda: layers(StochasticDepth(numpy=False)),
    "numpy": lambda: layers(StochasticDepth(numpy=True)),
}
each_drawing = pytest.mark.parametrize("kind", DRAWING)


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def source(digits) -> Labelled:
    indices = torch.arange(26)
    return in_memory(digits.train.images(indices), HardLabels(digits.train.labels[indices]), digits.info)


@pytest.fixture(autouse=True)
def global_generators_are_left_alone():
    before = global_states()
    yield
    assert global_states() == before


def module(*between: nn.Module) -> nn.Module:
    with global_generators(0):  # which constructors draw from
        return layers(*between)


def drawing(kind: str) -> nn.Module:
    with global_generators(0):
        return DRAWING[kind]()


def built(kind: str, seed: int = 0):
    return build_network(network_name(drawing(kind), SHAPE, CLASSES), SHAPE, CLASSES, seed)


def values(network: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def rule(**changes) -> TrainingRule:
    return TrainingRule(**{"lr": 0.1, "batch_size": 8, "epochs": 2} | changes)


@each_drawing
def test_what_draws_is_found_out(kind: str):
    assert built(kind).draws is True
    for calm in ("convnet-d2-w4", module(nn.PReLU())):
        assert build_network(network_name(calm, SHAPE, CLASSES), SHAPE, CLASSES, 0).draws is False


@each_drawing
def test_one_seed_gives_one_trained_network(kind: str, source):
    def trained(seed: int) -> Tensor:
        return values(train_network(built(kind), source, rule(), seed=seed, device=CPU))

    first = trained(0)
    with global_generators(99):  # the state of the global generators does not matter
        torch.rand(5)
        again = trained(0)
    assert torch.equal(first, again)
    order = rule(batch_size=26, epochs=12)  # whole batches: the order of images does not matter, only the draws do
    kept = [values(train_network(built(kind), source, order, seed=seed, device=CPU)) for seed in (0, 1)]
    assert not torch.allclose(kept[0], kept[1], atol=1e-4)


def test_a_module_of_the_user_is_trained_as_it_is(source):
    first, again = (
        values(train_network(copy.deepcopy(network), source, rule(), seed=0, device=CPU))
        for network in [module(nn.Dropout(0.5))] * 2
    )
    assert torch.equal(first, again)


def test_draws_differ_from_batch_to_batch_and_are_the_same_within_one(source):
    """A step may call the network twice, as GSAM does; the second call meets the draws of the first."""
    network = built("dropout").train()
    masks: list[list[Tensor]] = []

    def twice(step: Step) -> Tensor:
        seen: list[Tensor] = []
        (dropout,) = (part for part in step.engine.network.modules() if isinstance(part, nn.Dropout))
        hook = dropout.register_forward_hook(lambda _, inputs, output: seen.append(output.detach() == 0))
        step.loss()
        loss = descend(step)
        hook.remove()
        masks.append(seen)
        return loss

    train_network(network, source, rule(batch_size=26), seed=0, device=CPU, update=twice)
    assert len(masks) == 2
    for first, second in masks:
        assert torch.equal(first, second)
    assert not torch.equal(masks[0][0], masks[1][0])


@each_drawing
def test_evaluations_are_reproducible(kind: str, digits):
    made = condense.distill("random", digits, 1)
    demo = PROTOCOLS.find("demo")
    quick = demo.model_copy(update={"rule": demo.rule.model_copy(update={"epochs": 10})})
    net = drawing(kind)
    first, again, other = (
        condense.evaluate(made, digits, nets=[net], runs=2, protocol=quick, seed=seed).accuracies for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_network_that_draws_in_evaluation_mode_too_predicts_the_same_twice(source):
    class Always(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return F.dropout(maps, 0.5, training=True)

    network = build_network(network_name(module(Always()), SHAPE, CLASSES), SHAPE, CLASSES, 0)
    assert network.draws
    assert torch.equal(predict(network, source.base, CPU), predict(network, source.base, CPU))


def test_the_mixed_product_is_of_the_gradient_with_the_same_draws(source):
    """Against double backward of one forward with these draws."""
    network = built("dropout").double().train()
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    direction = {
        name: torch.cos(torch.arange(value.numel()).view_as(value).double()) for name, value in parameters.items()
    }
    images, labels = source.base.values.double(), source.labels.indices
    with network_draws(5):
        product = mixed_product(network, parameters, images, labels, direction)
        _, gradient = loss_gradient(network, parameters, images, labels)
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    leaf = images.clone().requires_grad_()
    with global_generators(5):
        loss = F.cross_entropy(functional_call(network, leaves, (leaf,)), labels)
    slopes = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), create_graph=True)))
    for name, slope in slopes.items():
        torch.testing.assert_close(gradient[name], slope.detach())
    inner = sum((slopes[name] * value).sum() for name, value in direction.items())
    torch.testing.assert_close(product.images, torch.autograd.grad(inner, leaf)[0])


@pytest.mark.parametrize("batches", [None, 3])
def test_trajectories_through_draws_have_their_exact_gradient(source, batches: int | None):
    network = built("dropout").double().train()
    start, target = (values(built("dropout", seed)).double() for seed in (1, 2))
    images, labels = source.base.values[:6].double(), source.labels.indices[:6]
    chosen = None if batches is None else [torch.arange(6)[step : step + 3] for step in range(4)]
    found = {
        mode: trajectory_gradient(
            network,
            start,
            target,
            images,
            labels,
            0.1,
            steps=4,
            batches=chosen,
            momentum=0.5,
            mode=mode,
            store_every=every,
        )
        for mode, every in (("adjoint", 1), ("unrolled", 1))
    }
    again = trajectory_gradient(
        network, start, target, images, labels, 0.1, steps=4, batches=chosen, momentum=0.5, store_every=2
    )
    for other in (found["unrolled"], again):
        torch.testing.assert_close(found["adjoint"].images, other.images, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found["adjoint"].loss, other.loss, rtol=1e-9, atol=1e-12)


def test_nothing_that_draws_is_compiled():
    name = network_name(drawing("dropout"), SHAPE, CLASSES)
    work = [Workload("training", name, SHAPE, CLASSES, batch=64, times=10**9)]
    plan = choose_plan([], None, once=work, device=CPU, threads=1)
    assert plan.compile == "off"
    with pytest.raises(
        CondenseError, match=r"draws random numbers while it is trained.*leave --compile on out"
    ) as caught:
        choose_plan([], None, once=work, device=CPU, threads=1, compile="on")
    assert "\n" not in str(caught.value)
    engine = Engine(built("dropout"), Plan(compile="on"))  # of an older file, say
    first, again = (engine.features(dict(engine.network.named_parameters()), torch.ones(2, *SHAPE)) for _ in range(2))
    assert torch.equal(first, again)


def test_draws_that_no_seed_decides_are_refused(digits):
    made = condense.distill("random", digits, 1)
    with pytest.raises(CondenseError, match="draws random numbers from a generator of its own") as caught:
        condense.evaluate(made, digits, nets=[module(OfItsOwn())], runs=1, protocol="demo")
    assert "\n" not in str(caught.value)


def test_global_generators_come_back_after_an_error():
    def draw_and_fail() -> None:
        with global_generators(3):
            random.random()
            np.random.rand()
            torch.rand(1)
            raise KeyError

    before = global_states()
    with pytest.raises(KeyError):
        draw_and_fail()
    assert global_states() == before
