"""Evaluation: train fresh networks on a set under a frozen protocol, measure them on real test images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from condense.evaluation.protocols import PROTOCOLS, Protocol, full

if TYPE_CHECKING:
    from condense.evaluation.results import Evaluation, NetworkResult
    from condense.evaluation.scoring import evaluate

__all__ = ["PROTOCOLS", "Evaluation", "NetworkResult", "Protocol", "evaluate", "full"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that lists of protocols stay fast."""
    if name == "evaluate":
        from condense.evaluation.scoring import evaluate

        return evaluate
    if name in ("Evaluation", "NetworkResult"):
        from condense.evaluation import results

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
