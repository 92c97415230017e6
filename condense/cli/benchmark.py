"""`condense benchmark GRID.yaml`: methods x data x protocols x seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from condense.cli.parsing import POSITIONAL, parse
from condense.runtime.validation import Closed


class BenchmarkOptions(Closed):
    """Options of `condense benchmark`."""

    grid: Path = Field(
        description="a YAML file: data, ipc, methods, columns, network_seeds", json_schema_extra=POSITIONAL
    )
    out: Path = Field(description="folder for records, tables and plots; finished cells found there are kept")


def benchmark(words: Sequence[str]) -> int:
    """Run the missing cells of a grid and write its tables."""
    options = parse(
        BenchmarkOptions,
        words,
        program="condense benchmark",
        description="Run a grid of methods, data, protocols and seeds, each cell in its own process. Started again, it "
        "goes on with the missing cells.",
    )
    from benchmarks import run

    return run(options.grid, options.out, progress=True)
