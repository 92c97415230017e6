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
from condense.data.sampling import random_indices, smallest_class
from condense.methods.interface import Job
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import derive_seed, generator
from condense.selection.features import FeatureSettings, feature_training, training_features
from condense.selection.herding import herd
from condense.selection.kmeans import nearest_to_centres
from condense.sets.decoders import Tiles
from condense.sets.spaces import SPACES, Space
from condense.sets.synthetic_set import SyntheticSet

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
    content = start.stored.numpy().tobytes() + start.stored_labels.numpy().tobytes()
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
    - `tiles`: with a decoder, mosaics of real images, each made smaller by `sampling`; without one, as `real`.
      `kmeans` and `herding` too choose as many images as there are tiles.
    - a file: the stored images of that set, of as many images per class and with the same decoder.

    Raises `CondenseError` where a class has too few images or a file does not fit.
    """
    data = job.data
    if initialization in BY_EXPERTS:
        raise CondenseError(
            f"--initialization {initialization} asks experts, and this method has none; give {', '.join(NAMES)}"
        )
    check_start(initialization, data, job.ipc, decoder)
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


def check_start(initialization: str, data: TrainingData, ipc: int, decoder: Tiles | None) -> None:
    """Raise `CondenseError` where a class has too few images for a start."""
    if initialization == "noise" or is_file(initialization):
        return
    tiled = decoder if initialization != "real" else None
    each = 1 if tiled is None else tiled.tiles
    name, count = smallest_class(data)
    if ipc * each <= count:
        return
    ways_out = [f"--ipc {count // each} or less"] if each <= count else []
    if tiled is not None:
        ways_out += [f"--factor {factor}" for factor in range(1, tiled.factor) if ipc * factor**2 <= count][-1:]
        ways_out += ["--initialization real"] if ipc <= count else []
    ways_out.append("--initialization noise")
    if each == 1:
        problem = f"--ipc {ipc} is more than the {count} training images of class {name!r}, from which images start"
    else:
        problem = (
            f"--ipc {ipc} with {each} tiles in each image needs {ipc * each} real images of every class, but {name!r} "
            f"has {count}"
        )
    raise CondenseError(f"{problem}; give {', or '.join(ways_out)}")


def start_training(initialization: str, data: TrainingData, network: str) -> list[Workload]:
    """The network that is trained for a start."""
    if initialization not in BY_FEATURES:
        return []
    return feature_training(data, FeatureSettings(features="trained", network=network))


def _chosen(initialization: str, job: Job, each: int, network: str) -> tuple[Tensor, float]:
    """Training indices of `each` images for every stored one, class by class."""
    data, count = job.data, job.ipc * each
    if initialization in ("real", "tiles"):
        return random_indices(data, count, job.seed, "initial images"), 0.0
    features, seconds = training_features(job, FeatureSettings(features="trained", network=network))
    chosen = []
    for label in range(len(data.info.classes)):
        members = data.class_indices(label)
        if initialization == "herding":
            rows = herd(features[members], count)
        else:
            rows = nearest_to_centres(features[members], count, derive_seed(job.seed, "initial k-means", label))
        chosen.append(members[rows])
    return torch.cat(chosen), seconds


def _from_file(path: str, data: TrainingData, ipc: int, space: Space, decoder: Tiles | None) -> Tensor:
    start = SyntheticSet.load(path)
    start.check_matches(data.info)
    if start.ipc != ipc:
        found = "different numbers" if start.ipc is None else start.ipc
        raise CondenseError(f"--initialization {path} has {found} of images per class, not {ipc}; give --ipc as it has")
    if (start.decoder and start.decoder.factor) != (decoder and decoder.factor):
        found = "whole images" if start.decoder is None else f"{start.decoder.factor} x {start.decoder.factor} tiles"
        raise CondenseError(f"--initialization {path} stores {found}; give a set with the --factor of this run")
    order = start.stored_labels.argsort(stable=True)
    stored = start.stored[order]
    same = space.name == "unit" or start.info.preprocessing.equals(data.info.preprocessing)
    if space.name == start.space and same:
        return stored
    plain = SPACES[start.space].plain(stored, start.info.preprocessing)
    return plain.clamp(0, 1) if space.name == "unit" else data.info.preprocessing.apply(plain)
