"""Files that are either old or new, never half: atomic writes, output checks, the cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condense.runtime.errors import CondenseError

_LONGEST_NAME = (
    200  # bytes before the suffix of an output: of the 255 of a system, a temporary checkpoint takes 40 more
)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; when the block ends well, flush it to disk and rename it.

    A kill at any moment leaves the old file or the new one. Raises `CondenseError` where the operating system refuses
    (no space left, no permission).
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise CondenseError(
            f"cannot write {path}: {error.strerror or error}; choose another place or free some space"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_output(path: str | Path, *, suffix: str, overwrite: bool, option: str = "--out") -> Path:
    """Make sure, before any work, that `path`, given with `option`, can become a finished file; return it.

    Raises `CondenseError` if its name cannot be used, if it is a folder, if its name does not end in `suffix` (which
    readers go by), if it exists and `overwrite` is false, or if its folder cannot be written to.
    """
    path = Path(path)
    _check_name(path, option)
    if path.is_dir():
        raise CondenseError(
            f"{option} {path} is a folder; give the name of a file, for example {path / f'set{suffix}'}"
        )
    if path.suffix != suffix:
        raise CondenseError(f"{option} {path} must end in {suffix}, for example {path.with_suffix(suffix)}")
    if path.exists() and not overwrite:
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
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
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


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Make `folder`, if need be, and keep others out of it while `what` runs there; the lock ends with the process.

    Raises `CondenseError` if another one is in it, or if it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a", encoding="utf-8")
    except OSError as error:
        raise CondenseError(
            f"cannot write to --out {folder}: {error.strerror or error}; give another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CondenseError(f"another {what} is running in {folder}; wait for it or give another --out") from None
        yield


def cache_directory() -> Path:
    """Where things are kept that can be made again (`$CONDENSE_CACHE`, else `~/.cache/condense`)."""
    return Path(os.environ.get("CONDENSE_CACHE") or Path.home() / ".cache" / "condense")


def may_be_written(folder: Path) -> bool:
    """Whether a folder may be written to, or made where it is not there yet; nothing is made."""
    place = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def cached_file(kind: str, name: str, *parts: Any) -> Path:
    """Where the cache keeps a safetensors file that depends on `parts` (JSON) and on nothing else."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
    return cache_directory() / kind / f"{name}-{digest}.safetensors"
