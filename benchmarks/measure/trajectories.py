"""`python -m benchmarks.measure.trajectories`: what the gradient of a trajectory costs in memory and time.

Every point has processes of its own, in rounds: the gradient of an inner training on 50 images of 32x32 by a ConvNet
of width 64, from a random vector to a random target, with DSA. The fastest process counts, with its memory: the
growth over the process after its imports and a short gradient of two steps (which compiles, where compilation is
asked for). With more than 10 classes there is an image of each with a soft label, and a step takes 50 of them, as
TESLA does for ImageNet.

Errors compare the frozen gradient, and the exact one with inner networks in bfloat16, with the exact one in float32.
They depend on where a training is and where it should go, so they are measured on epochs of experts, with real images.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from benchmarks.markdown import markdown_table
from benchmarks.measure.machine import Load, busy_notice, memory_growth
from benchmarks.measure.measuring import end, give_out
from buffers import ExpertBuffer, record_experts
from condense.augmentation.dsa import Augmentation, augment, draw_per_image
from condense.cli.parsing import parse
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.data import RealData, load_data
from condense.data.sampling import random_indices
from condense.methods.interface import class_major_labels
from condense.networks import Network, build_network
from condense.networks.layout import Layout
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer, progress_bar
from condense.runtime.provenance import circumstances
from condense.runtime.seeds import generator
from condense.runtime.subprocesses import on_every_core
from condense.runtime.validation import Closed
from condense.unroll import TrajectoryGradient, trajectory_gradient

Way = Literal["unrolled", "adjoint", "adjoint compiled", "frozen", "adjoint bfloat16"]
_WAYS: tuple[Way, ...] = ("unrolled", "adjoint", "adjoint compiled", "frozen")
_SHAPE, _CLASSES, _IMAGES = (3, 32, 32), 10, 50
_MORE_CLASSES = (100, 1000)
_COMPARED: tuple[Way, ...] = ("frozen", "adjoint bfloat16")
_EXPERTS, _EPOCHS = 2, 2
_ROUNDS, _REPEATS = 3, 2  # processes of a point, far apart in time, and gradients in each; the best counts
_RATES, _STEPS = (0.01, 0.05), (5, 20)


class TrajectoryOptions(Closed):
    """Without a way, all points are measured, each in a process of its own."""

    out: Path | None = Field(None, description="write the results here, as JSON")
    longest: int = Field(80, ge=5, description="steps: 5, 10, 20, ... up to this")
    network: str = Field("convnet-w64", description="network of the inner training")
    way: Way | None = Field(None, description="measure only this, and print it as JSON")
    steps: int = Field(20, ge=1, description="steps of that one point")
    classes: int = Field(_CLASSES, ge=_CLASSES, description="classes of that one point")


@dataclass(frozen=True, eq=False)
class Problem:
    """An inner training on `images`, in `batches` or all at once, that begins at `start` and should end at `target`."""

    network: Network
    start: Tensor
    target: Tensor
    images: Tensor
    labels: Tensor
    strategy: Augmentation
    batches: list[Tensor] | None = None


def random_problem(network: str, steps: int, classes: int) -> Problem:
    """Random vectors and images: what a gradient costs does not depend on them."""
    start, target = (_vector(build_network(network, _SHAPE, classes, seed=seed)) for seed in (1, 2))
    count = max(_IMAGES, classes)
    labels = class_major_labels(_CLASSES, _IMAGES // _CLASSES)
    batches = None
    if classes > _CLASSES:
        labels = torch.randn(count, classes, generator=generator(0, "labels"))
        batches = [torch.randperm(count, generator=generator(0, "batch", step))[:_IMAGES] for step in range(steps)]
    return Problem(
        build_network(network, _SHAPE, classes, seed=0),
        start,
        target,
        torch.randn(count, *_SHAPE, generator=generator(0, "images")),
        labels,
        Augmentation.dsa(mirror=True, align_corners=True),
        batches,
    )


def _vector(network: Network) -> Tensor:
    return Layout.of_parameters(network).flatten(dict(network.named_parameters())).detach()


def expert_problems(network: str, data: RealData, *, progress: bool = False) -> list[Problem]:
    """From every epoch to the next one of two experts that are trained for it, with real images of every class.

    Raises `CondenseError` if an expert cannot be trained.
    """
    info = data.info
    images = data.train.images(random_indices(data.train, [_IMAGES // _CLASSES] * len(info.classes), 0, "images"))
    labels = class_major_labels(len(info.classes), _IMAGES // _CLASSES)
    strategy = Augmentation.dsa(mirror=info.mirror, align_corners=True)
    with tempfile.TemporaryDirectory() as folder:
        recorded = record_experts(data, network, _EXPERTS, _EPOCHS, folder, executor=on_every_core(), progress=progress)
        if recorded.failed:
            raise CondenseError(f"an expert could not be trained: {next(iter(recorded.failed.values()))}")
        buffer = ExpertBuffer.open(folder)
        module = build_network(buffer.network, info.image_shape, len(info.classes), seed=0)
        return [
            Problem(
                module, buffer.snapshot(expert, epoch), buffer.snapshot(expert, epoch + 1), images, labels, strategy
            )
            for expert in range(_EXPERTS)
            for epoch in range(_EPOCHS)
        ]


def usual_data() -> RealData:
    """Fashion-MNIST, or the digits where it is missing."""
    try:
        return load_data("fashion-mnist")
    except CondenseError:
        return load_data("digits")


def gradient(problem: Problem, way: Way, steps: int, inner_lr: float = 0.01) -> TrajectoryGradient:
    """The gradient of an inner training of so many steps; the same numbers go in for every way."""
    batches = None if problem.batches is None else problem.batches[:steps]
    count = len(problem.images if batches is None else batches[0])
    channels, height, width = problem.images.shape[1:]
    shape = (channels, height, width)
    draws = [
        draw_per_image(problem.strategy, shape, count, generator(0, "augmentation", step)) for step in range(steps)
    ]
    plan = Plan(
        threads=torch.get_num_threads(),
        precision="bfloat16" if way == "adjoint bfloat16" else "float32",
        compile="on" if way == "adjoint compiled" else "off",
        micro_batch=_IMAGES,
    )
    return trajectory_gradient(
        Engine(problem.network, plan),
        problem.start,
        problem.target,
        problem.images,
        problem.labels,
        inner_lr,
        steps=steps,
        batches=batches,
        augment=lambda seen, step: augment(problem.strategy, seen, draws[step]),
        mode={"unrolled": "unrolled", "frozen": "frozen"}.get(way, "adjoint"),  # type: ignore[arg-type]
    )


def measure(network: str, way: Way, steps: int, classes: int) -> dict[str, Any]:
    """Memory and seconds of one point, in this process."""
    problem = random_problem(network, max(2, steps), classes)
    gradient(problem, way, 2)
    times: list[float] = []

    def timed() -> None:
        started = time.perf_counter()
        gradient(problem, way, steps)
        times.append(time.perf_counter() - started)

    memory = memory_growth(timed)
    for _ in range(_REPEATS - 1):
        timed()
    return {"way": way, "steps": steps, "classes": classes, "memory": memory, "seconds_per_step": min(times) / steps}


def errors(problems: Sequence[Problem], steps: int, inner_lr: float) -> list[dict[str, Any]]:
    """How far other gradients are from the exact one in float32, in parts of its length: mean and largest."""
    apart: dict[Way, list[tuple[float, float]]] = {way: [] for way in _COMPARED}
    for problem in problems:
        exact = gradient(problem, "adjoint", steps, inner_lr)
        for way, found in apart.items():
            other = gradient(problem, way, steps, inner_lr)
            found.append((_distance(other.images, exact.images), _distance(other.inner_lr, exact.inner_lr)))
    return [
        {"way": way, "inner_lr": inner_lr, "steps": steps, "images": _summary(images), "learning_rate": _summary(rates)}
        for way, (images, rates) in ((way, tuple(zip(*found))) for way, found in apart.items())
    ]


def _distance(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(values), "largest": max(values)}


def run(options: TrajectoryOptions, *, progress: bool) -> dict[str, Any]:
    """All points, and the errors."""
    load = Load()
    time.sleep(1.0)
    busy = load.others()
    steps = [5 * 2**power for power in range(20) if 5 * 2**power <= options.longest]
    wanted = [(way, count, _CLASSES) for count in steps for way in _WAYS]
    wanted += [(way, 20, classes) for classes in _MORE_CLASSES for way in ("adjoint", "frozen")]
    found: dict[tuple[Way, int, int], list[dict[str, Any]]] = {point: [] for point in wanted}
    with progress_bar("measuring", _ROUNDS * len(wanted), enabled=progress, unit="points") as bar:
        for done, point in enumerate(_ROUNDS * wanted, 1):
            found[point].append(in_a_process(options.network, *point))
            bar.update(done)
    points = [min(rounds, key=lambda once: once["seconds_per_step"]) for rounds in found.values()]
    data = usual_data()
    problems = expert_problems(options.network, data, progress=progress)
    return {
        "points": [point for point in points if point["classes"] == _CLASSES],
        "classes": [point for point in points if point["classes"] > _CLASSES],
        "errors": [line for rate in _RATES for count in _STEPS for line in errors(problems, count, rate)],
        "experts": {"data": data.name, "experts": _EXPERTS, "epochs": _EPOCHS},
        "settings": options.model_dump(mode="json", exclude={"out", "way", "steps", "classes"}),
        "load_of_others": busy,
        "notice": busy_notice(busy),
        **circumstances(),
    }


def in_a_process(network: str, way: Way, steps: int, classes: int) -> dict[str, Any]:
    """What `measure` finds in a new process."""
    words = ["--network", network, "--way", way, "--steps", str(steps), "--classes", str(classes)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure.trajectories", *words], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[str, Any]) -> str:
    """The results in Markdown: a row for each number of steps, memory and time for each way."""
    ways = list(dict.fromkeys(point["way"] for point in found["points"]))
    points = {(point["steps"], point["way"]): point for point in found["points"]}
    lengths = list(dict.fromkeys(point["steps"] for point in found["points"]))
    costs = [[str(steps), *[_cost(points[steps, way]) for way in ways]] for steps in lengths]
    classes = [[str(point["classes"]), point["way"], _cost(point)] for point in found["classes"]]
    errors = []
    for line in found["errors"]:
        images, rate = _error(line["images"]), _error(line["learning_rate"])
        errors.append([line["way"], f"{line['inner_lr']:g}", str(line["steps"]), images, rate])
    return "\n\n".join(
        [
            markdown_table(["steps", *ways], costs),
            markdown_table(["classes, an image each, 50 in a step", "gradient", "20 steps"], classes),
            markdown_table(
                ["gradient, against exact float32", "learning rate", "steps", "error, images", "error, learning rate"],
                errors,
            ),
        ]
    )


def _error(of: dict[str, float]) -> str:
    return f"{of['mean']:.2%} (up to {of['largest']:.2%})"


def _cost(point: dict[str, Any]) -> str:
    return f"{(point['memory'] or 0) / 1e6:.0f} MB, {1000 * point['seconds_per_step']:.0f} ms"


def main(words: Sequence[str]) -> int:
    """The command."""
    options = parse(
        TrajectoryOptions,
        words,
        program="python -m benchmarks.measure.trajectories",
        description="Memory and time of the gradient of a trajectory, by mode and number of steps.",
    )
    if options.way is not None:
        answer(json.dumps(measure(options.network, options.way, options.steps, options.classes)))
        return 0
    found = run(options, progress=sys.stderr.isatty())
    return give_out(found, table(found), options.out)


if __name__ == "__main__":
    end("benchmarks.measure.trajectories", main)
