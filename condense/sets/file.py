"""The HDF5 form of a synthetic set; `docs/format.md` documents it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from condense.data.info import DataInfo
from condense.data.preprocessing import preprocessing_from_arrays
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, read_contents
from condense.runtime.hdf5.writer import write_contents
from condense.runtime.inputs import parse_json
from condense.runtime.validation import validated
from condense.sets.content import SetContent
from condense.sets.decoders import Tiles, decoder_from_attributes, decoder_to_attributes

KIND = "condense synthetic set"
SCHEMA = 1
_LARGEST_FACTOR = 1000  # tiles on a side of a stored image: no image has as many pixels
_FACTS = ("protocol", "learned_lr")  # attributes that are absent where the set has None


def write_set(path: str | Path, synthetic: SetContent) -> None:
    """Write the file at `path`; raises `CondenseError` if that is impossible."""
    write_contents(path, _contents(synthetic), kind=KIND, schema=SCHEMA)


def _contents(synthetic: SetContent) -> Contents:
    info = synthetic.info
    preprocessing = info.preprocessing
    arrays = {"images": synthetic.stored.numpy(), "labels": synthetic.stored_labels.numpy()}
    if synthetic.stored_targets is not None:
        arrays["targets"] = synthetic.stored_targets.numpy()
    arrays |= {f"preprocessing/{name}": array for name, array in preprocessing.to_arrays().items()}
    arrays |= {f"metrics/{name}": series.numpy() for name, series in sorted(synthetic.metrics.items())}
    attributes: dict[str, dict[str, Any]] = {
        "/": _root_attributes(synthetic),
        "images": {"space": synthetic.space},
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
    if synthetic.decoder is not None:
        attributes["decoder"] = decoder_to_attributes(synthetic.decoder)
    return Contents(arrays, attributes)


def _root_attributes(synthetic: SetContent) -> dict[str, Any]:
    facts = {name: getattr(synthetic, name) for name in _FACTS}
    if synthetic.augmentation is not None:
        facts["augmentation"] = json.dumps(synthetic.augmentation)
    return {
        "bytes": synthetic.bytes,
        "label_kind": synthetic.label_kind,
        "temperature": synthetic.temperature,
        "provenance": json.dumps(synthetic.provenance),
        **{name: value for name, value in facts.items() if value is not None},
    }


def read_set(path: str | Path) -> dict[str, Any]:
    """The arguments of `SyntheticSet` that the file at `path` holds; its checksums are verified.

    Raises `CondenseError` for every file that is not a whole set of this schema version or an older one.
    """
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    try:
        return _arguments(contents)
    except KeyError as error:
        raise CondenseError(f"{path} lacks {error}; make it again") from error
    except CondenseError as error:
        raise CondenseError(f"{path}: {error}") from error


class _Facts(BaseModel):
    """Attributes of an object, of the types that they are written with; others are not looked at."""

    model_config = ConfigDict(strict=True)


class _Root(_Facts):
    label_kind: Literal["hard", "probabilities", "logits"]
    temperature: float
    provenance: str
    augmentation: str | None = None
    protocol: str | None = None
    learned_lr: float | None = None


class _Images(_Facts):
    space: str


class _Data(_Facts):
    name: str
    classes: list[str]
    image_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    mirror: bool
    fingerprint: str


class _Kind(_Facts):
    kind: str


class _Decoder(_Kind):
    factor: int = Field(le=_LARGEST_FACTOR)
    factors: list[int] | None = None


def _arguments(contents: Contents) -> dict[str, Any]:
    root, arrays = validated(_Root, contents.attributes["/"]), contents.arrays
    decoder = contents.attributes.get("decoder")
    return {
        "stored": _tensor(arrays, "images"),
        "stored_labels": _tensor(arrays, "labels"),
        "space": validated(_Images, contents.attributes["images"]).space,
        "decoder": None if decoder is None else _decoder(validated(_Decoder, decoder)),
        "stored_targets": _tensor(arrays, "targets") if "targets" in arrays else None,
        "label_kind": root.label_kind,
        "temperature": root.temperature,
        "info": _data_info(contents),
        "augmentation": None if root.augmentation is None else _mapping("augmentation", root.augmentation),
        "provenance": _mapping("provenance", root.provenance),
        "metrics": {name: _tensor({name: series}, name) for name, series in _below(arrays, "metrics/").items()},
        **{name: getattr(root, name) for name in _FACTS},
    }


def _tensor(arrays: Mapping[str, np.ndarray], name: str) -> torch.Tensor:
    try:
        return torch.from_numpy(arrays[name])
    except (TypeError, ValueError) as error:  # texts, and numbers that torch does not have
        raise CondenseError(f"its {name} are {arrays[name].dtype}; make it again") from error


def _mapping(name: str, text: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise CondenseError(f"its {name} cannot be read ({error}); make it again") from error
    if not isinstance(value, dict):
        raise CondenseError(f"its {name} is no mapping; make it again")
    return value


def _decoder(facts: _Decoder) -> Tiles:
    return decoder_from_attributes(facts.model_dump(exclude_none=True))


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


def _below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
