"""How fast this machine was found to do a piece of work: measured once, kept in the cache folder for later runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import Field

from condense.runtime.files import cache_directory, write_json
from condense.runtime.processor import processor_name
from condense.runtime.validation import Closed

_MEASURED_FOR = 0.5  # seconds


class Rate(Closed):
    """Seconds for each image, and before the first one (compilation)."""

    per_image: float = Field(gt=0)
    preparation: float = Field(ge=0)


class Rates:
    """The measured rates of this machine with this torch.

    What is not known yet is measured, and stored at once: a run that decides by a rate and a later run that reads it
    decide alike.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or cache_directory() / "rates.json"

    def find(self, work: str, measure: Callable[[], Rate]) -> Rate:
        """The rate of `work`, a description of everything that matters but the machine; measured if it is new."""
        key = f"{processor_name()}, torch {torch.__version__}: {work}"
        known = self._read()
        if key not in known:
            found = measure()
            known = self._read() | {key: found.model_dump()}  # another process may have measured meanwhile
            write_json(self._path, known)
        return Rate(**known[key])

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # not there yet, or damaged: it can be measured again
            return {}


def measured_rate(run: Callable[[], object], images: int, device: torch.device) -> Rate:
    """Time calls of `run`, which works on so many images: the first, with everything that happens once, and the best
    of half a second of further ones.

    That is at least three calls, and many short ones, which other work on the machine delays the most.
    """
    first, _ = _timed(run, device)
    times: list[float] = []
    end = time.perf_counter() + _MEASURED_FOR
    while len(times) < 3 or time.perf_counter() < end:
        times.append(_timed(run, device)[1])
    best = min(times)
    return Rate(per_image=best / images, preparation=max(0.0, first - best))


def _timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds until `run` was done, and those of them in which it worked.

    Where other work holds a processor, all threads of a call of a millisecond can wait eighty for the one that is
    there, in every call of a measurement; the rate would be believed ever after.
    """
    started, worked = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
        return seconds, seconds
    seconds = time.perf_counter() - started
    return seconds, min(seconds, time.process_time() - worked)  # of all threads: where nobody waits it is the larger
