"""`python -m benchmarks.measure.reading`: how long a pair of snapshots takes to read from a buffer of published size.

The buffer holds random numbers: 100 experts of 50 epochs of the ConvNet for CIFAR-10, 6.5 GB (`--experts` makes it
smaller). Pairs are read once from disk, the files dropped from the cache of the system before, and once from the cache.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from benchmarks.measure.machine import memory_growth
from benchmarks.measure.measuring import end, give_out
from buffers.index import BufferDescription, write_description
from buffers.rules import ExpertRule
from buffers.store import ExpertBuffer, Trajectory, expert_path, write_expert
from condense.cli.parsing import parse
from condense.networks import build_network
from condense.networks.layout import Layout
from condense.runtime.progress import progress_bar
from condense.runtime.provenance import circumstances, versions
from condense.runtime.seeds import generator
from condense.runtime.validation import Closed

_SHAPE, _CLASSES = (3, 32, 32), 10


class ReadingOptions(Closed):
    """The published size, unless asked otherwise."""

    out: Path | None = Field(None, description="write the results here, as JSON")
    folder: Path | None = Field(None, description="where the buffer is made, and removed again [a temporary folder]")
    experts: int = Field(100, ge=1, description="experts in the buffer")
    epochs: int = Field(50, ge=4, description="epochs of each")
    network: str = Field("convnet-w128", description="network of the experts")
    pairs: int = Field(200, ge=1, description="pairs that are read")


def make_buffer(folder: Path, options: ReadingOptions, *, progress: bool) -> None:
    """A buffer of random numbers."""
    network = build_network(options.network, _SHAPE, _CLASSES, seed=0)
    parameters = Layout.of_parameters(network)
    write_description(
        folder,
        BufferDescription(
            network=network.name,
            image_shape=_SHAPE,
            classes=tuple(str(label) for label in range(_CLASSES)),
            parameters=tuple(zip(parameters.names, parameters.shapes)),
            statistics=(),
            data="noise",
            fingerprint="",
            preprocessing="none",
            identity="",
            mirror=True,
            rule=ExpertRule(),
            epochs=options.epochs,
            seed=0,
            versions=versions(),
        ),
    )
    nothing = torch.zeros(options.epochs + 1, 0)
    with progress_bar("writing experts", options.experts, enabled=progress, unit="experts") as bar:
        for number in range(options.experts):
            rows = torch.randn(options.epochs + 1, parameters.size, generator=generator(0, "expert", number))
            write_expert(expert_path(folder, number), Trajectory(rows, nothing, (), 0.0), "float32")
            bar.update(number + 1)


def read_pairs(buffer: ExpertBuffer, count: int) -> list[float]:
    """Seconds of each of so many pairs."""
    times = []
    for iteration in range(count):
        started = time.perf_counter()
        buffer.sample(seed=0, iteration=iteration, max_start=buffer.epochs - 2, span=2)
        times.append(time.perf_counter() - started)
    return times


def forget(buffer: ExpertBuffer) -> None:
    """Ask the system to drop the files from its cache."""
    for path in buffer.files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(options: ReadingOptions, *, progress: bool) -> dict[str, Any]:
    """Everything that the command finds."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        make_buffer(Path(folder), options, progress=progress)
        buffer = ExpertBuffer.open(folder)
        size = buffer.bytes
        forget(buffer)
        cold: list[float] = []
        growth = memory_growth(lambda: cold.extend(read_pairs(buffer, options.pairs)))
        warm = read_pairs(buffer, options.pairs)
    return {
        "bytes": size,
        "median_from_disk": statistics.median(cold),
        "longest_from_disk": max(cold),
        "median_from_cache": statistics.median(warm),
        "memory_growth": growth,
        "settings": options.model_dump(mode="json", exclude={"out", "folder"}),
        **circumstances(),
    }


def main(words: Sequence[str]) -> int:
    """The command."""
    options = parse(
        ReadingOptions,
        words,
        program="python -m benchmarks.measure.reading",
        description="Time the reading of snapshots from a buffer of the published size.",
    )
    found = run(options, progress=sys.stderr.isatty())
    text = (
        f"{found['bytes'] / 1e9:.2f} GB: a pair takes {1000 * found['median_from_disk']:.1f} ms from disk (longest "
        f"{1000 * found['longest_from_disk']:.1f}), {1000 * found['median_from_cache']:.1f} ms from cache; memory grew "
        f"by {(found['memory_growth'] or 0) / 1e6:.1f} MB"
    )
    return give_out(found, text, options.out)


if __name__ == "__main__":
    end("benchmarks.measure.reading", main)
