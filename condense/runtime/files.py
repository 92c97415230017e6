"""Files that are either old or new, never half: atomic writes, output checks, the cache folder."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from condense.runtime.errors import CondenseError
from condense.runtime.places import cache_directory

_HALF_DONE = ".tmp"  # how names end of what is being written
_LEFT_OVER = re.compile(rf"\.(?P<name>.+)\.[a-z0-9_]{{8}}{re.escape(_HALF_DONE)}", re.DOTALL)  # as `tempfile` has them
_LONGEST_NAME = (
    200  # bytes before the suffix of an output: of the 255 of a system, a temporary checkpoint takes 40 more
)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path near `path`; when the block ends well, flush it to disk and rename it.

    A kill at any moment leaves the old file or the new one, and perhaps something half done that the next write of this
    file removes. Raises `CondenseError` where the operating system refuses (no space left, no permission) and for a
    `path` that is anything but a file.
    """
    path = Path(path)
    check_regular(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_half_done(path.parent, glob.escape(path.name))
        with half_done(path) as folder:
            temporary = folder / path.name
            temporary.touch()
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise CondenseError(
            f"cannot write {path}: {error.strerror or error}; choose another place or free some space"
        ) from error


@contextmanager
def half_done(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path`, in which it can be made, and which goes with the block.

    It is locked: what is left of one without a lock belongs to nobody any more.
    """
    with ExitStack() as cleanup:
        while True:
            folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=_HALF_DONE))
            lock = _lock(folder)
            if lock is not None:
                break  # otherwise somebody who was tidying up has just taken it away
        cleanup.callback(os.close, lock)
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def remove_half_done(folder: Path, *patterns: str) -> None:
    """Remove what processes that are gone have left in `folder` of files with such names."""
    with suppress(OSError):  # it may be written to, but not read
        for path in [*folder.iterdir()]:
            match = _LEFT_OVER.fullmatch(path.name)
            if match is None or not any(fnmatchcase(match["name"], pattern) for pattern in patterns):
                continue
            lock = _lock(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
                os.close(lock)


def _lock(path: Path) -> int | None:
    """An open file or folder that nobody else has locked; None if somebody has, or if it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(handle, path):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file or folder is still the one that is there."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), path.lstat())
    return False


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON with a final newline, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_regular(path: Path, option: str = "") -> None:
    """Raise `CondenseError` where a file is to be read or written and there is a device, a pipe or a folder."""
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  (no name is too long for these)
        kind = "a folder" if path.is_dir() else "no regular file"
        raise CondenseError(f"{f'{option} {path}'.strip()} is {kind}; give the name of a file")


def check_output(path: str | Path, *, suffix: str, overwrite: bool, option: str = "--out") -> Path:
    """Make sure, before any work, that `path`, given with `option`, can become a finished file; return it.

    Raises `CondenseError` if its name cannot be used, if it is a folder or no regular file, if its name does not end in
    `suffix` (which readers go by), if it exists and `overwrite` is false, or if its folder cannot be written to.
    """
    path = Path(path)
    _check_name(path, option)
    if os.path.isdir(path):  # noqa: PTH112  (where a folder may not be entered, the methods of paths raise)
        raise CondenseError(
            f"{option} {path} is a folder; give the name of a file, for example {path / f'set{suffix}'}"
        )
    if path.suffix != suffix:
        raise CondenseError(f"{option} {path} must end in {suffix}, for example {path.with_suffix(suffix)}")
    check_regular(path, option)
    if os.path.lexists(path) and not overwrite:
        raise CondenseError(f"{option} {path} exists already; give --overwrite to replace it, or another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CondenseError(f"cannot write {option} {path}: {error.strerror or error}; choose another place") from error
    return path


def check_folder(path: str | Path, *, option: str = "--out") -> Path:
    """Make sure, before any work, that `path`, given with `option`, is or can become a folder to write in; return it.

    Nothing is made. Raises `CondenseError` if its name cannot be used, if it or a folder above it is a file, or if the
    place cannot be written to.
    """
    path = Path(path)
    _check_name(path, option)
    there = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))  # noqa: PTH110
    if not os.path.isdir(there):  # noqa: PTH112
        raise CondenseError(f"{option} {path} cannot be a folder, because {there} is a file; give another name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise CondenseError(f"cannot write {option} {path}: {there} may not be changed; choose another place")
    return path


def _check_name(path: Path, option: str) -> None:
    """The name leaves room for those of the files beside it, and safetensors can open its path."""
    length = len(os.fsencode(path.stem))
    if length > _LONGEST_NAME:
        raise CondenseError(
            f"the name of {option} {path} has {length} bytes, and those of the files beside it are longer still; give "
            f"one of at most {_LONGEST_NAME}, its suffix aside"
        )
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise CondenseError(f"the path of {option} {path.absolute()} is not UTF-8 text; give another one") from None


def cached_file(kind: str, name: str, *parts: Any) -> Path:
    """Where the cache keeps a safetensors file that depends on `parts` (JSON) and on nothing else."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
    return cache_directory() / kind / f"{name}-{digest}.safetensors"
