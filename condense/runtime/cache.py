"""The cache: trained networks and other things that can be made again, which no failure of the cache may cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.progress import say
from condense.runtime.tensor_files import save_tensors


def save_if_possible(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str], what: str) -> None:
    """Keep `what` took long to make for later runs; where that fails, a note says so, and the work goes on."""
    try:
        save_tensors(path, tensors, facts)
    except CondenseError as error:
        say(f"note: {what} are not kept for later runs: {error} ($CONDENSE_CACHE says where)")
