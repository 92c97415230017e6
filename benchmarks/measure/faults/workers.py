"""A function in a forked process: its exit code, what it writes to standard error, and its end by a signal."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from condense.cli.main import main

_GLANCE = 0.002  # seconds between two looks at a process
_LISTED = r"expert \d+ failed: |failed: |\d+ of \d+ cells failed; "  # a line for each job, exit code 1
_ON_THE_WAY = r"note:|(?!condense: ).* \d+/\d+( |$)|.* \d+\.\d( ± \d+\.\d)? %$"  # notes, progress, scores of cells
UNCAUGHT = 70  # exit code of a process that an exception ended


@dataclass(frozen=True)
class End:
    """How a process ended: `code` is its exit code, or minus the signal that ended it."""

    code: int
    seconds: float
    errors: str
    hung: bool = False

    @property
    def in_one_line(self) -> bool:
        """Whether it refused with one sentence, or listed the jobs that failed, as the contract wants it.

        What it had said before, of its progress and of cells that are done, does not count.
        """
        lines = [line for line in self.errors.splitlines() if not re.match(_ON_THE_WAY, line)]
        if self.code == 1:
            return bool(lines) and all(re.match(_LISTED, line) for line in lines)
        return self.code == 2 and len(lines) == 1 and lines[0].startswith("condense: ")


def run_forked(
    function: Callable[[], int], folder: Path, *, most_seconds: float, kill_after: float | None = None
) -> End:
    """The end of `function` in a process of its own, whose current folder is `folder`.

    After `kill_after` seconds it is killed, as a machine that loses its power would; after `most_seconds` it counts as
    hung and is killed as well.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = os.fork()
        if process == 0:
            _end_in(function, folder, errors.fileno())
        status, hung = _wait(process, started, most_seconds, kill_after)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    return End(os.waitstatus_to_exitcode(status), time.monotonic() - started, said, hung)


def run_command(
    words: Sequence[str],
    folder: Path,
    *,
    most_seconds: float,
    kill_after: float | None = None,
    before: Callable[[], None] = lambda: None,
) -> End:
    """The end of a command line of condense; `before` prepares its process."""

    def command() -> int:
        before()
        return main(words)

    return run_forked(command, folder, most_seconds=most_seconds, kill_after=kill_after)


def _wait(process: int, started: float, most_seconds: float, kill_after: float | None) -> tuple[int, bool]:
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status, False
        spent = time.monotonic() - started
        hung = spent > most_seconds
        if hung or (kill_after is not None and spent > kill_after):
            os.kill(process, signal.SIGKILL)
            return os.waitpid(process, 0)[1], hung
        time.sleep(_GLANCE)


def _end_in(function: Callable[[], int], folder: Path, errors: int) -> NoReturn:
    """The forked process: it never comes back to the caller's code."""
    code = UNCAUGHT
    try:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(errors, 2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (a descriptor, for good)
        code = function()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
