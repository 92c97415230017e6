"""How fast this machine was found to do a piece of work: measured once, kept in the cache folder for later runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from pydantic import Field

from condense.runtime.errors import CondenseError
from condense.runtime.files import write_json
from condense.runtime.inputs import read_json
from condense.runtime.places import cache_directory
from condense.runtime.processor import busy_seconds, processor_description
from condense.runtime.validation import Closed, validated

_MEASURED_FOR = 0.5  # seconds
_LITTLE = 0.25  # of a processor, which other work may take from a measurement
_BELIEVED_FOR = 60.0  # seconds, what other work disturbed: long enough for one plan


class Rate(Closed):
    """Seconds for each image, and before the first one (compilation)."""

    per_image: float = Field(gt=0)
    preparation: float = Field(ge=0)
    disturbed: bool = Field(default=False, exclude=True)  # other work held processors that this one wanted


_disturbed: dict[tuple[Path, str], tuple[Rate, float]] = {}  # those of this process, and when they were measured


class Rates:
    """The measured rates of this machine with this torch.

    What is not known yet is measured, and stored at once: a run that decides by a rate and a later run that reads it
    decide alike. A rate that other work disturbed is used by this process and not stored: two threads that wait for
    each other can then take fifty times as long, and every later run would believe it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or cache_directory() / "rates.json"

    def find(self, work: str, measure: Callable[[], Rate]) -> Rate:
        """The rate of `work`, a description of everything that matters but the processor; measured if it is new."""
        key = f"{processor_description()}, torch {torch.__version__}: {work}"
        known, here = self._read(), (self._path, key)
        if key in known:
            return known[key]
        rate, then = _disturbed.get(here, (None, 0.0))
        if rate is None or time.monotonic() - then > _BELIEVED_FOR:
            rate = measure()
            if rate.disturbed:
                _disturbed[here] = rate, time.monotonic()
            else:
                with suppress(CondenseError):  # where nothing can be written, the next run measures again
                    rates = self._read() | {key: rate}  # others may have added some
                    write_json(self._path, {name: value.model_dump() for name, value in rates.items()})
        return rate

    def _read(self) -> dict[str, Rate]:
        try:
            content = read_json(self._path, "measured rates")
            return {key: validated(Rate, value) for key, value in content.items()}
        except (CondenseError, AttributeError, TypeError, ValueError):  # not there yet, or damaged: it can be measured
            return {}


def measured_rate(run: Callable[[], object], images: int, device: torch.device) -> Rate:
    """Time calls of `run`, which works on so many images: the first, with everything that happens once, and the best
    of half a second of further ones.

    That is at least three calls, and many short ones, which other work on the machine delays the most. What it disturbs
    is measured again for as long as the first call took: compilation is worth some patience.
    """
    first = _seconds(run, device)
    patient_until = time.perf_counter() + first
    best, disturbed = _best_of_many(run, device)
    while disturbed and time.perf_counter() < patient_until:
        again, disturbed = _best_of_many(run, device)
        best = min(best, again)
    return Rate(per_image=best / images, preparation=max(0.0, first - best), disturbed=disturbed)


def _best_of_many(run: Callable[[], object], device: torch.device) -> tuple[float, bool]:
    """The shortest call of half a second, and whether other work held processors that these calls wanted."""
    times: list[float] = []
    started, busy, own = time.perf_counter(), busy_seconds(), time.process_time()
    while len(times) < 3 or time.perf_counter() - started < _MEASURED_FOR:
        times.append(_seconds(run, device))
    passed = time.perf_counter() - started
    others = (busy_seconds() - busy - (time.process_time() - own)) / passed  # processors that other work held
    free = max(0, (os.cpu_count() or 1) - torch.get_num_threads())
    return min(times), device.type == "cpu" and others > free + _LITTLE


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
