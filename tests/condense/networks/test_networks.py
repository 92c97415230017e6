from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from scipy.stats import kstest
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from condense.compute.compilation import compiled
from condense.networks import build_network, canonical_name
from condense.networks.alexnet import AlexNet
from condense.networks.build import initialize
from condense.networks.convnet import ConvNet
from condense.networks.layers import make_norm
from condense.networks.lenet import LeNet
from condense.networks.names import parse_name
from condense.networks.vgg import VGG11
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.seeds import generator

NAMES = ["convnet", "convnet-bn", "mlp", "lenet", "alexnet", "alexnet-bn", "vgg11", "vgg11-bn", "resnet18"]
NAMES += ["resnet10", "resnet10-bn", "resnet18ap", "resnet10idc", "resnetap10", "vgg13-bn", "vgg19"]
NAMES += ["conv", "conv-bn", "conv-nonorm-softplus"]
NAMES += ["resnet20-bn", "resnet56", "resnet10-bn-stem7"]
SMALLEST = ("conv", "mlp", "alexnet", "resnet56")  # families that leave more than one pixel of 8x8
TOO_SMALL = {(name, (8, 8)) for name in NAMES if not name.startswith(SMALLEST) and "bn" not in name}

RGB, DIGITS = (3, 32, 32), (1, 28, 28)
SHAPES = [(1, 8, 8), DIGITS, (3, 28, 28), RGB, (1, 24, 40), (3, 64, 64)]


def images_of(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(count, *shape, generator=generator(0, "test images"))


def equal_parameters(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first.state_dict().values(), second.state_dict().values()))


# Sizes


@pytest.mark.parametrize(
    ("name", "shape", "classes", "features", "parameters"),
    [
        ("convnet", RGB, 10, 2048, 320_010),
        ("convnet", DIGITS, 10, 2048, 317_706),
        ("convnet", RGB, 100, 2048, 504_420),
        ("convnet", (3, 64, 64), 200, 2048, 857_160),
        ("convnet-d5", (3, 128, 128), 10, 2048, 615_690),
        ("convnet-d2", (3, 24, 40), 10, 128 * 6 * 10, 228_490),
        ("convnet-nonorm", RGB, 10, 2048, 320_010 - 3 * 256),
        ("convnet-nopool", DIGITS, 10, 128 * 32 * 32, 317_706 + 10 * 128 * (32 * 32 - 4 * 4)),
        # of FRePo and RCIG: the features as in the papers
        ("conv-nonorm", RGB, 10, 8192, 1_560_842),
        ("conv-nonorm", DIGITS, 10, 8192, 1_558_538),
        ("conv-bn", RGB, 10, 8192, 1_560_842 + 2 * (128 + 256)),
        ("mlp", DIGITS, 10, 128, 784 * 128 + 128 + 128 * 128 + 128 + 1290),
        ("lenet", RGB, 10, 84, 62_006),
        ("lenet", DIGITS, 10, 84, 61_706),
        ("alexnet", RGB, 10, 192 * 4 * 4, 1_872_202),
        ("alexnet", DIGITS, 10, 192 * 4 * 4, 1_865_802),
        ("alexnet-bn", RGB, 10, 192 * 4 * 4, 1_872_202 + 2 * (128 + 192 + 256 + 192 + 192)),
        ("vgg11", RGB, 10, 512, 9_231_114),
        ("vgg11-bn", DIGITS, 10, 512, 9_229_962),
        ("resnet18", RGB, 10, 512, 11_173_962),
        ("resnet18-bn", DIGITS, 10, 512, 11_172_810),
        ("resnet10-bn", RGB, 10, 512, 4_903_242),
        # as counted in the released code of DC
        ("vgg13", RGB, 10, 512, 9_416_010),
        ("vgg16", RGB, 10, 512, 14_728_266),
        ("vgg16-bn", DIGITS, 10, 512, 14_727_114),
        ("vgg19", RGB, 10, 512, 20_040_522),
        ("resnet18ap", RGB, 10, 512 * 4 * 4, 11_250_762),
        ("resnet18ap-bn", DIGITS, 10, 512 * 3 * 3, 11_213_770),
        # as published for ResNet-20 (0.27 M) and ResNet-56 (0.85 M): weights, norms and the classifier, no shortcut
        ("resnet20-bn", RGB, 10, 64, 269_722),
        ("resnet20", RGB, 10, 64, 269_722),
        ("resnet56-bn", RGB, 10, 64, 853_018),
        ("resnet20-bn", DIGITS, 100, 64, 269_722 - 2 * 9 * 16 + 90 * 65),
        ("resnet18-bn-stem7", (3, 64, 64), 1000, 512, 11_689_512),  # as torchvision's
        # and in that of IDC, whose CIFAR networks have half the filters; the stem of large images has 7x7 weights
        ("resnet10idc", RGB, 10, 256, 1_228_970),
        ("resnet10idc-bn-w64", DIGITS, 10, 512, 4_902_090),
        ("resnet10idc-w64", (3, 224, 224), 10, 512, 4_910_922),
        ("resnetap10-w32", RGB, 10, 256, 1_228_970),
        ("resnetap10", (3, 128, 128), 10, 512, 4_903_242),
        ("resnetap10", (3, 224, 224), 10, 512, 4_910_922),
    ],
)
def test_published_sizes(name: str, shape: tuple[int, int, int], classes: int, features: int, parameters: int) -> None:
    network = build_network(name, shape, classes, seed=0)
    assert network.classifier.in_features == features
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_layer_norm_has_weights_for_every_pixel() -> None:
    extra = sum(2 * 128 * (side * side - 1) for side in (32, 16, 8))
    network = build_network("convnet-ln", RGB, 10, seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 320_010 + extra


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_shape_works_or_says_what_fits(name: str, shape: tuple[int, int, int]) -> None:
    channels, *size = shape
    if (name, tuple(size)) in TOO_SMALL:
        needs = f"needs larger images than {channels}x8x8; these fit: convnet-d2-w128-in, conv-d2-w128-in, mlp, alexnet"
        with pytest.raises(CondenseError, match=needs):
            build_network(name, shape, 7, seed=0)
        return
    network = build_network(name, shape, 7, seed=0)
    assert network.name == canonical_name(name, shape)
    with torch.no_grad():
        features = network.embed(images_of(2, shape))
        logits = network(images_of(2, shape))
    assert features.shape == (2, network.classifier.in_features)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(logits, network.classifier(features))
    assert logits.std(0).min() > 1e-6, "the output must depend on the image"


@pytest.mark.parametrize("name", ["lenet", "resnet10"])
def test_networks_that_are_named_as_fitting_do_fit(name: str) -> None:
    with pytest.raises(CondenseError) as caught:
        build_network(name, (1, 8, 8), 10, seed=0)
    fitting = str(caught.value).rpartition("these fit: ")[2].split(", ")
    assert {"mlp", "resnet10-bn", "resnetap10-bn-w64"} < set(fitting)
    for other in fitting:
        assert build_network(other, (1, 8, 8), 10, seed=0).name == other


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 3, 3), (1, 1, 64), (2, 5, 7)])
def test_tiny_images_always_have_the_mlp(shape: tuple[int, int, int]) -> None:
    assert build_network("mlp", shape, 4, seed=0)(images_of(2, shape)).shape == (2, 4)
    with pytest.raises(CondenseError, match=r"these fit: .*\bmlp\b"):
        build_network("convnet-d8", shape, 4, seed=0)


def test_width_must_suit_group_norm() -> None:
    with pytest.raises(CondenseError, match="width 30 with gn must be a multiple of its 4 groups"):
        build_network("convnet-w30-gn", RGB, 10, seed=0)


def test_padding_is_unusual_for_28_pixel_digits_only() -> None:
    for family, usual, digits in ((ConvNet, 1, 3), (AlexNet, 2, 4), (VGG11, 1, 3), (LeNet, 0, 2)):
        for shape in (DIGITS, (3, 28, 28), (1, 32, 32), (1, 28, 32)):
            with torch.device("meta"):
                modules = family(shape, 10).modules()
            first = next(module for module in modules if isinstance(module, nn.Conv2d))
            assert first.padding == ((digits,) * 2 if shape == DIGITS else (usual,) * 2)


# What the words mean


def test_convnet_equals_its_definition() -> None:
    network = build_network("convnet-d2-w8-in-leaky-maxpool", (2, 8, 12), 5, seed=0)
    images = images_of(4, (2, 8, 12))
    first, second = network.features
    maps = images
    for block in (first, second):
        maps = F.conv2d(maps, block.convolution.weight, block.convolution.bias, padding=1)
        mean, variance = maps.mean((2, 3), keepdim=True), maps.var((2, 3), correction=0, keepdim=True)
        maps = (maps - mean) / (variance + 1e-5).sqrt()
        maps = torch.where(maps > 0, maps, 0.01 * maps)
        maps = maps.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))
    assert torch.allclose(network.embed(images), maps.flatten(1), atol=1e-5)
    expected = maps.flatten(1) @ network.classifier.weight.T + network.classifier.bias
    assert torch.allclose(network(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("sigmoid", lambda x: 1 / (1 + torch.exp(-x))),
        ("leaky", lambda x: torch.where(x > 0, x, 0.01 * x)),
        ("swish", lambda x: x / (1 + torch.exp(-x))),
    ],
)
def test_activations(word: str, expected: object) -> None:
    activation = build_network(f"convnet-{word}-w8", RGB, 10, seed=0).features[0].activation
    values = torch.linspace(-3, 3, 13)
    before = values.clone()
    torch.testing.assert_close(activation(values), expected(values))  # type: ignore[operator]
    assert torch.equal(values, before)


def test_poolings() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    expected = {"avgpool": [2.5, 4.5, 10.5, 12.5], "maxpool": [5.0, 7.0, 13.0, 15.0], "nopool": list(range(16))}
    for word, values in expected.items():
        pooling = build_network(f"convnet-{word}-w8", RGB, 10, seed=0).features[0].pooling
        assert pooling(maps).flatten().tolist() == values


@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_equals_torch(training: bool) -> None:
    norm = make_norm("in", 6).train(training)
    expected = nn.InstanceNorm2d(6, affine=True, track_running_stats=False).train(training)
    for module in (norm, expected):
        nn.init.uniform_(module.weight, generator=generator(0, "weight"))
        nn.init.uniform_(module.bias, generator=generator(0, "bias"))
    maps = images_of(4, (6, 5, 7)) * 3 + 1
    torch.testing.assert_close(norm(maps), expected(maps))


@pytest.mark.parametrize(("word", "dimensions"), [("ln", (1, 3, 4)), ("gn", (2, 3, 4))])
def test_layer_and_group_norm(word: str, dimensions: tuple[int, ...]) -> None:
    maps = images_of(2, (8, 5, 6)) * 3 + 1
    grouped = maps.view(2, 4, 2, 5, 6) if word == "gn" else maps.view(2, 8, 1, 5, 6)
    mean = grouped.mean(dimensions, keepdim=True)
    variance = grouped.var(dimensions, correction=0, keepdim=True)
    expected = ((grouped - mean) / (variance + 1e-5).sqrt()).view_as(maps)
    torch.testing.assert_close(make_norm(word, 8, (5, 6))(maps), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["in", "ln", "gn", "nonorm"])
def test_norms_other_than_batch_norm_see_one_image_at_a_time(norm: str) -> None:
    network = build_network(f"convnet-w8-{norm}", RGB, 10, seed=0)
    images = images_of(5, RGB)
    together = network(images)
    torch.testing.assert_close(together, torch.cat([network(image[None]) for image in images]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network.eval()(images), together)


def test_resnet_equals_its_definition() -> None:
    network = build_network("resnet10", (3, 16, 16), 10, seed=0)
    weights = [parameter for parameter in network.parameters() if parameter.dim() == 4]
    assert [tuple(weight.shape[:2]) for weight in weights[:4]] == [(64, 3), (64, 64), (64, 64), (128, 64)]

    def norm(maps: Tensor) -> Tensor:
        return F.instance_norm(maps)

    maps = F.relu(norm(F.conv2d(images_of(2, (3, 16, 16)), weights.pop(0), padding=1)))
    for stride in (1, 2, 2, 2):
        residual = F.relu(norm(F.conv2d(maps, weights.pop(0), stride=stride, padding=1)))
        residual = norm(F.conv2d(residual, weights.pop(0), padding=1))
        shortcut = norm(F.conv2d(maps, weights.pop(0), stride=stride)) if stride == 2 else maps
        maps = F.relu(residual + shortcut)
    torch.testing.assert_close(network.embed(images_of(2, (3, 16, 16))), maps.mean((2, 3)), atol=1e-4, rtol=1e-4)


def test_a_resnet_that_averages_equals_its_definition() -> None:
    """DC's and MTT's: strides become averages of 2x2 pixels, and the classifier sees all pixels of the last maps."""
    network = build_network("resnet18ap", (3, 16, 16), 10, seed=0)
    weights = [parameter for parameter in network.parameters() if parameter.dim() == 4]
    images = images_of(2, (3, 16, 16))
    maps = F.relu(F.instance_norm(F.conv2d(images, weights.pop(0), padding=1)))
    for halve in (False, False, True, False, True, False, True, False):
        residual = F.relu(F.instance_norm(F.conv2d(maps, weights.pop(0), padding=1)))
        residual = F.avg_pool2d(residual, 2) if halve else residual
        residual = F.instance_norm(F.conv2d(residual, weights.pop(0), padding=1))
        shortcut = F.instance_norm(F.avg_pool2d(F.conv2d(maps, weights.pop(0)), 2)) if halve else maps
        maps = F.relu(residual + shortcut)
    torch.testing.assert_close(network.embed(images), maps.flatten(1), atol=1e-4, rtol=1e-4)


def test_resnet_20_equals_its_definition() -> None:
    """He et al., section 4.2, with the tensors of a checkpoint in their order and shortcuts padded on both sides."""
    network = build_network("resnet20-bn", (3, 9, 12), 10, seed=0).eval()
    tensors = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    for index, value in enumerate(tensors.values()):
        if value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=generator(index, "values")) + 0.5)
    values = list(tensors.values())

    def convolve(maps: Tensor, stride: int) -> Tensor:
        maps = F.conv2d(maps, values.pop(0), stride=stride, padding=1)
        weight, bias, mean, variance = (values.pop(0) for _ in range(4))
        return F.batch_norm(maps, mean, variance, weight, bias)

    images = images_of(2, (3, 9, 12))
    maps = F.relu(convolve(images, 1))
    for filters in (16, 32, 64):
        for block in range(3):
            stride = 2 if filters > 16 and block == 0 else 1
            shortcut = maps
            if stride == 2:
                zeros = torch.zeros(2, filters // 4, *maps[0, 0, ::2, ::2].shape)
                shortcut = torch.cat([zeros, maps[:, :, ::2, ::2], zeros], 1)
            maps = F.relu(convolve(F.relu(convolve(maps, stride)), 1) + shortcut)
    with torch.no_grad():
        torch.testing.assert_close(network.embed(images), maps.mean((2, 3)), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(network(images), F.linear(maps.mean((2, 3)), *values), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_resnet_18_with_the_stem_of_imagenet_is_that_of_torchvision(training: bool) -> None:
    expected = torchvision.models.resnet18(num_classes=7).double().train(training)
    network = build_network("resnet18-bn-stem7", (3, 64, 96), 7, seed=0).double().train(training)
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)  # in the same order in both
    layers, others = ([part for part in net.modules() if isinstance(part, kinds)] for net in (network, expected))
    for mine, other in zip(layers, others, strict=True):
        other.load_state_dict(mine.state_dict())
    images = images_of(3, (3, 64, 96)).double()
    torch.testing.assert_close(network(images), expected(images), rtol=1e-12, atol=1e-12)
    for mine, other in zip(network.buffers(), expected.buffers()):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("resnet10idc", 64, [64, 64, 32, 16, 8]),
        ("resnet10idc", 128, [64, 64, 32, 16, 8]),
        ("resnet10idc", 160, [40, 40, 20, 10, 5]),
        ("resnetap10", 64, [64, 64, 32, 16, 8]),
        ("resnetap10", 128, [64, 64, 32, 16, 8]),
        ("resnetap10", 160, [40, 40, 20, 10, 5]),
    ],
)
def test_networks_of_idc_halve_larger_images_first(name: str, side: int, expected: list[int]) -> None:
    network = build_network(f"{name}-bn-w4", (3, side, side), 10, seed=0)
    blocks = [module for module in network.modules() if type(module).__name__ == "BasicBlock"]
    sides = []
    for block in blocks:
        block.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    blocks[-1].register_forward_hook(lambda _, inputs, output: sides.append(output.shape[-1]))
    network.eval()(images_of(1, (3, side, side)))
    assert sides == expected


def test_weights_of_networks_of_idc_are_normal_by_the_number_of_outputs() -> None:
    for name in ("resnet10idc-bn", "resnetap10-w32"):
        network = build_network(name, RGB, 10, seed=0)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                deviation = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
                assert module.bias is None
                values = module.weight.detach().flatten().numpy()
                assert kstest(values, "norm", args=(0, deviation)).pvalue > 1e-3
        bound = network.classifier.in_features**-0.5  # and the classifier is as usual
        assert kstest(network.classifier.weight.detach().flatten(), "uniform", args=(-bound, 2 * bound)).pvalue > 1e-3


# Initialisation


SEEDED = ["convnet", "convnet-w8-ln", "lenet", "mlp", "alexnet-bn", "resnet10", "resnet10-bn", "resnet20-bn"]


@pytest.mark.parametrize("name", SEEDED)
def test_initial_values_equal_those_of_torch_from_the_same_random_state(name: str) -> None:
    entry, words = parse_name(canonical_name(name, RGB))
    options = {option.name: option.value(words[option.name]) for option in entry.options if option.name in words}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = load_object(entry.target)(RGB, 10, **options)  # torch's own initialisation
    network = build_network(name, RGB, 10, seed=0)
    initialize(network, torch.Generator().manual_seed(5))
    assert list(network.state_dict()) == list(expected.state_dict())
    assert equal_parameters(network, expected)


def test_initial_distribution_is_torch_s_default() -> None:
    network = build_network("convnet-bn", RGB, 100, seed=0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            for values in (module.weight.detach(), module.bias.detach()):
                assert values.abs().max() <= bound * (1 + 1e-6)
                assert kstest(values.flatten().numpy(), "uniform", args=(-bound, 2 * bound)).pvalue > 1e-3
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones(128))
            assert torch.equal(module.running_var, torch.ones(128))
            assert torch.equal(module.bias, torch.zeros(128))
            assert torch.equal(module.running_mean, torch.zeros(128))
            assert int(module.num_batches_tracked) == 0


@pytest.mark.parametrize("name", ["convnet-w16", "mlp", "resnet10-bn", "resnet10idc"])
def test_seed_decides_every_parameter(name: str) -> None:
    first, again, other = (build_network(name, RGB, 10, seed) for seed in (0, 0, 1))
    assert equal_parameters(first, again)
    for (key, one), two in zip(first.named_parameters(), other.parameters()):
        is_norm = one.dim() == 1 and one.detach().unique().numel() == 1
        assert torch.equal(one, two) == is_norm, key
    assert all(tensor.device.type == "cpu" for tensor in first.state_dict().values())
    assert all(parameter.requires_grad for parameter in first.parameters())
    assert first.training


def test_parameters_do_not_depend_on_threads() -> None:
    threads = torch.get_num_threads()
    networks = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            networks.append(build_network("convnet", RGB, 100, seed=0))
    finally:
        torch.set_num_threads(threads)
    assert equal_parameters(networks[0], networks[1])
    assert equal_parameters(networks[0], networks[2])


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for name in ("convnet", "mlp", "lenet", "alexnet-bn", "vgg11", "resnet10-bn"):
        build_network(name, RGB, 10, seed=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_modules_without_a_known_default_are_refused() -> None:
    with pytest.raises(TypeError, match="no seeded initialisation is known for PReLU"):
        initialize(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), generator(0, "network"))


# Function transforms

DIFFERENTIATED = ["convnet", "convnet-bn", "convnet-swish-maxpool", "convnet-ln", "convnet-gn"]
DIFFERENTIATED += ["mlp", "lenet", "alexnet", "vgg11", "resnet10", "resnet10-bn", "resnetap10-w8", "resnet20-bn"]


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_forward_over_reverse_equals_double_backward(name: str) -> None:
    shape = (1, 17, 17) if name in ("vgg11", "lenet", "resnetap10-w8") else (1, 9, 9)
    network = build_network(name.replace("convnet", "convnet-w8"), shape, 3, seed=0).double()
    parameters = dict(network.named_parameters())
    buffers = dict(network.named_buffers())
    images = images_of(4, shape).double()
    labels = torch.tensor([0, 1, 2, 0])
    directions = {key: torch.cos(torch.arange(value.numel()).view_as(value)) for key, value in parameters.items()}

    def loss(parameters: dict[str, Tensor], images: Tensor) -> Tensor:
        state = parameters | {key: value.clone() for key, value in buffers.items()}
        return F.cross_entropy(functional_call(network, state, (images,)), labels)

    detached = {key: value.detach() for key, value in parameters.items()}
    directions = {key: value.double() for key, value in directions.items()}
    _, product = jvp(lambda parameters: grad(loss, argnums=1)(parameters, images), (detached,), (directions,))
    images.requires_grad_()
    gradients = torch.autograd.grad(loss(parameters, images), list(parameters.values()), create_graph=True)
    inner = sum((gradient * direction).sum() for gradient, direction in zip(gradients, directions.values()))
    (expected,) = torch.autograd.grad(inner, images)
    torch.testing.assert_close(product, expected, rtol=1e-8, atol=1e-10)


def test_compiled_instance_norm_is_that_of_torch() -> None:
    """Values, gradients and second derivatives, where the mean of a channel is large beside its deviation.

    In three types, which are compiled together.
    """
    errors = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.02}
    maps, tangent = (torch.randn(2, 4, 5, 6, generator=generator(0, name)) for name in ("maps", "tangent"))
    maps = 3 + maps
    values = [torch.rand(4, generator=generator(0, name)) for name in ("weight", "bias")]

    def derivatives(norm: nn.GroupNorm, maps: Tensor, tangent: Tensor) -> tuple[Tensor, ...]:
        slope = grad(lambda maps: norm(maps).pow(3).sum())
        return norm(maps), *jvp(slope, (maps,), (tangent,))

    def with_values(norm: nn.Module, dtype: torch.dtype) -> nn.GroupNorm:
        assert isinstance(norm, nn.GroupNorm)
        norm.to(dtype)
        for parameter, value in zip(norm.parameters(), values):
            parameter.data.copy_(value.to(dtype))
        return norm

    norms = [with_values(make_norm("in", 4), dtype) for dtype in errors]
    run = compiled(lambda *inputs: [derivatives(norm, *each) for norm, each in zip(norms, inputs)])
    found = run(*((maps.to(dtype), tangent.to(dtype)) for dtype in errors))
    for (dtype, error), results in zip(errors.items(), found, strict=True):
        rounded = [value.to(dtype).double() for value in (maps, tangent)]
        plain = with_values(nn.GroupNorm(4, 4), dtype).double()
        for got, wanted in zip(results, derivatives(plain, *rounded), strict=True):
            assert got.dtype == dtype
            assert (got.double() - wanted).norm() / wanted.norm() < error
