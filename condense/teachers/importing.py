"""Teachers that were trained elsewhere: a state dict, and what it does not say of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense.data import RealData, TestData
from condense.data.catalogue import published_constants
from condense.data.class_choice import chosen_classes
from condense.data.preprocessing import None_, Normalization
from condense.networks import Network, NetworkLike, build_network, canonical_name, network_name
from condense.runtime.device import choose_device
from condense.runtime.errors import CondenseError
from condense.runtime.files import check_folder
from condense.runtime.locks import claimed_output
from condense.runtime.provenance import versions
from condense.runtime.tensor_files import load_tensors
from condense.runtime.torch_files import load_torch_file, plain_tensor
from condense.teachers.manifest import Manifest, Measured
from condense.teachers.naming import renamed
from condense.teachers.teacher import SUFFIX, Teacher, batch_norm_of
from condense.training.prediction import accuracy

_FORMS = "a .safetensors, or a .pt or .pth of a state dict"
_AROUND = ("state_dict", "model_state_dict", "model", "net")  # what checkpoints keep the state of the network in


def import_teacher(
    path: str | Path,
    net: NetworkLike,
    normalization: str | Normalization | None,
    *,
    classes: str | Path | Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    data: RealData | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> Teacher:
    """The teacher whose state is in a file of another code base.

    Only tensors, numbers, text and plain containers are read from it. Names are those of condense, of torchvision's
    networks (for `torchvision:NAME`, and `resnet18-bn-stem7`), of the usual ResNets for small images (`resnet20-bn`,
    `resnet18-bn`) or of the ConvNets of DC and MTT; a `.pt` or `.pth` with other names may have the tensors in the
    order of the network.

    Args:
        path: a `.safetensors`, or a file of `torch.save`.
        net: the network, as in `train_teacher`.
        normalization: the name of a known set, such as `imagenet`, whose constants the images were normalised with;
            `none` for pixels in [0, 1] as they are, `computed` for the constants of `data`; or the constants.
        classes: names in the order of the logits: a list, or a file with one a line. Those of `data` if None.
        image_shape: (C, H, W); that of `data` if None.
        data: the real data that it was trained on; its accuracy is then measured on the test images.
        out: a folder to store it in, as `NETWORK-NAME.safetensors` with the name of the file.
        device: where the accuracy is measured: `auto`, `cpu` or `cuda:N`.
        overwrite: replace a file of that name in `out`.

    Raises:
        CondenseError: for a file that is something else or does not fit the network, where neither `data` nor the other
            arguments tell classes, image shape or normalisation, and where they differ.
    """
    path = Path(path)
    names = _classes(classes, data)
    shape = _image_shape(image_shape, data)
    constants = _constants(normalization, shape[0], data)
    network = build_network(canonical_name(network_name(net, shape, len(names)), shape), shape, len(names), seed=0)
    target = None if out is None else _target(check_folder(out), network.name, path)
    with nullcontext() if target is None else claimed_output(target, "import", suffix=SUFFIX, overwrite=overwrite):
        teacher = _measured(_read(path, network, shape, names, constants, data), data, device)
        return teacher if target is None else teacher.save(target)


def _target(folder: Path, network: str, path: Path) -> Path:
    """The file of the teacher; raises `CondenseError` where it is the one that is imported."""
    target = folder / f"{network.replace(':', '-')}-{path.stem}{SUFFIX}"
    if target.exists() and path.exists() and target.samefile(path):
        raise CondenseError(f"{target} is the file that is imported; give another --out")
    return target


def _read(
    path: Path,
    network: Network,
    shape: tuple[int, int, int],
    names: tuple[str, ...],
    constants: Normalization,
    data: RealData | None,
) -> Teacher:
    """The teacher in the file, of which nothing has been measured."""
    tensors = read_state(path)
    try:
        state = renamed(tensors, network, ordered=path.suffix != SUFFIX)
    except CondenseError as error:
        raise CondenseError(f"{path} {error}") from error
    manifest = Manifest(
        network=network.name,
        image_shape=shape,
        classes=names,
        mean=constants.mean,
        std=constants.std,
        batch_norm=batch_norm_of(network.name, shape, len(names)),
        origin="imported",
        data=None if data is None else data.name,
        fingerprint=None if data is None else data.fingerprint,
        source=path.name,
        versions=versions(),
    )
    return Teacher(manifest, state)


def _measured(teacher: Teacher, data: RealData | None, device: str) -> Teacher:
    """With its accuracy on the test images, where there are some."""
    if data is None or not data.test.labelled:
        return teacher
    measured = test_accuracy(teacher, data.test, choose_device(device))
    return dataclasses.replace(teacher, manifest=teacher.manifest.model_copy(update={"test": measured}))


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict by name, in the order of the file; raises `CondenseError` for anything else."""
    if path.suffix == SUFFIX:
        return load_tensors(path, verified=False)[0]
    content = load_torch_file(path, _FORMS)
    while isinstance(content, Mapping) and (inner := next((key for key in _AROUND if _is_state(content, key)), None)):
        content = content[inner]
    if not isinstance(content, Mapping) or not content:
        raise CondenseError(f"{path} holds no state dict; give {_FORMS}")
    state = {}
    for name, value in content.items():
        try:
            state[str(name)] = plain_tensor(value)
        except CondenseError as error:
            raise CondenseError(f"{path} has {error} as {name!r}, so it is no state dict; give {_FORMS}") from error
    return state


def _is_state(content: Mapping[Any, Any], key: str) -> bool:
    return isinstance(content.get(key), Mapping)


def test_accuracy(teacher: Teacher, test: TestData, device: torch.device) -> Measured:
    """How often the teacher is right about test images, as it sees them itself."""
    pixels = TestData(test.source, test.labels, dataclasses.replace(test.info, preprocessing=None_()))
    return Measured(accuracy=accuracy(teacher.classifier(device), pixels, device), images=len(test))


def _classes(classes: str | Path | Sequence[str] | None, data: RealData | None) -> tuple[str, ...]:
    if classes is not None:
        names = chosen_classes(classes)
        if data is not None and names != data.classes:
            raise CondenseError(
                f"--classes names others, or in another order, than {data.name} has; leave it out where the teacher "
                "was trained on this data"
            )
        return names
    if data is None:
        raise CondenseError(
            "a file of a network does not tell its classes; give --classes and a file with one name a line, in the "
            "order of its logits, or --data"
        )
    return data.classes


def _image_shape(image_shape: tuple[int, int, int] | None, data: RealData | None) -> tuple[int, int, int]:
    if data is not None and image_shape not in (None, data.image_shape):
        raise CondenseError(f"images of {data.name} have the shape {data.image_shape}, not {image_shape}; give one")
    shape = image_shape or (None if data is None else data.image_shape)
    if shape is None:
        raise CondenseError("a file of a network does not tell the size of its images; give --image-size, or --data")
    return shape


def _constants(normalization: str | Normalization | None, channels: int, data: RealData | None) -> Normalization:
    """The normalisation that a teacher was trained with."""
    if isinstance(normalization, Normalization):
        return normalization
    name = stated(normalization)
    if name == "none":
        return Normalization((0.0,) * channels, (1.0,) * channels)
    if name == "computed":
        if data is None or not isinstance(data.preprocessing, Normalization):
            raise CondenseError(
                "--normalization computed takes the constants of --data: give it, or a known set's name"
            )
        return data.preprocessing
    constants = published_constants(name)
    if len(constants.mean) != channels:
        raise CondenseError(
            f"--normalization {name} is for {len(constants.mean)}-channel images but these have {channels}; "
            "give that of a set with as many channels"
        )
    return Normalization(constants.mean, constants.std)


def stated(normalization: str | None) -> str:
    """The name of a normalisation; raises `CondenseError` for none, and for one that no teacher can carry."""
    if normalization is None:
        raise CondenseError(
            "a teacher whose normalisation is not stated is of no use, because it would be wrong about every image; "
            "give --normalization and the name of the set whose constants it was trained with, such as imagenet"
        )
    if normalization == "zca":
        raise CondenseError(
            "a teacher carries the normalisation of each channel as its first layer, and --normalization zca is none; "
            "give a teacher that was trained without whitening"
        )
    return normalization
