"""`python -m benchmarks.measure.diversity SETS --teacher T --out F.json`: how far apart the images of a class are.

The mean over the pairs of images of a class of the distance |f_i - f_j| of their features, and its mean over the
classes; features are those that the teacher's last layer sees, brought to length 1, so that a distance is from 0 to 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from benchmarks.markdown import markdown_table
from benchmarks.measure.measuring import end, give_out
from condense.cli.parsing import POSITIONAL, parse
from condense.runtime.errors import CondenseError
from condense.runtime.provenance import circumstances
from condense.runtime.validation import Closed
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Teacher

_AT_ONCE = 256


class DiversityOptions(Closed):
    """Which sets, and who looks at them."""

    set: list[Path] = Field(description="synthetic sets, .h5 files", json_schema_extra=POSITIONAL)
    teacher: Path = Field(description="a teacher of such images")
    out: Path | None = Field(None, description="write the results here, as JSON")


def mean_distance(features: Tensor, labels: Tensor) -> float:
    """The mean over classes of the mean distance of two images of a class; features [N, D] of length 1, labels [N].

    Classes of fewer than two images have none; raises `CondenseError` where all are such.

    >>> mean_distance(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    2.0
    """
    groups = [features[labels == label] for label in labels.unique()]
    distances = [torch.pdist(group).mean().item() for group in groups if len(group) > 1]
    if not distances:
        raise CondenseError("a set of one image per class has no distances; give one of at least two")
    return fmean(distances)


def measure(paths: Sequence[Path], teacher: Teacher) -> list[dict[str, Any]]:
    """For each set its method, seed and settings as its file has them, and the distance."""
    classifier = teacher.classifier(torch.device("cpu"))
    results = []
    for path in paths:
        synthetic = SyntheticSet.load(path)
        teacher.check_matches(synthetic.info)
        batches = torch.arange(len(synthetic)).split(_AT_ONCE)
        with torch.no_grad():
            seen = [classifier.network.embed(classifier.normalize(synthetic.pixels_at(batch))) for batch in batches]
        features = torch.nn.functional.normalize(torch.cat(seen), dim=1)
        about = {name: synthetic.configuration.get(name) for name in ("method", "ipc", "seed", "settings")}
        results.append(about | {"file": path.name, "distance": mean_distance(features, synthetic.labels)})
    return results


def main(words: Sequence[str]) -> int:
    """Measure the sets that the words name."""
    options = parse(
        DiversityOptions,
        words,
        program="python -m benchmarks.measure.diversity",
        description="The mean distance of the features of two images of a class, for each of some sets.",
    )
    teacher = Teacher.open(options.teacher)
    results = measure(options.set, teacher)
    rows = [[str(each["method"]), str(each["seed"]), f"{each['distance']:.4f}", each["file"]] for each in results]
    found = {"teacher": teacher.hash, "network": teacher.manifest.network, "sets": results, **circumstances()}
    return give_out(found, markdown_table(["method", "seed", "distance", "file"], rows), options.out)


if __name__ == "__main__":
    end("diversity", main)
