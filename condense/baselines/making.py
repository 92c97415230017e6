"""`baseline`: any training-time baseline by its name, for `condense.evaluate` and for benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from condense.baselines.base import Baseline
from condense.compute.planning import choose_plan
from condense.data import RealData, TrainingData
from condense.data.budget import Budget
from condense.methods.interface import Job, MethodSettings
from condense.methods.method import Method
from condense.methods.registry import training_time
from condense.runtime.device import choose_device
from condense.runtime.errors import CondenseError
from condense.runtime.progress import say
from condense.runtime.registry import load_object
from condense.runtime.validation import option_name, validated
from condense.teachers.committee import Committee
from condense.teachers.teacher import Teacher


def baseline(
    name: str,
    data: RealData,
    ipc: int | None = None,
    *,
    fraction: float | None = None,
    balanced: bool = True,
    seed: int = 0,
    teacher: Teacher | Committee | str | Path | None = None,
    device: str = "auto",
    progress: bool = False,
    **options: Any,
) -> Baseline[Any]:
    """A training on the real images of `data` for which no set is made, to be given to `condense.evaluate`.

    Args:
        name: `rs2`, `pruned`, `kd-pruned` (`condense methods` lists them).
        data: only its training part is used.
        ipc: images of every class that it sees in a round or, where it chooses once, at all.
        fraction: instead of `ipc`: the part of the training images.
        balanced: whether every class gets its share of what is chosen (`rs2` has variants for this).
        seed: of what is drawn or chosen; all networks that are trained see the same.
        teacher: for those that ask one.
        device: `auto`, `cpu` or `cuda:N`.
        progress: show bars on standard error.
        options: its settings by name.

    Raises:
        CondenseError: for anything wrong in the request, and without the teacher that is needed.

    >>> from condense.data import load_data
    >>> half = baseline("rs2", load_data("digits"), fraction=0.5, variant="without-replacement")
    >>> len(half.source())
    719
    """
    entry = training_time().find(name)
    budget = validated(Budget, {"ipc": ipc, "fraction": fraction, "balanced": balanced}, spell=option_name)
    settings = baseline_settings(entry, data.train, budget, options)
    maker: type[Baseline[Any]] = load_object(entry.target)
    committee = None if teacher is None else Committee.of(teacher)
    if entry.teacher != (committee is not None):
        raise CondenseError(f"{entry.name} " + ("asks a teacher: give one" if entry.teacher else "asks no teacher"))
    for note in () if committee is None else committee.check_matches(data.info):
        say(f"note: {note}")
    chosen = choose_device(device)
    plan = choose_plan(
        [],
        None,
        once=maker.preparation(data.train, budget, settings),
        device=chosen,
        threads=torch.get_num_threads(),
        precision="float32",
        compile="auto",
    )
    job = Job(data.train, budget, seed, chosen, plan, progress=progress, teacher=committee)
    return maker(job, settings)


def baseline_settings(entry: Method, data: TrainingData, budget: Budget, options: Mapping[str, Any]) -> MethodSettings:
    """The settings of a baseline; raises `CondenseError` for those that do not exist or do not fit the data."""
    maker: type[Baseline[Any]] = load_object(entry.target)
    settings = validated(maker.Settings, dict(options), origin=f"{entry.name}: ", spell=option_name)
    maker.check(data, budget, settings)
    return settings
