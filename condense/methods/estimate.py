"""What a run would cost, from a few real updates: `condense distill ... --dry-run`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from condense.compute.costs import largest_micro_batch
from condense.compute.plan import Plan
from condense.compute.planning import expected_seconds
from condense.data import RealData
from condense.methods.interface import ExpertSource
from condense.methods.prepared import Prepared
from condense.methods.request import Request
from condense.methods.slices.sliced import Sliced
from condense.runtime.device import threads_restored
from condense.runtime.memory import keep_freed_memory
from condense.runtime.printing import duration
from condense.runtime.provenance import peak_memory
from condense.teachers import Committee


@dataclass(frozen=True)
class Estimate:
    """What was found; methods that choose real images have no iterations, and the fields about them are None."""

    plan: Plan
    iterations: int | None
    seconds_per_iteration: float | None
    preparation: float  # seconds of training networks first, and of the first update beyond the others: compilation
    peak_memory: int  # bytes of this process, data included, and on a GPU those of the device
    largest_micro_batch: int | None  # that fits into half of the free memory

    @property
    def seconds(self) -> float | None:
        """The whole run."""
        if self.iterations is None or self.seconds_per_iteration is None:
            return None
        return self.preparation + self.iterations * self.seconds_per_iteration

    def lines(self) -> list[str]:
        """The estimate for people."""
        plan = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in self.plan.model_dump().items())
        lines = [f"plan                 {plan}", f"peak memory          {self.peak_memory / 1e9:.2f} GB"]
        if self.preparation >= 1:
            lines.append(f"preparation          {duration(self.preparation)}")
        if self.seconds is None:
            return [*lines, "iterations           none: images are made or chosen in one go"]
        largest = "not used" if self.largest_micro_batch is None else f"{self.largest_micro_batch} images"
        return [
            *lines,
            f"largest micro-batch  {largest}",
            f"one iteration        {self.seconds_per_iteration:.3f} s",
            f"{self.iterations:,} iterations".ljust(21) + duration(self.seconds),
        ]


@threads_restored()
def estimate(
    request: Request,
    data: RealData,
    *,
    buffer: ExpertSource | None = None,
    label_buffer: ExpertSource | None = None,
    teacher: Committee | None = None,
) -> Estimate:
    """Plan the run that is asked for, do a few of its updates, and throw them away.

    Nothing is written but measured rates in the cache, and no network is trained first: the time for that is counted
    by the rates. With minutes, `iterations` is how many they hold.

    Raises `CondenseError` as `distill` does.
    """
    prepared = replace(Prepared.of(request, data, buffer, label_buffer, teacher), executor=None)  # nothing travels
    where, plan = prepared.device, prepared.plan()
    keep_freed_memory()
    pace = prepared.maker.pace(prepared.job(plan), prepared.settings)
    if pace is None:
        training = expected_seconds(prepared.preparation, plan, where)
        return Estimate(plan, None, None, training, peak_memory(), None)
    minutes = request.minutes
    planned = prepared.iterations if minutes is None else pace.within(minutes, request.iterations)
    memory = peak_memory() + (torch.cuda.max_memory_allocated(where) if where.type == "cuda" else 0)
    divided = prepared.work and not issubclass(prepared.maker, Sliced)  # a slice goes through networks as a whole
    largest = largest_micro_batch(prepared.work, where) if divided else None
    return Estimate(plan, planned, pace.seconds_per_iteration, pace.preparation, memory, largest)
