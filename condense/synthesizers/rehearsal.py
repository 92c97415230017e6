"""A few updates of a run, made for their time and thrown away: how long it will take, or how far its minutes reach."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

from condense.making import Job
from condense.planning import expected_seconds
from condense.runtime.memory import memory_errors_named
from condense.synthesizers.base import Synthesizer, SynthesizerSettings
from condense.synthesizers.initialization import BY_FEATURES

_UPDATES, _SECONDS = 5, 20.0  # as many measured updates as fit into this time, at least one


@dataclass(frozen=True)
class Pace:
    """What was found."""

    preparation: float  # seconds: of training networks first, of compilation, of making the images to start from
    seconds_per_iteration: float

    def within(self, minutes: float, at_most: int | None = None) -> int:
        """Iterations that a run of so many minutes makes, at least 1.

        >>> Pace(preparation=30.0, seconds_per_iteration=0.5).within(1.0)
        60
        """
        held = max(1, int((60 * minutes - self.preparation) / self.seconds_per_iteration))
        return held if at_most is None else min(held, at_most)


def rehearse(maker: type[Synthesizer], job: Job, settings: SynthesizerSettings) -> Pace:
    """Begin the run of `job` and measure its first few updates.

    Nothing is written, and no network is trained first: the time for that is counted by the measured rates of the plan.
    """
    training = expected_seconds(maker.preparation(job.data, job.ipc, settings), job.plan, job.device)
    settings = settings.for_length(settings.iterations)
    if settings.initialization in BY_FEATURES:
        settings = settings.model_copy(update={"initialization": "real"})
    with memory_errors_named():
        started = time.perf_counter()
        synthesizer = maker(replace(job, progress=False, rehearsal=True), settings)
        synthesizer.advance(0)
        first = time.perf_counter() - started
        later = statistics.median(_times(synthesizer))
    return Pace(training + max(0.0, first - later), later)


def _times(synthesizer: Synthesizer) -> list[float]:
    """Seconds of the updates after the first one."""
    times: list[float] = []
    while not times or (len(times) < _UPDATES and sum(times) < _SECONDS):
        started = time.perf_counter()
        synthesizer.advance(1 + len(times))
        times.append(time.perf_counter() - started)
    return times
