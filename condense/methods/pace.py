"""How fast a run goes, from a few updates that are made for their time and thrown away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from condense.methods.interface import Pace
from condense.methods.loop import Steppable
from condense.runtime.memory import memory_errors_named

_UPDATES, _SECONDS = 5, 20.0  # as many measured updates as fit into this time, at least one


def measured_pace(begin: Callable[[], Steppable], training: float) -> Pace:
    """The pace of the run that `begin` starts, whose networks take `training` seconds to train first."""
    with memory_errors_named():
        started = time.perf_counter()
        synthesizer = begin()
        synthesizer.advance(0)
        first = time.perf_counter() - started
        later = statistics.median(_times(synthesizer))
    return Pace(training + max(0.0, first - later), later)


def _times(synthesizer: Steppable) -> list[float]:
    """Seconds of the updates after the first one."""
    times: list[float] = []
    while not times or (len(times) < _UPDATES and sum(times) < _SECONDS):
        started = time.perf_counter()
        synthesizer.advance(1 + len(times))
        times.append(time.perf_counter() - started)
    return times
