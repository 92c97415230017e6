"""`python -m benchmarks.trajectories`: what the gradient of a trajectory costs in memory and time, by mode and steps.

Every point is a process of its own: one gradient of an inner training on 50 images of 32x32 by a ConvNet of width 64,
from a random vector to a random target, with DSA. Memory is the growth over the process after its imports and a short
gradient of two steps (which compiles, where compilation is asked for). With more than 10 classes there is an image of
each with a soft label, and a step takes 50 of them, as TESLA does for ImageNet. Errors compare the frozen gradient, and
the exact one with inner networks in bfloat16, with the exact one in float32.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from benchmarks.machine import Load, busy_notice, memory_growth
from benchmarks.measuring import circumstances, end, give_out
from condense.augmentation import Augmentation, augment, draw_per_image
from condense.cli.parsing import parse
from condense.engine import Engine
from condense.networks import Network, build_network
from condense.runtime.plan import Plan
from condense.runtime.progress import progress_bar
from condense.runtime.seeds import generator
from condense.runtime.validation import Closed
from condense.unroll import TrajectoryGradient, trajectory_gradient

Way = Literal["unrolled", "adjoint", "adjoint compiled", "frozen", "adjoint bfloat16"]
_WAYS: tuple[Way, ...] = ("unrolled", "adjoint", "adjoint compiled", "frozen")
_SHAPE, _CLASSES, _IMAGES = (3, 32, 32), 10, 50
_MORE_CLASSES = (100, 1000)


class TrajectoryOptions(Closed):
    """Without a way, all points are measured, each in a process of its own."""

    out: Path | None = Field(None, description="write the results here, as JSON")
    longest: int = Field(80, ge=5, description="steps: 5, 10, 20, ... up to this")
    network: str = Field("convnet-w64", description="network of the inner training")
    way: Way | None = Field(None, description="measure only this, and print it as JSON")
    steps: int = Field(20, ge=1, description="steps of that one point")
    classes: int = Field(_CLASSES, ge=_CLASSES, description="classes of that one point")


def gradient(network: str, way: Way, steps: int, classes: int = _CLASSES) -> TrajectoryGradient:
    """One gradient; the same numbers go in for every way."""
    module = build_network(network, _SHAPE, classes, seed=0)
    start, target = (_vector(build_network(network, _SHAPE, classes, seed=seed)) for seed in (1, 2))
    count = max(_IMAGES, classes)
    images = torch.randn(count, *_SHAPE, generator=generator(0, "images"))
    labels = torch.arange(_CLASSES).repeat_interleave(_IMAGES // _CLASSES)
    batches = None
    if classes > _CLASSES:
        labels = torch.randn(count, classes, generator=generator(0, "labels"))
        batches = [torch.randperm(count, generator=generator(0, "batch", step))[:_IMAGES] for step in range(steps)]
    strategy = Augmentation.dsa(mirror=True, align_corners=True)
    draws = [draw_per_image(strategy, _SHAPE, _IMAGES, generator(0, "augmentation", step)) for step in range(steps)]
    plan = Plan(
        threads=torch.get_num_threads(),
        precision="bfloat16" if way == "adjoint bfloat16" else "float32",
        compile="on" if way == "adjoint compiled" else "off",
        micro_batch=_IMAGES,
    )
    return trajectory_gradient(
        Engine(module, plan),
        start,
        target,
        images,
        labels,
        0.01,
        steps=steps,
        batches=batches,
        augment=lambda seen, step: augment(strategy, seen, draws[step]),
        mode={"unrolled": "unrolled", "frozen": "frozen"}.get(way, "adjoint"),  # type: ignore[arg-type]
    )


def _vector(network: Network) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def measure(network: str, way: Way, steps: int, classes: int) -> dict[str, Any]:
    """Memory and seconds of one point, in this process."""
    gradient(network, way, 2, classes)
    times: list[float] = []

    def timed() -> None:
        started = time.perf_counter()
        gradient(network, way, steps, classes)
        times.append(time.perf_counter() - started)

    memory = memory_growth(timed)
    timed()
    return {"way": way, "steps": steps, "classes": classes, "memory": memory, "seconds_per_step": min(times) / steps}


def errors(network: str, steps: int) -> list[dict[str, Any]]:
    """How far other gradients are from the exact one in float32, relative to its length."""
    exact = gradient(network, "adjoint", steps)
    found = []
    for way in ("frozen", "adjoint bfloat16"):
        other = gradient(network, way, steps)
        images = float((other.images - exact.images).norm() / exact.images.norm())
        rate = float((other.inner_lr - exact.inner_lr).abs() / exact.inner_lr.abs())
        found.append({"way": way, "steps": steps, "images": images, "inner_lr": rate})
    return found


def run(options: TrajectoryOptions, *, progress: bool) -> dict[str, Any]:
    """All points, and the errors."""
    load = Load()
    time.sleep(1.0)
    busy = load.others()
    steps = [5 * 2**power for power in range(20) if 5 * 2**power <= options.longest]
    wanted = [(way, count, _CLASSES) for count in steps for way in _WAYS]
    wanted += [(way, 20, classes) for classes in _MORE_CLASSES for way in ("adjoint", "frozen")]
    points = []
    with progress_bar("measuring", len(wanted), enabled=progress, unit="points") as bar:
        for way, count, classes in wanted:
            points.append(in_a_process(options.network, way, count, classes))
            bar.update(len(points))
    return {
        "points": [point for point in points if point["classes"] == _CLASSES],
        "classes": [point for point in points if point["classes"] > _CLASSES],
        "errors": errors(options.network, 5) + errors(options.network, 20),
        "settings": options.model_dump(mode="json", exclude={"out", "way", "steps", "classes"}),
        "load_of_others": busy,
        "notice": busy_notice(busy),
        **circumstances(),
    }


def in_a_process(network: str, way: Way, steps: int, classes: int) -> dict[str, Any]:
    """What `measure` finds in a new process."""
    words = ["--network", network, "--way", way, "--steps", str(steps), "--classes", str(classes)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.trajectories", *words], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[str, Any]) -> str:
    """The results in Markdown: a row for each number of steps, memory and time for each way."""
    ways = list(dict.fromkeys(point["way"] for point in found["points"]))
    rows = ["| steps | " + " | ".join(ways) + " |", "| --- " * (len(ways) + 1) + "|"]
    points = {(point["steps"], point["way"]): point for point in found["points"]}
    for steps in dict.fromkeys(point["steps"] for point in found["points"]):
        found_here = [points[steps, way] for way in ways]
        rows.append(f"| {steps} | " + " | ".join(_cost(one) for one in found_here) + " |")
    rows += ["", "| classes, an image each, 50 in a step | gradient | 20 steps |", "| --- | --- | --- |"]
    rows += [f"| {point['classes']} | {point['way']} | {_cost(point)} |" for point in found["classes"]]
    rows += ["", "| gradient, against exact float32 | steps | error, images | error, learning rate |"]
    rows += ["| --- | --- | --- | --- |"]
    rows += [
        f"| {line['way']} | {line['steps']} | {line['images']:.2%} | {line['inner_lr']:.2%} |"
        for line in found["errors"]
    ]
    return "\n".join(rows)


def _cost(point: dict[str, Any]) -> str:
    return f"{(point['memory'] or 0) / 1e6:.0f} MB, {1000 * point['seconds_per_step']:.0f} ms"


def main(words: Sequence[str]) -> int:
    """The command."""
    options = parse(
        TrajectoryOptions,
        words,
        program="python -m benchmarks.trajectories",
        description="Memory and time of the gradient of a trajectory, by mode and number of steps.",
    )
    if options.way is not None:
        print(json.dumps(measure(options.network, options.way, options.steps, options.classes)))
        return 0
    found = run(options, progress=sys.stderr.isatty())
    return give_out(found, table(found), options.out)


if __name__ == "__main__":
    end("benchmarks.trajectories", main)
