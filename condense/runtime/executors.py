"""Running independent jobs: in this process, one after the other, or on the workers of a Ray cluster.

A job is a frozen object that names its data by path, so that it can travel; what it gives comes back as it is
finished, and the caller alone writes results. A job that fails, or whose worker dies, is tried once more.

    for outcome in in_process.run(function, jobs): ...
    for outcome in Ray(workers=4).run(function, jobs): ...
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from condense._version import DISTRIBUTION
from condense.runtime.device import choose_device, set_threads, threads_restored
from condense.runtime.errors import CondenseError
from condense.runtime.limits import limit_reached
from condense.runtime.progress import say

if TYPE_CHECKING:
    import torch

_ATTEMPTS = 2

Job = TypeVar("Job")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome(Generic[Job, Value]):
    """What became of a job: its value, or the error of its last attempt in one line."""

    job: Job
    value: Value | None = None
    error: str | None = None
    attempts: int = 1


class Executor(Protocol):
    """Somewhere to run jobs."""

    @property
    def threads(self) -> int | None:
        """Processor threads of each job; None leaves their number as it is."""

    def run(self, function: Callable[[Job], Value], jobs: Iterable[Job]) -> Iterator[Outcome[Job, Value]]:
        """`function` of every job, in the order in which they finish."""


@dataclass(frozen=True)
class InProcess:
    """Here, one job after the other, each with so many processor threads; None leaves their number as it is."""

    threads: int | None = 1
    attempts: int = _ATTEMPTS

    def run(self, function: Callable[[Job], Value], jobs: Iterable[Job]) -> Iterator[Outcome[Job, Value]]:
        """`function` of every job, in their order; Ctrl-C goes through."""
        for job in jobs:
            yield self._outcome(function, job)

    __call__ = run

    def _outcome(self, function: Callable[[Job], Value], job: Job) -> Outcome[Job, Value]:
        error = ""
        for attempt in range(1, self.attempts + 1):
            try:
                return Outcome(job, _with_threads(function, job, self.threads), attempts=attempt)
            except Exception as failure:
                if not isinstance(failure, CondenseError) and limit_reached(failure) is None:
                    for line in traceback.format_exc().splitlines():
                        say(line)
                error = in_one_line(failure)
        return Outcome(job, error=error, attempts=self.attempts)


@dataclass(frozen=True)
class Ray:
    """On Ray: a cluster of this machine with so many `workers`, or the one at `address`.

    A task that runs on a worker that is killed starts again on another one. Jobs name files, so all machines of a
    cluster need the same ones. Raises `CondenseError` if Ray is not installed, no cluster answers at `address`, or none
    of its machines has so many `threads`.
    """

    workers: int | None = None
    address: str | None = None
    threads: int = 1

    def run(self, function: Callable[[Job], Value], jobs: Iterable[Job]) -> Iterator[Outcome[Job, Value]]:
        """`function` of every job, in the order in which they finish; a cluster of our own ends with the iterator."""
        engine, ours = self._connected()
        task = engine.remote(num_cpus=self.threads, max_retries=0)(_with_threads)
        try:
            pending = {task.remote(function, job, self.threads): (job, 1) for job in jobs}
            while pending:
                (done,), _ = engine.wait(list(pending), num_returns=1)
                job, attempt = pending.pop(done)
                try:
                    yield Outcome(job, engine.get(done), attempts=attempt)
                except engine.exceptions.RayError as failure:
                    if attempt < _ATTEMPTS:
                        pending[task.remote(function, job, self.threads)] = (job, attempt + 1)
                    else:
                        yield Outcome(job, error=in_one_line(failure), attempts=attempt)
        finally:
            if ours:
                engine.shutdown()

    __call__ = run

    def check(self) -> None:
        """Raise the `CondenseError` of `run` before any work; a cluster of our own is not started for that."""
        if self.address is None:
            _installed()
            return
        engine, ours = self._connected()
        if ours:
            engine.shutdown()

    def _connected(self) -> tuple[Any, bool]:
        """Ray with a cluster, and whether we started it or came to it."""
        engine = _installed()
        if engine.is_initialized():
            self._check_threads(engine)
            return engine, False
        processors = None if self.address else (self.workers or os.cpu_count() or 1) * self.threads
        try:
            engine.init(
                address=self.address or "local", num_cpus=processors, log_to_driver=False, logging_level=logging.ERROR
            )
        except Exception as error:
            raise CondenseError(f"no Ray cluster answers at {self.address!r} ({in_one_line(error)})") from error
        try:
            self._check_threads(engine)
        except CondenseError:
            engine.shutdown()
            raise
        return engine, True

    def _check_threads(self, engine: Any) -> None:
        """Ray itself waits in silence for a machine that is large enough."""
        most = max((node["Resources"].get("CPU", 0) for node in engine.nodes() if node["Alive"]), default=0)
        if self.threads > most:
            raise CondenseError(
                f"--threads {self.threads} is more than any machine of the cluster has; give at most {most:.0f}"
            )


def _installed() -> Any:
    """The package ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray as engine
    except ImportError as error:
        raise CondenseError(
            f"workers need the package ray, which is not installed; pip install '{DISTRIBUTION}[ray]'"
        ) from error
    return engine


def _with_threads(function: Callable[[Job], Value], job: Job, threads: int | None) -> Value:
    if threads is None:
        return function(job)
    with threads_restored():
        set_threads(threads)
        return function(job)


def in_one_line(error: Exception) -> str:
    """The exception for a list of failures: an error of ours speaks for itself."""
    cause = getattr(error, "cause", None) or error  # Ray wraps what a worker raised
    text = " ".join(str(cause).split())
    return text if isinstance(cause, CondenseError) else limit_reached(cause) or f"{type(cause).__name__}: {text}"


def device_of_jobs(asked: str, executor: Executor) -> torch.device:
    """Where networks are trained; raises `CondenseError` for a device that is not there, or not for workers."""
    if isinstance(executor, InProcess):
        return choose_device(asked)
    if asked not in ("auto", "cpu"):
        raise CondenseError(f"workers train on processors, not on {asked}; give --device cpu, or leave the workers out")
    return choose_device("cpu")


in_process = InProcess()
here = InProcess(threads=None, attempts=1)  # with the threads that this process has, and once
ray = Ray()
