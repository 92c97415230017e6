"""Teachers of other code bases: whatever they call their tensors, they say the same of every image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, ResNet

import condense
from condense.data import RealData
from condense.data.preprocessing import Normalization
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import global_generators
from condense.runtime.seeds import generator
from condense.teachers import Teacher
from condense.teachers.importing import import_teacher
from condense.teachers.naming import renamed

HERE = torch.device("cpu")
SHARED = Path(__file__).parents[4] / "shared" / "data" / "cifar10-teachers"
CLASSES = tuple("abcdefg")  # seven
PLAIN = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose parameters and statistics are all different."""
    with global_generators(3):
        network = make()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean = torch.randn(module.num_features) / 5
                module.running_var = 0.5 + torch.rand(module.num_features)
                module.weight.data = 0.5 + torch.rand(module.num_features)
                module.bias.data = torch.randn(module.num_features) / 5
    return network.eval()


def stored(state: dict[str, Tensor], path: Path) -> Path:
    """In a file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def check_says_the_same(teacher: Teacher, network: nn.Module, side: int = 32) -> None:
    images = torch.rand(4, 3, side, side, generator=generator(0, "pixels"))
    with torch.no_grad():
        expected = network(PLAIN.apply(images))
        assert torch.equal(teacher.classifier(HERE)(images), expected)
    assert expected.std() > 0


# Names


TORCHVISION = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mobilenet_v2", "squeezenet1_1"]


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision_give_the_same_bits(tmp_path: Path, name: str) -> None:
    network = made(lambda: models.get_model(name, weights=None, num_classes=len(CLASSES)))
    path = stored(network.state_dict(), tmp_path / f"{name}.safetensors")
    shape = (3, 32, 32)
    teacher = import_teacher(path, f"torchvision:{name}", PLAIN, classes=CLASSES, image_shape=shape, out=tmp_path)
    check_says_the_same(teacher, network)
    assert teacher.path == tmp_path / f"torchvision-{name}-{name}.safetensors"
    assert Teacher.open(teacher.path).hash == teacher.hash


def test_the_names_in_torchvision_s_old_files_of_densenet(tmp_path: Path) -> None:
    network = made(lambda: models.densenet121(num_classes=len(CLASSES)))
    old = {
        name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2."): value
        for name, value in network.state_dict().items()
        if "num_batches_tracked" not in name
    }  # fmt: skip
    path = stored(old, tmp_path / "old.safetensors")
    teacher = import_teacher(path, "torchvision:densenet121", PLAIN, classes=CLASSES, image_shape=(3, 32, 32))
    check_says_the_same(teacher, network)


class CifarBlock(nn.Module):
    """A block of He et al.'s networks for CIFAR, whose shortcut has no parameters."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.stride, self.more = stride, (filters - channels) // 2

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        return F.relu(inner + F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more, self.more)))


class Cifar(nn.Module):
    """ResNet-20 as public code has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        for stage, (channels, filters, stride) in enumerate(widths, 1):
            blocks = [CifarBlock(channels, filters, stride), *(CifarBlock(filters, filters, 1) for _ in range(2))]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        return self.linear(F.adaptive_avg_pool2d(maps, 1).flatten(1))  # type: ignore[no-any-return]


def modified_resnet18() -> ResNet:
    """SRe2L's for small images: one 3x3 convolution before the blocks."""
    network = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=len(CLASSES))
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network


def small_convnet() -> nn.Module:
    """DC's ConvNet in two blocks of eight filters."""

    class ConvNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for channels in (3, 8):
                convolution = nn.Conv2d(channels, 8, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.AvgPool2d(2, 2)]
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Linear(8 * 8 * 8, len(CLASSES))

        def forward(self, images: Tensor) -> Tensor:
            return self.classifier(self.features(images).flatten(1))  # type: ignore[no-any-return]

    return ConvNet()


class Wrapping(nn.Module):
    """What many users' networks look like: layers in a field whose name wrappers have as well."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        size = 4 * (image_shape[1] - 2) * (image_shape[2] - 2)
        layers = nn.Conv2d(image_shape[0], 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(size, classes)
        self.model = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)  # type: ignore[no-any-return]


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "ResNet-20 for CIFAR": (Cifar, "resnet20-bn"),
    "torchvision's ResNet-18": (lambda: models.resnet18(num_classes=len(CLASSES)), "resnet18-bn-stem7"),
    "modified ResNet-18": (modified_resnet18, "resnet18-bn"),
    "DC's ConvNet": (small_convnet, "convnet-d2-w8-bn"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_other_names_for_our_networks(tmp_path: Path, name: str, suffix: str) -> None:
    make, net = OTHERS[name]
    network = made(make)
    path = stored(network.state_dict(), tmp_path / f"trained{suffix}")
    teacher = import_teacher(path, net, PLAIN, classes=CLASSES, image_shape=(3, 32, 32))
    check_says_the_same(teacher, network)
    manifest = teacher.manifest
    assert (manifest.origin, manifest.source, manifest.network) == ("imported", f"trained{suffix}", net)
    assert (manifest.held_out, manifest.test, manifest.data, manifest.seed) == (None, None, None, None)
    assert manifest.batch_norm == "running"


def test_names_differ_by_what_is_around_them(tmp_path: Path) -> None:
    """Of wrappers and checkpoints; shortcuts of projections have two names, classifiers three."""
    network = made(modified_resnet18)
    state = {
        name.replace("downsample", "shortcut").replace("fc", "linear"): value
        for name, value in network.state_dict().items()
        if "num_batches_tracked" not in name
    }
    wrapped = {f"module.model.{name}": value for name, value in state.items()}
    for content in (wrapped, {"state_dict": wrapped, "epoch": 7, "best": 0.9}, {"model": {"net": state}}):
        path = tmp_path / "checkpoint.pt"
        torch.save(content, path)
        check_says_the_same(
            import_teacher(path, "resnet18-bn", PLAIN, classes=CLASSES, image_shape=(3, 32, 32)), network
        )


def test_a_network_of_the_users_comes_in_by_its_own_names(tmp_path: Path) -> None:
    network = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, len(CLASSES))))
    own = {f"model.{name}": value for name, value in network.state_dict().items()}
    for state in (own, {f"module.{name}": value for name, value in own.items()}):
        path = stored(state, tmp_path / "own.safetensors")
        check_says_the_same(import_teacher(path, Wrapping, PLAIN, classes=CLASSES, image_shape=(3, 32, 32)), network)


def test_our_own_names_are_found_and_half_precision_becomes_single(tmp_path: Path) -> None:
    network = build_network("convnet-d2-w4-bn", (3, 32, 32), 7, seed=1)
    half = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    path = stored(half, tmp_path / "own.safetensors")
    teacher = import_teacher(path, network.name, PLAIN, classes=CLASSES, image_shape=(3, 32, 32))
    for name, value in teacher.state.items():
        assert value.dtype == network.state_dict()[name].dtype
        assert torch.equal(value, half[name].to(value.dtype))


def test_the_order_decides_where_names_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = made(small_convnet)
    odd = {
        f"layer_{number}.{name.rpartition('.')[2]}": value
        for number, (name, value) in enumerate(network.state_dict().items())
    }
    options = {"classes": CLASSES, "image_shape": (3, 32, 32)}
    check_says_the_same(import_teacher(stored(odd, tmp_path / "a.pt"), "convnet-d2-w8-bn", PLAIN, **options), network)
    assert "so they were taken in their order" in capsys.readouterr().err
    with pytest.raises(CondenseError, match="which convnet-d2-w8-bn has no place for"):
        import_teacher(stored(odd, tmp_path / "a.safetensors"), "convnet-d2-w8-bn", PLAIN, **options)
    swapped = dict(sorted(odd.items(), key=lambda item: item[0].rpartition(".")[2]))  # all biases come first
    with pytest.raises(CondenseError, match="has no place for"):
        import_teacher(stored(swapped, tmp_path / "b.pt"), "convnet-d2-w8-bn", PLAIN, **options)


def test_what_does_not_fit_is_said_in_one_sentence(tmp_path: Path) -> None:
    state = made(Cifar).state_dict()

    def refused(net: str = "resnet20-bn", classes: tuple[str, ...] = CLASSES, **changes: Tensor | None) -> str:
        changed = {name: changes.get(name, value) for name, value in (state | changes).items()}
        path = stored({name: value for name, value in changed.items() if value is not None}, tmp_path / "a.safetensors")
        with pytest.raises(CondenseError) as caught:
            import_teacher(path, net, PLAIN, classes=classes, image_shape=(3, 32, 32))
        return str(caught.value)

    projection = {"layer2.0.downsample.0.weight": torch.ones(32, 16, 1, 1)}
    assert "has layer2.0.downsample.0.weight, which resnet20-bn has no place for; give the --net" in refused(
        **projection
    )
    assert "lacks what resnet20-bn keeps in features.3.residual.0.weight; give the --net" in refused(
        **{"layer1.0.conv1.weight": None}
    )
    assert "has linear.bias of shape [7] where resnet20-bn has [2]; give the --net, the classes" in refused(
        classes=("a", "b")
    )
    assert "lacks what resnet56-bn keeps in features.6.residual.0.weight and 179 more" in refused("resnet56-bn")
    assert "has no place for" in refused("convnet-d2-w8-bn")
    assert "has no place for" in refused("resnet20-in")
    assert "diverged" in refused(**{"linear.bias": torch.full((7,), torch.nan)})


# Files


class Anything:
    pass


def test_files_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    options = {"classes": CLASSES, "image_shape": (3, 32, 32)}
    for content, message in (
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"epoch": 3}, "has no tensor as 'epoch'"),
        ({"state_dict": {"a": "text"}}, "has no tensor as 'a'"),
        ({"a": torch.ones(2, 2).to_sparse()}, "a sparse tensor"),
        ({"a": Anything()}, "reading it could run code"),
    ):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(CondenseError, match=message):
            import_teacher(tmp_path / "a.pt", "mlp", PLAIN, **options)
    for name in ("b.pt", "b.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(CondenseError, match="is damaged"):
            import_teacher(tmp_path / name, "mlp", PLAIN, **options)
        with pytest.raises(CondenseError, match="cannot read"):
            import_teacher(tmp_path / f"none-{name}", "mlp", PLAIN, **options)


# What a file does not say


@pytest.fixture
def small(data: RealData, tmp_path: Path) -> Path:
    """The state of a network for `data`."""
    return stored(build_network("convnet-d1-w4-bn", (1, 8, 8), 3, seed=1).state_dict(), tmp_path / "small.pt")


def test_with_data_the_accuracy_on_its_test_images_is_measured(small: Path, data: RealData) -> None:
    manifest = import_teacher(small, "convnet-d1-w4-bn", "mnist", data=data).manifest
    assert (manifest.mean, manifest.std) == ((0.1307,), (0.3081,))
    assert (manifest.classes, manifest.image_shape) == (data.classes, data.image_shape)
    assert (manifest.data, manifest.fingerprint) == ("noise", data.fingerprint)
    assert manifest.test is not None
    network = build_network("convnet-d1-w4-bn", (1, 8, 8), 3, seed=1).eval()
    images = (data.test.pixels(torch.arange(9)) / 255 - 0.1307) / 0.3081
    expected = (network(images).argmax(1) == data.test.labels).double().mean().item()
    assert manifest.test.accuracy == expected
    computed = import_teacher(small, "convnet-d1-w4-bn", "computed", data=data).manifest
    assert Normalization(computed.mean, computed.std) == data.preprocessing
    plain = import_teacher(small, "convnet-d1-w4-bn", "none", data=data).manifest
    assert (plain.mean, plain.std) == ((0.0,), (1.0,))


def test_what_is_not_stated_is_asked_for(small: Path, data: RealData, tmp_path: Path) -> None:
    net, shape, classes = "convnet-d1-w4-bn", (1, 8, 8), ("a", "b", "c")
    for message, normalization, options in (
        ("whose normalisation is not stated is of no use", None, {"data": data}),
        ("--normalization zca is none", "zca", {"data": data}),
        ("unknown normalization 'mnst'", "mnst", {"data": data}),
        ("imagenet is for 3-channel images but these have 1", "imagenet", {"data": data}),
        ("computed takes the constants of --data", "computed", {"classes": classes, "image_shape": shape}),
        ("does not tell its classes; give --classes", "mnist", {"image_shape": shape}),
        ("does not tell the size of its images; give --image-size", "mnist", {"classes": classes}),
        ("--classes names others, or in another order", "mnist", {"classes": classes, "data": data}),
        ("have the shape", "mnist", {"image_shape": (1, 9, 9), "data": data}),
    ):
        with pytest.raises(CondenseError, match=message):
            import_teacher(small, net, normalization, **options)
    names = tmp_path / "classes.txt"
    names.write_text("cat\ndog\nshark, white\n")
    teacher = import_teacher(small, net, "mnist", classes=names, image_shape=shape)
    assert teacher.manifest.classes == ("cat", "dog", "shark, white")


def test_an_import_replaces_nothing_unless_asked(small: Path, data: RealData, tmp_path: Path) -> None:
    options = {"data": data, "out": tmp_path / "teachers"}
    first = import_teacher(small, "convnet-d1-w4-bn", "mnist", **options)
    assert first.path is not None
    before = first.path.read_bytes()
    with pytest.raises(CondenseError, match="exists already; give --overwrite"):
        import_teacher(small, "convnet-d1-w4-bn", "mnist", **options)
    import_teacher(small, "convnet-d1-w4-bn", "mnist", **options, overwrite=True)
    assert first.path.read_bytes() == before


def test_tensors_that_share_memory_become_independent() -> None:
    network = build_network("mlp", (1, 8, 8), 10, seed=0)
    state = renamed(network.state_dict(), network, ordered=True)
    assert all(value.data_ptr() != network.state_dict()[name].data_ptr() for name, value in state.items())


# Real ones


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the trained networks for CIFAR-10 beside the project")
@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_trained_networks_for_cifar10_come_in(name: str, tmp_path: Path) -> None:
    classes = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
    teacher = import_teacher(
        SHARED / f"{name}.safetensors", f"{name}-bn", "imagenet", classes=classes, image_shape=(3, 32, 32), out=tmp_path
    )
    assert Teacher.open(tmp_path).hash == teacher.hash
    assert condense.Teacher is Teacher
