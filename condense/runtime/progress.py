"""Progress bars: iteration, metrics and time left on standard error, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """One row of progress."""

    def update(self, completed: float, metrics: Mapping[str, float] | None = None) -> None:
        """Show that `completed` of the total is done, with the latest metrics."""


class _Silent:
    def update(self, completed: float, metrics: Mapping[str, float] | None = None) -> None:
        pass


class _Row:
    def __init__(self, progress: object, task: object) -> None:
        self._progress, self._task = progress, task

    def update(self, completed: float, metrics: Mapping[str, float] | None = None) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in (metrics or {}).items())
        self._progress.update(self._task, completed=completed, metrics=text)  # type: ignore[attr-defined]


@contextmanager
def progress_bar(description: str, total: float, *, enabled: bool, unit: str = "") -> Iterator[Bar]:
    """A bar towards `total` (iterations, epochs, networks or, with `unit="s"`, seconds) while the block runs."""
    if not enabled:
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    count = TextColumn("{task.completed:.0f}/{task.total:.0f} s") if unit == "s" else MofNCompleteColumn()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        count,
        TextColumn("{task.fields[metrics]}", style="cyan"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        yield _Row(progress, progress.add_task(description, total=total, metrics=""))
