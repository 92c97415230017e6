"""The networks that exist, as plain data: this module imports neither torch nor any network.

A package adds its own through an entry point in the group `condense.networks` whose object is a `NetworkEntry`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from condense.runtime.errors import CondenseError
from condense.runtime.registry import Registry, load_object, with_entry_points

TORCHVISION = "torchvision:"  # what names of torchvision's classifiers begin with


@dataclass(frozen=True)
class Option:
    """One choice that a network's name can make: one of `words`, or `letter` followed by a number.

    `default` is the word of a name that leaves the choice open, `None` if the image size decides. A full name always
    spells the choice, unless it is `quiet` and at its default.
    """

    name: str
    default: str | None
    words: tuple[str, ...] = ()
    letter: str = ""
    quiet: bool = False

    def accepts(self, word: str) -> bool:
        """Whether `word` makes this choice; numbers run from 1 to 9999."""
        if self.letter:
            return re.fullmatch(f"{self.letter}[1-9][0-9]{{0,3}}", word) is not None
        return word in self.words

    def value(self, word: str) -> str | int:
        """What the network's class is given for `word`: the number, or the word itself."""
        return int(word.removeprefix(self.letter)) if self.letter else word


@dataclass(frozen=True)
class NetworkEntry:
    """A family of networks.

    `target` is `module:class` of a `condense.networks.Network`, or of any `nn.Module`, which takes (image_shape,
    classes, and one keyword for every option). A `Network` of layers that `build_network` knows is given its values by
    that; other networks have those of their constructor, drawn from torch's global generator, seeded for it.
    """

    name: str
    target: str
    summary: str
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()

    def factory(self) -> Callable[..., Any]:
        """What makes the network, its class; imported here."""
        factory: Callable[..., Any] = load_object(self.target)
        return factory

    @property
    def built_in(self) -> bool:
        """Whether it comes with condense."""
        return self.target.startswith("condense.")

    @property
    def grammar(self) -> str:
        """How names of the family are written, for help and errors.

        >>> networks().find("resnet18").grammar
        'resnet18[-in|-bn][-stem3|-stem7]'
        """
        choices = ["|-".join(option.words or (f"{option.letter}N",)) for option in self.options]
        return self.name + "".join(f"[-{choice}]" for choice in choices)


_INSTANCE_OR_BATCH_NORM = Option("norm", "in", words=("in", "bn"))
_STEM = Option("stem", "stem3", words=("stem3", "stem7"), quiet=True)


def _filters(default: str) -> Option:
    """The filters of the first stage: not the width of ConvNets, which a protocol fills in."""
    return Option("filters", default, letter="w")


def _vgg(layers: int, convolutions: str) -> NetworkEntry:
    return NetworkEntry(
        name=f"vgg{layers}",
        target=f"condense.networks.vgg:VGG{layers}",
        summary=f"VGG with {convolutions} convolutions, one linear layer",
        options=(_INSTANCE_OR_BATCH_NORM,),
    )


_BUILT_IN = (
    NetworkEntry(
        name="convnet",
        target="condense.networks.convnet:ConvNet",
        summary="blocks of 3x3 convolution, norm, activation and pooling: the network sets are usually made with",
        options=(
            Option("depth", None, letter="d"),
            Option("width", "w128", letter="w"),
            Option("norm", "in", words=("in", "bn", "ln", "gn", "nonorm")),
            Option("activation", "relu", words=("relu", "sigmoid", "leaky", "swish"), quiet=True),
            Option("pooling", "avgpool", words=("avgpool", "maxpool", "nopool"), quiet=True),
        ),
    ),
    NetworkEntry(
        name="conv",
        target="condense.networks.doubling_convnet:DoublingConvNet",
        summary="the ConvNet of FRePo and RCIG: twice as many filters in each block as in the one before",
        options=(
            Option("depth", None, letter="d"),
            Option("width", "w128", letter="w"),
            Option("norm", "nonorm", words=("nonorm", "bn", "in")),
            Option("activation", "relu", words=("relu", "softplus"), quiet=True),
        ),
    ),
    NetworkEntry(
        name="mlp",
        target="condense.networks.mlp:MLP",
        summary="two hidden layers of 128 units",
    ),
    NetworkEntry(
        name="lenet",
        target="condense.networks.lenet:LeNet",
        summary="two 5x5 convolutions and three linear layers",
    ),
    NetworkEntry(
        name="alexnet",
        target="condense.networks.alexnet:AlexNet",
        summary="AlexNet for small images: five convolutions, one linear layer",
        options=(Option("norm", "nonorm", words=("nonorm", "bn")),),
    ),
    _vgg(11, "eight"),
    _vgg(13, "ten"),
    _vgg(16, "thirteen"),
    _vgg(19, "sixteen"),
    NetworkEntry(
        name="resnet18",
        target="condense.networks.resnet:ResNet18",
        summary="ResNet with two basic blocks in each of four stages; stem for small images, -stem7 for ImageNet's",
        options=(_INSTANCE_OR_BATCH_NORM, _STEM),
    ),
    NetworkEntry(
        name="resnet10",
        target="condense.networks.resnet:ResNet10",
        summary="ResNet with one basic block in each of four stages; stem for small images, -stem7 for ImageNet's",
        options=(_INSTANCE_OR_BATCH_NORM, _STEM),
    ),
    NetworkEntry(
        name="resnet20",
        target="condense.networks.resnet:ResNet20",
        summary="He et al.'s ResNet for CIFAR: three stages of three basic blocks, 16 to 64 filters, padded shortcuts",
        options=(_INSTANCE_OR_BATCH_NORM,),
    ),
    NetworkEntry(
        name="resnet56",
        target="condense.networks.resnet:ResNet56",
        summary="resnet20 with nine basic blocks in each stage",
        options=(_INSTANCE_OR_BATCH_NORM,),
    ),
    NetworkEntry(
        name="resnet18ap",
        target="condense.networks.resnet:ResNet18AP",
        summary="resnet18 that halves images by averages and classifies all pixels of its last maps (DC, MTT)",
        options=(_INSTANCE_OR_BATCH_NORM,),
    ),
    NetworkEntry(
        name="resnet10idc",
        target="condense.networks.resnet:ResNet10IDC",
        summary="ResNet-10 as IDC and NCFM evaluate on: 32 to 256 filters (for CIFAR; -w64 elsewhere), normal weights",
        options=(_INSTANCE_OR_BATCH_NORM, _filters("w32")),
    ),
    NetworkEntry(
        name="resnetap10",
        target="condense.networks.resnet:ResNetAP10",
        summary="ResNetAP-10, in which IDC and NCFM match ImageNet: 64 to 512 filters (-w32 for CIFAR), normal weights",
        options=(_INSTANCE_OR_BATCH_NORM, _filters("w64")),
    ),
)


@cache
def networks() -> Registry[NetworkEntry]:
    """The built-in networks and those of installed packages; raises `CondenseError` as `with_entry_points` does."""
    return with_entry_points("network", _BUILT_IN, "condense.networks", others=(f"{TORCHVISION}NAME",))


_OWN: dict[str, NetworkEntry] = {}  # by name: those that a program gave as objects


def add_own(entry: NetworkEntry) -> None:
    """Make a network known by its name in this process."""
    _OWN.setdefault(entry.name, entry)


def find_network(family: str) -> NetworkEntry:
    """The family of this name; raises `CondenseError` if there is none, or its object is in another program."""
    if family in _OWN:
        return _OWN[family]
    if "." in family and family not in networks().known():
        raise CondenseError(
            f"network {family!r} is an object of the Python program that used it; give the object there, or make it an "
            "entry point of condense.networks"
        )
    return networks().find(family)
