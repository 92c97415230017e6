"""The HDF5 form of a synthetic set; `docs/format.md` documents it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from condense.data.info import DataInfo
from condense.data.preprocessing import preprocessing_from_arrays
from condense.labels import Labels, labels_from_arrays
from condense.labels.labels import Stored
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, Facts, kind_of, read_contents
from condense.runtime.hdf5.writer import Pieces, write_contents
from condense.runtime.inputs import json_mapping
from condense.runtime.validation import validated
from condense.sets.content import OF_IMAGES, SetContent
from condense.sets.decoders import Decoder, decoder_from_parts
from condense.sets.large import LARGE, Images, StoredRows

KIND = "condense synthetic set"
SCHEMA = 2
ArrayT = TypeVar("ArrayT")
_FACTS = ("protocol", "learned_lr", "mirrored")  # attributes that are absent where the set has None or False


def write_set(path: str | Path, synthetic: SetContent) -> None:
    """Write the file at `path`; raises `CondenseError` if that is impossible."""
    labels = synthetic.stored_labels
    rows = {
        f"targets/{name}": Pieces(array.shape, array.dtype, array.pieces())
        for name, array in labels.arrays.items()
        if not isinstance(array, Tensor)
    }
    if isinstance(synthetic.stored, StoredRows):
        images = synthetic.stored
        dtype = torch.empty(0, dtype=images.dtype).numpy().dtype
        rows["images"] = Pieces(tuple(images.shape), dtype, images.pieces())
    write_contents(path, _contents(synthetic), kind=KIND, schema=SCHEMA, rows=rows)


def _contents(synthetic: SetContent) -> Contents:
    info, labels, decoder = synthetic.info, synthetic.stored_labels, synthetic.decoder
    preprocessing = info.preprocessing
    images = synthetic.stored
    tensors = {"images": images if isinstance(images, Tensor) else None, "labels": labels.classes}
    tensors |= {name: getattr(synthetic, name) for name in OF_IMAGES}
    tensors |= {f"targets/{name}": each for name, each in labels.arrays.items() if isinstance(each, Tensor)}
    tensors |= {f"metrics/{name}": series for name, series in sorted(synthetic.metrics.items())}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
    arrays |= {f"preprocessing/{name}": array for name, array in preprocessing.to_arrays().items()}
    attributes: dict[str, dict[str, Any]] = {
        "/": _root_attributes(synthetic),
        "images": {"space": synthetic.space},
        "targets": {"kind": labels.kind, **labels.attributes},
        "data": {
            "name": info.name,
            "classes": list(info.classes),
            "image_shape": list(info.image_shape),
            "mirror": info.mirror,
            "fingerprint": info.fingerprint,
        },
        "preprocessing": {"kind": preprocessing.kind},
        "metrics": {},
    }
    if decoder is not None:
        attributes["decoder"] = {"kind": decoder.kind, **decoder.attributes}
        arrays |= {f"decoder/{name}": array for name, array in decoder.arrays.items()}
    return Contents(arrays, attributes)


def _root_attributes(synthetic: SetContent) -> dict[str, Any]:
    facts = {name: getattr(synthetic, name) for name in _FACTS}
    if synthetic.augmentation is not None:
        facts["augmentation"] = json.dumps(synthetic.augmentation)
    return {
        "bytes": synthetic.bytes,
        "provenance": json.dumps(synthetic.provenance),
        **{name: value for name, value in facts.items() if value is not None and value is not False},
    }


def is_set(path: Path) -> bool:
    """Whether there is a file at `path` that says it is a synthetic set."""
    return kind_of(path) == KIND


def read_set(path: str | Path) -> dict[str, Any]:
    """The arguments of `SyntheticSet` that the file at `path` holds; its checksums are verified.

    Raises `CondenseError` for every file that is not a whole set of this schema version or an older one.
    """
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    try:
        return _arguments(_of_schema_2(contents))
    except KeyError as error:
        raise CondenseError(f"{path} lacks {error}; make it again") from error
    except CondenseError as error:
        raise CondenseError(f"{path}: {error}") from error


class _Root(Facts):
    provenance: str
    augmentation: str | None = None
    protocol: str | None = None
    learned_lr: float | None = None
    mirrored: bool = False


class _Images(Facts):
    space: str


class _Data(Facts):
    name: str
    classes: list[str]
    image_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    mirror: bool
    fingerprint: str


class _Kind(Facts):
    kind: str


def _of_schema_2(contents: Contents) -> Contents:
    """Contents of the first schema, which had soft labels and what they are at the top, as this one has them."""
    attributes, arrays = dict(contents.attributes), dict(contents.arrays)
    if attributes["/"]["schema"] > 1:
        return contents
    root = dict(attributes["/"])
    kind, temperature = root.pop("label_kind", None), root.pop("temperature", None)
    attributes |= {"/": root, "targets": {"kind": kind, "temperature": temperature}}
    if "targets" in arrays:
        arrays["targets/values"] = arrays.pop("targets")
    return Contents(arrays, attributes, contents.rows)


def _arguments(contents: Contents) -> dict[str, Any]:
    root, arrays = validated(_Root, contents.attributes["/"]), contents.arrays
    return {
        "stored": _images(contents),
        "stored_labels": _labels(contents),
        "space": validated(_Images, contents.attributes["images"]).space,
        "decoder": _decoder(contents),
        "info": _data_info(contents),
        "augmentation": None if root.augmentation is None else json_mapping("augmentation", root.augmentation),
        "provenance": json_mapping("provenance", root.provenance),
        "metrics": {name: _tensor({name: series}, name) for name, series in _below(arrays, "metrics/").items()},
        **{name: _tensor(arrays, name) for name in OF_IMAGES if name in arrays},
        **{name: getattr(root, name) for name in _FACTS},
    }


def _labels(contents: Contents) -> Labels:
    attributes = contents.attributes["targets"]
    arrays: dict[str, Stored] = {
        name: _tensor({name: array}, name) for name, array in _below(contents.arrays, "targets/").items()
    }
    rows = _below(contents.rows, "targets/")
    classes = _tensor(contents.arrays, "labels") if "labels" in contents.arrays else None
    return labels_from_arrays(validated(_Kind, attributes).kind, arrays | rows, attributes, classes)


def _images(contents: Contents) -> Images:
    rows = contents.rows.get("images")
    if rows is None:
        return _tensor(contents.arrays, "images")
    stored = StoredRows.of(rows)
    return stored if stored.numel() * stored.element_size() > LARGE else stored.whole()


def _decoder(contents: Contents) -> Decoder | None:
    if "decoder" not in contents.attributes:
        return None
    attributes = dict(contents.attributes["decoder"])
    kind = validated(_Kind, attributes).kind
    del attributes["kind"]
    return decoder_from_parts(kind, attributes, _below(contents.arrays, "decoder/"))


def _tensor(arrays: Mapping[str, np.ndarray], name: str) -> torch.Tensor:
    try:
        return torch.from_numpy(arrays[name])
    except (TypeError, ValueError) as error:  # texts, and numbers that torch does not have
        raise CondenseError(f"its {name} are {arrays[name].dtype}; make it again") from error


def _data_info(contents: Contents) -> DataInfo:
    data = validated(_Data, contents.attributes["data"])
    kind = validated(_Kind, contents.attributes["preprocessing"]).kind
    channels, height, width = data.image_shape
    return DataInfo(
        name=data.name,
        classes=tuple(data.classes),
        image_shape=(channels, height, width),
        mirror=data.mirror,
        fingerprint=data.fingerprint,
        preprocessing=preprocessing_from_arrays(kind, _below(contents.arrays, "preprocessing/")),
    )


def _below(arrays: Mapping[str, ArrayT], prefix: str) -> dict[str, ArrayT]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
