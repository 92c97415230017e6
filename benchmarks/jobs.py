"""The two jobs behind a cell: making the set, and training networks on it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.cells import CHOOSER, Cell, CellJob, SetDescription
from benchmarks.graphs import make_graph_set, score_graphs
from benchmarks.grid import DataEntry
from benchmarks.pictures import may_show_real, nearest_real, shown_rows, shows_real, write_sprite
from benchmarks.plan import read_data
from benchmarks.records import choice_path, curves, picture_path, set_path
from benchmarks.teachers import committee, encoder_of
from buffers import ExpertBuffer, expert_rule, record_experts
from condense.baselines import Baseline, baseline
from condense.evaluation import evaluate
from condense.evaluation.protocols import Protocol, full
from condense.evaluation.statistics import complete_mean, deviation
from condense.methods.distill import make
from condense.methods.output import is_finished
from condense.methods.registry import methods
from condense.methods.request import Request
from condense.runtime.errors import CondenseError
from condense.runtime.executors import in_one_line
from condense.runtime.files import write_text
from condense.runtime.provenance import circumstances, peak_memory
from condense.runtime.subprocesses import on_every_core
from condense.runtime.tensor_files import save_tensors
from condense.sets.synthetic_set import SyntheticSet
from condense.synthesizers.initialization import file_digest
from condense.teachers import Committee
from condense.teachers.relabel import relabel

if TYPE_CHECKING:
    from condense.data import RealData, TrainingData

_SAME_IN_ALL_RESULTS = (
    "protocol",
    "protocol_hash",
    "network",
    "images",
    "stored_images",
    "bytes",
    "label_source",
    "in_class",
    "weighted",
    "compiled",
)


def shares_the_machine(job: CellJob) -> bool:
    """Whether a cell may be computed beside others: nobody takes its time, and nothing of it is shared by others.

    Experts and teachers are shared, and made by the first cell that needs them.
    """
    made = job.cell.made
    if made is None:
        return True
    return made.minutes is None and not made.is_baseline and made.experts is None and not job.teachers


def make_and_score(cells: tuple[CellJob, ...], folder: Path, there: Path) -> list[dict[str, Any] | str]:
    """The result of each of these cells, which are of one set, or its error; the set is made if it is missing.

    `there` is the folder that paths of a grid are relative to: workers may be in another one.
    """
    with contextlib.chdir(there):
        try:
            if cells[0].cell.has_set and not is_finished(set_path(cells[0].cell, folder)):
                make_set(cells[0], folder, progress=False)
        except Exception as failure:
            return [in_one_line(failure)] * len(cells)
        return [_score_or_error(job, folder) for job in cells]


def _score_or_error(job: CellJob, folder: Path) -> dict[str, Any] | str:
    try:
        return score(job, folder, progress=False)
    except Exception as failure:
        return in_one_line(failure)


def make_set(job: CellJob, folder: Path, *, progress: bool) -> dict[str, Any]:
    """Make the set of a cell and store it with its account; an unfinished run is continued.

    Raises whatever stops the method.
    """
    if job.cell.data.modality != "images":
        make_graph_set(job, folder, progress=progress)
        return {}
    made = job.cell.made
    assert made is not None, "the full data is not made"
    path = set_path(job.cell, folder)
    for labelled in path.parent.glob(f"{path.stem}-labels-*.h5"):  # of an earlier set, which may have been another one
        labelled.unlink()
    settings = made.settings | made.options
    if job.initial_set is not None:
        settings["initialization"] = job.initial_set
        if file_digest(job.initial_set) != made.initial_images:
            raise CondenseError(f"{job.initial_set} has changed since the benchmark started; start it again")
    asked = settings.pop("iterations", None)
    data = _read(job)
    request = Request.of(
        made.method,
        made.size,
        settings,
        iterations=asked if made.minutes is None else made.iterations,
        minutes=made.minutes,
        seed=made.seed,
        recipe=job.recipe,
        out=path,
        overwrite=True,  # called where the set is not finished: a part of it may be there
        **made.plan,
    )
    experts = None if made.experts is None else _experts(data, made.experts, folder, progress=progress)
    teacher = committee(made.teachers, job.teachers, data, folder, progress=progress) if made.teachers else None
    make(request, data, buffer=experts, teacher=teacher, progress=progress)
    return {}


def _keep_choice(made: SyntheticSet, path: Path) -> None:
    """Which real images a set holds, in order of choice, and what each was chosen by: small enough to be committed."""
    if made.source_indices is None or path.exists():
        return
    values = {"indices": made.source_indices.int(), "weights": made.weights, "scores": made.scores}
    found = {name: value for name, value in values.items() if value is not None}
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
    save_tensors(path, tensors, {"fingerprint": made.info.fingerprint})


def _experts(data: RealData, asked: dict[str, Any], folder: Path, *, progress: bool) -> ExpertBuffer:
    """The experts of a grid's entry, recorded now as far as they are not there."""
    digest = hashlib.blake2b(
        json.dumps([data.info.identity, asked], sort_keys=True).encode(), digest_size=6
    ).hexdigest()
    out = folder / "experts" / f"{data.name}-{asked['optimizer']}-{digest}"
    write_text(out.parent / ".gitignore", "*\n")  # too big to be kept with the records
    found = record_experts(
        data,
        asked["net"],
        asked["experts"],
        asked["epochs"],
        out,
        rule=expert_rule(asked["optimizer"], **asked.get("options", {})),
        seed=asked["seed"],
        executor=on_every_core(),  # the memory of making the set is measured in this process
        progress=progress,
    )
    if found.failed:
        number, error = next(iter(found.failed.items()))
        raise CondenseError(f"expert {number} could not be recorded: {error}")
    return ExpertBuffer.open(out)


def score(job: CellJob, folder: Path, *, progress: bool) -> dict[str, Any]:
    """Train the cell's networks on its set, or on the full data, and measure them: the fields of its record."""
    cell = job.cell
    if cell.data.modality != "images":
        return score_graphs(job, folder, progress=progress)
    data, protocol = _read(job), cell.column.rule
    assert isinstance(protocol, Protocol), "graphs have others"
    scored, teacher, labelling = _scored(job, data, folder, progress=progress)
    seeds = cell.network_seeds
    results = [
        evaluate(
            scored,
            data,
            nets=[cell.column.net],
            runs=runs,
            seed=seed,
            protocol=full(protocol) if cell.made is None else protocol,
            teacher=teacher,
            progress=progress,
        ).results[0]
        for seed, runs in ([(0, seeds)] if isinstance(seeds, int) else [(seed, 1) for seed in seeds])
    ]
    accuracies = [accuracy for result in results for accuracy in result.accuracies]
    diverged = [index in result.diverged for result in results for index in range(len(result.accuracies))]
    return {
        **{name: getattr(results[0], name) for name in _SAME_IN_ALL_RESULTS},
        "accuracies": accuracies,
        "diverged": [index for index, this in enumerate(diverged) if this],
        "mean": fmean(accuracies),
        "std": deviation(accuracies),
        "class_accuracies": _means([result.class_accuracies for result in results]),
        "calibration_error": complete_mean([result.calibration_error for result in results]),
        **(_shown(scored, cell, data.train, folder) if isinstance(scored, SyntheticSet) else {}),
        "seconds": sum(result.seconds for result in results),
        "training": sum(result.training_seconds or 0.0 for result in results),
        "labelling": labelling,
        **({"choosing": scored.choosing_seconds} if isinstance(scored, Baseline) else {}),
        "peak_memory": peak_memory(),
        **circumstances(),
    }


def _shown(made: SyntheticSet, cell: Cell, train: TrainingData, folder: Path) -> dict[str, Any]:
    """What people look at: curves of the run, the nearest real images, and pictures of both in files."""
    assert cell.made is not None, "only sets are looked at"
    rows, public = shown_rows(made), may_show_real(made.info)
    nearest = nearest_real(made, rows, train)
    real = shows_real(made, methods().find(cell.made.method).target)
    write_sprite([made.pictures_at(row) for row in rows], picture_path(cell, folder, published=public or not real))
    if nearest is not None:
        pixels = train.pixels(torch.tensor([index for index, _ in nearest], dtype=torch.int64)) / 255
        beside = picture_path(cell, folder, nearest=True, published=public)
        write_sprite(pixels.split([len(row) for row in rows]), beside)
    return {"curves": curves(made.metrics), "nearest": nearest}


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(each[name] for each in values) for name in values[0]}


def _scored(
    job: CellJob, data: RealData, folder: Path, *, progress: bool
) -> tuple[SyntheticSet | TrainingData | Baseline[Any], Committee | None, float | None]:
    """What is scored: the set as it is or with the labels of the column, and who gives these; or a baseline.

    With the seconds of labelling, where that is done now.
    """
    cell, labels = job.cell, job.cell.column.labels
    if cell.made is None:
        return data.train, None, None
    if cell.made.is_baseline:
        return _baseline(job, cell.made, data, folder, progress=progress), None, None
    path = set_path(cell, folder)
    made = SyntheticSet.load(path)
    _keep_choice(made, choice_path(cell, folder))
    if labels is None:
        return made, None, None
    asked = labels.teachers
    teacher = committee(asked, job.teachers, data, folder, progress=progress) if asked else None
    adapted: dict[str, Any] = {}
    advisers = teacher
    if labels.encoder is not None:
        assert job.encoder is not None, "the plan has its path"
        advisers = encoder_of(labels.encoder, job.encoder)
        adapted = {"encoder": advisers.members[0], "data": data}
    target = path.with_name(cell.labelled_name)
    if target.exists():
        return SyntheticSet.load(target), advisers, None
    started = time.perf_counter()
    labelled = relabel(made, teacher, out=target, progress=progress, **labels.settings, **adapted)
    return labelled, advisers, time.perf_counter() - started


def _baseline(job: CellJob, made: SetDescription, data: RealData, folder: Path, *, progress: bool) -> Baseline[Any]:
    asked = made.teachers
    return baseline(
        made.method,
        data,
        made.ipc,
        fraction=made.fraction,
        balanced=made.balanced,
        seed=made.seed,
        teacher=committee(asked, job.teachers, data, folder, progress=progress) if asked else None,
        progress=progress,
        **{name: value for name, value in made.settings.items() if name != CHOOSER},
    )


def _read(job: CellJob) -> RealData:
    data = _read_once(job.source)
    if data.fingerprint != job.cell.data.fingerprint:
        raise CondenseError(f"{data.name} has changed since the benchmark started; start it again")
    return data


@lru_cache(maxsize=1)
def _read_once(source: DataEntry) -> RealData:
    """The cells that share a process mostly share their data too."""
    return read_data(source)
