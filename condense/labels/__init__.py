"""Labels as one object: their kinds, losses and arrays, and the sources that join them with images."""

from condense.labels.kinds import (
    HardLabels,
    LogitLabels,
    ProbabilityLabels,
    RegressionLabels,
    centred_one_hot,
    labels_from_arrays,
)
from condense.labels.labels import Labels
from condense.labels.sources import classified, in_memory

__all__ = [
    "HardLabels",
    "Labels",
    "LogitLabels",
    "ProbabilityLabels",
    "RegressionLabels",
    "centred_one_hot",
    "classified",
    "in_memory",
    "labels_from_arrays",
]
