"""`python -m benchmarks.measure.mirroring --data DATA,...`: how different the classes of a data set look in a mirror.

For each class, the squared distance of the mean training image from its mirror image, in parts of the variance within
the class, the mean squared distance of its images from that mean. Near 0, mirror images tell nothing new about the
class mean; near 1 and above, a set that is matched together with its mirror images is pulled away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from benchmarks.measure.measuring import end, give_out
from condense.cli.parsing import parse
from condense.data import TrainingData, load_data
from condense.runtime.provenance import circumstances
from condense.runtime.validation import Closed

_AT_ONCE = 1000  # images


class MirroringOptions(Closed):
    """Which data."""

    data: str = Field(description="names or paths, separated by commas")
    out: Path | None = Field(None, description="write the results here, as JSON")


def asymmetry(data: TrainingData, label: int) -> float:
    """|mean - mirrored mean|^2 / mean of |image - mean|^2, of the preprocessed images of a class."""
    parts = [data.images(indices).double() for indices in data.class_indices(label).split(_AT_ONCE)]
    count = sum(len(part) for part in parts)
    mean = torch.stack([part.sum(0) for part in parts]).sum(0) / count  # [C, H, W]
    variance = sum(_squared(part - mean) for part in parts) / count
    return _squared(mean - mean.flip(2)) / variance


def _squared(values: Tensor) -> float:
    return values.square().sum().item()


def main(words: Sequence[str]) -> int:
    """The command."""
    options = parse(
        MirroringOptions,
        words,
        program="python -m benchmarks.measure.mirroring",
        description="How different the classes of a data set look in a mirror.",
    )
    found: dict[str, Any] = {}
    for source in options.data.split(","):
        data = load_data(source)
        found[data.name] = {name: asymmetry(data.train, label) for label, name in enumerate(data.classes)}
    lines = [f"{data}: " + ", ".join(f"{name} {value:.3f}" for name, value in of.items()) for data, of in found.items()]
    return give_out({"asymmetry": found, **circumstances()}, "\n".join(lines), options.out)


if __name__ == "__main__":
    end("benchmarks.measure.mirroring", main)
