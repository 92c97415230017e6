"""The loop around every synthesizer: progress, budget, checkpoints, exact resume, guards, Ctrl-C that saves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from condense.methods.checkpoints import Checkpoint, CheckpointTimer, load_checkpoint, save_checkpoint
from condense.runtime.deferred_interrupts import deferred_interrupt
from condense.runtime.errors import CondenseError
from condense.runtime.memory import keep_freed_memory
from condense.runtime.progress import progress_bar, say


class Sitting(Protocol):
    """What the loop needs of a request, whatever the data are; `condense.methods.interface.Job` is one."""

    @property
    def iterations(self) -> int | None:
        """Updates after which the run ends; None where only the time ends it."""

    @property
    def minutes(self) -> float | None:
        """Time after which it ends."""

    @property
    def checkpoint(self) -> Path | None:
        """Where an unfinished run is kept; None keeps nothing."""

    @property
    def configuration(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""

    @property
    def keep_every(self) -> int | None:
        """Updates after each of which the set is kept as it is then."""

    @property
    def progress(self) -> bool:
        """Whether to show a bar."""


class Steppable(Protocol):
    """What the loop needs of a synthesizer.

    One that `skips` updates which are not finite has metrics that are not, and its results and state alone are guarded.
    """

    skips: ClassVar[bool]
    rate: ClassVar[str]  # name of the learning rate, to say what to change where a run diverges

    def advance(self, iteration: int) -> dict[str, float]:
        """One update of what is learned."""

    def results(self) -> dict[str, Tensor]:
        """What an update is for, and what the set is made of: guarded after each of them."""

    def state(self) -> dict[str, Tensor]:
        """Everything that `step` changes: guarded before it is saved."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""


@dataclass(frozen=True)
class RunRecord:
    """How a run went: updates made, one value of each metric per update, seconds over all its sittings."""

    iterations: int
    metrics: dict[str, Tensor]
    seconds: float
    resumed_at: int | None


class _Run:
    """The counters of a run in progress."""

    def __init__(self, synthesizer: Steppable, job: Sitting, preparation: float) -> None:
        self.synthesizer, self.job = synthesizer, job
        self.iteration = 0
        self.series: dict[str, list[float]] = {}
        self.resumed_at: int | None = None
        self._earlier_seconds = preparation
        self._started = time.monotonic()
        if job.checkpoint is not None and job.checkpoint.exists():
            self._resume(load_checkpoint(job.checkpoint, job.configuration))

    def _resume(self, checkpoint: Checkpoint) -> None:
        try:
            self.synthesizer.load_state(checkpoint.state)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CondenseError(
                f"{self.job.checkpoint} has a state that does not fit its run; start again with --no-resume"
            ) from error
        self.iteration, self._earlier_seconds = checkpoint.iteration, checkpoint.seconds
        self.series = {name: values.tolist() for name, values in checkpoint.metrics.items()}
        self.resumed_at = checkpoint.iteration
        say(f"going on at iteration {checkpoint.iteration}")

    @property
    def seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._started

    @property
    def metrics(self) -> dict[str, Tensor]:
        return {name: torch.tensor(values, dtype=torch.float64) for name, values in self.series.items()}

    def advance(self) -> dict[str, float]:
        metrics = self.synthesizer.advance(self.iteration)
        if not self.synthesizer.skips:
            self._guard({name: math.isfinite(value) for name, value in metrics.items()})
        self._guard(_finite(self.synthesizer.results()))
        for name, value in metrics.items():
            self.series.setdefault(name, []).append(value)
        self.iteration += 1
        return metrics

    def _guard(self, finite: Mapping[str, bool]) -> None:
        for name, is_finite in finite.items():
            if not is_finite:
                raise CondenseError(
                    f"{name} is no longer finite at iteration {self.iteration}: the run diverged; "
                    f"start again with a smaller {self.synthesizer.rate}"
                )

    def save(self) -> None:
        """Guard the whole state, and keep it if the run has a place for it: what is saved is always finite."""
        state = self.synthesizer.state()
        self._guard(_finite(state))
        if self.job.checkpoint is not None:
            checkpoint = Checkpoint(self.iteration, self.seconds, state, self.metrics)
            save_checkpoint(self.job.checkpoint, checkpoint, self.job.configuration)

    @property
    def record(self) -> RunRecord:
        return RunRecord(self.iteration, self.metrics, self.seconds, self.resumed_at)

    @property
    def finished(self) -> bool:
        iterations, minutes = self.job.iterations, self.job.minutes
        if iterations is not None and self.iteration >= iterations:
            return True
        return minutes is not None and self.iteration > 0 and self.seconds >= 60 * minutes


Keep = Callable[[RunRecord], None]


def run(synthesizer: Steppable, job: Sitting, *, preparation: float = 0.0, keep: Keep | None = None) -> RunRecord:
    """Step until `job.iterations` updates are made or `job.minutes` have passed, whichever comes first.

    With `job.checkpoint`, an earlier run of the same configuration is continued from it, and the state is saved before
    the first update, then as often as `CheckpointTimer` says, on Ctrl-C and after the last update. Time counts over all
    sittings, with the seconds of `preparation` that a run needs before its first update. At least one update is made.
    After every `job.keep_every` updates `keep` is called, before the state is saved, so that a run that goes on misses
    none.

    Raises `CondenseError` if a metric or the state stops being finite, `KeyboardInterrupt` after a Ctrl-C.
    """
    keep_freed_memory()
    current = _Run(synthesizer, job, preparation)
    timer = CheckpointTimer()
    total, unit = (60 * job.minutes, "s") if job.minutes is not None else (job.iterations or 0, "")
    with (
        deferred_interrupt() as interruption,
        progress_bar("distilling", total, enabled=job.progress, unit=unit) as bar,
    ):
        if current.resumed_at is None:
            _save(current, timer)
        while not current.finished:
            metrics = current.advance()
            bar.update(current.seconds if unit else current.iteration, metrics)
            if keep is not None and job.keep_every is not None and current.iteration % job.keep_every == 0:
                keep(current.record)
            if interruption.requested:
                current.save()
                raise KeyboardInterrupt
            if timer.due():
                _save(current, timer)
        current.save()
    return current.record


def _finite(tensors: Mapping[str, Tensor]) -> dict[str, bool]:
    return {name: bool(torch.isfinite(value).all()) for name, value in tensors.items()}


def _save(current: _Run, timer: CheckpointTimer) -> None:
    started = time.monotonic()
    current.save()
    timer.saved(started)
