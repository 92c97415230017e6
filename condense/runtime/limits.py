"""What the system allows this process: memory of its container, address space, open files; and errors that say so."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from condense.runtime.errors import CondenseError

_MEMORY_WORDS = (
    "allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "failed to map segment",
    "out of memory",
    "Unable to allocate",  # numpy
)
_FILES = (
    "the limit of open files was reached ({limit}); raise it with `ulimit -n`, for example to 1024, or use fewer "
    "--workers"
)
_MEMORY = (
    "memory ran out; raise its limit if there is one (`ulimit -v`, that of the container), close other programs, or "
    "ask for less at once: smaller images, a smaller --memory-limit, fewer --workers or --threads"
)
_MOST_TO_LOAD = 15  # seconds of a processor, several times what loading torch and scipy takes
_THREADS = "no more threads may be started; raise the limit with `ulimit -u`, or give fewer --threads or --workers"


class LimitError(CondenseError):
    """A limit of the system was reached: nothing is wrong with what was read."""


def refuse_limits(error: BaseException) -> None:
    """Raise `LimitError` for an error that comes from a limit of the system, before it is taken for a damaged file."""
    sentence = limit_reached(error)
    if sentence is not None:
        raise LimitError(sentence) from error


def limit_reached(error: BaseException | None) -> str | None:
    """The sentence for an error that comes, directly or not, from a limit of the system; None for any other.

    >>> limit_reached(OSError(24, "Too many open files")).partition(" (")[0]
    'the limit of open files was reached'
    """
    while error is not None:
        number, text = getattr(error, "errno", None), str(error)
        if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
            return _FILES.format(limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if memory_ran_out(error):
            return _MEMORY
        if "can't start new thread" in text:
            return _THREADS
        error = error.__cause__ or error.__context__
    return None


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error says that there was too little memory."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and any(
        words in str(error) for words in _MEMORY_WORDS
    )


def check_address_space() -> None:
    """Raise `CondenseError` where a limit of address space leaves no room for torch and scipy.

    C++ may end a process that runs into it while libraries are loaded, and OpenBLAS, which comes with scipy, asks for
    memory that there is not until it is stopped. So a child tries first. Without such a limit nothing is done.
    """
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    finite = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    if finite and not _libraries_work():
        raise CondenseError(
            f"the limit of memory of {min(finite) / 1e9:.1f} GB (`ulimit -v`, `ulimit -d`) is too small for torch; "
            "raise it, for example with `ulimit -v unlimited`"
        )


def _libraries_work() -> bool:
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (_MOST_TO_LOAD, _MOST_TO_LOAD))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            import scipy.linalg  # brings an OpenBLAS of its own
            import torch

            scipy.linalg.lu(torch.eye(8).numpy())
            torch.ones(256, 256).matmul(torch.ones(256, 256)).exp().sum().item()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def container_memory(root: Path = Path("/")) -> int | None:
    """Bytes that the control groups of this process still allow it; None where none of them has a limit.

    Pages of files that can be dropped at once count as free. `root` is that of the file system.
    """
    left = [max(0, limit - used) for limit, used in _groups(root)]
    return min(left, default=None)


def container_limit(root: Path = Path("/")) -> int | None:
    """Bytes that the control groups of this process allow in all; None where none of them has a limit."""
    return min((limit for limit, _ in _groups(root)), default=None)


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """The limit and the use of each group with a limit that this process is in, version 2 or 1."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    base = root / "sys/fs/cgroup"
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            names = base, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            names = base / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        mount, limit_name, used_name, droppable = names
        group = Path(path.lstrip("/"))
        for part in (group, *group.parents):  # in a container, its own group may be mounted as the root of all
            limit, used = _number(mount / part / limit_name), _number(mount / part / used_name)
            if limit is not None and used is not None and limit < 2**60:  # version 1 says none by a huge number
                yield limit, used - _statistic(mount / part / "memory.stat", droppable)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such group, or `max`
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        fields = dict(line.split() for line in path.read_text(encoding="utf-8").splitlines())
        return int(fields.get(name, 0))
    except (OSError, ValueError):
        return 0
