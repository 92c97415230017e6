"""Sets that a run keeps on its way, beside the one that it ends in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet


def kept_path(out: Path, iterations: int) -> Path:
    """Where the set after so many updates of the run of `out` is kept.

    >>> kept_path(Path("set.h5"), 500).name
    'set-000500.h5'
    """
    return out.with_name(f"{out.stem}-{iterations:06d}{out.suffix}")


def check_kept(every: int, out: Path | None, configuration: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make sure, before any work, that a run of this configuration can keep a set after `every` so many updates.

    Raises `CondenseError` if the run makes no updates or stores nothing, and for a file that such a set would replace:
    one that is no set, or, without `overwrite`, one of another run.
    """
    if "iterations" not in configuration["settings"]:
        raise CondenseError(f"{configuration['method']} makes its set in one go: leave --keep-every out")
    if out is None:
        raise CondenseError(f"--keep-every {every} stores sets beside the finished one; give --out too")
    named = re.compile(re.escape(out.stem) + r"-[0-9]{6,}" + re.escape(out.suffix))
    for path in sorted(path for path in out.parent.glob("*") if named.fullmatch(path.name)):
        try:
            earlier = SyntheticSet.load(path).configuration
        except CondenseError as error:
            raise CondenseError(f"{path} is no readable synthetic set and is not replaced; remove it") from error
        if not overwrite and without_iterations(earlier) != without_iterations(configuration):
            raise CondenseError(
                f"{path} is no part of this run; give --overwrite to replace such sets, or another --out"
            )


def without_iterations(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without how many updates were made: that of a run that ends by the clock, or goes on."""
    settings = {name: value for name, value in configuration.get("settings", {}).items() if name != "iterations"}
    return {**configuration, "settings": settings}
