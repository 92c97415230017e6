"""Running each job in a process of its own: its memory is measured alone, and its crash is not ours.

for outcome in Subprocesses().run(function, jobs): ...
for outcome in Subprocesses(workers=2, threads=1).run(function, jobs): ...
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Generic

from condense.runtime.executors import InProcess, Job, Outcome, Value, in_one_line
from condense.runtime.progress import terminal_released

_GLANCE = 0.05  # seconds between two looks at the processes


@dataclass(frozen=True)
class Subprocesses:
    """New processes of this machine, so many `workers` at a time, whose standard error is ours.

    Each job has so many `attempts`, in a new process each, and processor `threads` (None: as a new process has them);
    its value does not depend on `workers`. A single worker has the terminal for itself, several must not draw on it.
    `function` and the jobs travel by pickle: a function of a module, or a `partial` of one.
    """

    workers: int = 1
    threads: int | None = None
    attempts: int = 1

    def run(self, function: Callable[[Job], Value], jobs: Iterable[Job]) -> Iterator[Outcome[Job, Value]]:
        """`function` of every job, in the order in which they finish; a process that dies is an outcome.

        Raises `KeyboardInterrupt` after a Ctrl-C, when all processes have saved what they were doing.
        """
        waiting = ((job, 1) for job in jobs)
        again: list[tuple[Job, int]] = []
        running: list[_Running[Job]] = []
        try:
            while True:
                with terminal_released() if self.workers == 1 else nullcontext():
                    for job, attempt in islice(chain(_emptied(again), waiting), self.workers - len(running)):
                        with _interrupts_held_back():
                            running.append(_start(function, job, self.threads, attempt))
                    if not running:
                        return
                    finished = _first_to_end(running)
                running.remove(finished)
                outcome = finished.outcome()
                if outcome.error is not None and outcome.attempts < self.attempts:
                    again.append((outcome.job, outcome.attempts + 1))
                else:
                    yield outcome
        finally:
            _interrupt(running)


subprocesses = Subprocesses()


def on_every_core() -> Subprocesses:
    """As many processes as there are cores for this one, with one thread each; a job that fails is tried once more."""
    return Subprocesses(workers=len(os.sched_getaffinity(0)), threads=1, attempts=2)


@dataclass(frozen=True, eq=False)
class _Running(Generic[Job]):
    """A process that does a job, and the file that its result goes to."""

    job: Job
    process: subprocess.Popen[bytes]
    result: IO[bytes]
    attempt: int

    def outcome(self) -> Outcome[Job, Any]:
        with self.result:
            if self.process.returncode != 0:
                return Outcome(self.job, error=_end_of(self.process.returncode), attempts=self.attempt)
            self.result.seek(0)
            try:
                value, error = pickle.load(self.result)
            except Exception as problem:  # whatever the classes of the value do when they are made again
                value, error = None, f"its result cannot be read here: {in_one_line(problem)}"
        return Outcome(self.job, value, error, self.attempt)


def _emptied(jobs: list[tuple[Job, int]]) -> Iterator[tuple[Job, int]]:
    """Takes what it gives out of `jobs`."""
    while jobs:
        yield jobs.pop(0)


def _start(function: Callable[[Job], Value], job: Job, threads: int | None, attempt: int) -> _Running[Job]:
    result = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the outcome)
    with tempfile.TemporaryFile() as request:
        pickle.dump((function, job, threads), request)
        request.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "condense.runtime.subprocesses", str(os.getpid())],
            stdin=request,
            stdout=result,
            env=os.environ | {"PYTHONPATH": _import_path()},
            process_group=0,  # Ctrl-C goes to us alone, and from us, once, to the process
        )
        return _Running(job, process, result, attempt)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A Ctrl-C waits until the block ends and, for processes that begin in it, until they let it through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _first_to_end(running: Sequence[_Running[Job]]) -> _Running[Job]:
    while True:
        for each in running:
            if each.process.poll() is not None:
                return each
        time.sleep(_GLANCE)


def _interrupt(running: Sequence[_Running[Job]]) -> None:
    """Ctrl-C for all of them, and wait until they have saved what they were doing."""
    for each in running:
        each.process.send_signal(signal.SIGINT)
    for each in running:
        each.process.wait()
        each.result.close()


def _import_path() -> str:
    """Lets the process find our packages, and not a folder of the same name where the user happens to be."""
    root = Path(__file__).resolve().parents[2]
    return os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))


def _end_of(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the process was killed (signal 9): out of memory, or somebody stopped it"
    if code < 0:
        return f"the process was stopped by signal {-code} ({signal.Signals(-code).name})"
    return f"the process ended with exit code {code} and no result"


def main() -> None:
    """Do the job that standard input holds, and write its value and its error to standard output."""
    _end_with(parent=int(sys.argv[1]))
    result, sys.stdout = sys.stdout.buffer, sys.stderr  # what libraries print must not get between
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # our parent tells of it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        function, job, threads = pickle.load(sys.stdin.buffer)
        (outcome,) = InProcess(threads, attempts=1).run(function, [job])
    except KeyboardInterrupt:
        sys.exit(130)
    result.write(_pickled(outcome))


def _pickled(outcome: Outcome[Any, Any]) -> bytes:
    try:
        return pickle.dumps((outcome.value, outcome.error))
    except Exception as problem:  # whatever the classes of the value do
        return pickle.dumps((None, f"its result cannot leave the process: {in_one_line(problem)}"))


def _end_with(parent: int) -> None:
    """End this process soon after its parent: a second start must not meet a worker of the first."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
