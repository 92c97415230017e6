"""A folder of expert trajectories: one HDF5 file for each expert, and one JSON that says what they are of.

    buffer.json               network, names and shapes of its parameters, data, preprocessing, how experts are trained,
                              and accuracies, seconds and digest of every finished one (see `buffers.index`)
    preprocessing.safetensors the numbers of the preprocessing, so that it can be compared with one fitted elsewhere
    expert-0000.h5            snapshots, statistics, test accuracies, digest, machine (see `buffers.expert_file`)
    expert-0001.partial/      an expert in training: what it takes to go on (see `buffers.experts`)

Expert files appear when they are whole.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from buffers.expert_file import ExpertFile, Trajectory, open_expert, write_expert
from buffers.index import BufferDescription, ExpertFacts, preprocessed_alike, read_description, write_description
from condense.data.info import DataInfo
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.objects import version_of
from condense.runtime.inputs import regular_file
from condense.runtime.seeds import generator

__all__ = ["ExpertBuffer", "Trajectory", "expert_path", "list_experts", "number_of", "write_expert"]


class ExpertBuffer:
    """Experts to read from.

    `experts` and `epochs` count; epoch 0 is the initialisation. Vectors are flat float32 [P] in the order of
    `layout`, whatever they are stored as. With `count` it is of the first so many only.
    """

    def __init__(self, folder: str | Path, description: BufferDescription, count: int | None = None) -> None:
        self.folder, self.description, self._count = Path(folder), description, count
        self.layout = description.layout
        self.epochs = description.epochs
        self._opened: dict[Path, ExpertFile] = {}

    @classmethod
    def open(cls, folder: str | Path) -> ExpertBuffer:
        """The buffer in `folder`; raises `CondenseError` if there is none, or none that can be read."""
        buffer = cls(folder, read_description(Path(folder)))
        if not buffer.experts:
            raise CondenseError(f"{folder} has no finished expert yet; go on with `condense experts`")
        return buffer

    def first(self, count: int) -> ExpertBuffer:
        """The first `count` experts by themselves; raises `CondenseError` if there are fewer."""
        if count > self.experts:
            raise CondenseError(
                f"{self.folder} has {self.experts} experts and --max-experts {count} asks for more; lower it, leave it "
                "out, or record more"
            )
        return ExpertBuffer(self.folder, self.description, count)

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
        described = self.description.model_dump_json(exclude={"versions", "experts"})
        digest = hashlib.blake2b(described.encode(), digest_size=16)
        for expert in range(self.experts):
            digest.update(self.digest(expert).encode())
        return digest.hexdigest()

    @cached_property
    def files(self) -> list[Path]:
        """The finished experts."""
        named = (path for path in self.folder.glob("expert-*.h5") if path.stem.split("-", 1)[1].isdecimal())
        return sorted(named)[: self._count]

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
        first, last = self.snapshots(expert, start, start + span)
        return first, last

    def draw(self, seed: int, iteration: int, max_start: int, min_start: int = 0) -> tuple[int, int]:
        """An expert and an epoch, `min_start` <= epoch < `max_start`: a function of seed and iteration."""
        draws = generator(seed, "expert", iteration)
        expert = int(torch.randint(self.experts, (1,), generator=draws))
        return expert, int(torch.randint(min_start, max_start, (1,), generator=draws))

    def check_window(self, max_start: int, span: int, min_start: int = 0) -> None:
        """Raise `CondenseError` unless starts below `max_start` with `span` epochs after them are recorded."""
        if not 0 <= min_start < max_start or span < 1:
            raise CondenseError(
                f"starts from {min_start} to below {max_start} and a span of {span} make no window; give a --min-start "
                "below --max-start, and a --span of at least 1"
            )
        if max_start - 1 + span > self.epochs:
            raise CondenseError(
                f"starts below {max_start} with {span} epochs after them need experts of {max_start - 1 + span} "
                f"epochs, these have {self.epochs}; lower --max-start or --span, or record longer ones"
            )

    def snapshots(self, expert: int, *epochs: int) -> list[Tensor]:
        """The parameters of an expert after each of so many epochs, new float32 [P]; its file is opened once."""
        return self._rows("snapshots", expert, *epochs)

    def snapshot(self, expert: int, epoch: int) -> Tensor:
        """Those after one number of epochs."""
        return self.snapshots(expert, epoch)[0]

    def statistics(self, expert: int, epoch: int) -> dict[str, Tensor]:
        """The running statistics of BatchNorm by name; empty for networks without it."""
        return self.description.statistics_layout.unflatten(self._rows("statistics", expert, epoch)[0])

    def accuracies(self, expert: int) -> list[float]:
        """Test accuracy, a fraction, after each epoch."""
        return list(self._file(expert).accuracies)

    def digest(self, expert: int) -> str:
        """That of its parameters and statistics, as they were recorded."""
        return self._file(expert).digest

    def seconds(self, expert: int) -> float:
        """That its training took."""
        return self._file(expert).seconds

    def made_with(self, expert: int) -> dict[str, Any]:
        """Machine, packages and commit of the process that finished it; empty where nobody knows."""
        return self._file(expert).made_with

    @property
    def bytes(self) -> int:
        """Of all finished experts."""
        return sum(path.stat().st_size for path in self.files)

    def _rows(self, name: Literal["snapshots", "statistics"], expert: int, *epochs: int) -> list[Tensor]:
        layout = self.layout if name == "snapshots" else self.description.statistics_layout
        if not layout.size:
            return [torch.zeros(0) for _ in epochs]
        file = self._file(expert)
        rows = file.snapshots if name == "snapshots" else file.statistics
        if rows is None or rows.shape != (self.epochs + 1, layout.size):
            raise CondenseError(
                f"{self.files[expert]} has {name} of another shape than {(self.epochs + 1, layout.size)}, which its "
                "buffer tells; remove it and record it again"
            )
        try:
            values = rows.each(*epochs)
        except CondenseError as error:
            raise CondenseError(
                f"{self.files[expert]} is damaged at epoch {' or '.join(map(str, epochs))}; remove it"
            ) from error
        return [torch.from_numpy(row.astype(np.float32, copy=False)) for row in values]

    def _file(self, expert: int) -> ExpertFile:
        """What an expert's file tells; it is read again when it was written to."""
        path = self.files[expert]
        try:
            file = self._opened.get(path)
            if file is None or file.version != version_of(regular_file(path, "the expert")):
                file = self._opened[path] = open_expert(path)
        except CondenseError as error:
            raise CondenseError(f"an expert is damaged or gone: {error}") from error
        return file

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


def expert_path(folder: Path, number: int) -> Path:
    """Where a finished expert is."""
    return folder / f"expert-{number:04d}.h5"


def number_of(path: Path) -> int:
    """The number of the expert that is there.

    >>> number_of(expert_path(Path("experts"), 12))
    12
    """
    return int(path.stem.removeprefix("expert-"))


def list_experts(folder: Path, description: BufferDescription) -> None:
    """Write the index with all experts that are in `folder`, atomically."""
    buffer = ExpertBuffer(folder, description)
    experts = {number_of(path): _facts(buffer, expert) for expert, path in enumerate(buffer.files)}
    write_description(folder, description.model_copy(update={"experts": experts}))


def _facts(buffer: ExpertBuffer, expert: int) -> ExpertFacts:
    accuracies, seconds = buffer.accuracies(expert), buffer.seconds(expert)
    return ExpertFacts(
        accuracies=None if math.isnan(sum(accuracies)) else tuple(accuracies),
        seconds=None if math.isnan(seconds) else seconds,
        digest=buffer.digest(expert),
    )
