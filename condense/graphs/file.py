"""The HDF5 form of condensed graphs; `docs/format.md` documents it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from condense.graphs.alphabet import Alphabet
from condense.graphs.real import GraphInfo, Metric
from condense.graphs.storing import read_adjacency, read_features, read_structure, real, whole
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, Facts, read_contents
from condense.runtime.hdf5.writer import write_contents
from condense.runtime.inputs import json_mapping
from condense.runtime.validation import validated

GRAPHS, NODES = "condense graph set", "condense node graph"
SCHEMA = 1
_MOST_LABELS = 8192  # of an identity table, which is made and not read: 256 MB
SetT = TypeVar("SetT")


def write(
    path: str | Path,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    info: GraphInfo,
    size: int,
    provenance: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Write a file of this kind, atomically; raises `CondenseError` if that is impossible."""
    data: dict[str, Any] = {
        "name": info.name,
        "classes": list(info.classes),
        "features": info.features,
        "metric": info.metric,
        "fingerprint": info.fingerprint,
    }
    root = {"bytes": size, "provenance": json.dumps(provenance), **facts}
    write_contents(path, Contents(dict(arrays), {"/": root, "data": data}), kind=kind, schema=SCHEMA)


def checked(path: str | Path, make: Callable[[], SetT]) -> SetT:
    """The set that `make` reads from `path`; every error names the file."""
    try:
        return make()
    except KeyError as error:
        raise CondenseError(f"{path} lacks {error}; make it again") from error
    except CondenseError as error:
        raise error if str(path) in str(error) else CondenseError(f"{path}: {error}") from error


class _Root(Facts):
    provenance: str
    directed: bool = False
    readout: str = "mean"
    hops: int | None = None
    normalize_rows: bool = False


class _Data(Facts):
    name: str
    classes: list[str] = Field(min_length=2)
    features: int = Field(ge=1)
    metric: Metric
    fingerprint: str


def read_graphs(path: str | Path) -> dict[str, Any]:
    """The arguments of `GraphSet` that the file at `path` holds; its checksums are verified."""
    contents = read_contents(path, kind=GRAPHS, schema=SCHEMA)
    root, arrays = validated(_Root, contents.attributes["/"]), contents.arrays
    if root.readout not in ("mean", "sum"):
        raise CondenseError(f"its readout is {root.readout!r}, and mean and sum are known; upgrade condense")
    info = _info(contents, directed=root.directed, labelled="node_label" in arrays)
    node_labels = whole(arrays, "node_label") if "node_label" in arrays else None
    features = None if node_labels is not None else real(arrays, "x", 2)
    graphs, roots = read_structure(arrays, node_labels, features, directed=root.directed)
    return {
        "graphs": graphs,
        "roots": roots,
        "labels": _labels(arrays),
        "info": info,
        "weights": real(arrays, "weight") if "weight" in arrays else None,
        "root_counts": whole(arrays, "root_count") if "root_count" in arrays else None,
        "degrees": whole(arrays, "degree") if "degree" in arrays else None,
        "source_indices": whole(arrays, "source") if "source" in arrays else None,
        "hops": root.hops,
        "readout": root.readout,
        "provenance": json_mapping("provenance", root.provenance),
    }


def read_nodes(path: str | Path) -> dict[str, Any]:
    """The arguments of `NodeGraphSet` that the file at `path` holds; its checksums are verified."""
    contents = read_contents(path, kind=NODES, schema=SCHEMA)
    root, arrays = validated(_Root, contents.attributes["/"]), contents.arrays
    info = _info(contents, directed=False, labelled=False)
    labels = _labels(arrays)
    edges, weights = read_adjacency(arrays, len(labels))
    return {
        "features": read_features(arrays, info.features),
        "labels": labels,
        "info": info,
        "edges": edges,
        "edge_weights": weights,
        "weights": real(arrays, "weight") if "weight" in arrays else None,
        "indices": whole(arrays, "index") if "index" in arrays else None,
        "normalize_rows": root.normalize_rows,
        "provenance": json_mapping("provenance", root.provenance),
    }


def _labels(arrays: Mapping[str, np.ndarray]) -> Tensor:
    """Classes where `y` has one dimension, else probabilities."""
    return whole(arrays, "y") if arrays["y"].ndim == 1 else real(arrays, "y", 2)


def _info(contents: Contents, *, directed: bool, labelled: bool) -> GraphInfo:
    data = validated(_Data, contents.attributes["data"])
    return GraphInfo(
        name=data.name,
        classes=tuple(data.classes),
        features=data.features,
        fingerprint=data.fingerprint,
        metric=data.metric,
        directed=directed,
        alphabet=_alphabet(contents.arrays, data.features) if labelled else None,
    )


def _alphabet(arrays: Mapping[str, np.ndarray], features: int) -> Alphabet:
    if "label_table" in arrays:
        table = real(arrays, "label_table", 2)
        if table.shape[1] != features or not table.isfinite().all():
            raise CondenseError(f"its label_table has {table.shape[1]} features, not {features}; make it again")
        return Alphabet(table, len(table))
    if features > _MOST_LABELS:
        raise CondenseError(
            f"it declares {features:,} node labels, and at most {_MOST_LABELS:,} are made; make it again"
        )
    return Alphabet(torch.eye(features), features)
