"""One process at a time for each output: others are kept out, and what killed ones left half done is removed.

    with only_writer(Path("set.h5"), "run", beside=[Path("set.json")]): ...  # a file, and files that go with it
    with only_one(Path("experts"), "recording") as claim: ...  # a folder

The lock is a hidden file that ends with its block. That of a killed process stays, but holds nobody up.
"""

from __future__ import annotations

import fcntl
import glob
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from condense.runtime.errors import CondenseError
from condense.runtime.files import check_output, is_at, remove_half_done
from condense.runtime.interrupts import before_the_end

_LOCK = ".lock"

_ours: set[tuple[int, Path]] = set()  # thread and lock: who has an output may pass it on to what it calls


@dataclass(frozen=True)
class Claim:
    """The right of this process to write to `folder`: a lock on an open file in it."""

    folder: Path
    what: str
    lock: Path
    handle: int

    def check(self) -> None:
        """Raise `CondenseError` if somebody has removed the folder, and the lock with it, since then."""
        if not is_at(self.handle, self.lock):
            raise CondenseError(
                f"{self.folder} was removed or replaced while a {self.what} was running in it; start it again"
            )


@contextmanager
def only_writer(path: Path, what: str, *, beside: Sequence[Path] = (), option: str = "--out") -> Iterator[None]:
    """Keep others from writing the file or folder `path`, and the files `beside` it that go with it.

    What killed processes left of them half done is removed. Within the block, this thread may claim `path` again.
    Raises `CondenseError`, with `what` and `option` in it, if somebody else is writing it, or if it cannot be written.
    """
    lock = (path.parent / f".{path.name}{_LOCK}").absolute()
    place = threading.get_ident(), lock
    if place in _ours:
        yield
        return
    refusal = f"another {what} is writing {option} {path}; wait for it or give another name"
    with _locked(lock, path, option, refusal):
        _ours.add(place)
        try:
            remove_half_done(path.parent, *(glob.escape(output.name) for output in (path, *beside)))
            yield
        finally:
            _ours.remove(place)


@contextmanager
def claimed_output(
    path: Path, what: str, *, suffix: str, overwrite: bool = True, option: str = "--out"
) -> Iterator[None]:
    """A file that can be written, as `check_output` has it, and that nobody else writes within the block."""
    check_output(path, suffix=suffix, overwrite=overwrite, option=option)
    with only_writer(path, what, option=option):
        check_output(path, suffix=suffix, overwrite=overwrite, option=option)  # somebody may just have finished it
        yield


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[Claim]:
    """Make `folder`, if need be, and keep others out of it while `what` runs there.

    Raises `CondenseError` if another one is in it, or if it cannot be written to.
    """
    lock, refusal = folder / _LOCK, f"another {what} is running in {folder}; wait for it or give another --out"
    with _locked(lock, folder, "--out", refusal) as handle:
        yield Claim(folder, what, lock, handle)


@contextmanager
def _locked(lock: Path, output: Path, option: str, refusal: str) -> Iterator[int]:
    """Hold the lock while the block runs; gives its open file."""
    handle = _take(lock, output, option, refusal)

    def give_back() -> None:
        if is_at(handle, lock):  # not that of somebody who came after the folder was removed
            with suppress(OSError):
                lock.unlink()

    before_the_end.append(give_back)
    try:
        yield handle
    finally:
        before_the_end.remove(give_back)
        give_back()
        os.close(handle)


def _take(lock: Path, output: Path, option: str, refusal: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, flags, 0o666)
        except OSError as error:
            raise CondenseError(
                f"cannot write to {option} {output}: {error.strerror or error}; give another place"
            ) from error
        with ExitStack() as cleanup:
            cleanup.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CondenseError(refusal) from None
            except OSError:
                pass  # a file system that knows no locks: nobody is kept out
            if is_at(handle, lock):  # otherwise its last owner removed it between our two steps
                cleanup.pop_all()
                return handle
