"""What to do where a method needs experts and has none: the command that records them, and what it costs."""

from __future__ import annotations

import shlex
from typing import Any

from condense.compute.costs import Workload
from condense.data import DataInfo
from condense.data.catalogue import find_data_set
from condense.data.fitting import data_options
from condense.methods.method import Method
from condense.networks import build_network, canonical_name
from condense.runtime.printing import duration
from condense.runtime.validation import option_words

_EXPERTS = 10
_USUAL_SPEED = 1e11  # operations a second of float32 on two cores
_STEP = {"sgd": 1, "flat": 2, "smooth": 3}  # work in plain steps: two gradients; a gradient and one of a gradient


def how_to_record(
    entry: Method,
    info: DataInfo,
    images: int,
    settings: Any,
    special: dict[str, Any],
    normalization: str | None = None,
) -> str:
    """How to record the experts of `entry` with these settings on so many training images, in one line.

    `special` are options of `condense experts` that the recipe or the data asks for, `normalization` the one that the
    recipe's values are for, where it is not that of the data; then the set has to be made with it too. Costs are
    counted operations at the speed of two usual cores.
    """
    window = settings.max_start - 1 + settings.span
    count = settings.max_experts or _EXPERTS
    asked = {"net": settings.network, "experts": count, "epochs": window, "optimizer": entry.experts} | special
    asked["epochs"] = epochs = max(asked["epochs"], window)
    other_data = {} if normalization is None else {"normalization": normalization}
    about = data_options(info) | other_data | asked | {"out": "experts"}
    command = shlex.join(["condense", "experts", *option_words(about)])
    then = shlex.join(option_words(other_data | {"buffer": "experts"}))
    where = "" if find_data_set(info.name) else f" (as --data give the path of {info.name})"
    name, classes = canonical_name(settings.network, info.image_shape), len(info.classes)
    network = build_network(name, info.image_shape, classes, seed=0)
    size = 4 * sum(value.numel() for value in network.parameters()) * (epochs + 1)
    plain = Workload("training", name, info.image_shape, classes, batch=images, times=epochs).operations
    seconds = _STEP[entry.experts] * plain / _USUAL_SPEED
    return (
        f"{entry.name} needs experts, networks trained on the real data: record them with `{command}`{where} and give "
        f"{then}; each takes about {size / 1e6:,.1f} MB of disk and {duration(seconds)}, all {count} "
        f"{count * size / 1e6:,.1f} MB and {duration(count * seconds)}, at {_USUAL_SPEED / 1e9:.0f} billion "
        "operations a second"
    )
