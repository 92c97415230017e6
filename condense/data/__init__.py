"""Real data: from a name, a path or a torch Dataset to two splits of uint8 pixels with their preprocessing.

The names are imported when they are used, so `condense.data.catalogue` can be read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condense.runtime.registry import imported_when_asked_for

if TYPE_CHECKING:
    from condense.data.info import DataInfo
    from condense.data.load import load_data
    from condense.data.packing import pack
    from condense.data.real import RealData, Split, TestData, TrainingData

__all__ = ["DataInfo", "RealData", "Split", "TestData", "TrainingData", "load_data", "pack"]

_HOMES = {
    "DataInfo": "info",
    "RealData": "real",
    "Split": "real",
    "TestData": "real",
    "TrainingData": "real",
    "load_data": "load",
    "pack": "packing",
}

__getattr__ = imported_when_asked_for(__name__, _HOMES)
