"""`relabel`: a set, or real data, with the labels that a teacher gives its images."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from condense.augmentation.views import ViewRule
from condense.data.fitting import data_options
from condense.data.real import RealData
from condense.labels import (
    HardLabels,
    InterpolatedLabels,
    Labels,
    LogitLabels,
    OnlineLabels,
    SmoothedLabels,
    SubclassLabels,
    ViewLabels,
)
from condense.labels.advisers import TeacherFacts, Voter
from condense.labels.codecs import DISTANCES, codec_named
from condense.labels.costs import heavy_labels
from condense.labels.objectives import DistanceObjective, Objective
from condense.labels.reliability import Calibration
from condense.labels.rows import RowsToMake
from condense.labels.showing import Showing, colour_beyond
from condense.runtime.device import choose_device
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import DIGEST_BYTES
from condense.runtime.locks import claimed_output
from condense.runtime.memory import available_memory
from condense.runtime.progress import progress_bar, say
from condense.runtime.provenance import versions
from condense.runtime.validation import option_name, option_words, validated
from condense.sets.large import LARGE, StoredRows
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.asking import ViewAsking, clean_logits
from condense.teachers.committee import Committee
from condense.teachers.dividing import divided
from condense.teachers.label_settings import LabelSettings
from condense.teachers.teacher import Teacher

_HEAD = 2**20  # bytes of a file beside images and labels, about


def relabel(
    given: SyntheticSet | RealData,
    teacher: Teacher | Committee | str | Path | None,
    labels: str = "static",
    *,
    device: str = "auto",
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    **settings: Any,
) -> SyntheticSet:
    """The images of `given` with new labels; class indices stay.

    Args:
        given: a set of any space and decoder, whose training images are labelled; or real data, all of whose training
            images become the set.
        teacher: a teacher, a committee, or their files (see `Committee.open`); None for hard labels.
        labels: which ones; `LabelSettings` has them, and all further settings by name.
        device: `auto`, `cpu` or `cuda:N`.
        out: a file, `.h5`, that labels go to while they are made: they may be larger than memory. What is returned is
            then read from there.
        overwrite: replace an existing file.
        progress: show a bar on standard error.

    The same call gives the same set. Raises `CondenseError` for settings that do not go together, for a teacher of
    other classes or image shape, for a batch size that leaves an image alone, and, before the teacher is asked, where
    memory or disk is too small for the labels.
    """
    wanted = LabelSettings.of({"labels": labels, **settings})
    committee = None if teacher is None else Committee.of(teacher)
    target = None if out is None else Path(out)
    with nullcontext() if target is None else claimed_output(target, "relabelling", suffix=".h5", overwrite=overwrite):
        base = given if isinstance(given, SyntheticSet) else _whole(given)
        with progress_bar("labels", wanted.used_views or 1, enabled=progress, unit="views") as bar:
            made = _labels(base, wanted, committee, _Making(choose_device(device), target, bar.update))
            about = {"relabelled": _record(base, wanted, committee, data=isinstance(given, RealData))}
            relabelled = replace(base, stored_labels=made, provenance=base.provenance | about)
            note = heavy_labels(relabelled.bytes - made.bytes, made.bytes)
            if note is not None:
                say(f"note: {note}")
            if target is None:
                return relabelled
            relabelled.save(target)  # here the labels of views are made
    return SyntheticSet.load(target)


def _whole(data: RealData) -> SyntheticSet:
    """All training images of real data as a set; where they are many, they are read when they are wanted."""
    train, shape = data.train, torch.Size((len(data.train), *data.image_shape))

    def read(indices: Sequence[int]) -> np.ndarray:
        return train.pixels(torch.tensor(list(indices))).numpy()

    every = torch.arange(len(train))
    return SyntheticSet(
        stored=StoredRows(shape, torch.uint8, read) if shape.numel() > LARGE else train.pixels(every),
        stored_labels=HardLabels(train.labels),
        info=data.info,
        source_indices=every,
        provenance={"configuration": data_options(data.info) | dict(data.reading_options), "versions": versions()},
    )


@dataclass(frozen=True)
class _Making:
    """Where labels are made, the file that they go to, and who is told how many views there are."""

    device: torch.device
    target: Path | None
    done: Callable[[int], None]


def _labels(base: SyntheticSet, wanted: LabelSettings, committee: Committee | None, making: _Making) -> Labels:
    """The labels that are wanted; those of views are not made yet where they go to a file."""
    if not wanted.by_teacher:
        if base.stored_classes is None:
            raise CondenseError(f"--labels {wanted.name} follow from classes, and these images have none; give others")
        if wanted.name == "hard":
            return HardLabels(base.stored_classes)
        return SmoothedLabels(base.stored_classes, wanted.smoothing, len(base.info.classes))
    if committee is None:
        raise CondenseError(f"--labels {wanted.name} are given by a teacher; give --teacher")
    for note in committee.check_matches(base.info):
        say(f"note: {note}")
    if wanted.teacher_bn == "batch":
        committee.check_statistics("--teacher-bn batch")
    plain, classes = base.plain, base.training_labels.classes
    objective = _objective(wanted)
    teacher = TeacherFacts.of(committee)
    if wanted.name in ("static", "interpolated"):
        logits = clean_logits(plain, _voter(base, wanted, committee, None, making.device), making.device)
        return _of_images(wanted, logits, classes, objective, teacher.described, plain.digest)
    showing = showing_of(wanted, base)
    showing.check(len(base))
    about = showing, objective, teacher, plain.digest, len(base), classes
    if wanted.name == "online":
        return OnlineLabels(*about)
    voter, codec = _voter(base, wanted, committee, showing, making.device), codec_named(wanted.codec)
    outputs, indices = len(base.info.classes) * wanted.subclasses, classes if codec == DISTANCES else None
    asking = ViewAsking(showing, plain, voter, outputs, making.device, codec, _calibration(wanted, classes), indices)
    rows = asking.rows(making.done)
    _check_room(base, rows, showing, making.target)
    return ViewLabels(rows.held() if making.target is None else rows, *about, codec, outputs, wanted.subclasses)


def _voter(
    base: SyntheticSet, wanted: LabelSettings, committee: Committee, showing: Showing | None, device: torch.device
) -> Voter:
    """Who is asked: the teachers, or one whose classes are divided."""
    if wanted.subclasses == 1:
        return committee.classifiers(device)
    classes = base.training_labels.classes
    return divided(committee, wanted.subclasses, base.plain, classes, showing, device, wanted.seed)


def _of_images(
    wanted: LabelSettings,
    logits: torch.Tensor,
    classes: torch.Tensor | None,
    objective: Objective,
    teacher: str,
    images: str,
) -> Labels:
    """Labels of images as they are."""
    trained = objective.temperature, objective.loss
    if wanted.subclasses > 1:
        return SubclassLabels(logits, classes, wanted.subclasses, *trained, teacher=teacher, images=images)
    kind = LogitLabels if wanted.name == "static" else InterpolatedLabels
    return kind(logits, classes, *trained, objective.class_weight, teacher=teacher, images=images)


def _objective(wanted: LabelSettings) -> Objective:
    if wanted.codec == DISTANCES.name:
        return DistanceObjective(temperature=wanted.used_temperature, weight=wanted.distance_weight)
    return Objective(wanted.loss, wanted.used_temperature, wanted.class_weight)


def _calibration(wanted: LabelSettings, classes: torch.Tensor | None) -> Calibration | None:
    if wanted.calibrate is None:
        return None
    if classes is None:
        raise CondenseError("--calibrate compares labels with classes, and these images have none; leave it out")
    if wanted.used_temperature != 1 or wanted.loss == "mse":
        raise CondenseError(
            "--calibrate is for labels at temperature 1, as smoothed class indices are: give --temperature 1"
        )
    return Calibration(wanted.calibrate, wanted.unreliable, classes)


def showing_of(wanted: LabelSettings, base: SyntheticSet) -> Showing:
    """What is shown of the images of a set."""
    rule = wanted.model_dump(include=set(ViewRule.model_fields))
    rule["flip"] = base.info.mirror if wanted.flip is None else wanted.flip
    values = wanted.model_dump(include=set(Showing.model_fields))
    values |= {"rule": validated(ViewRule, rule), "fill": colour_beyond(base.info)}
    values |= {"views": wanted.used_views, "batch_norm": wanted.teacher_bn}
    values |= {"drawn": wanted.drawn, "plain": wanted.plain}
    return validated(Showing, values, spell=option_name)


def _check_room(base: SyntheticSet, rows: RowsToMake, showing: Showing, target: Path | None) -> None:
    """Raise `CondenseError` where memory, or the disk of the file, has too little room for labels of views."""
    views = showing.views or 1
    row = math.prod(rows.shape[1:]) * rows.dtype.itemsize + (DIGEST_BYTES if target else 0)
    one = rows.shape[0] // views * row
    rest = base.bytes + _HEAD if target else 0
    free = shutil.disk_usage(target.parent).free if target else available_memory(torch.device("cpu"))
    if views * one + rest <= free:
        return
    fit = max(0, (free - rest) // one)
    where, out = ("on the disk", "another --out") if target else ("in memory", "an out file, which takes them in turn")
    less = f"{fit} views would fit: give --views {fit}, or {out}" if fit else f"not one would fit: give {out}"
    raise CondenseError(
        f"{views} views of {len(base)} images take {views * one + rest:,} bytes, and {free:,} are free {where}; {less}"
    )


def _record(base: SyntheticSet, wanted: LabelSettings, committee: Committee | None, *, data: bool) -> dict[str, Any]:
    """How the labels were made, for the set to tell: the teachers, all settings, and the command; no paths."""
    settings = wanted.settled(mirror=base.info.mirror)
    words = {"teacher": ",".join(_word(committee, row) for row in range(len(committee)))} if committee else {}
    reading = dict(base.provenance["configuration"]) if data else {}
    source = reading.pop("data", "set.h5")
    command = ["condense", "relabel", source, *option_words(reading | words | settings | {"out": "relabelled.h5"})]
    return {
        "teacher": None if committee is None else committee.recorded,
        "settings": settings,
        "command": shlex.join(command),
        "versions": versions(),
    }


def _word(committee: Committee, row: int) -> str:
    """How a command names a teacher: its file, and its weight among several."""
    member = committee.members[row]
    name = f"{member.manifest.network}.safetensors" if member.path is None else member.path.name
    return name if len(committee) == 1 else f"{name}:{committee.weights[row]:.12g}"
