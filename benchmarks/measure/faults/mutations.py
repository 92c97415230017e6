"""Damaged and hostile inputs: read in forked processes that are watched for time, memory and their end."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import shutil
import signal
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measure.faults.formats import FORMATS, MEMORY_LIMIT, Format
from benchmarks.measure.faults.mutate import mutate
from benchmarks.measure.faults.workers import run_forked
from benchmarks.measure.machine import memory_growth
from condense.runtime.errors import CondenseError

MOST_SECONDS = 10.0
MOST_GROWTH = 2**30 + MEMORY_LIMIT  # bytes
_ADDRESSES = 3 * 2**30  # bytes of address space over what the process has: beyond them it gets no memory
_GOOD = ("equal", "refused")
_BATCH = 25  # inputs of one process


@cache
def original(name: str) -> tuple[Path, Path, str]:
    """A folder with a good input of a format, the file in it, and what is read there."""
    found = next(each for each in FORMATS if each.name == name)
    folder = Path(tempfile.mkdtemp(prefix="condense-good-"))

    def make() -> int:
        file = found.make(folder)
        (folder / "good.json").write_text(json.dumps([str(file.relative_to(folder)), found.read(file)]))
        return 0

    end = run_forked(make, folder, most_seconds=300)
    if end.code != 0:
        raise RuntimeError(f"no good input of {name}: {end.errors}")
    file, digest = json.loads((folder / "good.json").read_text())
    (folder / "good.json").unlink()
    return folder, folder / file, digest


def forget_originals() -> None:
    """Remove the folders of good inputs."""
    for each in FORMATS:
        shutil.rmtree(original(each.name)[0])
    original.cache_clear()


def batch(number: int, seed: int) -> list[dict[str, Any]]:
    """What became of `_BATCH` mutated inputs of one format; `number` decides format and mutations."""
    found = FORMATS[number % len(FORMATS)]
    outcomes: list[dict[str, Any]] = []
    while len(outcomes) < _BATCH:
        outcomes += _read_some(found, number, seed, first=len(outcomes))
    return outcomes


def _read_some(found: Format, number: int, seed: int, first: int) -> list[dict[str, Any]]:
    """Outcomes from input `first` on, as many as one process lives to tell; that of its last one if it does not."""
    original(found.name)
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _read_all(found, number, seed, first, writer)
    os.close(writer)
    outcomes, waiting = [], b""
    with os.fdopen(reader, "rb", buffering=0) as told:
        while True:
            ready, _, _ = select.select([told], [], [], MOST_SECONDS)
            part = told.read(65536) if ready else None
            if not part:
                break
            waiting += part
            *lines, waiting = waiting.split(b"\n")
            outcomes += [json.loads(line) for line in lines]
    if part is None:
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code != 0:
        outcome = "hung" if part is None else "crashed"
        outcomes.append({"format": found.name, "input": f"{number}.{first + len(outcomes)}", "outcome": outcome})
        outcomes[-1] |= {"code": code}
    return outcomes


def _read_all(found: Format, number: int, seed: int, first: int, told: int) -> None:
    """The forked process: an outcome on a line of its own after each input."""
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + _ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for place in range(first, _BATCH):
            outcome = _read_one(found, random.Random(f"{seed} {number} {place}"))
            outcome = {"format": found.name, "input": f"{number}.{place}"} | outcome
            os.write(told, (json.dumps(outcome) + "\n").encode())
        code = 0
    finally:
        os._exit(code)


def _read_one(found: Format, draws: random.Random) -> dict[str, Any]:
    folder, file, good = original(found.name)
    with tempfile.TemporaryDirectory(prefix="condense-bad-") as name:
        copy = Path(name) / "input"
        shutil.copytree(folder, copy)
        place = copy / file.relative_to(folder)
        how = mutate(place, found.kind, draws)
        os.environ["CONDENSE_CACHE"] = f"{name}/cache"
        result: dict[str, Any] = {}

        def read() -> None:
            result.update(_outcome(found, place, good))

        started = time.monotonic()
        growth = memory_growth(read)
        if growth is not None and growth > MOST_GROWTH:
            result["outcome"] = "memory"
        if time.monotonic() - started > MOST_SECONDS:
            result["outcome"] = "hung"
    return result if result["outcome"] in ("equal", "refused", "other") else result | {"how": how}


def _outcome(found: Format, place: Path, good: str) -> dict[str, Any]:
    """`equal`, `refused`, `other` where a file does not vouch for its contents, else a fault with what was said."""
    try:
        read = found.read(place)
    except CondenseError as error:
        return {"outcome": "refused"} if "\n" not in str(error) else {"outcome": "many lines", "said": str(error)[:300]}
    except BaseException as error:
        return {"outcome": "exception", "said": f"{type(error).__name__}: {error}"[:300]}
    if read == good:
        return {"outcome": "equal"}
    return {"outcome": "different" if found.vouched else "other"}


def summary(outcomes: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How often each outcome came, by format."""
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        counts.setdefault(outcome["format"], Counter())[outcome["outcome"]] += 1
    return {name: dict(sorted(each.items())) for name, each in counts.items()}
