"""Labels as one object: their kinds, losses and arrays, and the sources that join them with images."""

from condense.labels.interpolated import InterpolatedLabels
from condense.labels.kinds import (
    HardLabels,
    LogitLabels,
    ProbabilityLabels,
    RegressionLabels,
    SmoothedLabels,
    centred_one_hot,
)
from condense.labels.labels import Labels
from condense.labels.projected import ProjectorLabels
from condense.labels.registry import labels_from_arrays
from condense.labels.sources import classified, in_memory
from condense.labels.subclasses import SubclassLabels
from condense.labels.views import OnlineLabels, ViewLabels

__all__ = [
    "HardLabels",
    "InterpolatedLabels",
    "Labels",
    "LogitLabels",
    "OnlineLabels",
    "ProbabilityLabels",
    "ProjectorLabels",
    "RegressionLabels",
    "SmoothedLabels",
    "SubclassLabels",
    "ViewLabels",
    "centred_one_hot",
    "classified",
    "in_memory",
    "labels_from_arrays",
]
