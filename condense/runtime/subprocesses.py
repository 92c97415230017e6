"""Running each job in a process of its own: its memory is measured alone, and its crash is not ours.

for outcome in Subprocesses().run(function, jobs): ...
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from condense.runtime.executors import Job, Outcome, Value, here
from condense.runtime.progress import terminal_released


@dataclass(frozen=True)
class Subprocesses:
    """New processes of this machine, one after the other, whose standard error is ours; each job has one attempt.

    `function` and the jobs travel by pickle: a function of a module, or a `partial` of one.
    """

    def run(self, function: Callable[[Job], Value], jobs: Iterable[Job]) -> Iterator[Outcome[Job, Value]]:
        """`function` of every job, in their order; a process that dies is an outcome.

        Raises `KeyboardInterrupt` after a Ctrl-C, when the process has saved what it was doing.
        """
        for job in jobs:
            yield _outcome(function, job)


subprocesses = Subprocesses()


def _outcome(function: Callable[[Job], Value], job: Job) -> Outcome[Job, Value]:
    with terminal_released():
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "condense.runtime.subprocesses", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": _import_path()},
            process_group=0,  # Ctrl-C goes to us alone, and from us, once, to the process
        )
        try:
            output, _ = process.communicate(pickle.dumps((function, job)))
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
    if process.returncode == 0:
        value, error = pickle.loads(output)
        return Outcome(job, value, error)
    return Outcome(job, error=_end_of(process.returncode))


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
        function, job = pickle.load(sys.stdin.buffer)
        (outcome,) = here.run(function, [job])
    except KeyboardInterrupt:
        sys.exit(130)
    pickle.dump((outcome.value, outcome.error), result)


def _end_with(parent: int) -> None:
    """End this process soon after its parent: a second start must not meet a worker of the first."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
