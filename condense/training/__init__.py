"""The one loop that trains a network: its rule, what it trains on, its engine, and what a trained network says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condense.runtime.registry import imported_when_asked_for
from condense.training.rule import TrainingRule

if TYPE_CHECKING:
    from condense.training.loop import train_network
    from condense.training.prediction import accuracy, predict

_LATE = {"train_network": "loop", "accuracy": "prediction", "predict": "prediction"}
__all__ = ["TrainingRule", "accuracy", "predict", "train_network"]

__getattr__ = imported_when_asked_for(__name__, _LATE)
