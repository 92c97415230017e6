"""The HDF5 form of a synthetic set; `docs/format.md` documents it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from condense.data.info import DataInfo
from condense.data.preprocessing import preprocessing_from_arrays
from condense.decoders import decoder_from_attributes, decoder_to_attributes
from condense.runtime.errors import CondenseError
from condense.storage import Contents, read_contents, write_contents

if TYPE_CHECKING:
    from condense.synthetic_set import SyntheticSet

KIND = "condense synthetic set"
SCHEMA = 1
_FACTS = ("protocol", "learned_lr")  # attributes that are absent where the set has None


def write_set(path: str | Path, synthetic: SyntheticSet) -> None:
    """Write the file at `path`; raises `CondenseError` if that is impossible."""
    write_contents(path, _contents(synthetic), kind=KIND, schema=SCHEMA)


def _contents(synthetic: SyntheticSet) -> Contents:
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


def _root_attributes(synthetic: SyntheticSet) -> dict[str, Any]:
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


def _arguments(contents: Contents) -> dict[str, Any]:
    root, arrays = contents.attributes["/"], contents.arrays
    decoder = contents.attributes.get("decoder")
    augmentation = root.get("augmentation")
    return {
        "stored": torch.from_numpy(arrays["images"]),
        "stored_labels": torch.from_numpy(arrays["labels"]),
        "space": contents.attributes["images"]["space"],
        "decoder": None if decoder is None else decoder_from_attributes(decoder),
        "stored_targets": torch.from_numpy(arrays["targets"]) if "targets" in arrays else None,
        "label_kind": root["label_kind"],
        "temperature": root["temperature"],
        "info": _data_info(contents),
        "augmentation": None if augmentation is None else json.loads(augmentation),
        "provenance": json.loads(root["provenance"]),
        "metrics": {name: torch.from_numpy(series) for name, series in _below(arrays, "metrics/").items()},
        **{name: root.get(name) for name in _FACTS},
    }


def _data_info(contents: Contents) -> DataInfo:
    data, kind = contents.attributes["data"], contents.attributes["preprocessing"]["kind"]
    channels, height, width = data["image_shape"]
    return DataInfo(
        name=data["name"],
        classes=tuple(data["classes"]),
        image_shape=(channels, height, width),
        mirror=data["mirror"],
        fingerprint=data["fingerprint"],
        preprocessing=preprocessing_from_arrays(kind, _below(contents.arrays, "preprocessing/")),
    )


def _below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
