"""Jobs in processes of their own: several at a time, killed, interrupted, or left by their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from condense.runtime.subprocesses import Subprocesses, on_every_core, subprocesses

ROOT, MARK = Path(__file__).parents[3], "SUBPROCESSES_UNDER_TEST"
SCRIPT = """
import sys
from condense.runtime.subprocesses import Subprocesses
from tests.condense.runtime.test_subprocesses import save_when_interrupted
try:
    list(Subprocesses(workers=2).run(save_when_interrupted, sys.argv[1:]))
except KeyboardInterrupt:
    sys.exit(130)
"""


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def begin_and_wait_for(job: tuple[Path, Path | None]) -> tuple[str, int]:
    mine, other = job
    mine.touch()
    if other is not None:
        wait_until(other.exists)
    return mine.name, os.getpid()


def threads_of(job: int) -> int:
    import torch

    return torch.get_num_threads()


def die(job: str) -> str:
    if job == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return job


class Unreadable:
    """What cannot be made again from what it is made into."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def give(job: str) -> object:
    values: dict[str, object] = {"works": 1, "unreadable": Unreadable(), "unpicklable": lambda: None}
    return values[job]


def save_when_interrupted(folder: str) -> None:
    (Path(folder) / "begun").touch()
    try:
        time.sleep(300)
    except KeyboardInterrupt:
        time.sleep(0.3)
        (Path(folder) / "saved").touch()
        raise


def test_a_value_that_cannot_travel_is_the_error_of_its_job_alone():
    found = {outcome.job: outcome for outcome in Subprocesses().run(give, ["unreadable", "unpicklable", "works"])}
    assert found["works"].value == 1
    assert "its result cannot be read here: ValueError: invalid literal for int()" in str(found["unreadable"].error)
    assert "its result cannot leave the process: " in str(found["unpicklable"].error)


def test_several_jobs_run_at_a_time_and_come_as_they_finish(tmp_path: Path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    jobs = [(first, third), (second, first), (third, None)]
    found = list(Subprocesses(workers=2).run(begin_and_wait_for, jobs))
    names, processes = zip(*(outcome.value for outcome in found))
    assert names[0] == "second"
    assert set(names[1:]) == {"first", "third"}, "the first waits for one that begins after the second has ended"
    assert [outcome.job for outcome in found] == [jobs[["first", "second", "third"].index(name)] for name in names]
    assert len({os.getpid(), *processes}) == 4


def test_a_job_has_the_threads_that_were_asked_for():
    (found,) = Subprocesses(threads=2).run(threads_of, [0])
    assert found.value == 2


def test_a_single_worker_does_one_job_after_the_other(tmp_path: Path):
    jobs = [(tmp_path / name, None) for name in "abc"]
    seen = []
    for outcome in subprocesses.run(begin_and_wait_for, jobs):
        assert [path.name for path in sorted(tmp_path.iterdir())] == [*seen, outcome.value[0]]
        seen.append(outcome.value[0])
    assert seen == ["a", "b", "c"]
    assert on_every_core() == Subprocesses(workers=len(os.sched_getaffinity(0)), threads=1, attempts=2)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_process_that_dies_is_an_outcome_among_others(workers: int):
    found = {outcome.job: outcome for outcome in Subprocesses(workers).run(die, ["lives", "dies", "lives too"])}
    assert found["dies"].value is None
    assert "signal 9" in found["dies"].error
    assert {outcome.attempts for outcome in found.values()} == {1}
    assert [found[job].value for job in ("lives", "lives too")] == ["lives", "lives too"]


def die_once(folder: Path) -> str:
    if not (folder / "begun").exists():
        (folder / "begun").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return folder.name


def raise_always(folder: Path) -> None:
    (folder / f"{len(list(folder.iterdir()))}").touch()
    raise ValueError("no")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_fails_is_tried_again_as_often_as_asked(workers: int, folders: list[Path]):
    found = list(Subprocesses(workers, attempts=2).run(die_once, folders))
    assert {(outcome.job, outcome.value, outcome.attempts) for outcome in found} == {(f, f.name, 2) for f in folders}
    again = folders[0].parent / "raises"
    again.mkdir()
    (failed,) = Subprocesses(workers, attempts=2).run(raise_always, [again])
    assert (failed.value, failed.attempts) == (None, 2)
    assert "no" in failed.error
    assert len(list(again.iterdir())) == 2


def start(folders: list[Path]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, folders)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env=os.environ | {MARK: str(folders[0])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background may ignore it
    )


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in ("one", "two", "three")]
    for folder in found:
        folder.mkdir()
    return found


def test_ctrl_c_ends_all_when_they_have_saved_and_begins_no_more(folders: list[Path], processes_with):
    process = start(folders)
    wait_until(lambda: process.poll() is not None or all((folder / "begun").exists() for folder in folders[:2]))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert all((folder / "saved").exists() for folder in folders[:2])
    assert list(folders[2].iterdir()) == []
    assert processes_with(MARK, folders[0]) == []


def test_ctrl_c_while_processes_start_says_nothing_and_begins_no_job(folders: list[Path], processes_with):
    process = start(folders)
    wait_until(lambda: process.poll() is not None or len(processes_with(MARK, folders[0])) == 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert [list(folder.iterdir()) for folder in folders] == [[], [], []]
    assert processes_with(MARK, folders[0]) == []


def test_a_killed_parent_leaves_no_process_behind(folders: list[Path], processes_with):
    process = start(folders)
    wait_until(lambda: process.poll() is not None or all((folder / "begun").exists() for folder in folders[:2]))
    process.kill()
    process.communicate()
    wait_until(lambda: not processes_with(MARK, folders[0]), 20)
