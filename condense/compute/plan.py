"""How a run uses the machine: decided once before its first iteration, stored with it, and used again on resume.

Two runs of the same plan give the same bits; another plan may round otherwise.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from condense.compute.precision import Precision
from condense.runtime.validation import Closed

MICRO_BATCH = 32  # where nothing was measured: fits the cache of every processor we have seen


class Plan(Closed):
    """Device, threads, precision, compilation and micro-batch of one run."""

    device: str = "cpu"
    threads: int = Field(default=1, ge=1, description="processor threads")
    precision: Precision = "float32"
    compile: Literal["on", "off"] = "off"
    micro_batch: int = Field(default=MICRO_BATCH, ge=1, description="images that go through a network at once, at most")
