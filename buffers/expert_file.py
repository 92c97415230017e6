"""The file of one expert: an HDF5 file that vouches for itself; `docs/format.md` documents it.

A snapshot is one row with a checksum of its own, so reading one costs its own bytes and no more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.objects import Version, open_hdf5
from condense.runtime.hdf5.reader import Contents, Rows, open_rows, read_contents
from condense.runtime.hdf5.writer import Pieces, write_contents
from condense.runtime.inputs import parse_json
from condense.runtime.validation import validated

KIND = "condense expert"
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One whole expert: `snapshots` float32 [epochs + 1, P], `statistics` [epochs + 1, S], test accuracy by epoch."""

    snapshots: Tensor
    statistics: Tensor
    accuracies: tuple[float, ...]
    seconds: float
    made_with: dict[str, Any] = field(default_factory=dict)  # machine, packages, commit

    @property
    def digest(self) -> str:
        """Of its parameters and statistics as they are here, whatever they will be stored as."""
        digest = hashlib.blake2b(self.snapshots.numpy().tobytes(), digest_size=16)
        digest.update(self.statistics.numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ExpertFile:
    """What the file of an expert tells; snapshots and statistics are read when they are needed."""

    version: Version
    snapshots: Rows
    statistics: Rows | None  # of networks with BatchNorm
    accuracies: tuple[float, ...]
    digest: str
    seconds: float
    made_with: dict[str, Any]


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True)

    digest: str
    seconds: float
    made_with: Annotated[str, Field(description="JSON")] = "{}"


def write_expert(path: Path, trajectory: Trajectory, dtype: str) -> None:
    """Write a whole expert, atomically; raises `CondenseError` where it cannot be written."""
    arrays = {"accuracies": np.array(trajectory.accuracies, np.float64)}
    rows = {"snapshots": _pieces(trajectory.snapshots, dtype)}
    if trajectory.statistics.numel():  # few, and a variance may be beyond the range of float16
        rows["statistics"] = _pieces(trajectory.statistics, "float32")
    else:
        arrays["statistics"] = trajectory.statistics.numpy()
    facts = {
        "digest": trajectory.digest,
        "seconds": trajectory.seconds,
        "made_with": json.dumps(trajectory.made_with, sort_keys=True),
    }
    write_contents(path, Contents(arrays, {"/": facts}), kind=KIND, schema=SCHEMA, rows=rows)


def _pieces(values: Tensor, dtype: str) -> Pieces:
    return Pieces(tuple(values.shape), np.dtype(dtype), (row.numpy().astype(dtype) for row in values.split(1)))


def open_expert(path: Path) -> ExpertFile:
    """Read and verify everything but snapshots and statistics, which are verified when they are read.

    Raises `CondenseError` for a file that is damaged or no expert.
    """
    with open_hdf5(path, "an expert", "remove it and record it again") as file:
        facts = file.attributes(file.item("/"))
        if not {"format", "checksum"} & facts.keys():  # of an earlier version: chunks have a checksum of HDF5
            rows = {name: open_rows(file, name) for name in ("snapshots", "statistics")}
            return _expert(path, file.version, facts, file.array("accuracies"), rows)
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    if not {"snapshots"} <= contents.rows.keys() or "accuracies" not in contents.arrays:
        raise CondenseError(f"{path} lacks snapshots or accuracies; remove it and record it again")
    version = contents.rows["snapshots"].version
    return _expert(path, version, contents.attributes["/"], contents.arrays["accuracies"], contents.rows)


def _expert(
    path: Path, version: Version, attributes: Mapping[str, Any], accuracies: np.ndarray, rows: Mapping[str, Rows]
) -> ExpertFile:
    facts = validated(_Facts, attributes, origin=f"{path} is damaged: ")
    try:
        made_with = parse_json(facts.made_with)
    except ValueError:
        made_with = None
    kinds = {rows[name].dtype.kind for name in rows} | {accuracies.dtype.kind}
    if not isinstance(made_with, dict) or accuracies.ndim != 1 or kinds != {"f"}:
        raise CondenseError(f"{path} is damaged; remove it and record it again")
    return ExpertFile(
        version,
        rows["snapshots"],
        rows.get("statistics"),
        tuple(accuracies.tolist()),
        facts.digest,
        facts.seconds,
        made_with,
    )
