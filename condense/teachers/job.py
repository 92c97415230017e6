"""Training one teacher: a job that can run anywhere, and that goes on after the epoch that it had reached."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from condense.data import RealData, Split, TrainingData
from condense.data.splitting import stratified_split
from condense.data.travelling import PackedData, read_once
from condense.labels import classified
from condense.networks import Network, build_network
from condense.runtime.errors import CondenseError
from condense.runtime.inputs import parse_json
from condense.runtime.progress import progress_bar
from condense.runtime.provenance import circumstances
from condense.runtime.seeds import derive_seed, generator
from condense.runtime.tensor_files import load_if_whole, save_tensors
from condense.runtime.validation import validated
from condense.teachers.manifest import Manifest, Measured
from condense.teachers.rule import TeacherRule
from condense.teachers.teacher import Teacher
from condense.training.engines import engine_of_jobs
from condense.training.epochs import EpochTraining
from condense.training.prediction import accuracy


@dataclass(frozen=True)
class TeacherJob:
    """A teacher to be trained; `manifest` is what is known of it, `partial` the file that keeps what is done so far.

    Without `partial` nothing is kept. `data` is for workers only. Kind of device and whether the training step is
    compiled are settled beforehand.
    """

    manifest: Manifest
    rule: TeacherRule
    seed: int
    partial: str | None
    compile: Literal["on", "off"] = "off"
    device: str = "cpu"
    data: PackedData | None = None
    progress: bool = False


@dataclass(frozen=True, eq=False)
class Trained:
    """A teacher, and what it took: seconds and machine, which do not belong into its file."""

    teacher: Teacher
    account: dict[str, Any]


def train_on_worker(job: TeacherJob) -> Trained:
    """The teacher of a job that names its data by a path."""
    assert job.data is not None, "jobs of workers name it"
    return train(read_once(job.data), job)


def train(data: RealData, job: TeacherJob) -> Trained:
    """The teacher, trained on `data`; what is in `job.partial` already is continued, to the same bits."""
    manifest, device = job.manifest, torch.device(job.device)
    kept, held_out = held_out_part(data.train, job.rule.holdout)
    shape, classes = manifest.image_shape, len(manifest.classes)
    network = build_network(manifest.network, shape, classes, derive_seed(job.seed, "teacher network"))
    rule = job.rule.training
    engine = engine_of_jobs(manifest.network, data.info, len(kept), rule, device, job.compile)
    training = EpochTraining(network, rule, classified(kept), device=device, engine=engine)
    seconds = _resume(training, job)
    with progress_bar(f"training {manifest.network}", job.rule.epochs, enabled=job.progress, unit="epochs") as bar:
        bar.update(training.epoch)
        while training.epoch < job.rule.epochs:
            started = time.monotonic()
            training.train_epoch(derive_seed(job.seed, "teacher training", training.epoch))
            seconds += time.monotonic() - started
            _keep(training, job, seconds)
            bar.update(training.epoch)
    measured = {
        "held_out": None if held_out is None else _measured(network, held_out, device),
        "test": _measured(network, data.test, device),
    }
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    account = {"epochs": job.rule.epochs, "seconds": round(seconds, 3), **circumstances()}
    return Trained(Teacher(manifest.model_copy(update=measured), state), account)


def held_out_part(train: TrainingData, fraction: float) -> tuple[TrainingData, TrainingData | None]:
    """The images that teachers are trained on, and this `fraction` of every class that they never see.

    The same images are held out for every network and seed, so no member of a committee has seen them. None for a
    fraction of 0. Raises `CondenseError` where no class has an image to spare.
    """
    if fraction == 0:
        return train, None
    keys = torch.randperm(len(train), generator=generator(0, "teacher holdout")).tolist()
    kept, held_out = stratified_split(train.labels, keys, fraction)
    if not len(held_out):
        raise CondenseError(
            f"every class of {train.info.name} has a single training image, so none can be held out; give --holdout 0"
        )
    return train.subset(kept), train.subset(held_out)


def begun(partial: Path) -> Manifest | None:
    """What an unfinished training is of; None where there is none, or a damaged one, which begins again.

    Raises `CondenseError` for a file that is something else.
    """
    found = load_if_whole(partial) if partial.exists() else None
    if found is None:
        return None
    try:
        return validated(Manifest, parse_json(found[1]["condense"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CondenseError(f"{partial} is no unfinished teacher; remove it or give another --out") from error


def _measured(network: Network, split: Split, device: torch.device) -> Measured:
    return Measured(accuracy=accuracy(network, split, device), images=len(split))


def _keep(training: EpochTraining, job: TeacherJob, seconds: float) -> None:
    """Replace what is stored by what it takes to go on after the epoch that is over."""
    if job.partial is not None:
        facts = {"condense": job.manifest.model_dump_json(), "epoch": str(training.epoch), "seconds": repr(seconds)}
        save_tensors(Path(job.partial), training.state, facts)


def _resume(training: EpochTraining, job: TeacherJob) -> float:
    """Go on from what is stored, if anything is; the seconds that it took."""
    found = None if job.partial is None else load_if_whole(Path(job.partial))
    if found is None:
        return 0.0
    state, facts = found
    training.go_on_from(state, int(facts["epoch"]))
    return float(facts["seconds"])
