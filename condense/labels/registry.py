"""All kinds of labels, by the names that files have for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from condense.labels.interpolated import InterpolatedLabels
from condense.labels.kinds import HardLabels, LogitLabels, ProbabilityLabels, RegressionLabels, SmoothedLabels
from condense.labels.labels import Labels, Stored
from condense.labels.projected import ProjectorLabels
from condense.labels.subclasses import SubclassLabels
from condense.labels.views import OnlineLabels, ViewLabels
from condense.runtime.errors import CondenseError

KINDS: dict[str, type[Labels]] = {
    kind.kind: kind
    for kind in (
        HardLabels,
        SmoothedLabels,
        ProbabilityLabels,
        LogitLabels,
        InterpolatedLabels,
        SubclassLabels,
        RegressionLabels,
        ViewLabels,
        OnlineLabels,
        ProjectorLabels,
    )
}


def labels_from_arrays(
    kind: str, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None
) -> Labels:
    """The labels that a file describes.

    Raises `CondenseError` for a kind that this version does not know, for parts that do not make it, and for arrays
    that such labels do not have: they would be trained on as something else than they say.
    """
    if kind not in KINDS:
        raise CondenseError(f"its labels are of the kind {kind!r}, which this condense does not know; upgrade condense")
    labels = KINDS[kind].from_arrays(arrays, attributes, classes)
    superfluous = sorted(arrays.keys() - labels.arrays.keys())
    if superfluous:
        raise CondenseError(f"its labels are {kind}, which have no {superfluous[0]}; make it again")
    return labels
