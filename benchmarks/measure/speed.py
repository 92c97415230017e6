"""`python -m benchmarks.measure.speed`: the engine against the published algorithms written plainly, side by side.

Four pieces of work, at the shapes of the papers: an update of distribution matching, one of gradient matching with
siamese augmentation, the gradient of a trajectory of 20 steps (adjoint against unrolled), and training a network on a
set as an evaluation does. Both sides run in this process, on the same threads, one after the other in every repeat; a
ratio is baseline by engine of one repeat. Compilation and tuning happen before.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from benchmarks.markdown import markdown_table
from benchmarks.measure import baseline
from benchmarks.measure.machine import Load, busy_notice, finish, matmul_peak, memory_growth
from benchmarks.measure.measuring import end, give_out
from condense.augmentation.dsa import Augmentation, augment, draw_per_class, draw_per_image
from condense.cli.parsing import parse
from condense.compute.costs import Workload, forward_operations
from condense.compute.engine import Engine
from condense.compute.planning import choose_plan
from condense.compute.precision import DTYPES, choose_precision
from condense.data.info import DataInfo
from condense.data.preprocessing import None_
from condense.labels import HardLabels, in_memory
from condense.matching import class_means, match_gradients, match_means
from condense.networks import Network, build_network
from condense.runtime.device import choose_device, set_threads
from condense.runtime.memory import keep_freed_memory
from condense.runtime.progress import progress_bar
from condense.runtime.provenance import circumstances
from condense.runtime.seeds import generator
from condense.runtime.validation import Closed
from condense.synthesizers.gradient_matching import matched_gradient
from condense.training.loop import train_network
from condense.training.rule import TrainingRule
from condense.unroll import trajectory_gradient


class SpeedOptions(Closed):
    """Shapes are those of the papers for ten images per class of CIFAR-10."""

    out: Path | None = Field(None, description="write the results here, as JSON")
    repeats: int = Field(5, ge=1, description="times that both sides of every piece of work are run")
    network: str = Field("convnet-d3-w128-in", description="network of all pieces of work")
    side: int = Field(32, ge=8, description="pixels of a side of the three-channel images")
    classes: int = Field(10, ge=2, description="number of classes")
    ipc: int = Field(10, ge=1, description="synthetic images per class")
    real_batch: int = Field(256, ge=1, description="real images per class")
    steps: int = Field(20, ge=1, description="steps of the trajectory and of the training")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="of the engine")
    compile: Literal["auto", "on", "off"] = Field("on", description="of the engine")
    device: str = Field("cpu", description="cpu, cuda:N, or auto for a GPU if there is one")
    threads: int | None = Field(None, ge=1, description="processor threads of both sides [what torch finds]")


@dataclass(frozen=True)
class Contest:
    """One piece of work, done in two ways."""

    name: str
    baseline: Callable[[], object]
    engine: Callable[[], object]
    operations: float  # of the plain algorithm, about


def contests(options: SpeedOptions) -> list[Contest]:
    """The four pieces of work, ready to run; tuning happens here."""
    problem = _Problem(options)
    return [problem.dm(), problem.gradient_matching(), problem.trajectory(), problem.training()]


class _Problem:
    """The data that all pieces of work share: noise, since values do not change how long anything takes."""

    def __init__(self, options: SpeedOptions) -> None:
        self.options, self.shape = options, (3, options.side, options.side)
        self.device = choose_device(options.device)
        self.strategy = Augmentation()
        self.network = self._network(0)
        self.parameters = {name: value.detach() for name, value in self.network.named_parameters()}
        self.real = self._noise("real", options.classes * options.real_batch)
        self.synthetic = self._noise("synthetic", options.classes * options.ipc)
        classes = torch.arange(options.classes, device=self.device)
        self.real_labels = classes.repeat_interleave(options.real_batch)
        self.labels = classes.repeat_interleave(options.ipc)
        self.draws = draw_per_class(self.strategy, self.shape, options.classes, generator(0, "speed draws"))
        self.forward = forward_operations(options.network, self.shape, options.classes)

    def _network(self, seed: int) -> Network:
        return build_network(self.options.network, self.shape, self.options.classes, seed).to(self.device)

    def _noise(self, name: str, count: int) -> Tensor:
        return torch.randn(count, *self.shape, generator=generator(0, "speed", name)).to(self.device)

    def _engine(self, *works: Workload) -> Engine:
        plan = choose_plan(
            works,
            10**6,  # work without end: tune everything
            device=self.device,
            threads=torch.get_num_threads(),
            precision="float32" if works[0].kind == "training" else self.options.precision,
            compile=self.options.compile,
            micro_batch=works[0].batch if works[0].kind == "training" else None,
        )
        return Engine(self.network, plan)

    def _work(self, kind: Any, batch: int, times: int = 1) -> Workload:
        return Workload(kind, self.options.network, self.shape, self.options.classes, batch, times)

    def dm(self) -> Contest:
        """All classes: features of real images without, of synthetic ones with gradients."""
        engine = self._engine(
            self._work("features", len(self.real)), self._work("feature gradient", len(self.synthetic))
        )
        classes = self.options.classes

        def means(images: Tensor, labels: Tensor) -> Tensor:
            seen = augment(self.strategy, images, self.draws.expand(labels.cpu()))
            return class_means(engine.features(self.parameters, seen), labels, classes)

        def fast() -> Tensor:
            leaf = self.synthetic.clone().requires_grad_()
            with torch.no_grad():
                real = means(self.real, self.real_labels)
            return torch.autograd.grad(match_means(real, means(leaf, self.labels)), leaf)[0]

        real, synthetic = self.real.chunk(classes), self.synthetic.chunk(classes)
        return Contest(
            "dm step",
            lambda: baseline.dm_step(self.network, real, synthetic, self.strategy, self.draws),
            fast,
            (len(self.real) + 3 * len(self.synthetic)) * self.forward,
        )

    def gradient_matching(self) -> Contest:
        """All classes, one after the other: gradients of real images, mixed products of synthetic ones."""
        options = self.options
        engine = self._engine(
            self._work("gradient", options.real_batch, options.classes),
            self._work("image product", options.ipc, options.classes),
        )
        real, synthetic = self.real.chunk(options.classes), self.synthetic.chunk(options.classes)

        def fast() -> list[Tensor]:
            gradients: list[Tensor] = []
            for label in range(options.classes):
                shared = self.draws.expand(torch.tensor([label]))
                leaf = synthetic[label].detach().requires_grad_()
                theirs, ours = (augment(self.strategy, images, shared) for images in (real[label], leaf))
                _, pulled = matched_gradient(engine, self.parameters, theirs, ours, label, match_gradients)
                gradients += torch.autograd.grad(ours, leaf, pulled)
            return gradients

        return Contest(
            "dsa matching step",
            lambda: baseline.gradient_matching_step(self.network, real, synthetic, self.strategy, self.draws),
            fast,
            (3 * len(self.real) + 9 * len(self.synthetic)) * self.forward,
        )

    def trajectory(self) -> Contest:
        """From a random vector to a random target, all synthetic images in every step."""
        steps = self.options.steps
        engine = self._engine(
            self._work("mixed product", len(self.synthetic), steps), self._work("gradient", len(self.synthetic), steps)
        )
        start, target = (
            torch.cat([value.detach().flatten() for value in self._network(seed).parameters()]) for seed in (1, 2)
        )
        draws = [
            draw_per_image(self.strategy, self.shape, len(self.synthetic), generator(0, "trajectory", step))
            for step in range(steps)
        ]

        def run(network: Network | Engine, mode: Literal["adjoint", "unrolled"]) -> object:
            return trajectory_gradient(
                network,
                start,
                target,
                self.synthetic,
                self.labels,
                0.01,
                steps=steps,
                augment=lambda images, step: augment(self.strategy, images, draws[step]),
                mode=mode,
            )

        return Contest(
            f"trajectory, {steps} steps",
            lambda: run(self.network, "unrolled"),
            lambda: run(engine, "adjoint"),
            steps * 12 * len(self.synthetic) * self.forward,
        )

    def training(self) -> Contest:
        """The rule of the protocol `dsa`, for so many epochs of one batch."""
        steps, count = self.options.steps, len(self.synthetic)
        engine = self._engine(self._work("training", count, steps))
        rule = TrainingRule(lr=0.01, weight_decay=5e-4, batch_size=count, epochs=steps, augmentation="dsa")
        source = in_memory(self.synthetic, HardLabels(self.labels), _info(self.shape, self.options.classes))
        batches = [
            (
                torch.randperm(count, generator=generator(0, "order", epoch)),
                draw_per_image(self.strategy, self.shape, count, generator(0, "augmentation", epoch, 0)),
            )
            for epoch in range(steps)
        ]
        return Contest(
            f"evaluation, {steps} steps",
            lambda: baseline.train(self._network(3), self.synthetic, self.labels, self.strategy, batches, rule.lr),
            lambda: train_network(self._network(3), source, rule, seed=0, device=self.device, engine=engine),
            steps * 3 * count * self.forward,
        )


def _info(shape: tuple[int, int, int], classes: int) -> DataInfo:
    names = tuple(str(label) for label in range(classes))
    return DataInfo("noise", names, shape, mirror=True, fingerprint="", preprocessing=None_())


def measure(contest: Contest, repeats: int, peak: float, device: torch.device) -> dict[str, Any]:
    """Seconds of both sides, their ratios, their memory, and the engine's part of the peak of matrix products."""
    contest.baseline()
    contest.engine()  # compiles what tuning has not
    pairs = [(_seconds(contest.baseline, device), _seconds(contest.engine, device)) for _ in range(repeats)]
    ratios = [plain / fast for plain, fast in pairs]
    best = min(fast for _, fast in pairs)
    return {
        "name": contest.name,
        "ratio": {"minimum": min(ratios), "median": statistics.median(ratios), "maximum": max(ratios)},
        "baseline_seconds": [plain for plain, _ in pairs],
        "engine_seconds": [fast for _, fast in pairs],
        "baseline_memory": memory_growth(contest.baseline, device),
        "engine_memory": memory_growth(contest.engine, device),
        "operations": contest.operations,
        "part_of_peak": contest.operations / best / peak,
    }


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    finish(device)
    started = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - started


def run(options: SpeedOptions, *, progress: bool = False) -> dict[str, Any]:
    """Everything that `python -m benchmarks.measure.speed` finds."""
    set_threads(options.threads)
    keep_freed_memory()
    load = Load()
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    time.sleep(1.0)
    before = load.others()
    peak = matmul_peak(DTYPES[precision], device)
    found = contests(options)
    results = []
    with progress_bar("timing", len(found), enabled=progress, unit="pieces of work") as bar:
        for number, contest in enumerate(found):
            results.append(measure(contest, options.repeats, peak, device))
            bar.update(number + 1)
    return {
        "results": results,
        "settings": options.model_dump(mode="json", exclude={"out"}),
        "precision": precision,
        "matmul_peak": peak,
        "load_of_others": before,
        "notice": busy_notice(before),
        **circumstances(),
    }


def table(found: dict[str, Any]) -> str:
    """The results in Markdown."""
    rows = []
    for result in found["results"]:
        ratio = result["ratio"]
        plain, fast = (statistics.median(result[f"{side}_seconds"]) for side in ("baseline", "engine"))
        rows.append(
            [
                result["name"],
                f"{plain:.2f} s",
                f"{fast:.2f} s",
                f"**{ratio['median']:.2f}** ({ratio['minimum']:.2f} to {ratio['maximum']:.2f})",
                _megabytes(result["baseline_memory"]),
                _megabytes(result["engine_memory"]),
                f"{100 * result['part_of_peak']:.0f} %",
            ]
        )
    head = ["work", "baseline", "engine", "ratio (min to max)", "memory, baseline", "engine", "of peak"]
    return markdown_table(head, rows)


def _megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:.0f} MB"


def _machine(found: dict[str, Any]) -> str:
    on_gpu = choose_device(found["settings"]["device"]).type != "cpu"
    return str(found["hardware"]["gpu" if on_gpu else "processor"])


def main(words: Sequence[str]) -> int:
    """The command."""
    options = parse(
        SpeedOptions,
        words,
        program="python -m benchmarks.measure.speed",
        description="Time the engine against the published algorithms written plainly.",
    )
    found = run(options, progress=sys.stderr.isatty())
    text = (
        f"{table(found)}\n\n{_machine(found)}, {found['hardware']['threads']} threads, engine in "
        f"{found['precision']}, matrix products {found['matmul_peak'] / 1e9:.0f} GFLOP/s"
    )
    return give_out(found, text, options.out)


if __name__ == "__main__":
    end("benchmarks.measure.speed", main)
