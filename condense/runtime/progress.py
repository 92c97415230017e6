"""What people see while a command runs: lines, and progress bars with iteration, metrics and time left.

Everything that is printed goes through `say` or `answer`, or stands in a bar: names in it may hold anything.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from condense.runtime.printing import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar(Protocol):
    """One row of progress."""

    def update(self, completed: float, metrics: Mapping[str, float] | None = None) -> None:
        """Show that `completed` of the total is done, with the latest metrics."""


class _Silent:
    def update(self, completed: float, metrics: Mapping[str, float] | None = None) -> None:
        pass


_BAR = 16  # characters
_TIMES = 24  # characters of the time that has passed, the time that is left, and the spaces between the columns


class _Row:
    def __init__(self, display: Progress, task: TaskID, beside: int) -> None:
        self._display, self._task, self._beside = display, task, beside

    def update(self, completed: float, metrics: Mapping[str, float] | None = None) -> None:
        """As many of the metrics, in their order, as the terminal has room for."""
        shown, room = "", self._display.console.width - self._beside
        for name, value in (metrics or {}).items():
            longer = f"{shown}  {printable(name)} {value:.4g}".strip()
            if len(longer) > room:
                break
            shown = longer
        self._display.update(self._task, completed=completed, metrics=shown)


_display: Progress | None = None  # what this process draws at the moment; bars within bars share it


@contextmanager
def progress_bar(description: str, total: float, *, enabled: bool, unit: str = "") -> Iterator[Bar]:
    """A bar towards `total` (iterations, epochs, networks or, with `unit="s"`, seconds) while the block runs.

    A bar that is opened while another one is shown appears below it, and vanishes when its block ends.
    """
    if not enabled:
        yield _Silent()
        return
    with _shared_display() as (display, within):
        description = printable(description)
        task = display.add_task(description, total=total, unit=f" {unit}" if unit else "", metrics="")
        try:
            counts = 2 * len(f"{total:.0f}") + len("/ ") + len(unit)
            yield _Row(display, task, len(description) + _BAR + counts + _TIMES)
        finally:
            if within:
                display.remove_task(task)


@contextmanager
def terminal_released() -> Iterator[None]:
    """Draw nothing while the block runs, so that another process can use the terminal."""
    if _display is None:
        yield
        return
    _display.stop()
    try:
        yield
    finally:
        _display.start()


_heard: list[list[str]] = []  # what blocks listen to, the innermost last


@contextmanager
def notes_heard() -> Iterator[list[str]]:
    """The notes that are said in this process while the block runs, as sentences."""
    notes: list[str] = []
    _heard.append(notes)
    try:
        yield notes
    finally:
        _heard.pop()


def say(text: str) -> None:
    """Print a line on standard error, above the bars if there are any; `note: ` begins what is to be remembered."""
    if text.startswith("note: "):
        for notes in _heard:
            notes.append(text.removeprefix("note: "))
    if _display is None:
        print(printable(text), file=sys.stderr)
    else:
        _display.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def answer(*lines: object) -> None:
    """Print what was asked for on standard output, each line by itself."""
    for line in lines:
        print(printable(str(line)), flush=True)  # what follows may take hours


@contextmanager
def _shared_display() -> Iterator[tuple[Progress, bool]]:
    """The display in use and True, or else a new one and False."""
    global _display
    if _display is not None:
        yield _display, True
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR),
        TextColumn("{task.completed:.0f}/{task.total:.0f}{task.fields[unit]}", style="progress.download"),
        TextColumn("{task.fields[metrics]}", style="cyan", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=Console(stderr=True), refresh_per_second=4, speed_estimate_period=86400
    ) as _display:
        try:
            yield _display, False
        finally:
            _display = None
