"""Forward over reverse against double backward, in float64."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.compute.derivatives import loss_gradient, mixed_product, network_loss
from condense.networks import Network, build_network
from condense.runtime.seeds import generator

SHAPE = (3, 8, 8)
NETWORKS = [
    "convnet-d1-w4",
    "convnet-d2-w4-in",
    "convnet-d2-w4-bn",
    "convnet-d1-w4-ln",
    "convnet-d1-w4-gn-swish",
    "convnet-d1-w4-nonorm-sigmoid-maxpool",
    "mlp",
]


def draws(*indices: int | str) -> torch.Generator:
    return generator(0, "test unroll", *indices)


def problem(name: str, *, soft: bool) -> tuple[Network, dict[str, Tensor], Tensor, Tensor, dict[str, Tensor]]:
    network = build_network(name, SHAPE, 3, seed=0).double().train()
    parameters = {key: value.detach() for key, value in network.named_parameters()}
    images = torch.randn(5, *SHAPE, generator=draws("images"), dtype=torch.float64)
    hard = torch.tensor([0, 1, 2, 0, 1])
    labels = torch.randn(5, 3, generator=draws("labels"), dtype=torch.float64).softmax(1) if soft else hard
    direction = {
        key: torch.randn(value.shape, generator=draws(key), dtype=torch.float64) for key, value in parameters.items()
    }
    return network, parameters, images, labels, direction


def double_backward(network, parameters, images, labels, direction, transform):
    """The definition: differentiate <g, v> once more, with the graph of g kept."""
    parameters = {key: value.clone().requires_grad_() for key, value in parameters.items()}
    leaves = [images.clone().requires_grad_()]
    if labels.is_floating_point():
        leaves.append(labels.clone().requires_grad_())
    buffers = {key: value.clone() for key, value in network.named_buffers()}
    logits = functional_call(network, {**parameters, **buffers}, (transform(leaves[0]),))
    if labels.is_floating_point():
        loss = -(leaves[1] * logits.log_softmax(1)).sum(1).mean()
    else:
        loss = F.nll_loss(logits.log_softmax(1), labels)
    gradient = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    inner = sum((g * direction[key]).sum() for g, key in zip(gradient, parameters, strict=True))
    wanted = [*parameters.values(), *leaves]
    second = torch.autograd.grad(inner, wanted, allow_unused=True)
    second = [torch.zeros_like(leaf) if value is None else value for leaf, value in zip(wanted, second, strict=True)]
    count = len(parameters)
    return second[:count], second[count:]


def relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    found, expected = (torch.cat([value.flatten() for value in values]) for values in (found, expected))
    return ((found - expected).norm() / expected.norm()).item()


def check(name: str, soft: bool, transform: Callable[[Tensor], Tensor]) -> None:
    network, parameters, images, labels, direction = problem(name, soft=soft)
    leaf = images.clone().requires_grad_()
    seen = transform(leaf)
    found = mixed_product(network, parameters, seen, labels, direction)
    hessian, rest = double_backward(network, parameters, images, labels, direction, transform)
    assert relative_error(list(found.parameters.values()), hessian) < 1e-9
    (pulled,) = torch.autograd.grad(seen, leaf, found.images)  # the augmentation only needs its first derivative
    assert relative_error([pulled], rest[:1]) < 1e-9
    if soft:
        assert relative_error([found.labels], rest[1:]) < 1e-9
    else:
        assert found.labels is None
    assert not found.images.requires_grad


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("name", NETWORKS)
def test_mixed_products_equal_double_backward(name: str, soft: bool) -> None:
    check(name, soft, lambda images: images)


@pytest.mark.parametrize("operation", Augmentation().operations)
def test_mixed_products_reach_through_the_augmentation(operation: str) -> None:
    strategy = Augmentation(operations=(operation,))
    check("convnet-d2-w4", False, lambda x: augment(strategy, x, draw_per_image(strategy, SHAPE, 5, draws(operation))))


def test_buffers_stay_as_they_were() -> None:
    network, parameters, images, labels, direction = problem("convnet-d1-w4-bn", soft=False)
    before = {key: value.clone() for key, value in network.named_buffers()}
    mixed_product(network, parameters, images, labels, direction)
    assert all(torch.equal(before[key], value) for key, value in network.named_buffers())


def test_the_product_is_linear_in_the_direction() -> None:
    network, parameters, images, labels, direction = problem("convnet-d1-w4", soft=False)
    double = {key: 2 * value for key, value in direction.items()}
    once = mixed_product(network, parameters, images, labels, direction)
    twice = mixed_product(network, parameters, images, labels, double)
    torch.testing.assert_close(twice.images, 2 * once.images)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_the_product_for_images_alone_is_the_same(soft: bool) -> None:
    arguments = problem("convnet-d2-w4-in", soft=soft)
    expected, found = mixed_product(*arguments), mixed_product(*arguments, images_only=True)
    torch.testing.assert_close(found.images, expected.images, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found.labels, expected.labels, rtol=1e-12, atol=1e-15)
    assert found.parameters == {}


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_the_loss_gradient_is_that_of_autograd(soft: bool) -> None:
    network, parameters, images, labels, _ = problem("convnet-d2-w4-in", soft=soft)
    loss, gradient = loss_gradient(network, parameters, images, labels)
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    logits = functional_call(network, leaves, (images,))
    expected = F.cross_entropy(logits, labels)
    torch.testing.assert_close(loss, expected.detach())
    found = torch.autograd.grad(expected, list(leaves.values()))
    torch.testing.assert_close(list(gradient.values()), list(found))


def test_a_float32_network_can_be_applied_in_float64() -> None:
    network = build_network("convnet-d1-w4-bn", SHAPE, 3, seed=0)
    parameters = {key: value.detach().double() for key, value in network.named_parameters()}
    images = torch.randn(4, *SHAPE, generator=draws("images"), dtype=torch.float64)
    assert network_loss(network, parameters, images, torch.tensor([0, 1, 2, 0])).dtype == torch.float64


def test_a_process_that_takes_its_first_mixed_product_is_not_warned_about_torch_itself():
    code = (
        "import torch; from condense.compute.derivatives import mixed_product\n"
        "from condense.networks import build_network\n"
        "net = build_network('mlp', (1, 4, 4), 2, seed=0)\n"
        "values = dict(net.named_parameters())\n"
        "mixed_product(net, values, torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), values)"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
