"""Which device and how many threads a run uses; torch is imported late, as not all that ask need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from condense.runtime.errors import CondenseError

if TYPE_CHECKING:
    import torch


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` takes the first GPU if there is one, else the processor.

    Raises `CondenseError` for a name that torch does not know and for a device that this machine lacks.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CondenseError(
            f"device {name!r} cannot be used here; give auto, cpu or cuda:N of a GPU that exists"
        ) from error
    return device


def set_threads(threads: int | None) -> None:
    """Use `threads` processor threads in this process (default: what torch finds)."""
    if threads is None:
        return
    if threads < 1:
        raise CondenseError(f"--threads {threads} must be at least 1")
    import torch

    torch.set_num_threads(threads)


@contextmanager
def threads_restored() -> Iterator[None]:
    """Whatever the block does, this process has as many processor threads after it as before."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
