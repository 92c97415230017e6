"""`python -m benchmarks.measure.slices --out slices.json`: memory of sets that are made in slices, by their size.

One image of each class, 224x224 pixels in three channels, of 1,000 and of 4,000 classes: the peak of resident memory
may not follow the size of the set, only that of a slice. Real images are made when they are read and the teacher has
learned nothing, since neither decides what a run takes. Each point has a process of its own. Sets below
`condense.sets.large.LARGE` bytes are in memory as a whole once they are made, larger ones never.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from benchmarks.markdown import markdown_table
from benchmarks.measure.machine import Load, busy_notice, memory_growth
from benchmarks.measure.measuring import end, give_out
from condense.cli.parsing import parse
from condense.data import DataInfo, RealData, TestData, TrainingData
from condense.data.preprocessing import Normalization
from condense.data.sources import PixelSource
from condense.methods.distill import distill
from condense.networks import build_network, canonical_name
from condense.runtime.progress import answer, progress_bar
from condense.runtime.provenance import circumstances, peak_memory
from condense.runtime.seeds import generator
from condense.runtime.validation import Closed
from condense.sets.large import LARGE
from condense.teachers import Teacher
from condense.teachers.manifest import Manifest
from condense.teachers.teacher import batch_norm_of

Way = Literal["noise", "sre2l"]
_WAYS: tuple[Way, ...] = ("noise", "sre2l")
_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class SlicesOptions(Closed):
    """Without a method, all points are measured, each in a process of its own."""

    out: Path | None = Field(None, description="write the results here, as JSON")
    fewer: int = Field(1000, ge=2, description="classes of the smaller set")
    more: int = Field(4000, ge=2, description="classes of the larger set")
    side: int = Field(224, ge=8, description="pixels of an image")
    slice_size: int = Field(20, ge=1, description="images of a slice")
    iterations: int = Field(2, ge=1, description="updates of a slice")
    network: str = Field("convnet-d6-w8-bn", description="network of the teacher")
    method: Way | None = Field(None, description="measure only this, on the smaller set, and print it as JSON")


class GeneratedPixels(PixelSource):
    """Noise, one image for each index, made whenever it is read."""

    def __init__(self, count: int, image_shape: tuple[int, int, int]) -> None:
        self._count, self.image_shape = count, image_shape

    def __len__(self) -> int:
        return self._count

    def read(self, indices: Tensor) -> Tensor:
        """Draw them."""
        images = [
            torch.randint(256, self.image_shape, dtype=torch.uint8, generator=generator(0, "pixels", index))
            for index in indices.tolist()
        ]
        return torch.stack(images)


def generated_data(classes: int, side: int) -> RealData:
    """One image of each of so many classes, in training and in test data."""
    shape = (3, side, side)
    names = tuple(f"class {label}" for label in range(classes))
    info = DataInfo("generated", names, shape, True, f"{classes:032x}", Normalization(_MEAN, _STD))
    source, labels = GeneratedPixels(classes, shape), torch.arange(classes)
    return RealData(info, TrainingData(source, labels, info), TestData(source, labels, info))


def blank_teacher(network: str, info: DataInfo) -> Teacher:
    """A teacher of such data that has learned nothing."""
    shape, classes = info.image_shape, len(info.classes)
    name = canonical_name(network, shape)
    manifest = Manifest(
        network=name,
        image_shape=shape,
        classes=info.classes,
        mean=_MEAN,
        std=_STD,
        batch_norm=batch_norm_of(name, shape, classes),
        origin="trained",
        data=info.name,
        fingerprint=info.fingerprint,
    )
    return Teacher(manifest, build_network(name, shape, classes, seed=0).state_dict())


def measure(options: SlicesOptions) -> dict[str, Any]:
    """Memory and seconds of one point, in this process."""
    data = generated_data(options.fewer, options.side)
    settings: dict[str, Any] = {"slice_size": options.slice_size}
    if options.method == "sre2l":
        settings |= {"iterations": options.iterations, "teacher": blank_teacher(options.network, data.info)}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        growth = memory_growth(
            lambda: distill(str(options.method), data, 1, out=Path(folder) / "set.h5", compile="off", **settings)
        )
        seconds = time.perf_counter() - started
        account = json.loads((Path(folder) / "set.json").read_text(encoding="utf-8"))
    return {
        "method": options.method,
        "classes": options.fewer,
        "bytes": account["bytes"],
        "slices": account["slices"],
        "peak_memory": peak_memory(),
        "growth": growth,
        "seconds": round(seconds, 3),
    }


def run(options: SlicesOptions, *, progress: bool) -> dict[str, Any]:
    """All points."""
    load = Load()
    time.sleep(1.0)
    busy = load.others()
    wanted = [(way, classes) for way in _WAYS for classes in (options.fewer, options.more)]
    points = []
    with progress_bar("measuring", len(wanted), enabled=progress, unit="points") as bar:
        for done, (way, classes) in enumerate(wanted, 1):
            points.append(in_a_process(options.model_copy(update={"method": way, "fewer": classes})))
            bar.update(done)
    return {
        "points": points,
        "settings": options.model_dump(mode="json", exclude={"out", "method"}),
        "large": LARGE,
        "load_of_others": busy,
        "notice": busy_notice(busy),
        **circumstances(),
    }


def in_a_process(options: SlicesOptions) -> dict[str, Any]:
    """What `measure` finds in a new process."""
    asked = options.model_dump(mode="json", exclude={"out", "more"})
    words = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure.slices", *words], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[str, Any]) -> str:
    """The results in Markdown: a row for each method and number of classes."""
    rows = [
        [
            point["method"],
            f"{point['classes']:,}",
            f"{point['slices']:,}",
            f"{point['bytes'] / 1e6:.0f} MB",
            f"{point['peak_memory'] / 1e6:.0f} MB",
            "unknown" if point["growth"] is None else f"{point['growth'] / 1e6:.0f} MB",
            f"{point['seconds']:.0f} s",
        ]
        for point in found["points"]
    ]
    return markdown_table(["method", "classes", "slices", "set", "peak memory", "of it for the run", "time"], rows)


def main(words: Sequence[str]) -> int:
    """The command."""
    options = parse(
        SlicesOptions,
        words,
        program="python -m benchmarks.measure.slices",
        description="Memory of sets that are made in slices, by their number of classes.",
    )
    if options.method is not None:
        answer(json.dumps(measure(options)))
        return 0
    found = run(options, progress=sys.stderr.isatty())
    return give_out(found, table(found), options.out)


if __name__ == "__main__":
    end("benchmarks.measure.slices", main)
