"""Networks that are objects of the user's: ordinary modules, and functions that make them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import condense
from buffers import ExpertBuffer, record_experts
from condense.evaluation import PROTOCOLS
from condense.networks import build_network, network_name
from condense.networks.base import may_draw
from condense.runtime.errors import CondenseError
from condense.runtime.executors import Ray
from condense.runtime.global_draws import global_generators
from condense.runtime.seeds import derive_seed
from condense.sets.synthetic_set import SyntheticSet

SHAPE, CLASSES = (1, 8, 8), 10
DEMO = PROTOCOLS.find("demo")
QUICK = DEMO.model_copy(update={"rule": DEMO.rule.model_copy(update={"epochs": 5})})


class Plain(nn.Module):
    """What a user has: an ordinary module."""

    def __init__(self, image_shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES, width: int = 8) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(image_shape[0], width, 3, padding=1)
        self.activation = nn.PReLU()
        self.head = nn.Linear(width * 16, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.avg_pool2d(self.activation(self.convolution(images)), 2)
        return self.head(maps.flatten(1))


class Attention(nn.Module):
    """A transformer of one block, with a parameter that no layer resets."""

    def __init__(self, image_shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES) -> None:
        super().__init__()
        self.patches = nn.Conv2d(image_shape[0], 16, 4, 4)
        self.token = nn.Parameter(torch.full((1, 1, 16), 0.5))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        self.head = nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.block(torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1))[:, 0])


class Averaged(nn.Module):
    """Its outputs are averages of the outputs of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images[:, 0]).mean(1)


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def small(digits) -> SyntheticSet:
    return condense.distill("random", digits, 2)


def images_of(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


def built(network, seed: int = 0):
    return build_network(network_name(network, SHAPE, CLASSES), SHAPE, CLASSES, seed)


def values(network: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


# Names


def test_a_name_says_the_class_and_what_it_computes():
    name = network_name(Plain(), SHAPE, CLASSES)
    assert name.startswith("plain.")
    assert len(name) == len("plain.") + 12
    assert network_name(Plain(), SHAPE, CLASSES) == name
    assert network_name(name, SHAPE, CLASSES) == name
    others = [Plain(width=4), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), Plain]
    assert len({name, *(network_name(other, SHAPE, CLASSES) for other in others)}) == 4


def test_a_name_depends_on_the_source(tmp_path: Path, monkeypatch):
    names = set()
    for index, function in enumerate(("relu", "tanh")):
        (tmp_path / f"mine{index}.py").write_text(
            "import torch\nclass Mine(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.head = torch.nn.Linear(64, 10)\n    def forward(self, images):\n"
            f"        return self.head(torch.{function}(images.flatten(1)))\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        names.add(network_name(__import__(f"mine{index}").Mine(), SHAPE, CLASSES))
    assert len(names) == 2


def typed(function: str, slope: float = 1.0) -> nn.Module:
    """A network whose class is in no file, as in a notebook."""
    room: dict = {"torch": torch, "nn": nn}
    exec(
        "class Typed(nn.Module):\n"
        "    def __init__(self, slope):\n        super().__init__()\n        self.slope = slope\n"
        "        self.head = nn.Linear(64, 10)\n"
        f"    def forward(self, images):\n        return self.head(torch.{function}(self.slope * images.flatten(1)))\n",
        room,
    )
    return room["Typed"](slope)


def test_a_name_depends_on_code_without_a_file_and_on_plain_numbers() -> None:
    names = [network_name(typed(*how), SHAPE, CLASSES) for how in (("relu",), ("tanh",), ("relu", 2.0), ("relu",))]
    assert len(set(names)) == 3
    assert names[0] == names[3]


def test_a_name_depends_on_buffers_that_are_kept() -> None:
    class Shifted(nn.Module):
        def __init__(self, shift: float) -> None:
            super().__init__()
            self.register_buffer("shift", torch.tensor(shift))
            self.head = nn.Linear(64, 10)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images.flatten(1) - self.shift)

    assert network_name(Shifted(0.0), SHAPE, CLASSES) != network_name(Shifted(1.0), SHAPE, CLASSES)


def test_a_name_of_another_program_is_refused_in_one_line():
    code = (
        "from condense.networks import canonical_name\nfrom condense.runtime.errors import CondenseError\n"
        "try:\n    canonical_name('plain.0123456789ab', (1, 8, 8))\nexcept CondenseError as error:\n    print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'plain.0123456789ab' is an object of the Python program that used it" in told
    assert len(told.splitlines()) == 1


# What is made of them


def test_features_are_what_the_last_linear_layer_sees():
    module = Plain().eval()
    network = built(module).eval()
    images = images_of(3)
    seen = []
    network.get_submodule("classifier").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits = network(images)
    assert torch.equal(network.embed(images), seen[0])
    assert network.embed(images).shape == (3, network.classifier.in_features) == (3, 128)
    module.load_state_dict(
        {
            name.removeprefix("features.").replace("classifier.", "head."): value
            for name, value in network.state_dict().items()
        }
    )
    assert torch.equal(module(images), logits)


def test_without_a_linear_layer_at_the_end_the_features_are_the_outputs():
    network = built(Averaged()).eval()
    images = images_of(3)
    assert torch.equal(network.embed(images), network(images))
    assert network.classifier.in_features == CLASSES


def test_one_linear_layer_alone_is_a_network():
    network = built(lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)))
    assert network.embed(images_of(2)).shape == (2, 64)


def test_copies_of_a_module_have_fresh_values_and_leave_it_alone():
    module = Plain()
    before = values(module).clone()
    first, again, other = (built(module, seed) for seed in (0, 0, 1))
    assert torch.equal(values(first), values(again))
    assert not torch.equal(values(first), values(other))
    assert torch.equal(values(module), before)
    with torch.no_grad():
        module.head.weight.add_(1)
    assert torch.equal(values(built(module)), values(first))  # its own values do not matter
    bound = module.head.in_features**-0.5
    assert first.classifier.weight.abs().max() <= bound


@pytest.mark.parametrize("make", [Plain, Attention, lambda shape, classes: Attention(shape, classes)])
def test_what_a_function_makes_has_the_values_that_it_gives(make):
    state = torch.random.get_rng_state()
    network = built(make, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    with global_generators(derive_seed(3, "network")):
        expected = make(SHAPE, CLASSES)
    assert torch.equal(values(network), values(expected))
    assert torch.equal(values(network), values(built(make, seed=3)))
    assert not torch.equal(values(network), values(built(make, seed=4)))


def test_tied_parameters_stay_tied():
    def tied(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        first, second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        second.weight = first.weight
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(64, classes))

    network = built(tied)
    assert sum(value.numel() for value in network.parameters()) == 64 * 64 + 64 * CLASSES + CLASSES
    assert built(tied(SHAPE, CLASSES)).embed(images_of(2)).shape == (2, 64)


# Their use


@pytest.mark.parametrize("net", [Plain(), Plain, Attention, Averaged()], ids=lambda net: type(net).__name__)
def test_sets_are_evaluated_on_them(digits, small, net):
    first, again = (condense.evaluate(small, digits, nets=[net, "mlp"], runs=1, protocol=QUICK) for _ in range(2))
    assert [result.network for result in first.results] == [network_name(net, SHAPE, CLASSES), "mlp"]
    assert first.results[0].accuracies == again.results[0].accuracies
    by_name = condense.evaluate(small, digits, nets=[first.results[0].network], runs=1, protocol=QUICK)
    assert by_name.accuracies == first.results[0].accuracies


@pytest.mark.parametrize("method", ["dm", "dc", "ncfm"])
@pytest.mark.parametrize("net", [Plain(), Attention], ids=["module", "class"])
def test_sets_are_made_with_them(digits, method: str, net, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    options = {"network": net, "iterations": 2, "real_batch": 4}
    options |= {"networks": 1, "network_epochs": 1, "frequencies": 8} if method == "ncfm" else {}
    paths = [tmp_path / name / "set.h5" for name in ("one", "two")]
    for path in paths:
        condense.distill(method, digits, 1, out=path, **options)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    settings = SyntheticSet.load(paths[0]).provenance["configuration"]["settings"]
    assert settings["network"] == network_name(net, SHAPE, CLASSES)


def test_experts_of_them_are_recorded_and_matched(digits, tmp_path: Path):
    few = condense.data.RealData(digits.info, digits.train.subset(torch.arange(60)), digits.test)
    record_experts(few, Plain(), experts=1, epochs=2, out=tmp_path / "experts")
    buffer = ExpertBuffer.open(tmp_path / "experts")
    assert buffer.network == network_name(Plain(), SHAPE, CLASSES)
    made = condense.distill("mtt", few, 1, buffer=buffer, iterations=1, inner_steps=2, max_start=1, span=1)
    assert torch.isfinite(made.images).all()
    with pytest.raises(CondenseError, match="a network object is in this process only"):
        record_experts(few, Plain(), experts=1, epochs=1, out=tmp_path / "others", executor=Ray())


# Refusals


class TwoOutputs(Plain):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(images), images


class Unseeded(Plain):
    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__(image_shape, classes)
        self.head.bias.data.fill_(torch.rand(1, generator=_NEVER_SEEDED).item())


_ONE = Plain()
_NEVER_SEEDED = torch.Generator().manual_seed(0)


class Broken(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(images)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            Attention(),
            r"no fresh networks can be made of this Attention: Attention has the parameter token and no reset",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 7)),
            r"it gives shape \[2, 7\] for 2 images; give one whose logits have the shape \[2, 10\]",
        ),
        (TwoOutputs, "it gives tuple for 2 images"),
        (Unseeded, "its initial values do not follow torch's seed"),
        (Broken, r"does not work for images of 1x8x8 and 10 classes \(RuntimeError: mat1 and mat2"),
        (lambda shape, classes: 3, "gives int when it is called, not an nn.Module"),
        (lambda shape, classes: _ONE, "gives the same object every time; let it make a new one, or give the object"),
        (lambda shape: nn.Linear(1, 1), r"cannot be made for images \[1, 8, 8\] and 10 classes: TypeError"),
        (3, "a network is a name, an nn.Module, or a function .* not int"),
        (nn.Sequential(nn.Flatten(), nn.AvgPool1d(6), nn.ReLU()), "does not require grad"),
    ],
)
def test_what_cannot_be_a_network_is_refused_in_one_line(digits, small, net, message: str):
    with pytest.raises(CondenseError, match=message) as caught:
        condense.evaluate(small, digits, nets=[net], runs=1, protocol=QUICK)
    assert "\n" not in str(caught.value)


def test_layers_that_change_their_buffers_in_training_do_not_pass_for_drawing_ones(digits, small):
    """A spectral norm goes on with its power iteration in every forward."""

    def spectral(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        layers = nn.utils.parametrizations.spectral_norm(nn.Linear(64, 16)), nn.BatchNorm1d(16), nn.ReLU()
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(16, classes))

    assert built(spectral).draws is False
    first, again = (condense.evaluate(small, digits, nets=[spectral], runs=1, protocol=QUICK) for _ in range(2))
    assert first.accuracies == again.accuracies


def test_a_network_without_second_derivatives_is_for_features_only(digits):
    """torch has no forward derivative of a hard sigmoid's backward."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Hardsigmoid(), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(
        CondenseError, match=r"cannot be matched by its gradients: .*; give another network, or a method"
    ):
        condense.distill("dc", digits, 1, network=net, iterations=1)
    assert len(condense.distill("dm", digits, 1, network=net, iterations=1, real_batch=4)) == 10


def test_layers_that_may_draw_are_known_by_their_kind():
    calm = [nn.Conv2d(1, 1, 1), nn.ReLU(), nn.PReLU(), nn.BatchNorm2d(1), nn.Sequential(nn.Flatten()), nn.AvgPool2d(2)]
    assert not any(may_draw(layer) for layer in calm)
    assert not may_draw(build_network("resnetap10", (3, 32, 32), 10, 0))
    wild = [nn.Dropout(), nn.RReLU(), nn.MultiheadAttention(4, 2), nn.FractionalMaxPool2d(2, 2), Plain()]
    assert all(may_draw(layer) for layer in wild)
