"""Which labels teachers give the images of a set: `Labels` of every kind, as label settings ask for them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from condense.augmentation.views import ViewRule
from condense.data.real import RealData
from condense.labels import (
    HardLabels,
    InterpolatedLabels,
    Labels,
    LogitLabels,
    OnlineLabels,
    ProjectorLabels,
    SmoothedLabels,
    SubclassLabels,
    ViewLabels,
)
from condense.labels.advisers import TeacherFacts, Voter
from condense.labels.codecs import DISTANCES, codec_named
from condense.labels.objectives import DistanceObjective, Objective
from condense.labels.plain import PlainImages
from condense.labels.reliability import Calibration
from condense.labels.rows import RowsToMake
from condense.labels.showing import Showing, colour_beyond
from condense.labels.views import check_classes
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import DIGEST_BYTES
from condense.runtime.memory import available_memory
from condense.runtime.progress import say
from condense.runtime.validation import option_name, validated
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.asking import ViewAsking, clean_logits
from condense.teachers.committee import Committee
from condense.teachers.dividing import divided
from condense.teachers.image_update import check_movable, updated_images
from condense.teachers.label_settings import LabelSettings
from condense.teachers.projector import fit_projector
from condense.teachers.teacher import Teacher

_HEAD = 2**20  # bytes of a file beside images and labels, about
_ASKED_FOR_NOTE = 1_000  # images that a projector and its teachers are compared on


@dataclass(frozen=True)
class Adapting:
    """What a projector adapts, and the real data that it learns from."""

    encoder: Teacher
    data: RealData


@dataclass(frozen=True)
class Labelling:
    """Which labels are made, by whom and where.

    They go to the file `target`, if there is one; `done` is told how many views are made.
    """

    wanted: LabelSettings
    committee: Committee | None
    adapting: Adapting | None
    device: torch.device
    target: Path | None
    done: Callable[[int], None]
    progress: bool

    def labelled(self, base: SyntheticSet) -> tuple[SyntheticSet, Labels]:
        """The images, which a projector may change, and their labels; those of views for a file are still to be made.

        Raises `CondenseError` where teachers are missing or do not fit, and where there is too little room.
        """
        match self.wanted.name:
            case "hard" | "smoothed":
                return base, self._by_class(base)
            case "static" | "interpolated":
                return base, self._of_images(base)
            case "projector":
                return self._projected(base)
            case _:
                return base, self._of_views(base)

    def _by_class(self, base: SyntheticSet) -> Labels:
        wanted = self.wanted
        if base.stored_classes is None:
            raise CondenseError(f"--labels {wanted.name} follow from classes, and these images have none; give others")
        if wanted.name == "hard":
            return HardLabels(base.stored_classes)
        return SmoothedLabels(base.stored_classes, wanted.smoothing, len(base.info.classes))

    def _of_images(self, base: SyntheticSet) -> Labels:
        """One label of each image as it is."""
        teachers, wanted, objective = self._teachers(base), self.wanted, self._objective
        logits, classes = clean_logits(base.plain, self._voter(base, None), self.device), base.training_labels.classes
        trained, digest = (objective.temperature, objective.loss), base.plain.digest
        teacher = TeacherFacts.of(teachers).described
        if wanted.subclasses > 1:
            return SubclassLabels(logits, classes, wanted.subclasses, *trained, teacher=teacher, images=digest)
        kind = LogitLabels if wanted.name == "static" else InterpolatedLabels
        return kind(logits, classes, *trained, objective.class_weight, teacher=teacher, images=digest)

    def _of_views(self, base: SyntheticSet) -> Labels:
        """Labels of what is shown of the images, stored or asked for in training."""
        teachers, wanted, classes = self._teachers(base), self.wanted, base.training_labels.classes
        showing, objective = self._showing(base), self._objective
        check_classes(objective, classes)
        about = showing, objective, TeacherFacts.of(teachers), base.plain.digest, len(base), classes
        if wanted.name == "online":
            return OnlineLabels(*about)
        codec, outputs = codec_named(wanted.codec), len(base.info.classes) * wanted.subclasses
        asking = ViewAsking(
            showing,
            base.plain,
            self._voter(base, showing),
            outputs,
            self.device,
            codec,
            self._calibration(classes),
            classes if codec == DISTANCES else None,
        )
        rows = asking.rows(self.done)
        _check_room(base, rows, showing, self.target)
        return ViewLabels(rows.held() if self.target is None else rows, *about, codec, outputs, parts=wanted.subclasses)

    def _projected(self, base: SyntheticSet) -> tuple[SyntheticSet, Labels]:
        """Labels by a projector, which is made now, of images that are perhaps moved."""
        assert self.adapting is not None, "there is no projector without an encoder and data"
        encoder, data, teachers, wanted = self.adapting.encoder, self.adapting.data, self._teachers(base), self.wanted
        note = base.check_matches(data.info)
        if note is not None:
            say(f"note: {note}")
        showing, objective, classes = self._showing(base), self._objective, base.training_labels.classes
        check_classes(objective, classes)
        if wanted.image_updates:
            check_movable(base)
        projector = fit_projector(
            encoder,
            teachers,
            data.train,
            rank=wanted.rank,
            epochs=wanted.epochs,
            seed=wanted.seed,
            device=self.device,
            progress=self.progress,
        )
        fitted, voter = projector.classifiers(self.device), teachers.classifiers(self.device)
        if wanted.image_updates:
            base = updated_images(base, fitted, voter, showing, wanted.image_updates, self.device)
        some = PlainImages(min(len(base), _ASKED_FOR_NOTE), base.plain.read)
        said, meant = (clean_logits(some, each, self.device).argmax(1) for each in (fitted, voter))
        same = (said == meant).double().mean().item()
        say(f"note: projector and teacher take {same:.0%} of the images for the same class")
        return base, ProjectorLabels(
            projector.values,
            showing,
            objective,
            TeacherFacts.of(Committee.of(encoder)),
            base.plain.digest,
            len(base),
            classes,
            rank=projector.rank,
            outputs=projector.outputs,
            taught_by=teachers.name,
        )

    def _teachers(self, base: SyntheticSet) -> Committee:
        """The teachers, who must know such images; what is worth knowing about them goes to standard error."""
        assert self.committee is not None, "who asks for such labels gives teachers"
        for note in self.committee.check_matches(base.info):
            say(f"note: {note}")
        if self.wanted.teacher_bn == "batch":
            self.committee.check_statistics("--teacher-bn batch")
        return self.committee

    def _voter(self, base: SyntheticSet, showing: Showing | None) -> Voter:
        """Who is asked: the teachers, or one whose classes are divided."""
        assert self.committee is not None, "teachers are checked first"
        if self.wanted.subclasses == 1:
            return self.committee.classifiers(self.device)
        about = base.plain, base.training_labels.classes, showing
        return divided(self.committee, self.wanted.subclasses, *about, self.device, self.wanted.seed)

    def _showing(self, base: SyntheticSet) -> Showing:
        showing = showing_of(self.wanted, base)
        showing.check(len(base))
        return showing

    @property
    def _objective(self) -> Objective:
        wanted = self.wanted
        if wanted.codec == DISTANCES.name:
            return DistanceObjective(temperature=wanted.used_temperature, weight=wanted.distance_weight)
        return Objective(wanted.loss, wanted.used_temperature, wanted.class_weight)

    def _calibration(self, classes: Tensor | None) -> Calibration | None:
        wanted = self.wanted
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
