"""The classifiers of torchvision, by their names there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import condense
from benchmarks.grid import load_grid
from condense.cli.main import main
from condense.evaluation import PROTOCOLS
from condense.networks import build_network, canonical_name
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import global_generators, global_states
from condense.runtime.seeds import derive_seed, generator

RGB = (3, 32, 32)
SMALL = "torchvision:shufflenet_v2_x0_5"
DEMO = PROTOCOLS.find("demo")
QUICK = DEMO.model_copy(update={"rule": DEMO.rule.model_copy(update={"epochs": 2})})


def images_of(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(count, *shape, generator=generator(0, "test images"))


def values(network: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


# Names


@pytest.mark.parametrize("name", [SMALL, "TorchVision:ShuffleNet_V2_x0_5", "torchvision:shufflenet-v2-x0-5"])
def test_capitals_and_underscores_do_not_matter(name: str):
    assert canonical_name(name, RGB) == canonical_name(name, RGB, default="resnet18-bn") == SMALL
    assert canonical_name("convnet", RGB, default=name) == "convnet-d3-w128-in"
    assert build_network(name, RGB, 10, 0).name == SMALL


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "torchvision:mobilenet_v3",
            r"classifier of torchvision 'mobilenet_v3' \(known: alexnet, .*did you mean",
        ),
        ("torchvision:", r"unknown classifier of torchvision '' \(known: alexnet"),
        ("torchvision:fasterrcnn_resnet50_fpn", "unknown classifier of torchvision 'fasterrcnn_resnet50_fpn'"),
        ("torchvision:resnet18-bn", "unknown classifier of torchvision 'resnet18_bn' .*did you mean .*resnet18"),
        ("torchvision-resnet18", "unknown network 'torchvision' .*did you mean torchvision:NAME?"),
        ("torchvision:alexnet", r"does not work for images of 3x32x32 and 10 classes \(RuntimeError: Given input size"),
        ("torchvision:inception_v3", r"does not work for images of 3x32x32 .* or give another one, or other images"),
        ("torchvision:maxvit_t", r"does not work for images of 3x32x32 .*not divisible by partition size"),
    ],
)
def test_wrong_names_and_sizes_are_refused_in_one_line(name: str, message: str):
    with pytest.raises(CondenseError, match=message) as caught:
        build_network(name, RGB, 10, 0)
    assert "\n" not in str(caught.value)


def test_transformers_of_one_image_size_need_square_images():
    with pytest.raises(CondenseError, match="vit_b_16: it takes square images, not 32x48; give another one"):
        build_network("torchvision:vit_b_16", (3, 32, 48), 10, 0)


# What is built


@pytest.mark.parametrize(
    ("name", "shape", "features"),
    [
        ("mobilenet_v3_small", (1, 8, 8), 1024),
        ("regnet_y_400mf", (2, 24, 40), 440),
        ("squeezenet1_1", RGB, 7),  # its outputs are averages of a convolution
        ("googlenet", (1, 28, 28), 1024),
        ("vit_b_32", (3, 64, 64), 768),
        ("swin_t", (1, 32, 32), 768),
    ],
)
def test_they_are_built_for_images_of_any_shape(name: str, shape: tuple[int, int, int], features: int):
    network = build_network(f"torchvision:{name}", shape, 7, seed=0)
    assert network.training
    assert network.foreign
    with global_generators(0):
        assert network(images_of(2, shape)).shape == (2, 7)  # GoogLeNet has no other outputs either
    with torch.no_grad():
        images, network = images_of(2, shape), network.eval()
        assert network.embed(images).shape == (2, features)
        assert torch.equal(network.classifier(network.embed(images)), network(images))


def test_initial_values_are_those_of_torchvision_under_the_seed(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    before = global_states()
    network = build_network(SMALL, RGB, 10, seed=3)
    assert global_states() == before
    assert not list(tmp_path.iterdir())  # nothing was downloaded
    with global_generators(derive_seed(3, "network")):
        expected = models.shufflenet_v2_x0_5(num_classes=10)
    assert torch.equal(values(network), values(expected))
    assert torch.equal(values(network), values(build_network(SMALL, RGB, 10, seed=3)))
    assert not torch.equal(values(network), values(build_network(SMALL, RGB, 10, seed=4)))


@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_convolution_takes_the_channels_of_the_images(channels: int):
    networks = [build_network("torchvision:resnet18", (count, 32, 32), 10, 0) for count in (3, channels)]
    usual, other = ([part for part in network.modules() if isinstance(part, nn.Conv2d)] for network in networks)
    for left, right in zip(usual[1:], other[1:], strict=True):
        assert repr(left) == repr(right)
    assert repr(other[0]) == repr(usual[0]).replace("Conv2d(3", f"Conv2d({channels}")
    assert 0.9 < other[0].weight.abs().max() * (channels * 49) ** 0.5 <= 1  # PyTorch's default values
    again = build_network("torchvision:resnet18", (channels, 32, 32), 10, 0)
    assert torch.equal(values(networks[1]), values(again))


# Their use


def test_sets_are_made_with_them_and_evaluated_on_them(tmp_path: Path):
    data = condense.load_data("digits")
    made = condense.distill("dm", data, 1, network=SMALL.upper(), iterations=1, real_batch=4, out=tmp_path / "set.h5")
    first, again = (condense.evaluate(made, data, nets=["mlp", SMALL], runs=1, protocol=QUICK) for _ in range(2))
    assert [result.network for result in first.results] == ["mlp", SMALL]
    assert first.results[1].accuracies == again.results[1].accuracies


def test_grids_and_the_command_line_know_them(tmp_path: Path, capsys):
    (tmp_path / "grid.yaml").write_text(
        "{data: [digits], ipc: [1], methods: [{name: random}], "
        f"columns: [{{protocol: demo, nets: [mlp, {SMALL}]}}], network_seeds: 1}}"
    )
    assert load_grid(tmp_path / "grid.yaml").columns[0].nets == ["mlp", SMALL]
    assert main(["networks"]) == 0
    assert "torchvision:NAME" in capsys.readouterr().out
    out = ["--data", "digits", "--ipc", "1", "--out", str(tmp_path / "set.h5")]
    assert main(["distill", "dm", *out, "--network", "torchvision:alexnett"]) == 2
    told = capsys.readouterr().err
    assert "did you mean alexnet" in told
    assert len(told.splitlines()) == 1
