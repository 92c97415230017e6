"""Sets that `condense export` wrote, read back: the `.pt`, the folder of pictures, the folder of `datasets`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from condense.data.images.decoding import quiet_pillow
from condense.data.info import DataInfo
from condense.data.preprocessing import preprocessing_from_arrays
from condense.labels import labels_from_arrays
from condense.runtime.arrow_files import ArrowTable
from condense.runtime.errors import CondenseError
from condense.runtime.inputs import check_bounds, read_json, regular_file
from condense.runtime.numpy_files import NpzFile, array_tensor, read_npy
from condense.runtime.progress import say
from condense.runtime.torch_files import plain_tensor
from condense.runtime.validation import validated
from condense.sets.exporting import FORMAT, METADATA, PREPROCESSING, TARGETS

_STATE = "state.json"  # of a folder that the package datasets wrote

_EXPORT = "what condense export wrote, all of it"


class _Metadata(BaseModel):
    """What an export says of a set beside its arrays, of the types that it is written with."""

    model_config = ConfigDict(strict=True)

    format: Literal["condense export"]
    data: str
    classes: list[str]
    image_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    mirror: bool
    fingerprint: str
    label_kind: str
    temperature: float | None = None  # of soft labels, as what follows
    loss: str | None = None
    class_weight: float | None = None
    teacher: str | None = None
    parts: int | None = None
    learned_lr: float | None
    mirrored: bool = False
    augmentation: dict[str, Any] | None
    protocol: str | None
    provenance: dict[str, Any]
    decoder: dict[str, Any] | None = None  # exports of earlier versions lack it
    preprocessing: str = ""  # its kind; that of a .pt is a mapping which holds the arrays, too
    folders: list[str] = Field(default_factory=list)
    of_images: list[Literal["weights", "source_indices", "scores"]] = Field(default_factory=list)


def is_export(content: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether the content of a file, or the metadata of a folder, say that `condense export` wrote them."""
    return isinstance(content, Mapping) and isinstance(content.get("format"), str) and content["format"] == FORMAT


def read_exported_tensors(content: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `SyntheticSet` in the content of an exported `.pt`; raises `CondenseError` for what is none."""
    preprocessing = content.get("preprocessing")
    if not isinstance(preprocessing, Mapping) or not isinstance(preprocessing.get("kind"), str):
        raise CondenseError(f"it lacks the kind of its preprocessing; give {_EXPORT}")
    arrays = {str(name): _tensor(preprocessing, name).numpy() for name in preprocessing if name != "kind"}
    facts = {name: content[name] for name in _Metadata.model_fields if name in content}
    metadata = _metadata({**facts, "preprocessing": preprocessing["kind"]})
    targets = _tensor(content, "targets") if "targets" in content else None
    labels = None if content.get("labels", ...) is None else _tensor(content, "labels")  # images without a class
    of_images = {name: _tensor(content, name) for name in metadata.of_images}
    return _arguments(metadata, _tensor(content, "images"), labels, targets, arrays) | of_images


def read_exported_folder(folder: Path, info: DataInfo) -> dict[str, Any]:
    """The arguments of `SyntheticSet` in an exported folder of a set for the data that `info` describes.

    Raises `CondenseError` for what is none, and for images of another shape before one is decoded.
    """
    if not (folder / METADATA).exists():
        raise CondenseError(f"it is a directory without {METADATA}, so no export; give {_EXPORT}")
    content = read_json(folder / METADATA, _EXPORT)
    if not is_export(content):
        raise CondenseError(f"its {METADATA} is not of condense export; give {_EXPORT}")
    metadata = _metadata(content)
    if tuple(metadata.image_shape) != info.image_shape:
        raise CondenseError(
            f"its images have shape {metadata.image_shape} but {info.name} has {list(info.image_shape)}; load the data "
            "at that --image-size, or give the data that the set was made from"
        )
    return _of_datasets(folder, metadata) if (folder / _STATE).exists() else _of_pictures(folder, metadata)


def _metadata(content: Mapping[str, Any]) -> _Metadata:
    try:
        check_bounds(dict(content))
    except ValueError as error:
        raise CondenseError(f"what it says of the set cannot be read: {error}") from error
    return validated(_Metadata, content)


def _arguments(
    metadata: _Metadata,
    images: Tensor,
    labels: Tensor | None,
    targets: Tensor | None,
    preprocessing: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    channels, height, width = metadata.image_shape
    if metadata.decoder is not None:
        say(
            "note: its images were stored in fewer bytes, and the export decoded them; the set stores what networks "
            "train on, and costs more bytes than the one that was exported"
        )
    return {
        "stored": images,
        "info": DataInfo(
            name=metadata.data,
            classes=tuple(metadata.classes),
            image_shape=(channels, height, width),
            mirror=metadata.mirror,
            fingerprint=metadata.fingerprint,
            preprocessing=preprocessing_from_arrays(metadata.preprocessing, preprocessing),
        ),
        "learned_lr": metadata.learned_lr,
        "mirrored": metadata.mirrored,
        "augmentation": metadata.augmentation,
        "protocol": metadata.protocol,
        "provenance": metadata.provenance,
        "stored_labels": labels_from_arrays(
            metadata.label_kind,
            {} if targets is None else {"values": targets},
            metadata.model_dump(include={"temperature", "loss", "class_weight", "teacher", "parts"}, exclude_none=True),
            labels,
        ),
    }


def _tensor(content: Mapping[str, Any], name: str) -> Tensor:
    if name not in content:
        raise CondenseError(f"it lacks {name}; give {_EXPORT}")
    try:
        tensor = plain_tensor(content[name])
    except CondenseError as error:
        raise CondenseError(f"its {name} are {error}; give {_EXPORT}") from error
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor  # which numpy does not have


def _of_pictures(folder: Path, metadata: _Metadata) -> dict[str, Any]:
    """An exported folder of PNG files: pixels, whatever the set that was exported stored."""
    pixels, labels = _read_pictures(folder, metadata)
    targets = None
    if metadata.label_kind != "hard":
        targets = _array(read_npy(folder / TARGETS, _EXPORT), TARGETS)
    say(
        "note: the export rounded pixels to 8 bits, so networks see slightly other images than in the set that was "
        "exported, unless that one stored pixels"
    )
    names = ((name, f"{name}.npy") for name in metadata.of_images)
    of_images = {name: _array(read_npy(folder / file, _EXPORT), file) for name, file in names}
    return _arguments(metadata, pixels, labels, targets, _preprocessing(folder, metadata)) | of_images


def _preprocessing(folder: Path, metadata: _Metadata) -> dict[str, np.ndarray]:
    if metadata.preprocessing == "none":
        return {}
    stored = NpzFile(folder / PREPROCESSING, _EXPORT)
    return {name: stored.array(name) for name in stored.names}


def _read_pictures(folder: Path, metadata: _Metadata) -> tuple[Tensor, Tensor]:
    """Pixels [N, C, H, W] in the order of the numbers in the names of files, and labels by the order of folders."""
    if len(metadata.folders) != len(metadata.classes) or any(
        name in ("", ".", "..") or "/" in name or "\0" in name for name in metadata.folders
    ):
        raise CondenseError(f"its {METADATA} does not name a folder for each class; give {_EXPORT}")
    files: dict[int, tuple[Path, int]] = {}
    for label, name in enumerate(metadata.folders):
        for file in sorted((folder / name).glob("*.png")):
            if re.fullmatch(r"[0-9]{5,9}", file.stem):
                if int(file.stem) in files:
                    raise CondenseError(f"its picture of row {int(file.stem)} is there twice; give {_EXPORT}")
                files[int(file.stem)] = (file, label)
    missing = next((row for row in range(len(files)) if row not in files), None)
    if missing is not None or not files:
        raise CondenseError(f"it lacks the picture of row {missing or 0}; give {_EXPORT}")
    shape = (metadata.image_shape[0], metadata.image_shape[1], metadata.image_shape[2])
    with quiet_pillow():
        pixels = np.stack([_picture(files[row][0], shape) for row in range(len(files))])
    return torch.from_numpy(pixels), torch.tensor([files[row][1] for row in range(len(files))])


def _picture(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The pixels of a PNG file, uint8 of `shape`."""
    channels, height, width = shape
    regular_file(path, _EXPORT)
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.size == (width, height) and picture.mode == mode:
                return np.array(picture).reshape(height, width, channels).transpose(2, 0, 1)
            said = f"has {picture.height}x{picture.width} pixels of mode {picture.mode}, not {height}x{width} of {mode}"
    except Exception as error:  # Pillow raises nearly anything on damaged files
        raise CondenseError(f"{path} cannot be read; give {_EXPORT}") from error
    raise CondenseError(f"{path} {said}; give {_EXPORT}")


def _array(array: Any, name: str) -> Tensor:
    try:
        return array_tensor(np.asarray(array))
    except CondenseError as error:
        raise CondenseError(f"its {name} are {error}; give {_EXPORT}") from error


def _of_datasets(folder: Path, metadata: _Metadata) -> dict[str, Any]:
    """An exported folder of the package `datasets`: images in preprocessed space, in files of Arrow."""
    names = _file_names(read_json(folder / _STATE, _EXPORT))
    table = ArrowTable([folder / name for name in names], _EXPORT)
    images = table.numbers("pixel_values", (table.rows, *metadata.image_shape), np.float32)
    labels = table.numbers("label", (table.rows,), np.int64)
    targets = None
    if metadata.label_kind != "hard":
        targets = table.numbers("target", (table.rows, -1), np.float32)
    dtypes: dict[str, type[np.generic]] = {"weights": np.float32, "source_indices": np.int64, "scores": np.float64}
    of_images = {name: table.numbers(name, (table.rows,), dtypes[name]) for name in metadata.of_images}
    return _arguments(metadata, images, labels, targets, _preprocessing(folder, metadata)) | of_images


def _file_names(state: Any) -> list[str]:
    """Names of files beside `state.json`, never paths."""
    entries = state.get("_data_files") if isinstance(state, Mapping) else None
    names = [entry.get("filename") if isinstance(entry, Mapping) else None for entry in entries or ()]
    if not names or not all(isinstance(name, str) and re.fullmatch(r"[\w-]+\.arrow", name) for name in names):
        raise CondenseError(f"its {_STATE} names no files of Arrow beside it; give {_EXPORT}")
    return [str(name) for name in names]
