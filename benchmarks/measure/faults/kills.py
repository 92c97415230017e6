"""Commands that are killed at random moments and started again until they end."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measure.faults.commands import CACHE, COMMANDS, Command, contents, left_in_cache
from benchmarks.measure.faults.workers import End, run_command
from condense.methods import checkpoints

_KILLS_IN_A_TRIAL = 3  # at most
_REST = 0.3  # seconds in which processes that a killed one had started notice that it is gone
_STUCK = 120.0  # seconds, of commands that take a few


def trial(number: int, seed: int) -> dict[str, Any]:
    """Kill a command up to three times, let it end, and compare with one that nobody killed."""
    draws = random.Random(f"{seed} {number}")
    command = COMMANDS[number % len(COMMANDS)]
    usual, seconds = _undisturbed(command)
    moments = [draws.uniform(0, 1.05 * seconds) for _ in range(draws.randint(1, _KILLS_IN_A_TRIAL))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command.prepare(folder)
        killed = []
        for moment in moments:
            end = _run(command, folder, kill_after=moment)
            if end.code == 0:  # it was over before: there is nothing to go on with
                break
            killed.append(round(moment, 4))
            time.sleep(_REST)
        else:
            end = _run(command, folder)
        after = contents(folder)
        return {
            "command": command.name,
            "killed_after": killed,
            "code": end.code,
            "hung": end.hung,
            "said": "" if end.code == 0 else end.errors[-500:],
            "different": sorted(path for path in usual.keys() & after.keys() if usual[path] != after[path]),
            "missing": sorted(usual.keys() - after.keys()),
            "left_over": sorted(after.keys() - usual.keys()) + left_in_cache(folder),
        }


def went_well(trial: dict[str, Any]) -> bool:
    """Whether a trial ended as if nothing had happened."""
    return trial["code"] == 0 and not (trial["different"] or trial["missing"] or trial["left_over"])


@cache
def _undisturbed(command: Command) -> tuple[dict[str, Any], float]:
    """What a command leaves behind that nobody kills, and the seconds that it takes."""
    folder = Path(tempfile.mkdtemp())
    try:
        command.prepare(folder)
        end = _run(command, folder)
        if end.code != 0:
            raise RuntimeError(f"{command.name} failed without being killed: {end.errors}")
        return contents(folder), end.seconds
    finally:
        shutil.rmtree(folder)


def _run(command: Command, folder: Path, kill_after: float | None = None) -> End:
    def prepare() -> None:
        os.environ["CONDENSE_CACHE"] = str(folder / CACHE)
        # a run of seconds would be saved once; here it is saved about ten times, so that kills fall into savings too
        checkpoints.MOST_SECONDS_LOST = 0.2
        checkpoints.LARGEST_COST = 1.0

    return run_command(command.words, folder, most_seconds=_STUCK, kill_after=kill_after, before=prepare)
