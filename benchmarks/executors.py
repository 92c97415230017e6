"""Where a piece of work runs: in a process of its own, or in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.cells import Work
from condense.runtime.errors import CondenseError
from condense.runtime.progress import terminal_released
from condense.runtime.registry import load_object

Action = Literal["make_set", "score"]


@dataclass(frozen=True)
class Outcome:
    """What a piece of work gave: a value, or the last line of its error."""

    value: dict[str, Any] | None = None
    error: str | None = None


Executor = Callable[[Action, Work, Path, bool], Outcome]  # (action, work, folder of the benchmark, progress)


def in_process(action: Action, work: Work, folder: Path, progress: bool) -> Outcome:
    """Do the work here. Every error becomes an outcome, Ctrl-C does not."""
    try:
        function = load_object(
            f"benchmarks.work:{action}"
        )  # imported here: the parent of a process needs no torch for it
        return Outcome(value=function(work, folder, progress=progress))
    except CondenseError as error:
        return Outcome(error=str(error))
    except Exception as error:
        traceback.print_exc()
        return Outcome(error=" ".join(f"{type(error).__name__}: {error}".split()))


def in_subprocess(action: Action, work: Work, folder: Path, progress: bool) -> Outcome:
    """Do the work in a new process, whose standard error is ours; a crash of it becomes an outcome.

    Raises `KeyboardInterrupt` after a Ctrl-C, when the process has saved what it was doing.
    """
    request = {"action": action, "work": work.model_dump(mode="json"), "folder": str(folder), "progress": progress}
    with terminal_released():
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.executors", json.dumps(request | {"parent": os.getpid()})],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": _import_path()},
            process_group=0,  # Ctrl-C goes to us alone, and from us, once, to the process
        )
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise
    if process.returncode == 0:
        return Outcome(**json.loads(output))
    return Outcome(error=_end_of(process.returncode))


def _import_path() -> str:
    """Lets the process find our packages, and not a folder called benchmarks where the user happens to be."""
    root = Path(__file__).resolve().parents[1]
    return os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))


def _end_of(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the process was killed (signal 9): out of memory, or somebody stopped it"
    if code < 0:
        return f"the process was stopped by signal {-code} ({signal.Signals(-code).name})"
    return f"the process ended with exit code {code} and no result"


def main() -> None:
    """Do the work that the first argument describes as JSON, and print its outcome as JSON on standard output."""
    request = json.loads(sys.argv[1])
    _end_with(request["parent"])
    result, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not get between
    try:
        outcome = in_process(
            request["action"],
            Work.model_validate(request["work"]),
            Path(request["folder"]),
            request["progress"],
        )
    except KeyboardInterrupt:
        sys.exit(130)
    json.dump({"value": outcome.value, "error": outcome.error}, result)


def _end_with(parent: int) -> None:
    """End this process soon after its parent: a second start must not meet a worker of the first."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
