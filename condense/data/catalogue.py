"""The data sets that have a name: plain data, so that listing them imports neither torch nor any data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from condense.data.imagenet_subsets import IMAGENET_SUBSETS
from condense.runtime.errors import CondenseError, unknown_name
from condense.runtime.registry import Registry


@dataclass(frozen=True)
class ChannelConstants:
    """Mean and standard deviation per channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class KnownSet:
    """A data set that is found by name.

    `target` is the function that reads it, `torchvision` the class in `torchvision.datasets` with the arguments that
    select each split, `files` the pattern of its files below torchvision's root, `system_folder` where a Linux
    distribution's package puts it as IDX files. `mirror` says whether a mirrored image keeps its class, `constants` are
    the published normalisation (none: computed), `found` tells people where it comes from. `imagenet_classes` are, for
    a part of ImageNet-1k, the WordNet numbers of its classes, in its order, with their indices there. `licence` is the
    one by which its images may be published; empty where there is none that says so.
    """

    name: str
    summary: str
    mirror: bool
    found: str
    target: str
    aliases: tuple[str, ...] = ()
    constants: ChannelConstants | None = None
    torchvision: str = ""
    files: str = ""
    train_arguments: Mapping[str, object] = field(default_factory=dict)
    test_arguments: Mapping[str, object] = field(default_factory=dict)
    system_folder: str = ""
    imagenet_classes: Mapping[str, int] = field(default_factory=dict)
    licence: str = ""


def _torchvision(
    name: str,
    class_name: str,
    files: str,
    summary: str,
    *,
    mirror: bool,
    aliases: tuple[str, ...] = (),
    constants: ChannelConstants | None = None,
    by_split: bool = False,
    system_folder: str = "",
    licence: str = "",
) -> KnownSet:
    also = f", or {system_folder}" if system_folder else ""
    return KnownSet(
        name=name,
        summary=summary,
        mirror=mirror,
        found=f"torchvision's files under --data-root{also}",
        target="condense.data.readers.known:read_torchvision",
        aliases=aliases,
        constants=constants,
        torchvision=class_name,
        files=files,
        train_arguments={"split": "train"} if by_split else {"train": True},
        test_arguments={"split": "test"} if by_split else {"train": False},
        system_folder=system_folder,
        licence=licence,
    )


IMAGENET = ChannelConstants((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _imagenet(name: str, summary: str) -> KnownSet:
    classes = IMAGENET_SUBSETS[name]
    return KnownSet(
        name=name,
        summary=f"{summary}, RGB, {len(classes)} classes of ImageNet; needs --image-size",
        mirror=True,
        found="torchvision's ImageNet folder (train/ and val/) as --data-root, or imagenet/ under it",
        target="condense.data.readers.imagenet:read_imagenet_subset",
        constants=IMAGENET,
        imagenet_classes=classes,
    )


# The constants are those of the dataset condensation line of papers (Zhao, Mopuri & Bilen, ICLR 2021, code).
DATA_SETS: Registry[KnownSet] = Registry(
    "data set",
    [
        KnownSet(
            name="digits",
            summary="handwritten digits, 8x8 grayscale, 10 classes, 1,797 images, no official test split",
            mirror=False,
            found="inside scikit-learn",
            licence="CC BY 4.0",
            target="condense.data.readers.known:read_digits",
        ),
        _torchvision(
            "mnist",
            "MNIST",
            "MNIST/raw/*",
            "handwritten digits, 28x28 grayscale, 10 classes, 60,000 + 10,000 images",
            mirror=False,
            constants=ChannelConstants((0.1307,), (0.3081,)),
        ),
        _torchvision(
            "fashion-mnist",
            "FashionMNIST",
            "FashionMNIST/raw/*",
            "clothes, 28x28 grayscale, 10 classes, 60,000 + 10,000 images",
            mirror=True,
            aliases=("fashionmnist", "fmnist"),
            constants=ChannelConstants((0.2861,), (0.3530,)),
            system_folder="/usr/share/datasets/fashion-mnist",
            licence="MIT",
        ),
        _torchvision(
            "kmnist",
            "KMNIST",
            "KMNIST/raw/*",
            "cursive Japanese characters, 28x28 grayscale, 10 classes, 60,000 + 10,000 images",
            mirror=False,
        ),
        _torchvision(
            "usps",
            "USPS",
            "usps*",
            "handwritten digits, 16x16 grayscale, 10 classes, 7,291 + 2,007 images",
            mirror=False,
        ),
        _torchvision(
            "svhn",
            "SVHN",
            "*_32x32.mat",
            "house numbers, 32x32 RGB, 10 classes, 73,257 + 26,032 images",
            mirror=False,
            constants=ChannelConstants((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
            by_split=True,
        ),
        _torchvision(
            "cifar10",
            "CIFAR10",
            "cifar-10-batches-py/*",
            "objects and animals, 32x32 RGB, 10 classes, 50,000 + 10,000 images",
            mirror=True,
            aliases=("cifar-10",),
            constants=ChannelConstants((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ),
        _torchvision(
            "cifar100",
            "CIFAR100",
            "cifar-100-python/*",
            "objects and animals, 32x32 RGB, 100 classes, 50,000 + 10,000 images",
            mirror=True,
            aliases=("cifar-100",),
            constants=ChannelConstants((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
        ),
        _torchvision(
            "stl10",
            "STL10",
            "stl10_binary/*",
            "objects and animals, 96x96 RGB, 10 classes, 5,000 + 8,000 images",
            mirror=True,
            aliases=("stl-10",),
            by_split=True,
        ),
        _imagenet("imagenette", "easily classified things"),
        _imagenet("imagewoof", "dogs"),
        _imagenet("imagefruit", "fruits"),
        _imagenet("imagemeow", "cats"),
        _imagenet("imagesquawk", "birds"),
        _imagenet("imageyellow", "yellow things"),
    ],
)


def find_data_set(name: str) -> KnownSet | None:
    """The data set with this name or alias, or None.

    >>> find_data_set("CIFAR-10").name
    'cifar10'
    """
    try:
        return DATA_SETS.find(name)
    except CondenseError:
        return None


def published_constants(name: str) -> ChannelConstants:
    """The published normalisation of a data set, or of `imagenet`.

    Raises `CondenseError` for a name without published constants.

    >>> published_constants("mnist").mean
    (0.1307,)
    """
    if name.lower() == "imagenet":
        return IMAGENET
    entry = find_data_set(name)
    if entry is None or entry.constants is None:
        known = [entry.name for entry in DATA_SETS if entry.constants]
        raise unknown_name("normalization", name, ["computed", "zca", "none", "imagenet", *known])
    return entry.constants
