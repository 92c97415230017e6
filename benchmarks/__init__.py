"""The harness: grids of methods against random and pruned subsets, their records and reports, and the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from condense.runtime.registry import load_object

if TYPE_CHECKING:
    from benchmarks.demo import run_demo
    from benchmarks.harness import run

__all__ = ["run", "run_demo"]

_HOMES = {"run": "harness", "run_demo": "demo"}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_object(f"{__name__}.{_HOMES[name]}:{name}")
