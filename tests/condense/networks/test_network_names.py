from __future__ import annotations

import subprocess
import sys

import pytest

from condense.networks import Network, build_network, canonical_name, network_names, networks
from condense.networks.names import default_depth, parse_name
from condense.networks.pools import POOLS
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object

RGB, DIGITS = (3, 32, 32), (1, 28, 28)


@pytest.mark.parametrize(
    ("name", "shape", "default", "expected"),
    [
        ("convnet", DIGITS, "convnet-w128-in", "convnet-d3-w128-in"),
        ("convnet", (1, 8, 8), "convnet-w64-in", "convnet-d2-w64-in"),
        ("ConvNet_W32-BN", RGB, "convnet-w64-in", "convnet-d3-w32-bn"),
        ("convnet-maxpool-in-d4", RGB, "convnet-w64-bn", "convnet-d4-w64-in-maxpool"),
        ("convnet", RGB, "convnet-d2-w64-in", "convnet-d2-w64-in"),
        ("convnet", RGB, "convnet-w64-gn-swish-nopool", "convnet-d3-w64-gn-swish-nopool"),
        ("convnet-relu", RGB, "convnet-w64-in-swish", "convnet-d3-w64-in-relu"),
        ("convnet-relu-avgpool", RGB, "convnet-w64-in", "convnet-d3-w64-in"),
        ("resnet18", RGB, "convnet-w64-in", "resnet18-in"),
        ("resnet18", RGB, "resnet18-bn", "resnet18-bn"),
        ("resnet18-bn", RGB, "convnet-w64-in", "resnet18-bn"),
        ("vgg11", RGB, "convnet-w64-gn", "vgg11-in"),
        ("alexnet", RGB, "convnet-w64-in", "alexnet-nonorm"),
        ("alexnet", RGB, "convnet-w64-bn", "alexnet-bn"),
        ("mlp", RGB, "convnet-w64-in", "mlp"),
        ("resnet10idc", RGB, "convnet-w64-in", "resnet10idc-in-w32"),  # the width of ConvNets is not meant
        ("resnetap10-w32-bn", RGB, "convnet-w64-in", "resnetap10-bn-w32"),
        ("convnet", RGB, "mlp", "convnet-d3-w128-in"),
        ("resnet20", RGB, "convnet-w64-bn", "resnet20-bn"),
        ("resnet18-stem3", RGB, "convnet-w64-in", "resnet18-in"),  # its usual stem needs no word
        ("ResNet10_Stem7-bn", RGB, "convnet-w64-in", "resnet10-bn-stem7"),
        ("resnet18-stem3", RGB, "resnet10-bn-stem7", "resnet18-bn-stem3"),
        ("resnet18ap", RGB, "resnet10-bn-stem7", "resnet18ap-bn"),
    ],
)
def test_canonical_name(name: str, shape: tuple[int, int, int], default: str, expected: str) -> None:
    assert canonical_name(name, shape, default) == expected
    assert canonical_name(expected, (3, 8, 8), default) == expected
    assert parse_name(canonical_name(expected, shape))[0] == parse_name(name)[0]


@pytest.mark.parametrize(
    ("size", "depth"),
    [
        ((8, 8), 2),
        ((4, 4), 2),
        ((15, 15), 2),
        ((16, 16), 2),
        ((24, 40), 2),
        ((28, 28), 3),
        ((32, 32), 3),
        ((64, 64), 4),
        ((128, 64), 4),
        ((128, 128), 5),
        ((224, 224), 6),
        ((1024, 1024), 6),
    ],
)
def test_depth_follows_the_shorter_side(size: tuple[int, int], depth: int) -> None:
    assert default_depth((3, *size)) == depth


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnt", "unknown network 'convnt' .*did you mean convnet"),
        ("ConvNetBN", "did you mean convnet"),
        ("resnet-18", "did you mean .*resnet18"),
        ("", "unknown network ''"),
        (
            "convnet-swsh",
            r"suffix 'swsh' in network 'convnet-swsh' \(allowed: convnet\[-dN\].*did you mean swish",
        ),
        ("convnet-d0", "unknown suffix 'd0'"),
        ("convnet-d", "unknown suffix 'd'"),
        ("convnet-d3.5", "unknown suffix 'd3.5'"),
        ("convnet-w-64", "unknown suffix 'w'"),
        ("convnet-w100000", "unknown suffix 'w100000'"),
        ("convnet--in", "unknown suffix ''"),
        ("convnet-64", "unknown suffix '64'"),
        ("resnet18-ln", r"unknown suffix 'ln' .*allowed: resnet18\[-in\|-bn\]"),
        ("mlp-bn", "mlp takes no suffix"),
        ("convnet-in-bn", r"chooses its norm twice \(in and bn\)"),
        ("convnet-d3-d3", "chooses its depth twice"),
    ],
)
def test_wrong_names_are_refused_in_one_line(name: str, message: str) -> None:
    for refuse in (
        lambda: build_network(name, RGB, 10, seed=0),
        lambda: canonical_name(name, RGB),
        lambda: canonical_name("convnet", RGB, default=name),
    ):
        with pytest.raises(CondenseError, match=message) as caught:
            refuse()
        assert "\n" not in str(caught.value)


def test_names_and_lists_do_not_import_torch() -> None:
    program = (
        "import sys\n"
        "from condense.networks import networks, canonical_name\n"
        "assert canonical_name('convnet', (1, 28, 28)) == 'convnet-d3-w128-in'\n"
        "assert [(entry.grammar, entry.summary) for entry in networks()]\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_entry_has_a_class_and_its_own_words() -> None:
    for entry in networks():
        assert issubclass(load_object(entry.target), Network)
        words = [word for option in entry.options for word in option.words]
        assert len(words) == len(set(words))
        assert entry.summary


def test_the_package_knows_no_other_names() -> None:
    import condense.networks

    with pytest.raises(AttributeError, match="buildnetwork"):
        _ = condense.networks.buildnetwork


# Pools


def test_pools_are_those_of_the_released_code_of_dc():
    """Zhao, Mopuri & Bilen call them M, B, W, D, A, P and N; under their protocol the rest is of width 128."""
    full = {
        pool.name.removeprefix("pool-"): [canonical_name(net, RGB, "convnet-w128-in") for net in pool.nets]
        for pool in POOLS
    }
    assert full == {
        "m": ["mlp", "convnet-d3-w128-in", "lenet", "alexnet-nonorm", "vgg11-in", "resnet18-in"],
        "b": ["convnet-d3-w128-bn", "convnet-d3-w128-bn-swish", "alexnet-bn", "vgg11-bn", "resnet18-bn"],
        "w": [f"convnet-d3-w{width}-in" for width in (32, 64, 128, 256)],
        "d": [f"convnet-d{depth}-w128-in" for depth in (1, 2, 3, 4)],
        "a": [f"convnet-d3-w128-in{word}" for word in ("-sigmoid", "", "-leaky", "-swish")],
        "p": [f"convnet-d3-w128-in{word}" for word in ("-nopool", "-maxpool", "")],
        "n": [f"convnet-d3-w128-{norm}" for norm in ("nonorm", "bn", "ln", "in", "gn")],
    }


@pytest.mark.parametrize("name", [pool.name for pool in POOLS])
def test_every_network_of_a_pool_can_be_built(name: str):
    for net in network_names([name]):
        assert build_network(net, RGB, 10, seed=0).classifier.out_features == 10


def test_words_that_are_no_pools_stay_as_they_are():
    assert network_names(["mlp", "Pool-P", "convnet"]) == ["mlp", *POOLS.find("pool-p").nets, "convnet"]
    with pytest.raises(CondenseError, match=r"unknown pool of networks 'pool-x'.*did you mean pool-"):
        network_names(["pool-x"])
