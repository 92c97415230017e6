"""Runs that fall into slices: independent jobs, each of which is stored as it finishes, so that one is in memory.

    set.h5.slices/slice-00007.h5                       a finished slice
    set.h5.slices/slice-00008.checkpoint.safetensors   one that is not finished

The slices of a run belong to the checkpoint beside its output, which says of which configuration they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from condense.methods.checkpoints import Checkpoint, output_of, save_checkpoint
from condense.methods.interface import Job
from condense.runtime.errors import CondenseError
from condense.runtime.executors import Executor, Outcome
from condense.runtime.files import remove_half_done
from condense.runtime.hdf5.reader import Contents, Rows, read_contents
from condense.runtime.hdf5.writer import Pieces, write_contents
from condense.runtime.memory import give_back_memory
from condense.runtime.progress import progress_bar, say

KIND, SCHEMA = "condense slice", 1
_NAME = "slice-"  # how names of files begin


@dataclass(frozen=True, eq=False)
class SliceResult:
    """What a slice gives: arrays of one row for each of its parts, series of metrics, and the seconds that it took."""

    arrays: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor]
    seconds: float


@dataclass(frozen=True)
class SliceJob:
    """Slice `number` of a run, and where it keeps what it needs to go on after a kill; None keeps nothing."""

    number: int
    checkpoint: Path | None


@dataclass(frozen=True, eq=False)
class StoredSlice:
    """A finished slice in its file, which is read when it is asked for: arrays by rows, metrics; and its seconds."""

    path: Path
    rows: Mapping[str, Rows]
    seconds: float

    @property
    def metrics(self) -> dict[str, Tensor]:
        """Its series by name."""
        arrays = read_contents(self.path, kind=KIND, schema=SCHEMA).arrays
        return {name.removeprefix("metrics/"): torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def slices_path(out: Path) -> Path:
    """The folder of the slices of `out`.

    >>> slices_path(Path("set.h5")).name
    'set.h5.slices'
    """
    return out.with_name(out.name + ".slices")


@contextmanager
def slices_folder(job: Job) -> Iterator[Path]:
    """Where slices go: beside the output of the run, or where it has none, in a folder for now.

    Those of an earlier run count only as long as its checkpoint is there, which says of what they are; a new run begins
    with one.
    """
    checkpoint = job.checkpoint
    if checkpoint is None:
        with TemporaryDirectory() as folder:
            yield Path(folder)
        return
    if not checkpoint.exists():
        remove_slices(output_of(checkpoint))
        save_checkpoint(checkpoint, Checkpoint(0, 0.0, {}, {}), job.configuration)
    yield slices_path(output_of(checkpoint)).absolute()  # workers may be in another folder


def remove_slices(out: Path) -> None:
    """Forget the slices of a set that is finished, or that begins again, and nothing else that is in their folder."""
    folder = slices_path(out)
    remove_half_done(folder, f"{_NAME}*")
    for path in folder.glob(f"{_NAME}*"):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or not empty
        folder.rmdir()


def run_slices(
    count: int,
    recover: Callable[[SliceJob], SliceResult],
    folder: Path,
    executor: Executor | None,
    *,
    keeps: bool,
    progress: bool,
) -> list[StoredSlice]:
    """All slices, found in `folder` or made by `recover` on the executor.

    With `keeps`, slices that are not finished keep their state there too. Whole ones are not made again. Without an
    executor, they are made here and what goes wrong with one ends the run; with one, a `CondenseError` about the first
    slice that failed is raised when the others are stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_half_done(folder, f"{_NAME}*")
    found = {number: stored for number in range(count) if (stored := _whole(_slice_path(folder, number))) is not None}
    if found:
        say(f"going on: {len(found)} of {count} slices are there")
    missing = [number for number in range(count) if number not in found]
    jobs = [
        SliceJob(number, _slice_path(folder, number).with_suffix(".checkpoint.safetensors") if keeps else None)
        for number in missing
    ]
    failed = ""
    with progress_bar("slices", count, enabled=progress and count > 1) as bar:
        bar.update(len(found))
        for outcome in executor.run(recover, jobs) if executor else _here(recover, jobs):
            if outcome.value is None:
                failed = failed or f"slice {outcome.job.number}: {outcome.error}"
                continue
            path = _slice_path(folder, outcome.job.number)
            _store(path, outcome.value)
            if outcome.job.checkpoint is not None:
                outcome.job.checkpoint.unlink(missing_ok=True)
            found[outcome.job.number] = _open(path)
            give_back_memory()
            bar.update(len(found), {name: float(series[-1]) for name, series in outcome.value.metrics.items()})
    if failed:
        raise CondenseError(f"{failed}; {len(found)} of {count} slices are stored, and the same command goes on")
    return [found[number] for number in range(count)]


def _here(
    recover: Callable[[SliceJob], SliceResult], jobs: Sequence[SliceJob]
) -> Iterator[Outcome[SliceJob, SliceResult]]:
    return (Outcome(job, recover(job)) for job in jobs)


def mean_metrics(slices: Sequence[StoredSlice]) -> dict[str, Tensor]:
    """The mean over the slices of each of their series."""
    sums = dict(slices[0].metrics)
    for each in slices[1:]:
        for name, series in each.metrics.items():
            sums[name] = sums[name] + series
    return {name: total / len(slices) for name, total in sums.items()}


def _slice_path(folder: Path, number: int) -> Path:
    return folder / f"{_NAME}{number:05d}.h5"


def _store(path: Path, result: SliceResult) -> None:
    arrays = {name: tensor.contiguous().numpy() for name, tensor in result.arrays.items()}
    rows = {name: Pieces(array.shape, array.dtype, [array]) for name, array in arrays.items()}
    metrics = {f"metrics/{name}": series.double().numpy() for name, series in result.metrics.items()}
    contents = Contents(metrics, {"/": {"seconds": float(result.seconds)}, "metrics": {}})
    write_contents(path, contents, kind=KIND, schema=SCHEMA, rows=rows)


def _open(path: Path) -> StoredSlice:
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    return StoredSlice(path, contents.rows, float(contents.attributes["/"]["seconds"]))


def _whole(path: Path) -> StoredSlice | None:
    """The slice in a file, with all its rows verified; None where there is none, or a damaged one."""
    if not path.exists():
        return None
    try:
        stored = _open(path)
        for rows in stored.rows.values():
            for _ in rows.pieces():
                pass
    except (CondenseError, LookupError, TypeError, ValueError):
        return None
    return stored
