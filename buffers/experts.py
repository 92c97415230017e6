"""Training one expert: a job that can run anywhere, and that goes on where it stopped."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from buffers.rules import ExpertRule
from buffers.steps import flat_step, smooth_step
from buffers.store import Trajectory
from condense.data.travelling import PackedData, read_once
from condense.labels import classified
from condense.networks import Network, build_network
from condense.networks.layout import Layout
from condense.runtime.provenance import circumstances
from condense.runtime.seeds import derive_seed
from condense.runtime.tensor_files import load_if_whole, load_tensors, save_tensors
from condense.training.engines import engine_of_jobs
from condense.training.epochs import EpochTraining
from condense.training.loop import Update, descend
from condense.training.prediction import accuracy
from condense.training.rule import TrainingRule


@dataclass(frozen=True)
class ExpertJob:
    """Expert `number` of a buffer; `partial` is the folder of what is done so far.

    Kind of device and whether the training step is compiled are settled beforehand: with as many threads, an expert has
    the same bits on whatever machine it is trained.
    """

    data: PackedData
    network: str
    rule: ExpertRule
    epochs: int
    seed: int
    number: int
    partial: str
    compile: Literal["on", "off"] = "off"
    device: str = "cpu"


def train_expert(job: ExpertJob) -> Trajectory:
    """The whole trajectory, from the initialisation to the last epoch.

    After every epoch, what it takes to go on is stored in `job.partial`; an earlier start is continued from there, to
    the same bits.
    """
    data, device = read_once(job.data), torch.device(job.device)
    rule = training_rule(job.rule, job.epochs)
    network = build_network(
        job.network, data.image_shape, len(data.classes), derive_seed(job.seed, "expert network", job.number)
    )
    engine = engine_of_jobs(job.network, data.info, len(data.train), rule, device, job.compile)
    training = EpochTraining(network, rule, classified(data.train), device=device, engine=engine)
    partial = Path(job.partial)
    if not _resume(training, partial, job.epochs):
        _store(partial, training, accuracy(network, data.test, device), 0.0)
    while training.epoch < job.epochs:
        started = time.monotonic()
        seed = derive_seed(job.seed, "expert training", job.number, training.epoch)
        training.train_epoch(seed, epoch_update(job.rule, training.epoch, job.epochs))
        _store(partial, training, accuracy(network, data.test, device), time.monotonic() - started)
    return _whole(partial, network, job.epochs)


def training_rule(rule: ExpertRule, epochs: int) -> TrainingRule:
    """The training of an expert; the published code makes a new optimiser where the learning rate drops."""
    return TrainingRule(
        lr=rule.lr,
        momentum=rule.momentum,
        weight_decay=rule.weight_decay,
        batch_size=rule.batch_size,
        epochs=epochs,
        schedule="constant" if rule.drop == 1 else "drop",
        drop_factor=rule.drop,
        restart_optimizer=True,
        augmentation=rule.augmentation,
        align_corners=True,
    )


def epoch_update(rule: ExpertRule, epoch: int, epochs: int) -> Update:
    """How every batch of this epoch, one of `epochs`, moves the network."""
    if rule.optimizer == "flat":
        return flat_step(rule.radius, rule.ascent_weight)
    if rule.optimizer == "smooth":
        clipped = rule.resolved(epochs).clipped_epochs or 0
        return smooth_step(0.5 + 0.5 * epoch / clipped if epoch < clipped else 1.0, rule.penalty)
    return descend


def _epoch_path(partial: Path, epoch: int) -> Path:
    return partial / f"epoch-{epoch:04d}.safetensors"


def _store(partial: Path, training: EpochTraining, score: float, seconds: float) -> None:
    facts = {"accuracy": repr(score), "seconds": repr(seconds)}
    save_tensors(_epoch_path(partial, training.epoch), training.state, facts)


def _resume(training: EpochTraining, partial: Path, epochs: int) -> bool:
    """Go on from the last of the epochs that are stored without a gap or damage; false where there is none."""
    last = -1
    while last < epochs and (found := load_if_whole(_epoch_path(partial, last + 1))) is not None:
        last, state = last + 1, found[0]
    if last >= 0:
        training.go_on_from(state, last)
    return last >= 0


def _whole(partial: Path, network: Network, epochs: int) -> Trajectory:
    """All stored epochs as one trajectory."""
    layouts = Layout.of_parameters(network), Layout.of_statistics(network)
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    accuracies, seconds = [], 0.0
    for epoch in range(epochs + 1):
        state, facts = load_tensors(_epoch_path(partial, epoch))
        values = {name.removeprefix("network."): value for name, value in state.items()}
        for layout, kept in zip(layouts, rows):
            kept.append(layout.flatten(values))
        accuracies.append(float(facts["accuracy"]))
        seconds += float(facts["seconds"])
    return Trajectory(torch.stack(rows[0]), torch.stack(rows[1]), tuple(accuracies), seconds, circumstances())


def remove_partial(partial: Path) -> None:
    """Forget how a finished expert was made."""
    shutil.rmtree(partial, ignore_errors=True)
