"""The harness: grids of methods against random and pruned subsets, their records and reports, and the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condense.runtime.registry import imported_when_asked_for

if TYPE_CHECKING:
    from benchmarks.demo import run_demo
    from benchmarks.harness import run

__all__ = ["run", "run_demo"]

_HOMES = {"run": "harness", "run_demo": "demo"}

__getattr__ = imported_when_asked_for(__name__, _HOMES)
