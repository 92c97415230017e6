"""Where things are kept that can be made again. Imported first of all, so it imports next to nothing."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path


def cache_directory() -> Path:
    """`$CONDENSE_CACHE`, else this user's folder for caches, `~/.cache/condense` on Linux; where no such folder can be
    made, one of this user's among the temporary files."""
    chosen = os.environ.get("CONDENSE_CACHE")
    return Path(chosen) if chosen else _usual_place(_home())


def point_libraries_to_the_cache() -> None:
    """Tell torch, and matplotlib where it has no place of its own, where to keep what they make, unless the user did.

    Torch's own choice is a folder that does not outlive the machine's next start, and it is made, for child processes
    too, by whatever of torch looks at it first; a folder that cannot be made would end the process there.
    """
    place = cache_directory()
    usable = place if can_be_written(place) else _own_temporary_folder()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(usable / "compiled"))
    home = _home()
    if home is None or not can_be_written(home / ".config" / "matplotlib"):
        os.environ.setdefault("MPLCONFIGDIR", str(usable / "matplotlib"))


def can_be_written(place: Path) -> bool:
    """Whether it is, or can become, a folder that files can be written to; nothing stays of the trial."""
    nearest = next(folder for folder in (place, *place.absolute().parents) if os.path.lexists(folder))
    if nearest == place:
        return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    trial = nearest / f".condense-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError:
        return False
    return True


def _home() -> Path | None:
    """The user's folder; None where nobody knows it."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (Path.home raises)
    return home if home.is_absolute() else None


@functools.cache
def _usual_place(home: Path | None) -> Path:
    from platformdirs import user_cache_path

    place = None if home is None else user_cache_path("condense", appauthor=False)
    return place if place is not None and can_be_written(place) else _own_temporary_folder()


@functools.cache
def _own_temporary_folder() -> Path:
    """A folder that nobody else can put anything into: what is compiled there is run."""
    import tempfile

    try:
        place = Path(tempfile.gettempdir(), f"condense-{os.getuid()}")
        place.mkdir(mode=0o700)
    except FileExistsError:
        found, others = place.lstat(), stat.S_IWGRP | stat.S_IWOTH
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & others:
            return Path(tempfile.mkdtemp(prefix="condense-"))
    except OSError:  # not even temporary files can be written: nothing is kept
        return Path(os.devnull, "condense")
    return place
