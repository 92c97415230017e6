"""Readers against hooks on the plain module, and against what torch's BatchNorm keeps of a batch."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap
from torchvision.models.vgg import cfgs, make_layers

from condense.compute.derivatives import read_network
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.networks import build_network, network_name
from condense.networks.readers import (
    BATCH_NORM,
    batch_norm_moments,
    combined,
    image_moments,
    inputs_of,
    layer_names,
    outputs_of,
    running_statistics,
)
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import global_generators, global_states
from condense.runtime.seeds import generator

RGB = (3, 32, 32)


class Own(nn.Module):
    """A user's: a layer that never runs, one that runs twice, BatchNorm of vectors, dropout, and work in place."""

    def __init__(self, image_shape: tuple[int, int, int] = RGB, classes: int = 10) -> None:
        super().__init__()
        self.unused = nn.BatchNorm2d(3)
        self.first = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 4, 3, stride=2)
        self.pool = nn.AdaptiveMaxPool2d(2, return_indices=True)
        self.flat = nn.BatchNorm1d(16)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.norm(self.first(images)))
        maps, _ = self.pool(self.relu(self.second(maps)))
        logits: Tensor = self.head(self.dropout(self.flat(maps.flatten(1))))
        return logits


def vgg(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """torchvision's VGG with BatchNorm, without its 120 million parameters for larger images."""
    return nn.Sequential(make_layers(cfgs["A"], batch_norm=True), nn.Flatten(), nn.Linear(512, classes))


OBJECTS = {"own": Own, "vgg": vgg}
QUICK = ["convnet-w8-bn", "resnet20-bn", "torchvision:mobilenet_v3_small", "own"]
NAMES = [*QUICK, "resnet18-bn", "vgg"]


def network_of(name: str) -> nn.Module:
    word = network_name(OBJECTS.get(name, name), RGB, 10)
    network = build_network(word, RGB, 10, seed=0).double()
    for index, norm in enumerate(part for part in network.modules() if isinstance(part, BATCH_NORM)):
        for value in (norm.weight.data, norm.running_var):
            value.copy_(torch.rand(value.shape, generator=generator(index, "values")) + 0.5)
    return network.eval()


def images_of(count: int, shape: tuple[int, int, int] = RGB) -> Tensor:
    return torch.randn(count, *shape, generator=generator(0, "test images"), dtype=torch.float64)


def hooked(network: nn.Module, names: tuple[str, ...], images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the layers, by hooks on the plain module."""
    inputs, outputs = {}, {}

    def keep(layer: nn.Module, seen: tuple[Tensor], output: Tensor) -> None:
        inputs[layer], outputs[layer] = seen[0], output.clone()  # what follows may add to it in place

    layers = [network.get_submodule(name) for name in names]
    for layer in layers:
        layer.register_forward_hook(keep)
    with global_generators(0):
        network(images)
    return [inputs[layer] for layer in layers], [outputs[layer] for layer in layers]


def parameters_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in network.named_parameters()}


# Activations


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kinds", [nn.Conv2d, BATCH_NORM])
def test_inputs_and_outputs_are_those_that_hooks_see(name: str, kinds: type[nn.Module]):
    network, images = network_of(name), images_of(3)
    names = layer_names(network, kinds, RGB)
    assert len(names) >= 2
    with torch.no_grad():
        expected = hooked(network_of(name), names, images)
        for reader, wanted in zip((inputs_of(names), outputs_of(names)), expected, strict=True):
            for value, other in zip(reader(network, images), wanted, strict=True):
                torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


@pytest.mark.parametrize("name", NAMES)
def test_what_the_classifier_sees_are_the_features(name: str):
    network, images = network_of(name), images_of(2)
    with torch.no_grad():
        (features,) = inputs_of(["classifier"])(network, images)
        assert torch.equal(features, network.embed(images))


def test_layers_that_run_are_listed_in_the_order_of_modules():
    network = Own().train()
    network.norm.eval()
    assert layer_names(network, BATCH_NORM, RGB) == ("norm", "flat")
    assert layer_names(network, (nn.Conv2d, nn.Linear), RGB) == ("first", "second", "head")
    assert [part.training for part in (network, network.norm, network.flat)] == [True, False, True]
    assert layer_names(build_network("convnet-in", RGB, 10, 0), BATCH_NORM, RGB) == ()


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (outputs_of(["relu"]), "layer 'relu' runs 2 times in a network; give layers that run once"),
        (inputs_of(["unused"]), "layer 'unused' runs 0 times"),
        (inputs_of(["secnd"]), "Own has no layer 'secnd'; did you mean second?"),
        (outputs_of(["pool"]), "layer 'pool' has tuple for 2 images; give layers with one row for each image"),
    ],
)
def test_layers_that_cannot_be_read_are_refused_in_one_line(reader, message: str):
    with pytest.raises(CondenseError) as caught:
        reader(Own(), images_of(2).float())
    assert str(caught.value).startswith(message)


def test_rows_must_be_images():
    folded = nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Flatten(0, 1), nn.Conv2d(1, 2, 3), nn.Unflatten(0, (-1, 3)))
    with pytest.raises(CondenseError, match=r"layer '2' has a tensor \[6, 1, 32, 32\] for 2 images"):
        inputs_of(["2"])(folded, images_of(2).float())
    with pytest.raises(CondenseError, match=r"layer '1' \(ReLU\) keeps no statistics; give a BatchNorm that does"):
        running_statistics(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), ["0", "1"])


# Moments


@pytest.mark.parametrize("name", NAMES)
def test_moments_are_the_statistics_that_torch_keeps_of_a_batch(name: str):
    """In training mode with momentum 1 a BatchNorm keeps the mean and the unbiased variance of its batch."""
    network, images = network_of(name).train(), images_of(4)
    names = layer_names(network, BATCH_NORM, RGB)
    before, state = global_states(), {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        rows = batch_norm_moments(names)(network, images)
        assert global_states() == before
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        seen = inputs_of(names)(network, images)
    for row, maps in zip(rows, seen, strict=True):
        assert row.shape == (4, 2, maps.shape[1])
        kept = torch.zeros(maps.shape[1]).double(), torch.ones(maps.shape[1]).double()
        F.batch_norm(maps, *kept, training=True, momentum=1.0)
        count = maps.numel() // maps.shape[1]
        mean, variance = combined(row)
        torch.testing.assert_close(mean, kept[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(variance, kept[1] * (count - 1) / count, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_moments_of_micro_batches_combine_to_those_of_the_batch(name: str):
    network, images = network_of(name), images_of(7)
    read = batch_norm_moments(layer_names(network, BATCH_NORM, RGB))
    engine = Engine(network, Plan(micro_batch=3))
    with torch.no_grad():
        parts = engine.read(parameters_of(network), images, read)
        for rows, whole, maps in zip(parts, read(network, images), inputs_of(read.names)(network, images), strict=True):
            plain = maps.transpose(0, 1).flatten(1)
            moments = [combined(rows), combined(whole), (plain.mean(1), plain.var(1, correction=0))]
            for one, other in itertools.pairwise(moments):
                torch.testing.assert_close(tuple(one), tuple(other), rtol=1e-12, atol=1e-12)


def test_running_statistics_are_those_of_the_layers():
    network = network_of("own")
    names = layer_names(network, BATCH_NORM, RGB)
    for name, (mean, variance) in zip(names, running_statistics(network, names), strict=True):
        assert mean is network.get_submodule(name).running_mean
        assert variance is network.get_submodule(name).running_var


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_moments_in_low_precision_lose_nothing_where_means_are_large(offset: float):
    maps = torch.randn(8, 5, 6, 6, generator=generator(0, "maps")) + offset
    for values in (maps, maps.bfloat16()):
        plain = values.double().transpose(0, 1).flatten(1)
        mean, variance = combined(image_moments(values))
        assert mean.dtype == variance.dtype == torch.float32
        torch.testing.assert_close(mean.double(), plain.mean(1), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(variance.double(), plain.var(1, correction=0), rtol=1e-5, atol=1e-5)


# Derivatives


def distance(network: nn.Module, rows: tuple[Tensor, ...], names: tuple[str, ...]) -> Tensor:
    """How far the moments of a batch are from the running statistics, as recovery has it."""
    pairs = zip(map(combined, rows), running_statistics(network, names), strict=True)
    return torch.stack([(a.mean - b.mean).norm() + (a.variance - b.variance).norm() for a, b in pairs]).sum()


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_in_images_are_those_through_hooks(name: str, training: bool):
    images, names = images_of(4), layer_names(network_of(name), BATCH_NORM, RGB)
    read = batch_norm_moments(names)
    plain = network_of(name).train(training)
    leaf = images.clone().requires_grad_()
    moments = []
    for maps in hooked(plain, names, leaf)[0]:
        flat = maps.transpose(0, 1).flatten(1)
        moments.append(torch.stack([flat.mean(1), flat.var(1, correction=0)])[None])
    (expected,) = torch.autograd.grad(distance(network_of(name), tuple(moments), names), leaf)

    network = network_of(name).train(training)
    parameters = parameters_of(network)
    by_function = grad(lambda images: distance(network, read(network, images), names))(images)
    through_engine = images.clone().requires_grad_()
    engine = Engine(network, Plan(micro_batch=3))
    distance(network, engine.read(parameters, through_engine, read), names).backward()
    for gradient in (by_function, through_engine.grad):
        assert (gradient - expected).norm() / expected.norm() < 1e-9


def test_readers_work_within_transforms_of_other_kinds():
    network, images = network_of("convnet-w8-bn"), images_of(3)
    read = batch_norm_moments(layer_names(network, BATCH_NORM, RGB))

    def first(images: Tensor) -> Tensor:
        return read(network, images)[0][:, 0]

    with torch.no_grad():
        one = vmap(lambda image: first(image[None])[0])(images)
        torch.testing.assert_close(one, first(images), rtol=1e-12, atol=1e-12)
        jacobian = jacrev(first)(images)
    assert jacobian.shape == (3, 8, *images.shape)
    assert torch.equal(jacobian[0, :, 1], torch.zeros(8, *RGB).double())  # a row is of its own image only


def test_compiled_engines_read_what_others_do():
    shape = (1, 8, 8)
    network = build_network("convnet-d1-w4-bn", shape, 3, seed=0).eval()
    images, parameters = images_of(5, shape).float(), parameters_of(network)
    names = layer_names(network, BATCH_NORM, shape)
    engine = Engine(network, Plan(micro_batch=5, compile="on"))
    gradients = []
    for read in (engine.read, lambda *arguments: read_network(network, *arguments)):
        leaf = images.clone().requires_grad_()
        rows = read(parameters, leaf, batch_norm_moments(names))
        gradients.append(torch.autograd.grad(distance(network, rows, names), leaf)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_readers_of_the_same_layers_are_the_same_function():
    """So the engine, which compiles each function once, needs no one reader to be kept."""
    first, again, other = batch_norm_moments(["a", "b"]), batch_norm_moments(("a", "b")), inputs_of(["a", "b"])
    assert len({first, again}) == 1
    assert len({first, other, outputs_of(["a", "b"]), batch_norm_moments(["b", "a"])}) == 4


def test_moments_are_of_float32_where_a_plan_computes_in_bfloat16():
    network, images = network_of("convnet-w8-bn").float(), images_of(4).float()
    read = batch_norm_moments(layer_names(network, BATCH_NORM, RGB))
    with torch.no_grad():
        rounded = Engine(network, Plan(precision="bfloat16", micro_batch=3)).read(parameters_of(network), images, read)
        for row, exact in zip(rounded, read(network, images), strict=True):
            assert row.dtype == torch.float32
            assert 0 < (row - exact).norm() / exact.norm() < 0.02
