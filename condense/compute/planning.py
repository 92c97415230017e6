"""Choosing a plan: precision, compilation and micro-batch for the work that a run is going to do.

The choice is a rule on counted operations and measured rates, made once before the first iteration:

1. Precision is bfloat16 where the machine runs it natively, else float32.
2. Work that is over in about a minute anyway runs uncompiled in micro-batches of the usual size; nothing is measured.
3. Otherwise the micro-batch is the fastest of a few, uncompiled, for the kind of work that takes most of the time
   (training aside, whose batches are not divided); of sizes that differ by no more than noise it is the largest, which
   makes the fewest calls.
4. Compilation is taken if it saves more time over the whole run than it costs, networks that are trained first
   included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch

from condense.compute.compilation import compiler_available
from condense.compute.costs import Kind, Workload, largest_micro_batch
from condense.compute.derivatives import Parameters
from condense.compute.engine import REVISION, Engine
from condense.compute.plan import MICRO_BATCH, Plan
from condense.compute.precision import choose_precision
from condense.compute.rates import Rate, Rates, measured_rate
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.memory import keep_freed_memory
from condense.runtime.progress import say

Asked = Literal["auto", "on", "off"]

_WORTH_MEASURING = 5e12  # operations; about a minute on two cores
_A_MINUTE = 60.0  # seconds
_NOISE = 0.25  # of rates measured one after the other, while other work comes and goes
_MICRO_BATCHES = (8, 16, 32, 64, 128)


def choose_plan(
    works: Sequence[Workload],
    iterations: int | None,
    *,
    once: Sequence[Workload] = (),
    device: torch.device,
    threads: int,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: Asked = "auto",
    micro_batch: int | None = None,
    seconds: float | None = None,
    rates: Rates | None = None,
) -> Plan:
    """The plan for a run of so many iterations of `works`, or of so many seconds if these come first.

    `once` is done before the first iteration; the seconds include it. What is asked for explicitly is taken; `auto` and
    None are decided by the rule of the module's docstring. Without a compiler, one line on standard error says so.
    """
    keep_freed_memory()  # as the run does: rates without it would be others
    start = Plan(device=device.type, threads=threads, precision=choose_precision(precision, device), compile="off")
    planner = _Planner(start, device, rates or Rates(), works, once)
    large = planner.operations(iterations or 0) >= _WORTH_MEASURING
    if works and iterations is None:
        large = seconds is not None and seconds >= _A_MINUTE
    shapes = {(work.network, work.image_shape, work.classes) for work in (*works, *once)}
    drawing = any(draws_uncompiled(*shape, compile) for shape in shapes)
    if micro_batch is None:
        micro_batch = planner.best_micro_batch() if large and not drawing else MICRO_BATCH
    planner.plan = start.model_copy(update={"micro_batch": micro_batch})
    if drawing:
        return planner.plan
    wanted = compile == "on" or (compile == "auto" and large)
    if not wanted or not (works or once):
        return planner.plan
    if not compiler_available(device):
        say("no compiler was found, so nothing is compiled; install g++ (or triton for a GPU) to run faster")
        return planner.plan
    if compile == "on" or planner.compilation_pays(iterations, seconds):
        return planner.plan.model_copy(update={"compile": "on"})
    return planner.plan


def draws_uncompiled(network: str, image_shape: tuple[int, int, int], classes: int, compile: Asked) -> bool:
    """Whether a network draws random numbers, which would not follow the run's seed if it were compiled.

    Raises `CondenseError` if compilation is asked for nevertheless.
    """
    draws = bool(build_network(network, image_shape, classes, seed=0).draws)
    if draws and compile == "on":
        raise CondenseError(
            f"network {network} draws random numbers while it is trained, which compiled code takes from another "
            "generator; leave --compile on out"
        )
    return draws


def expected_seconds(works: Sequence[Workload], plan: Plan, device: torch.device) -> float:
    """What these works take by a plan, from measured rates; compilation aside."""
    return _Planner(plan, device, Rates(), works).seconds(works, plan.compile)


class _Planner:
    """Rates of the works under variations of one plan."""

    def __init__(
        self, plan: Plan, device: torch.device, rates: Rates, works: Sequence[Workload], once: Sequence[Workload] = ()
    ) -> None:
        self.plan, self.device, self.rates, self.works, self.once = plan, device, rates, works, once

    def operations(self, iterations: int) -> float:
        return sum(work.operations for work in self.once) + iterations * sum(work.operations for work in self.works)

    def best_micro_batch(self) -> int:
        divided = [work for work in self.works if work.kind != "training"]
        if not divided:
            return MICRO_BATCH
        main = max(divided, key=lambda work: work.operations)
        most = min(2 * main.batch - 1, largest_micro_batch(self.works, self.device))
        sizes = [size for size in _MICRO_BATCHES if size <= most] or [1]
        seconds = {size: self._rate(main, size, "off").per_image for size in sizes}
        return max(size for size in sizes if seconds[size] <= (1 + _NOISE) * min(seconds.values()))

    def compilation_pays(self, iterations: int | None, seconds: float | None) -> bool:
        """Whether the run is over sooner with compilation."""
        first, iteration = self.seconds(self.once, "off"), self.seconds(self.works, "off")
        saved = first - self.seconds(self.once, "on")
        if self.works:
            count = float("inf") if iterations is None else iterations
            if seconds is not None:
                count = min(count, max(0.0, seconds - first) / iteration)
            saved += count * (iteration - self.seconds(self.works, "on"))
        cost = [self._rate(work, self.plan.micro_batch, "on").preparation for work in (*self.once, *self.works)]
        return saved > sum(cost)

    def seconds(self, works: Sequence[Workload], compile: Literal["on", "off"]) -> float:
        """What these works take, compilation aside."""
        return sum(self._rate(work, self.plan.micro_batch, compile).per_image * work.images for work in works)

    def _rate(self, work: Workload, micro_batch: int, compile: Literal["on", "off"]) -> Rate:
        parts = 1 if work.kind == "training" else math.ceil(work.batch / micro_batch)
        size = math.ceil(work.batch / parts)  # as the engine divides a batch
        plan = self.plan.model_copy(update={"micro_batch": size, "compile": compile})
        shape = "x".join(str(side) for side in work.image_shape)
        what = f"{work.kind} of {work.network} for {shape} and {work.classes} classes"
        machine = f"{torch.cuda.get_device_name(self.device)}, " if self.device.type == "cuda" else ""
        key = f"engine {REVISION}, {what}, {machine}{plan.model_dump_json()}"
        return self.rates.find(key, lambda: _measure(work, plan, self.device))


def _measure(work: Workload, plan: Plan, device: torch.device) -> Rate:
    """Time one micro-batch."""
    network = build_network(work.network, work.image_shape, work.classes, seed=0).to(device)
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    images = torch.randn(plan.micro_batch, *work.image_shape, generator=torch.Generator().manual_seed(0)).to(device)
    return measured_rate(_call(work.kind, Engine(network, plan), parameters, images), plan.micro_batch, device)


def _call(kind: Kind, engine: Engine, parameters: Parameters, images: torch.Tensor) -> Callable[[], object]:
    """The engine's function for this kind of work, ready to be called."""
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    def features() -> object:
        with torch.no_grad():
            return engine.features(parameters, images)

    def feature_gradient() -> object:
        leaf = images.clone().requires_grad_()
        return torch.autograd.grad(engine.features(parameters, leaf).sum(), leaf)

    def training() -> object:
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        buffers = {name: value.clone() for name, value in engine.network.named_buffers()}
        return torch.autograd.grad(engine.loss(leaves | buffers, images, labels), list(leaves.values()))

    calls: dict[Kind, Callable[[], object]] = {
        "features": features,
        "feature gradient": feature_gradient,
        "gradient": lambda: engine.gradient(parameters, images, labels),
        "mixed product": lambda: engine.mixed_product(parameters, images, labels, parameters),
        "image product": lambda: engine.mixed_product(parameters, images, labels, parameters, images_only=True),
        "training": training,
    }
    return calls[kind]
