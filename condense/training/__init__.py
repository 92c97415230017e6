"""The one loop that trains a network: its rule, what it trains on, its engine, and what a trained network says."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from condense.training.rule import TrainingRule

if TYPE_CHECKING:
    from condense.training.loop import train_network
    from condense.training.prediction import accuracy, predict

_LATE = {"train_network": "loop", "accuracy": "prediction", "predict": "prediction"}
__all__ = ["TrainingRule", "accuracy", "predict", "train_network"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that lists of protocols stay fast."""
    if name in _LATE:
        return getattr(import_module(f"condense.training.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
