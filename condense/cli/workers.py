"""`--workers` and `--ray`: the Ray workers that a command asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condense.runtime.errors import CondenseError

if TYPE_CHECKING:
    from condense.runtime.executors import Ray


def ray_workers(workers: int | None, address: str | None, threads: int | None) -> Ray | None:
    """So many workers of this machine, or those of the cluster at `address`; None where neither is asked for.

    Raises `CondenseError` where both are, and where they are out of reach.
    """
    if workers is not None and address is not None:
        raise CondenseError("--workers starts a cluster and --ray uses one that runs; give one of them")
    if workers is None and address is None:
        return None
    from condense.runtime.executors import Ray

    there = Ray(workers, address, threads or 1)
    there.check()
    return there
