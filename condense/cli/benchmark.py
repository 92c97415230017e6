"""`condense benchmark GRID.yaml`: methods x data x protocols x seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from condense.cli.parsing import POSITIONAL, parse
from condense.cli.workers import ray_workers
from condense.runtime.errors import CondenseError
from condense.runtime.validation import Closed


class BenchmarkOptions(Closed):
    """Options of `condense benchmark`."""

    grid: Path = Field(
        description="a YAML file: data, ipc, methods, columns, network_seeds", json_schema_extra=POSITIONAL
    )
    out: Path = Field(description="folder for records, tables and plots; finished cells found there are kept")
    workers: int | None = Field(
        None, ge=1, description="compute so many untimed cells at once, on Ray [all one after the other]"
    )
    ray: str | None = Field(None, description="address of a Ray cluster that computes untimed cells")
    threads: int | None = Field(None, ge=1, description="processor threads of each worker [1]")


def benchmark(words: Sequence[str]) -> int:
    """Run the missing cells of a grid and write its tables."""
    options = parse(
        BenchmarkOptions,
        words,
        program="condense benchmark",
        description="Run a grid of methods, data, protocols and seeds, each cell in its own process. Started again, it "
        "goes on with the missing cells.",
    )
    workers = ray_workers(options.workers, options.ray, options.threads)
    if workers is None and options.threads is not None:
        raise CondenseError("--threads are those of workers; give --workers or --ray, too")
    from benchmarks import run

    return run(options.grid, options.out, progress=True, workers=workers)
