"""`python -m benchmarks.measure.reinforcement --data D --teacher T --out FOLDER`: what better labels of all data do.

All training images, with class indices and with records of views that a teacher has labelled once (Dataset
Reinforcement), and with records that are calibrated, discarded or mixed with themselves (FerKD): accuracy, calibration
error and accuracy on corrupted images of the same network after the same epochs, seconds of an epoch, and what the
labels cost. Each way is a JSON file in the folder: what is there is not measured again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks.markdown import markdown_table, percent
from benchmarks.measure.measuring import end
from condense.cli.parsing import parse
from condense.data import RealData, TrainingData, load_data
from condense.evaluation import Protocol, evaluate
from condense.evaluation.protocols import TeacherLabels
from condense.runtime.files import write_json, write_text
from condense.runtime.inputs import read_json
from condense.runtime.progress import answer
from condense.runtime.provenance import circumstances
from condense.runtime.validation import Closed
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Committee
from condense.teachers.relabel import relabel
from condense.training.rule import TrainingRule

CODEC = "topk:5"
WAYS: Mapping[str, dict[str, Any] | None] = {
    "class indices": None,
    "10 records": {"labels": "records:10"},
    "5 records": {"labels": "records:5"},
    "5 records, calibrated": {"labels": "records:5", "calibrate": 0.15},
    "5 records, discarded": {"labels": "records:5", "calibrate": 0.15, "unreliable": "discarded"},
    "5 records, selfmix": {"labels": "records:5", "mix": "selfmix"},
}


class ReinforcementOptions(Closed):
    """Which data, who labels it, and what is trained on it."""

    data: str = Field(description="real data by name or path")
    teacher: str = Field(description="a teacher of such images")
    network: str = Field("convnet-w64-bn", description="the network that is trained")
    networks: int = Field(3, ge=1, description="trained in each way")
    epochs: int = Field(10, ge=1, description="of each")
    out: Path = Field(description="folder for the results")


def protocol_of(network: str, epochs: int, *, labelled: bool) -> Protocol:
    """SGD at 0.05 along a cosine to 0 in batches of 128, crops and flips, on class indices or on labels of views."""
    rule = TrainingRule(
        lr=0.05, weight_decay=5e-4, batch_size=128, epochs=epochs, schedule="cosine", augmentation="crop-flip"
    )
    labels: Any = TeacherLabels(per="view", temperature=1.0) if labelled else "hard"
    return Protocol(name="reinforcement", network=network, rule=rule, labels=labels, networks=1)


def measure(data: RealData, teacher: Committee, way: str, options: ReinforcementOptions, file: Path) -> dict[str, Any]:
    """One way: the labels, which go to a file, and the networks."""
    settings, labelling = WAYS[way], 0.0
    trained_on: SyntheticSet | TrainingData = data.train
    if settings is not None:
        started = time.perf_counter()
        trained_on = relabel(data, teacher, codec=CODEC, out=file, overwrite=True, progress=True, **settings)
        labelling = time.perf_counter() - started
    protocol = protocol_of(options.network, options.epochs, labelled=settings is not None)
    scored = evaluate(trained_on, data, [options.network], options.networks, protocol, corruptions=True, progress=True)
    (result,) = scored.results
    assert result.training_seconds is not None, "it was trained here"
    return {
        "way": way,
        "settings": settings,
        "labelling_seconds": labelling,
        "seconds_per_epoch": result.training_seconds / options.networks / options.epochs,
        **{name: value for name, value in result.as_dict().items() if name != "versions"},
        **circumstances(),
    }


def main(words: Sequence[str]) -> int:
    """Measure every way that is not in the folder."""
    options = parse(
        ReinforcementOptions,
        words,
        program="python -m benchmarks.measure.reinforcement",
        description="Real data with class indices and with labels of a teacher: accuracy, calibration, corruptions.",
    )
    data, teacher = load_data(options.data), Committee.open(options.teacher)
    about = options.model_dump(mode="json", exclude={"out", "data", "teacher"})
    about |= {"data": data.name, "fingerprint": data.fingerprint, "teacher": teacher.name, "codec": CODEC}
    write_text(options.out / ".gitignore", "*.h5\n")  # too big to be kept with the results
    found = []
    for number, way in enumerate(WAYS):
        path = options.out / f"{number}-{way.replace(', ', '-').replace(' ', '-')}.json"
        known: Any = read_json(path, "a result") if path.exists() else None
        if known is None or {name: known.get(name) for name in about} != about:
            known = measure(data, teacher, way, options, path.with_suffix(".h5")) | about
            write_json(path, known)
        found.append(known)
    answer(*table_of(found).splitlines())
    return 0


def table_of(found: Sequence[Mapping[str, Any]]) -> str:
    """The results for people."""
    rows = [
        [
            each["way"],
            percent(each["mean"], each["std"]),
            "" if each["calibration_error"] is None else f"{100 * each['calibration_error']:.1f}",
            f"{100 * sum(each['corrupted'].values()) / len(each['corrupted']):.1f}",
            f"{each['seconds_per_epoch']:.1f}",
            f"{each['labelling_seconds']:.0f}",
            f"{each['bytes']:,}",
        ]
        for each in found
    ]
    heads = [
        "labels",
        "accuracy, %",
        "calibration error, %",
        "corrupted, %",
        "seconds per epoch",
        "labelling, s",
        "bytes",
    ]
    return markdown_table(heads, rows)


if __name__ == "__main__":
    end("reinforcement", main)
