"""Folders and files on disk: every real folder once, and nothing that systems leave behind."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from condense.data.images.formats import suffixes
from condense.runtime.errors import CondenseError

# Put beside a user's files by macOS, Synology and QNAP stores, Windows, Linux and Python, in lower case.
_LEFTOVERS = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin"),
        *("system volume information", "lost+found", "__pycache__"),
    }
)


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or is one that systems and tools leave behind.

    >>> [is_leftover(name) for name in ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "cat")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in _LEFTOVERS


def is_image(name: str) -> bool:
    """Whether a file of this name has the suffix of an image.

    >>> is_image("1.JPEG"), is_image("1.jfif"), is_image("labels.csv")
    (True, True, False)
    """
    return suffix_of(name) in suffixes()


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, empty if it has none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (a million Path objects take seconds)


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder`, links to folders included, sorted by name."""
    return [folder / entry.name for entry in _entries(folder) if _is_folder(entry)]


def files_in(folder: Path) -> list[str]:
    """The names of the files in `folder` itself, sorted."""
    return [entry.name for entry in _entries(folder) if not _is_folder(entry)]


def has_images(folder: Path) -> bool:
    """Whether an image file lies in `folder` or anywhere below it."""
    return any(is_image(name) for _, name in walk(folder, [folder]))


def walk(
    root: Path, folders: Sequence[Path], *, apart: Sequence[Path] = (), repeated: list[str] | None = None
) -> Iterator[tuple[int, str]]:
    """Every file below `folders`, as the number of its folder and its path relative to `root`, in no useful order.

    Each real folder is entered once, however many links lead to it; links to `apart` are not followed either. Links
    come after everything that lies in the tree itself, so none takes files from the folder that holds them. Those that
    were not followed are added to `repeated`, relative to `root`.
    """
    entered = {os.path.realpath(folder) for folder in (*apart, *folders)}
    open_folders = deque((number, folder, os.path.realpath(folder)) for number, folder in enumerate(folders))
    links: deque[tuple[int, Path]] = deque()
    while open_folders or links:
        if open_folders:
            number, folder, real = open_folders.popleft()
        else:
            number, folder = links.popleft()
            real = os.path.realpath(folder)
            if real in entered:
                if repeated is not None:
                    repeated.append(folder.relative_to(root).as_posix())
                continue
            entered.add(real)
        place = folder.relative_to(root).as_posix()
        for entry in _entries(folder):
            if not _is_folder(entry):
                yield number, entry.name if place == "." else f"{place}/{entry.name}"
            elif entry.is_symlink() or f"{real}/{entry.name}" in entered:
                links.append((number, folder / entry.name))
            else:
                entered.add(f"{real}/{entry.name}")
                open_folders.append((number, folder / entry.name, f"{real}/{entry.name}"))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without leftovers; raises `CondenseError` if it may not be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_leftover(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise CondenseError(
            f"cannot list the folder {folder}: {error.strerror}; allow yourself to, for example with chmod u+rx"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
