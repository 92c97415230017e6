"""What a benchmark keeps: for each cell one JSON record of everything asked, measured and used; sets and choices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field
from torch import Tensor

from benchmarks.cells import Cell
from condense.methods.output import account_path
from condense.runtime.errors import CondenseError
from condense.runtime.files import write_json
from condense.runtime.inputs import read_json
from condense.runtime.validation import Closed, validated


class Parts(Closed):
    """A number for each piece of work; None where it was not done (the full data is not made) or not known."""

    making: int | float | None = None
    labelling: int | float | None = None
    evaluating: int | float | None = None
    training: int | float | None = None


class Record(Closed):
    """What became of a cell.

    Accuracies are fractions, of graphs and nodes those of `metric`; `diverged` lists the networks that diverged or
    stayed near chance; `std` is the sample standard deviation over the networks (None for one network).
    `class_accuracies` by the name of a class and the
    `calibration_error` are means over the networks; `curves` has what was recorded while the set was made, as means of
    at most a hundred equal parts of the run (old records have none of the three). `nearest` is, for each image in the
    set's picture, the index of the nearest training image and its distance (see `benchmarks.pictures.nearest_real`).
    `seconds` and `peak_memory` (bytes) tell making one set from training all networks of the cell (and seconds from
    labelling the set by a column's teacher, if it was not found), each piece of work in a process of its own (in the
    demo they share one). `training` of the seconds are those of `evaluating` without the tests (None in old records).
    `images` are trained on, `stored_images` stored (None in old records: as many; for a training-time baseline those
    that its training sees, and `making` is then the time of choosing); `bytes` is what the set truly costs
    (of graphs in the smallest exact types, `dense_bytes` as papers count them, and `real` are the training graphs, or
    the nodes that training sees, for which a set stands);
    `in_class` the fraction of images whose soft label is largest for their own class (None for hard labels and in old
    records);
    `weighted` tells whether images counted by the weights of the set (None where it has none, and in old records);
    `iterations` is how many were reached (None where real images are chosen); `expert_seconds` are those of training
    the experts that were matched, one after the other, which cells share and `seconds` leave out. `versions`,
    `hardware` and `commit` are those of the scoring, `made_with` has those of the set, which may be older, and the plan
    of its run; `notes` are what was said while it was made, `set_digest` is that of its file (blake2b, 16 bytes; both
    empty in old records). `shared` says whether other cells ran beside it, on workers: its seconds then compare with
    nothing. `compiled` says whether the training step of the scoring was. A failed cell has an `error`,
    no result.
    """

    key: str
    status: Literal["done", "failed"]
    error: str | None = None
    protocol: str
    protocol_hash: str
    network: str
    metric: str = "accuracy"
    accuracies: tuple[float, ...] = ()
    diverged: tuple[int, ...] = ()
    mean: float | None = None
    std: float | None = None
    class_accuracies: dict[str, float] = Field({})
    calibration_error: float | None = None
    curves: dict[str, tuple[float, ...]] = Field({})
    nearest: tuple[tuple[int, float], ...] | None = None
    images: int | None = None
    stored_images: int | None = None
    bytes: int | None = None
    dense_bytes: int | None = None
    real: int | None = None
    label_source: str | None = None
    in_class: float | None = None
    weighted: bool | None = None
    compiled: bool = False
    iterations: int | None = None
    expert_seconds: float | None = None
    seconds: Parts = Parts()
    peak_memory: Parts = Parts()
    versions: dict[str, str]
    hardware: dict[str, Any]
    commit: str | None
    made_with: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    set_digest: str | None = None
    shared: bool = False
    date: str
    configuration: Cell


class Account(BaseModel):
    """What a benchmark takes from the JSON that `distill` writes beside a set."""

    plan: dict[str, Any]
    versions: dict[str, str]
    hardware: dict[str, Any]
    commit: str | None
    iterations: int | None = None
    expert_seconds: float | None = None
    seconds: int | float | None = None
    peak_memory: int | float | None = None
    notes: tuple[str, ...] = ()


def set_path(cell: Cell, folder: Path) -> Path:
    """Where the set of a cell is kept in the folder of the benchmark."""
    return folder / "sets" / cell.set_name


def choice_path(cell: Cell, folder: Path) -> Path:
    """Where it is kept which real images the set of a cell holds, if it is of such."""
    return (folder / "choices" / cell.set_name).with_suffix(".safetensors")


def curves(metrics: Mapping[str, Tensor], parts: int = 100) -> dict[str, tuple[float, ...]]:
    """Series [iterations] as means of at most so many equal parts; without those that are not finite throughout.

    >>> import torch
    >>> curves({"loss": torch.arange(6.0)}, parts=3)
    {'loss': (0.5, 2.5, 4.5)}
    """
    return {
        name: tuple(part.mean().item() for part in series.tensor_split(min(parts, len(series))))
        for name, series in metrics.items()
        if len(series) and series.isfinite().all()
    }


def picture_path(cell: Cell, folder: Path, *, nearest: bool = False, published: bool = True) -> Path:
    """Where the picture of the set of a cell is kept, or that of the real images that are nearest to its images.

    Those that may be `published` lie beside the records, others with the sets.
    """
    stem = cell.set_name.removesuffix(".h5") + ("-nearest" if nearest else "")
    return folder / ("pictures" if published else "sets") / f"{stem}.webp"


def record_path(cell: Cell, folder: Path) -> Path:
    """Where the record of a cell is kept in the folder of the benchmark."""
    return folder / "cells" / cell.file_name


def read_account(cell: Cell, folder: Path) -> Account:
    """How the set of a cell was made; raises `CondenseError` if the file that tells it is damaged."""
    path = account_path(set_path(cell, folder))
    content = read_json(path, "the account of a set, or remove it to have the set made again")
    origin = f"{path} is damaged; remove it to have its set made again: "
    return validated(Account, content if isinstance(content, dict) else {}, origin=origin)


def write_record(path: Path, record: Record) -> None:
    """Write a record, atomically."""
    write_json(path, record.model_dump(mode="json"))


def read_record(path: Path) -> Record | None:
    """The record at `path`, None if there is none.

    Raises `CondenseError` if the file is not a record.
    """
    if not path.exists():
        return None
    try:
        content = read_json(path, "a record")
        return validated(Record, content if isinstance(content, dict) else {})
    except CondenseError as error:
        raise CondenseError(
            f"{path} is no record of this version ({error}); remove it to have its cell computed again"
        ) from error


def read_records(folder: Path) -> list[Record]:
    """All records of a benchmark, by file name."""
    found = [read_record(path) for path in sorted((folder / "cells").glob("*.json"))]
    return [record for record in found if record is not None]
