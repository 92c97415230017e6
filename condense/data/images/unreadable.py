"""Image files that cannot be read: why, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from PIL import Image

from condense.data.names import shown
from condense.runtime.errors import CondenseError
from condense.runtime.limits import limit_reached

Problem = Literal["damaged", "locked", "huge"]
PROBLEMS: tuple[Problem, ...] = ("damaged", "locked", "huge")


def problem_of(error: Exception) -> Problem:
    """What an exception of the system or of Pillow means; its readers raise anything on damaged files.

    Raises the exception itself where a limit of the system was reached: then nothing is known of the file.
    """
    if limit_reached(error) is not None:
        raise error
    if isinstance(error, PermissionError):
        return "locked"
    return "huge" if isinstance(error, Image.DecompressionBombError) else "damaged"


def unreadable_files(
    root: Path, count: int, problems: Mapping[str, Problem], *, skipped: bool = False
) -> CondenseError:
    """The error about the `problems` of files below `root`, by their names, out of `count` files that were tried.

    It is about one kind of problem, the first that there is of damaged, locked and huge files. `skipped` says that
    broken files were to be left out already.
    """
    kind = next(kind for kind in PROBLEMS if kind in problems.values())
    names = [name for name, problem in problems.items() if problem == kind]
    what, way_out = _sentence(kind)
    return CondenseError(
        f"{len(names)} of {count} image files in {root} {what}: {shown(names)}; {way_out}"
        f"{'' if skipped or kind == 'locked' else ', or give --skip-broken to leave them out'}"
    )


def _sentence(kind: str) -> tuple[str, str]:
    if kind == "damaged":
        return "cannot be read", "replace or remove them"
    if kind == "locked":
        return "may not be read (permission denied)", "allow yourself to read them, for example with chmod u+r"
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    return (
        f"have more than {most:.0f} megapixels, the most that Pillow decodes",
        "make them smaller first (or, in Python, raise PIL.Image.MAX_IMAGE_PIXELS)",
    )
