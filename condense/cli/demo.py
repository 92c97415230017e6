"""`condense demo`: the main job on the embedded digits, end to end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from condense.cli.parsing import parse
from condense.runtime.validation import Closed


class DemoOptions(Closed):
    """Options of `condense demo`."""

    out: Path = Field(Path("demo"), description="folder for the results; the demo overwrites its own earlier ones")


def demo(words: Sequence[str]) -> int:
    """Condense the digits and compare with baselines."""
    options = parse(
        DemoOptions,
        words,
        program="condense demo",
        description="Condense the digits that ship with scikit-learn to 1 and 10 images per class, train networks on "
        "them, and compare with random, herding and k-center subsets. Takes about a minute.",
    )
    from benchmarks.demo import run_demo

    return run_demo(options.out, progress=sys.stderr.isatty())
