"""The engine against plain functions and the plain algorithms of the baseline."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.measure import baseline
from buffers.steps import image_gradient_penalty
from condense.augmentation.dsa import Augmentation, augment, draw_per_class
from condense.compute.derivatives import Parameters, loss_gradient, mixed_product
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.matching import class_means, match_gradients, match_means
from condense.networks import Network, build_network
from condense.runtime.seeds import generator

SHAPE, CLASSES, COUNT = (3, 8, 8), 3, 11


def problem(name: str = "convnet-d2-w8-in") -> tuple[Network, Parameters, Tensor, Tensor, Parameters]:
    network = build_network(name, SHAPE, CLASSES, seed=0).double()
    parameters = {key: value.detach() for key, value in network.named_parameters()}
    images = torch.randn(COUNT, *SHAPE, generator=generator(0, "images"), dtype=torch.float64)
    direction = {
        key: torch.randn(value.shape, generator=generator(0, key), dtype=torch.float64)
        for key, value in parameters.items()
    }
    return network, parameters, images, torch.arange(COUNT) % CLASSES, direction


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def flat(parameters: Parameters) -> Tensor:
    return torch.cat([value.flatten() for value in parameters.values()])


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 11, 64])
@pytest.mark.parametrize("name", ["convnet-d2-w8-in", "convnet-d1-w8-bn"])
def test_micro_batches_change_nothing_but_rounding(name: str, micro_batch: int) -> None:
    network, parameters, images, labels, direction = problem(name)
    engine = Engine(network, Plan(micro_batch=micro_batch))
    if "bn" not in name:  # by itself `embed` of a training BatchNorm network would move its statistics
        assert relative_error(engine.features(parameters, images), network.embed(images)) < 1e-12
    loss, gradient = engine.gradient(parameters, images, labels)
    expected = loss_gradient(network, parameters, images, labels)
    assert relative_error(loss, expected[0]) < 1e-12
    assert relative_error(flat(gradient), flat(expected[1])) < 1e-12
    found = engine.mixed_product(parameters, images, labels, direction)
    product = mixed_product(network, parameters, images, labels, direction)
    assert relative_error(flat(found.parameters), flat(product.parameters)) < 1e-12
    assert relative_error(found.images, product.images) < 1e-12


@pytest.mark.parametrize(
    ("name", "count", "micro_batch", "compile"),
    [
        ("convnet-d2-w8-in", COUNT, 4, "off"),
        ("convnet-d2-w8-in", COUNT, 64, "off"),
        ("convnet-d1-w8-bn", COUNT, 4, "off"),
        ("convnet-d1-w8-bn", COUNT, 64, "off"),
        ("convnet-d1-w4-in", 8, 4, "on"),  # in two equal parts: every further shape is compiled for itself
        ("convnet-d1-w4-bn", 8, 4, "on"),
    ],
)
def test_the_gradient_of_a_mean_over_images_that_takes_derivatives(
    name: str, count: int, micro_batch: int, compile: str
) -> None:
    """The penalty on image gradients, beside its graph of the second order."""
    network, parameters, images, _, _ = problem(name)
    images = images[:count]
    engine = Engine(network, Plan(micro_batch=micro_batch, compile=compile))
    penalty, gradient = engine.mean_gradient(image_gradient_penalty, parameters, images)
    leaf, leaves = images.clone().requires_grad_(), list(network.parameters())
    (jacobian,) = torch.autograd.grad(network(leaf).sum(), leaf, create_graph=True)
    expected = (jacobian.square().sum(1).sqrt() - 1).square().mean()
    slopes = torch.autograd.grad(expected, leaves, allow_unused=True, materialize_grads=True)
    assert relative_error(penalty, expected.detach()) < 1e-12
    assert relative_error(flat(gradient), torch.cat([slope.flatten() for slope in slopes])) < 1e-10


def test_soft_labels_are_divided_with_their_images() -> None:
    network, parameters, images, _, direction = problem()
    labels = torch.randn(COUNT, CLASSES, generator=generator(0, "labels"), dtype=torch.float64).softmax(1)
    found = Engine(network, Plan(micro_batch=4)).mixed_product(parameters, images, labels, direction)
    expected = mixed_product(network, parameters, images, labels, direction)
    assert found.labels is not None
    assert expected.labels is not None
    assert relative_error(found.labels, expected.labels) < 1e-12


def test_features_are_differentiable_in_the_images() -> None:
    network, parameters, images, _, _ = problem()
    leaf = images.clone().requires_grad_()
    found = torch.autograd.grad(Engine(network, Plan(micro_batch=4)).features(parameters, leaf).square().sum(), leaf)
    expected = torch.autograd.grad(network.embed(leaf).square().sum(), leaf)
    assert relative_error(found[0], expected[0]) < 1e-12


def test_bfloat16_is_near_float32() -> None:
    """One rounding to bfloat16 is off by up to 2^-9 = 0.2 %; layers, forward and back, add up to some per cent."""
    network, parameters, images, labels, direction = problem("convnet-d2-w32-in")
    network, images = network.float(), images.float()
    parameters, direction = ({k: v.float() for k, v in values.items()} for values in (parameters, direction))
    exact = Engine(network, Plan())
    rounded = Engine(network, Plan(precision="bfloat16"))
    assert rounded.features(parameters, images).dtype == torch.float32
    assert 0 < relative_error(rounded.features(parameters, images), exact.features(parameters, images)) < 0.02
    gradients = [flat(engine.gradient(parameters, images, labels)[1]) for engine in (rounded, exact)]
    assert 0 < relative_error(*gradients) < 0.1
    products = [engine.mixed_product(parameters, images, labels, direction).images for engine in (rounded, exact)]
    assert 0 < relative_error(*products) < 0.2  # second derivatives lose more: sums of terms of either sign


def assert_products_do_not_depend_on_length(
    engine: Engine, parameters: Parameters, images: Tensor, labels: Tensor, direction: Parameters
) -> None:
    """Tangents of norms have an error that does not shrink with the direction: 8 times such a product in bfloat16."""
    factor = 2.0**-17
    short = {name: factor * value for name, value in direction.items()}
    expected, found = (engine.mixed_product(parameters, images, labels, v) for v in (direction, short))
    assert torch.equal(found.images, factor * expected.images)
    assert torch.equal(flat(found.parameters), factor * flat(expected.parameters))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_do_not_depend_on_the_length_of_the_direction(precision: str) -> None:
    network, parameters, images, labels, direction = problem("convnet-d1-w4")
    network, images = network.float(), images.float()
    parameters, direction = ({k: v.float() for k, v in values.items()} for values in (parameters, direction))
    engine = Engine(network, Plan(precision=precision))
    assert_products_do_not_depend_on_length(engine, parameters, images, labels, direction)


def classes(images: Tensor, labels: Tensor) -> list[Tensor]:
    return [images[labels == label] for label in range(CLASSES)]


def test_a_dm_step_equals_the_plain_algorithm() -> None:
    network, parameters, real, labels, _ = problem()
    synthetic, synthetic_labels = real[:6].flip(0).clone().requires_grad_(), labels[:6].flip(0)
    strategy = Augmentation()
    draws = draw_per_class(strategy, SHAPE, CLASSES, generator(0, "draws"))
    loss, gradients = baseline.dm_step(
        network, classes(real, labels), classes(synthetic, synthetic_labels), strategy, draws
    )
    engine = Engine(network, Plan(micro_batch=4))
    means = [
        class_means(engine.features(parameters, augment(strategy, images, draws.expand(targets))), targets, CLASSES)
        for images, targets in ((real, labels), (synthetic, synthetic_labels))
    ]
    found = match_means(means[0].detach(), means[1])
    assert abs(found.item() / loss - 1) < 1e-12
    (gradient,) = torch.autograd.grad(found, synthetic)
    for ours, theirs in zip(classes(gradient, synthetic_labels), gradients, strict=True):
        assert relative_error(ours, theirs) < 1e-10


def test_a_gradient_matching_step_equals_the_plain_algorithm() -> None:
    network, parameters, real, labels, _ = problem()
    synthetic, synthetic_labels = real[:6].flip(0).clone(), labels[:6].flip(0)
    strategy = Augmentation()
    draws = draw_per_class(strategy, SHAPE, CLASSES, generator(0, "draws"))
    loss, gradients = baseline.gradient_matching_step(
        network, classes(real, labels), classes(synthetic, synthetic_labels), strategy, draws
    )
    engine = Engine(network, Plan(micro_batch=4))
    total = 0.0
    for label in range(CLASSES):
        shared = draws.expand(torch.tensor([label]))
        batch = augment(strategy, real[labels == label], shared)
        _, target = engine.gradient(parameters, batch, torch.full((len(batch),), label))
        leaf = synthetic[synthetic_labels == label].requires_grad_()
        seen = augment(strategy, leaf, shared)
        targets = torch.full((len(seen),), label)
        _, found = engine.gradient(parameters, seen.detach(), targets)
        leaves = {name: value.requires_grad_() for name, value in found.items()}
        distance = match_gradients(target, leaves)
        direction = dict(zip(leaves, torch.autograd.grad(distance, list(leaves.values()), materialize_grads=True)))
        product = engine.mixed_product(parameters, seen, targets, direction)
        (gradient,) = torch.autograd.grad(seen, leaf, product.images)
        assert relative_error(gradient, gradients[label]) < 1e-9
        total += distance.item()
    assert abs(total / loss - 1) < 1e-12


def test_compiled_products_take_parameters_that_are_parts_of_one_vector() -> None:
    """As trajectories have them: torch fails to compile a tangent for a view that does not begin its memory.

    What was compiled serves parameters that are tensors for themselves, and directions of any length.
    """
    network, parameters, images, labels, direction = problem("convnet-d1-w4")
    network, images, labels = network.float(), images.float()[:4], labels[:4]
    plain, fast = (Engine(network, Plan(compile=on)) for on in ("off", "on"))
    sizes = [value.numel() for value in parameters.values()]

    def parts(values: dict[str, Tensor]) -> dict[str, Tensor]:
        vector = flat({name: value.float() for name, value in values.items()})
        return {name: part.view(values[name].shape) for name, part in zip(values, vector.split(sizes))}

    other = build_network("convnet-d1-w4", SHAPE, CLASSES, seed=1)
    alone = {name: value.detach() for name, value in other.named_parameters()}
    slopes = plain.gradient(alone, images, labels)[1]
    for values, tangent in ((parts(parameters), parts(direction)), (alone, slopes)):
        found, expected = (engine.mixed_product(values, images, labels, tangent) for engine in (fast, plain))
        assert relative_error(found.images, expected.images) < 1e-5
        assert relative_error(flat(found.parameters), flat(expected.parameters)) < 1e-5
    assert_products_do_not_depend_on_length(fast, alone, images, labels, slopes)


def test_compiled_gradients_agree_and_serve_networks_of_other_values() -> None:
    network, _, images, labels, _ = problem("convnet-d1-w4")
    network, images = network.float(), images.float()[:4]
    plain, fast = Engine(network, Plan()), Engine(network, Plan(compile="on"))
    for seed in range(2):
        other = build_network("convnet-d1-w4", SHAPE, CLASSES, seed=seed)
        parameters = {name: value.detach() for name, value in other.named_parameters()}
        expected = plain.gradient(parameters, images, labels[:4])
        loss, gradient = fast.gradient(parameters, images, labels[:4])
        torch.testing.assert_close(loss, expected[0], rtol=1e-5, atol=1e-6)
        assert relative_error(flat(gradient), flat(expected[1])) < 1e-5
