"""The images that a synthesizer starts from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, PlainSerializer
from torch import Tensor

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.sampling import random_indices, repeated, smallest_class
from condense.methods.interface import Job
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed, generator
from condense.selection.features import FeatureSettings, feature_training, training_features
from condense.selection.herding import herd
from condense.selection.kmeans import nearest_to_centres
from condense.sets.decoders import Decoder
from condense.sets.large import in_memory
from condense.sets.spaces import SPACES, Space
from condense.sets.synthetic_set import SyntheticSet
from condense.sets.tiles import Tiles

NAMES = ("real", "noise", "kmeans", "herding", "tiles")
BY_FEATURES = ("kmeans", "herding")  # those that a network trained on the real data decides
BY_EXPERTS = ("correct", "representative")  # what methods that match trajectories have beside these


def _known(name: str) -> str:
    if name in NAMES + BY_EXPERTS or is_file(name):
        return name
    raise ValueError(
        f"must be {', '.join(NAMES)}, with experts {' or '.join(BY_EXPERTS)}, or the .h5 file of a synthetic set"
    )


def is_file(name: str) -> bool:
    """Whether an initialisation is a file."""
    return name.lower().endswith(".h5")


# Where settings are written down, a file goes by its base name: a set tells nobody's folders.
Initialization = Annotated[str, AfterValidator(_known), PlainSerializer(lambda name: Path(name).name)]


def file_digest(initialization: str) -> str | None:
    """A digest of the set that images start from; None if they do not start from one.

    Raises `CondenseError` if the file is no synthetic set.
    """
    if not is_file(initialization):
        return None
    start = SyntheticSet.load(initialization)
    content = in_memory(start.stored).numpy().tobytes() + _classes(initialization, start).numpy().tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def initial_images(
    initialization: str,
    job: Job,
    *,
    network: str,
    space: Space = SPACES["preprocessed"],
    decoder: Tiles | None = None,
    sampling: Literal["nearest", "bilinear"] = "nearest",
) -> tuple[Tensor, float]:
    """Float32 [C*ipc, c, h, w] in `space`, class by class, and the seconds that cached features saved in making them.

    - `real`: images of the class, drawn without replacement.
    - `noise`: values from N(0, 1); in [0, 1], those of N(0.5, 0.25^2), clamped.
    - `kmeans`, `herding`: images of the class chosen as the methods of these names do, by features of `network`.
      A class with fewer images than are wanted gives each of them several times, here and below.
    - `tiles`: with a decoder, mosaics of real images, each made smaller by `sampling`; without one, as `real`.
      `kmeans` and `herding` too choose as many images as there are tiles.
    - a file: the stored images of that set, of as many images per class and with the same decoder.

    Raises `CondenseError` where a file does not fit.
    """
    data = job.data
    if initialization in BY_EXPERTS:
        raise CondenseError(
            f"--initialization {initialization} asks experts, and this method has none; give {', '.join(NAMES)}"
        )
    if is_file(initialization):
        return _from_file(initialization, data, job.ipc, space, decoder), 0.0
    if initialization == "noise":
        shape = (len(data.info.classes) * job.ipc, *data.info.image_shape)
        noise = torch.randn(shape, generator=generator(job.seed, "initial images"))
        return (noise if space.name == "preprocessed" else (noise / 4 + 0.5).clamp(0, 1)), 0.0
    tiled = decoder if initialization != "real" else None
    each = 1 if tiled is None else tiled.tiles
    indices, seconds = _chosen(initialization, job, each, network)
    images = data.images(indices) if space.name == "preprocessed" else data.pixels(indices).float() / 255
    if tiled is not None:
        classes = images.split(job.ipc * each)
        images = torch.cat([tiled.arrange(members, sampling) for members in classes])
    return images, seconds


def start_note(initialization: str, data: TrainingData, ipc: int, decoder: Tiles | None) -> str | None:
    """What the user should know where a class has fewer images than start from it: then several start from one."""
    if initialization == "noise" or is_file(initialization):
        return None
    each = 1 if decoder is None or initialization == "real" else decoder.tiles
    name, count = smallest_class(data)
    if ipc * each <= count:
        return None
    tiles = f" with {each} tiles in each" if each > 1 else ""
    return (
        f"{ipc} images per class{tiles} start from {count} training images of class {name!r}, so several start from "
        "the same one; --initialization noise starts from none"
    )


def start_training(initialization: str, data: TrainingData, network: str) -> list[Workload]:
    """The network that is trained for a start."""
    if initialization not in BY_FEATURES:
        return []
    return feature_training(data, FeatureSettings(features="trained", network=network))


def _chosen(initialization: str, job: Job, each: int, network: str) -> tuple[Tensor, float]:
    """Training indices of `each` images for every stored one, class by class."""
    data, count = job.data, job.ipc * each
    if initialization in ("real", "tiles"):
        return random_indices(data, [count] * len(data.info.classes), job.seed, "initial images"), 0.0
    features, seconds = training_features(job, FeatureSettings(features="trained", network=network))
    chosen = []
    for label in range(len(data.info.classes)):
        members = data.class_indices(label)
        wanted = min(count, len(members))
        if initialization == "herding":
            rows = herd(features[members], wanted)
        else:
            rows = nearest_to_centres(features[members], wanted, derive_seed(job.seed, "initial k-means", label))
        chosen.append(repeated(members[rows], count))
    return torch.cat(chosen), seconds


def _from_file(path: str, data: TrainingData, ipc: int, space: Space, decoder: Tiles | None) -> Tensor:
    start = SyntheticSet.load(path)
    start.check_matches(data.info)
    if start.ipc != ipc:
        found = "different numbers" if start.ipc is None else start.ipc
        raise CondenseError(f"--initialization {path} has {found} of images per class, not {ipc}; give --ipc as it has")
    if _factor(start.decoder) != _factor(decoder):
        raise CondenseError(
            f"--initialization {path} stores {_stored_as(start.decoder)}; give a set with the --factor of this run"
        )
    order = _classes(path, start).argsort(stable=True)
    stored = start.stored[order]
    same = space.name == "unit" or start.info.preprocessing.equals(data.info.preprocessing)
    if space.name == start.space and same:
        return stored
    plain = SPACES[start.space].plain(stored, start.info.preprocessing)
    return plain.clamp(0, 1) if space.name == "unit" else data.info.preprocessing.apply(plain)


def _classes(path: str, start: SyntheticSet) -> Tensor:
    """The class index of each stored image."""
    if start.stored_classes is None:
        raise CondenseError(f"--initialization {path} does not tell the classes of its images; give a set that does")
    return start.stored_classes


def _stored_as(decoder: Decoder | None) -> str:
    factor = _factor(decoder)
    if factor is None or decoder is None:
        return "whole images" if decoder is None else f"images decoded as {decoder.kind}"
    return f"{factor} x {factor} tiles"


def _factor(decoder: Decoder | None) -> int | None:
    """1 for whole images; None for what this version of a start cannot begin with."""
    if decoder is None:
        return 1
    return decoder.factor if isinstance(decoder, Tiles) else None
