"""A folder of expert trajectories: one HDF5 file for each expert, and one JSON that says what they are of.

    buffer.json               network, names and shapes of its parameters, data, preprocessing, how experts are trained
    preprocessing.safetensors the numbers of the preprocessing, so that it can be compared with one fitted elsewhere
    expert-0000.h5            snapshots [epochs + 1, P], statistics [epochs + 1, S], test accuracies, digest, machine
    expert-0001.partial/      an expert in training: what it takes to go on (see `buffers.experts`)

A snapshot is one chunk, so reading one costs its own bytes and no more. Expert files appear when they are whole.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from buffers.rules import ExpertRule
from condense.data.info import DataInfo
from condense.data.preprocessing import Preprocessing, preprocessing_from_arrays
from condense.networks.layout import Layout
from condense.runtime.errors import CondenseError
from condense.runtime.files import atomic_write, write_json
from condense.runtime.seeds import generator
from condense.runtime.tensor_files import load_tensors, save_tensors
from condense.runtime.validation import Closed, validated

INDEX, PREPROCESSING = "buffer.json", "preprocessing.safetensors"
SCHEMA = 1


class BufferDescription(Closed):
    """What a buffer is of: everything that must agree before its experts can be used, and how they were trained."""

    format: Literal["condense expert buffer"] = "condense expert buffer"
    schema_version: int = SCHEMA
    network: str = Field(description="full name")
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    parameters: tuple[tuple[str, tuple[int, ...]], ...] = Field(
        description="name and shape, in the order of a snapshot"
    )
    statistics: tuple[tuple[str, tuple[int, ...]], ...] = Field(description="those of BatchNorm, in their order")
    data: str = Field(description="base name of the real data")
    fingerprint: str
    preprocessing: str = Field(description="its kind")
    identity: str = Field(description="digest of fingerprint, mirroring and preprocessing")
    mirror: bool
    rule: ExpertRule
    epochs: int = Field(ge=1)
    dtype: Literal["float32", "float16"] = "float32"
    seed: int = Field(ge=0)
    compile: Literal["on", "off"] = Field(default="off", description="was the training step compiled")
    threads: int | None = Field(default=None, ge=1, description="processor threads of each training, if known")
    origin: Literal["recorded", "imported"] = Field(
        default="recorded", description="imported: of the training only its kind is known"
    )
    versions: dict[str, str]

    @property
    def layout(self) -> Layout:
        """Where each parameter lies in a snapshot."""
        return _layout(self.parameters)

    @property
    def statistics_layout(self) -> Layout:
        """Where each statistic of BatchNorm lies."""
        return _layout(self.statistics)


def _layout(entries: tuple[tuple[str, tuple[int, ...]], ...]) -> Layout:
    return Layout(tuple(name for name, _ in entries), tuple(shape for _, shape in entries))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One whole expert: `snapshots` float32 [epochs + 1, P], `statistics` [epochs + 1, S], test accuracy by epoch."""

    snapshots: Tensor
    statistics: Tensor
    accuracies: tuple[float, ...]
    seconds: float
    made_with: dict[str, Any] = field(default_factory=dict)  # machine, packages, commit


class ExpertBuffer:
    """Experts to read from.

    `experts` and `epochs` count; epoch 0 is the initialisation. Vectors are flat float32 [P] in the order of
    `layout`, whatever they are stored as.
    """

    def __init__(self, folder: str | Path, description: BufferDescription) -> None:
        self.folder, self.description = Path(folder), description
        self.layout = description.layout
        self.epochs = description.epochs

    @classmethod
    def open(cls, folder: str | Path) -> ExpertBuffer:
        """The buffer in `folder`; raises `CondenseError` if there is none, or none that can be read."""
        buffer = cls(folder, read_description(Path(folder)))
        if not buffer.experts:
            raise CondenseError(f"{folder} has no finished expert yet; go on with `condense experts`")
        return buffer

    @property
    def network(self) -> str:
        """The full name of the experts' network."""
        return self.description.network

    @property
    def kind(self) -> str:
        """How the experts were trained: sgd, flat or smooth."""
        return self.description.rule.optimizer

    @property
    def training(self) -> dict[str, Any]:
        """The values of that by the options of `condense experts`; empty for imported experts."""
        imported = self.description.origin == "imported"
        return {} if imported else self.description.rule.used | {"epochs": self.epochs}

    @cached_property
    def identity(self) -> str:
        """A digest of what the buffer is of and of everything that methods read in it."""
        digest = hashlib.blake2b(self.description.model_dump_json(exclude={"versions"}).encode(), digest_size=16)
        for expert in range(self.experts):
            with self._file(expert) as file:
                digest.update(file.attrs["digest"].encode())
        return digest.hexdigest()

    @cached_property
    def files(self) -> list[Path]:
        """The finished experts."""
        return sorted(self.folder.glob("expert-*.h5"))

    @property
    def experts(self) -> int:
        """How many are finished."""
        return len(self.files)

    def sample(self, seed: int, iteration: int, max_start: int, span: int, min_start: int = 0) -> tuple[Tensor, Tensor]:
        """The parameters at a drawn start, `min_start` <= start < `max_start`, and `span` epochs later.

        Raises `CondenseError` where the experts end before.
        """
        self.check_window(max_start, span, min_start)
        expert, start = self.draw(seed, iteration, max_start, min_start)
        first, last = self._rows("snapshots", expert, start, start + span)
        return first, last

    def draw(self, seed: int, iteration: int, max_start: int, min_start: int = 0) -> tuple[int, int]:
        """An expert and an epoch, `min_start` <= epoch < `max_start`: a function of seed and iteration."""
        draws = generator(seed, "expert", iteration)
        expert = int(torch.randint(self.experts, (1,), generator=draws))
        return expert, int(torch.randint(min_start, max_start, (1,), generator=draws))

    def check_window(self, max_start: int, span: int, min_start: int = 0) -> None:
        """Raise `CondenseError` unless starts below `max_start` with `span` epochs after them are recorded."""
        if not 0 <= min_start < max_start or span < 1:
            raise CondenseError(f"starts from {min_start} to below {max_start} and a span of {span} make no window")
        if max_start - 1 + span > self.epochs:
            raise CondenseError(
                f"starts below {max_start} with {span} epochs after them need experts of {max_start - 1 + span} "
                f"epochs, these have {self.epochs}; lower --max-start or --span, or record longer ones"
            )

    def snapshot(self, expert: int, epoch: int) -> Tensor:
        """The parameters of an expert after so many epochs, a new float32 [P]."""
        return self._rows("snapshots", expert, epoch)[0]

    def statistics(self, expert: int, epoch: int) -> dict[str, Tensor]:
        """The running statistics of BatchNorm by name; empty for networks without it."""
        return self.description.statistics_layout.unflatten(self._rows("statistics", expert, epoch)[0])

    def accuracies(self, expert: int) -> list[float]:
        """Test accuracy, a fraction, after each epoch."""
        with self._file(expert) as file:
            return [float(value) for value in file["accuracies"]]

    def seconds(self, expert: int) -> float:
        """That its training took."""
        with self._file(expert) as file:
            return float(file.attrs["seconds"])

    def made_with(self, expert: int) -> dict[str, Any]:
        """Machine, packages and commit of the process that finished it; empty where nobody knows."""
        with self._file(expert) as file:
            found: dict[str, Any] = json.loads(file.attrs.get("made_with", "{}"))
        return found

    @property
    def bytes(self) -> int:
        """Of all finished experts."""
        return sum(path.stat().st_size for path in self.files)

    def _rows(self, name: str, expert: int, *epochs: int) -> list[Tensor]:
        try:
            with self._file(expert) as file:
                rows = [file[name][epoch] for epoch in epochs]  # HDF5 verifies the checksum of each chunk
        except OSError as error:
            raise CondenseError(
                f"{self.files[expert]} is damaged at epoch {' or '.join(map(str, epochs))}; remove it"
            ) from error
        return [torch.from_numpy(row.astype(np.float32, copy=False)) for row in rows]

    def _file(self, expert: int) -> h5py.File:
        try:
            return h5py.File(self.files[expert], "r")
        except OSError as error:
            raise CondenseError(f"{self.files[expert]} is damaged; remove it and record it again") from error

    def check_matches(self, network: str, info: DataInfo) -> None:
        """Raise `CondenseError` with the field that differs unless the experts are such networks on this data."""
        mine, refit = self.description, "give the --normalization of the experts"
        alike = preprocessed_alike(self.folder, mine, info)
        for name, here, there, way_out in (
            ("network", network, mine.network, f"give --network {mine.network}"),
            ("image shape", info.image_shape, mine.image_shape, "load the data at that --image-size"),
            ("classes", info.classes, mine.classes, f"give the data of the experts ({mine.data})"),
            ("fingerprint", info.fingerprint, mine.fingerprint, f"give the data of the experts ({mine.data})"),
            ("mirror", info.mirror, mine.mirror, "give --mirror or --no-mirror as for the experts"),
            ("preprocessing", info.preprocessing.kind, mine.preprocessing, refit),
            ("preprocessing", mine.preprocessing if alike else "one with other numbers", mine.preprocessing, refit),
        ):
            if here != there:
                raise CondenseError(
                    f"the experts of {self.folder} have another {name} ({there}, not {here}); {way_out}, "
                    "or record new ones"
                )


def read_description(folder: Path) -> BufferDescription:
    """What the buffer in `folder` is of; raises `CondenseError` if there is none."""
    try:
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CondenseError(
            f"{folder} is no expert buffer (it has no {INDEX}); record one with `condense experts`"
        ) from None
    except (OSError, ValueError) as error:
        raise CondenseError(f"{folder / INDEX} cannot be read ({error}); record the experts again") from error
    content = content if isinstance(content, dict) else {}
    if content.get("schema_version", SCHEMA) > SCHEMA:
        raise CondenseError(f"{folder} has schema {content['schema_version']}, newer than {SCHEMA}; upgrade condense")
    return validated(BufferDescription, content, origin=f"{folder / INDEX}: ")


def write_description(folder: Path, description: BufferDescription) -> None:
    """Write the JSON, atomically."""
    write_json(folder / INDEX, description.model_dump(mode="json"))


def write_preprocessing(folder: Path, preprocessing: Preprocessing) -> None:
    """Write its numbers, atomically."""
    arrays = preprocessing.to_arrays()
    save_tensors(folder / PREPROCESSING, {name: torch.from_numpy(array) for name, array in arrays.items()}, {})


def preprocessed_alike(folder: Path, description: BufferDescription, info: DataInfo) -> bool:
    """Whether data is preprocessed as that of the experts, up to the rounding of fits on different processors.

    Raises `CondenseError` if the numbers in `folder` are damaged. Buffers of earlier versions have none: then only
    equal bits are alike.
    """
    path = folder / PREPROCESSING
    if info.identity == description.identity or not path.exists():
        return info.identity == description.identity
    try:
        numbers, _ = load_tensors(path)
    except (SafetensorError, OSError) as error:
        raise CondenseError(f"{path} is damaged ({error}); copy it again, or record the experts again") from error
    arrays = {name: values.numpy() for name, values in numbers.items()}
    return preprocessing_from_arrays(description.preprocessing, arrays).equals(info.preprocessing)


def expert_path(folder: Path, number: int) -> Path:
    """Where a finished expert is."""
    return folder / f"expert-{number:04d}.h5"


def number_of(path: Path) -> int:
    """The number of the expert that is there.

    >>> number_of(expert_path(Path("experts"), 12))
    12
    """
    return int(path.stem.removeprefix("expert-"))


def write_expert(path: Path, trajectory: Trajectory, dtype: str) -> None:
    """Write a whole expert, atomically."""
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        for name, values in (("snapshots", trajectory.snapshots), ("statistics", trajectory.statistics)):
            rows = values.numpy().astype(dtype)
            chunks = (1, rows.shape[1]) if rows.shape[1] else None
            file.create_dataset(name, data=rows, chunks=chunks, fletcher32=bool(chunks), track_times=False)
        digest = hashlib.blake2b(trajectory.snapshots.numpy().tobytes(), digest_size=16)
        digest.update(trajectory.statistics.numpy().tobytes())
        file.attrs["digest"] = digest.hexdigest()
        file.create_dataset("accuracies", data=np.array(trajectory.accuracies, np.float64))
        file.attrs["seconds"] = trajectory.seconds
        file.attrs["made_with"] = json.dumps(trajectory.made_with, sort_keys=True)
