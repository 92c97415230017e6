"""Ctrl-C before and after a command, and while modules are imported: an exception would come out of anywhere then, and
some libraries swallow it. Imported before everything else, so it imports next to nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType

INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended
MESSAGE = "condense: interrupted; the same command goes on from what is saved"

_raising = False
before_the_end: list[Callable[[], None]] = []  # what a process that ends at once must give back; quick, and never fails


def end_at_once_before_the_work() -> None:
    """From now on Ctrl-C ends this process at once, in one line, but for work within `InterruptsRaise`.

    Nothing changes where somebody else has decided what Ctrl-C does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


class InterruptsRaise:
    """Within the block Ctrl-C is an exception, as usual, except in the middle of an import."""

    def __enter__(self) -> None:
        global _raising
        _raising = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        global _raising
        _raising = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _raising and (_draws() or not _imports(frame)):
        raise KeyboardInterrupt
    try:
        os.write(2, f"{MESSAGE}\n".encode())
        for give_back in before_the_end:
            give_back()
    finally:
        os._exit(INTERRUPTED)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _draws() -> bool:
    """Whether a progress bar has the terminal and must give it back."""
    return getattr(sys.modules.get("condense.runtime.progress"), "_display", None) is not None
