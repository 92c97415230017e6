"""condense: dataset distillation. A large training set becomes a tiny synthetic one that trains almost as well.

The public names are imported when they are first used, so `import condense` is quick and does not import torch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from condense._version import __version__
from condense.runtime.interrupts import end_at_once_before_the_work

TYPE_CHECKING = False  # as that of `typing`, which takes longer to import than everything here
if TYPE_CHECKING:
    from typing import Any

    from condense.baselines import baseline
    from condense.data import RealData, load_data
    from condense.evaluation import evaluate
    from condense.methods.distill import distill
    from condense.runtime.errors import CondenseError
    from condense.sets.synthetic_set import SyntheticSet
    from condense.teachers import Teacher
    from condense.teachers.relabel import relabel
    from condense.teachers.training import train_teacher

if sys.argv[:1] == ["-m"] or "".join(sys.argv[:1]).endswith("/condense"):  # this process is a command of ours
    end_at_once_before_the_work()

# How idle OpenMP threads wait, unless the user chose; it has to be set before torch is imported. Threads that spin
# stall each other on a busy machine (a 12 ms step was seen to take 330 ms), threads that sleep at once make small
# steps slow. Spinning a little is near the best of both. Measured on two cores with libgomp (others sleep), training
# step of convnet-w64 on ten 28x28 images: asleep 32 ms, spinning a little 16, spinning 18; beside two other jobs 75,
# 61 and 158.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import_module("condense.runtime.places").point_libraries_to_the_cache()

_PUBLIC = {
    "CondenseError": "condense.runtime.errors",
    "RealData": "condense.data",
    "SyntheticSet": "condense.sets.synthetic_set",
    "Teacher": "condense.teachers",
    "baseline": "condense.baselines",
    "distill": "condense.methods.distill",
    "evaluate": "condense.evaluation",
    "load_data": "condense.data",
    "relabel": "condense.teachers.relabel",
    "train_teacher": "condense.teachers.training",
}

__all__ = [
    "CondenseError",
    "RealData",
    "SyntheticSet",
    "Teacher",
    "__version__",
    "baseline",
    "distill",
    "evaluate",
    "load_data",
    "relabel",
    "train_teacher",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'condense' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
