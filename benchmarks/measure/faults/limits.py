"""A full disk, few open files and little memory, for every command that writes."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measure.faults.commands import CACHE, COMMANDS, RANDOM, Command, contents, prepared_set
from benchmarks.measure.faults.workers import End, run_command

FREE = (0, 8, 64, 512)  # KiB
OPEN_FILES = (8, 16, 32, 64)
MEMORY = (0, 64, 512)  # MiB above what the process has when it starts
_DISK = 256  # MiB: room for the old file and the new one
_MOST_SECONDS = 300.0

WRITING = (
    *COMMANDS,
    RANDOM,
    Command("import", "import res.pt --data digits --out imported.h5", prepared_set, overwrites=True),
    Command("export folder", "export random.h5 --to folder --out images", prepared_set, overwrites=True),
    Command("export torch", "export random.h5 --to torch --out set.pt", prepared_set, overwrites=True),
    Command("show", "show random.h5 --png set.png", prepared_set),
    Command("evaluate", "evaluate random.h5 --protocol demo --nets mlp --runs 1 --json score.json", prepared_set),
)


def why_no_disks() -> str | None:
    """Why no small file system can be mounted here; None where it can."""
    with tempfile.TemporaryDirectory() as name:
        try:
            with small_disk(Path(name)):
                return None
        except (OSError, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", None) or str(error)
            return f"no file system can be mounted here: {str(told).strip()}"


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of `_DISK` MiB at `place` for the time of the block."""
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}m", "condense-faults", str(place)]
    subprocess.run(mounted, check=True, capture_output=True, text=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True, capture_output=True, text=True)


def full_disk(command: Command, free: int) -> dict[str, Any]:
    """A command on a disk with `free` KiB left; then the same command once there is room."""
    usual = _undisturbed(command)
    with tempfile.TemporaryDirectory() as name:
        disk, cache_folder = Path(name) / "disk", Path(name) / CACHE
        disk.mkdir()
        with small_disk(disk):
            command.prepare(disk)
            if command.overwrites:
                _run(command, disk, cache_folder)
                command = replace(command, line=f"{command.line} --overwrite")
            before = contents(disk)
            filler = disk / "filler"
            _fill(filler, free)
            end = _run(command, disk, cache_folder)
            filler.unlink()
            after = contents(disk)
            changed = sorted(path for path in before if after.get(path) != before[path])
            again = end if end.code == 0 else _run(command, disk, cache_folder)
            finally_there = contents(disk)
    return {
        "command": command.name,
        "free": free,
        "code": end.code,
        "one_line": end.code == 0 or end.in_one_line,
        "said": "" if end.code == 0 else end.errors[-300:],
        "old_files_changed": changed,
        "again": again.code,
        "said_again": "" if again.code == 0 else again.errors[-300:],
        "as_usual": finally_there == usual,
        "left_over": sorted(finally_there.keys() - usual.keys()),
    }


def little(command: Command, what: str, amount: int) -> dict[str, Any]:
    """A command with few open files, or with so many MiB of memory above what its process has at the start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "folder"
        folder.mkdir()
        command.prepare(folder)
        limit = {"open files": _limit_files, "memory": _limit_memory}[what]
        end = _run(command, folder, Path(name) / CACHE, lambda: limit(amount))
    return {
        "command": command.name,
        what: amount,
        "code": end.code,
        "one_line": end.code == 0 or end.in_one_line,
        "said": "" if end.code == 0 else end.errors[-300:],
    }


def went_well(trial: dict[str, Any]) -> bool:
    """Whether a command ended, refused in one line or listed what failed, touched nothing old, could be run again."""
    good = trial["code"] in (0, 1, 2) and trial["one_line"]
    if "again" not in trial:
        return bool(good)
    return bool(good and trial["again"] == 0 and trial["as_usual"] and not trial["old_files_changed"])


def _run(command: Command, folder: Path, cache_folder: Path, limit: Callable[[], None] = lambda: None) -> End:
    def prepare() -> None:
        os.environ["CONDENSE_CACHE"] = str(cache_folder)
        limit()

    return run_command(command.words, folder, most_seconds=_MOST_SECONDS, before=prepare)


@cache
def _undisturbed(command: Command) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp())
    try:
        command.prepare(folder)
        end = _run(command, folder, folder / CACHE)
        if end.code != 0:
            raise RuntimeError(f"{command.name} failed with room enough: {end.errors}")
        return contents(folder)
    finally:
        shutil.rmtree(folder)


def _fill(filler: Path, free: int) -> None:
    """Write until only `free` KiB are left."""
    with filler.open("wb") as file:
        space = os.statvfs(filler.parent)
        os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - 1024 * free))


def _limit_files(amount: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (amount, amount))


def _limit_memory(mebibytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
