"""The cache: trained networks and other things that can be made again, which no failure of the cache may cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.files import cached_file
from condense.runtime.progress import say
from condense.runtime.tensor_files import load_if_whole, save_tensors


@dataclass(frozen=True, eq=False)
class Kept:
    """Tensors from the cache, or made now and kept there."""

    tensors: dict[str, Tensor]
    seconds_saved: float  # that they, or what they were made of, took to make, as far as it was found; else 0


def found_or_made(
    kind: str, name: str, parts: Sequence[Any], make: Callable[[], tuple[Mapping[str, Tensor], float]], *, what: str
) -> Kept:
    """What `make` gives, which depends on `parts` (JSON) and on nothing else, from the folder `kind` of the cache.

    Beside the tensors `make` tells the seconds that it saved by finding what it needed: they are part of what these
    cost. Where it cannot be kept, a note says so of `what`, and the work goes on. What is damaged is made again.
    """
    path = cached_file(kind, name, *parts)
    found = load_if_whole(path)
    if found is not None:
        tensors, facts = found
        return Kept(tensors, float(facts.get("seconds", 0)))
    started = time.monotonic()
    made, saved = make()
    try:
        save_tensors(path, dict(made), {"seconds": str(saved + time.monotonic() - started)})
    except CondenseError as error:
        say(f"note: {what} are not kept for later runs: {error} ($CONDENSE_CACHE says where)")
    return Kept(dict(made), saved)
