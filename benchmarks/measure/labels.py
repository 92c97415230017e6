"""`python -m benchmarks.measure.labels SET --data D --teacher T --out F.json`: what stored and online labels cost.

The same set, network and training, once with labels of every view that were stored before and once with a teacher that
is asked about every view: seconds of making the labels, seconds of training a network, bytes, and the accuracies, which
differ by the rounding of stored labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field

from benchmarks.markdown import markdown_table
from benchmarks.measure.machine import Load, busy_notice
from benchmarks.measure.measuring import end, give_out
from condense.cli.parsing import POSITIONAL, parse
from condense.data import RealData, load_data
from condense.evaluation import Protocol, evaluate
from condense.runtime.provenance import circumstances
from condense.runtime.validation import Closed
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Committee
from condense.teachers.relabel import relabel

_KINDS: tuple[Literal["views", "online"], ...] = ("views", "online")


class LabelOptions(Closed):
    """Which set, and who labels it."""

    set: Path = Field(description="a synthetic set, an .h5 file", json_schema_extra=POSITIONAL)
    data: str = Field(description="the real data it was made from")
    teacher: str = Field(description="a teacher of such images")
    networks: int = Field(3, ge=1, description="trained with each kind of labels")
    protocol: str = Field("desk-soft", description="one that trains on labels of views")
    out: Path | None = Field(None, description="write the results here, as JSON")


def measure(
    synthetic: SyntheticSet, data: RealData, teacher: Committee, *, networks: int, protocol: str | Protocol
) -> list[dict[str, Any]]:
    """For stored and for online labels: seconds of making them and of a network, bytes, accuracies."""
    results = []
    for kind in _KINDS:
        with TemporaryDirectory() as folder:
            started = time.perf_counter()
            labelled = relabel(synthetic, teacher, kind, out=Path(folder) / "labelled.h5")
            labelling = time.perf_counter() - started
            scored = evaluate(labelled, data, runs=networks, protocol=protocol, teacher=teacher).results[0]
        results.append(
            {
                "labels": kind,
                "labelling_seconds": labelling,
                "seconds_per_network": scored.seconds / networks,
                "bytes": scored.bytes,
                "accuracies": list(scored.accuracies),
                "label_source": scored.label_source,
                "protocol_hash": scored.protocol_hash,
            }
        )
    return results


def main(words: Sequence[str]) -> int:
    """Measure the set that the words name."""
    options = parse(
        LabelOptions,
        words,
        program="python -m benchmarks.measure.labels",
        description="Seconds per network and bytes of stored and of online labels of views.",
    )
    load = Load()
    data, teacher = load_data(options.data), Committee.open(options.teacher)
    synthetic = SyntheticSet.load(options.set)
    results = measure(synthetic, data, teacher, networks=options.networks, protocol=options.protocol)
    others = load.others()
    rows = [
        [
            each["labels"],
            f"{each['labelling_seconds']:.1f}",
            f"{each['seconds_per_network']:.1f}",
            f"{each['bytes']:,}",
            ", ".join(f"{100 * accuracy:.1f}" for accuracy in each["accuracies"]),
        ]
        for each in results
    ]
    about = {"set": options.set.name, "networks": options.networks, "protocol": options.protocol}
    notice = busy_notice(others)
    found = about | {"results": results, "load_of_others": others, **circumstances()}
    if notice is not None:
        found["notice"] = notice
    heads = ["labels", "seconds of labelling", "seconds per network", "bytes", "accuracies, %"]
    return give_out(found, markdown_table(heads, rows), options.out)


if __name__ == "__main__":
    end("labels", main)
