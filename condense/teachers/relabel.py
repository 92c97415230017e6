"""`relabel`: a set, or real data, with the labels that a teacher gives its images."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from condense.data.fitting import data_options
from condense.data.real import RealData
from condense.labels import HardLabels
from condense.labels.costs import heavy_labels
from condense.runtime.device import choose_device
from condense.runtime.errors import CondenseError
from condense.runtime.locks import claimed_output
from condense.runtime.progress import progress_bar, say
from condense.runtime.provenance import versions
from condense.runtime.validation import option_words
from condense.sets.large import real_images
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.committee import Committee
from condense.teachers.label_settings import LabelSettings
from condense.teachers.labelling import Adapting, Labelling
from condense.teachers.teacher import Teacher


def relabel(
    given: SyntheticSet | RealData,
    teacher: Teacher | Committee | str | Path | None,
    labels: str = "static",
    *,
    encoder: Teacher | str | Path | None = None,
    data: RealData | None = None,
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
        encoder: of a projector: what it adapts, a teacher of such images of any classes.
        data: of a projector: the real data that it learns from; that which is given if it is real.
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
    check_asked(wanted, teacher, encoder)
    committee = None if teacher is None else Committee.of(teacher)
    adapting = _adapting(wanted, encoder, given, data)
    target = None if out is None else Path(out)
    with nullcontext() if target is None else claimed_output(target, "relabelling", suffix=".h5", overwrite=overwrite):
        base = given if isinstance(given, SyntheticSet) else _whole(given)
        with progress_bar("labels", wanted.used_views or 1, enabled=progress, unit="views") as bar:
            asked = Labelling(wanted, committee, adapting, choose_device(device), target, bar.update, progress)
            base, made = asked.labelled(base)
            about = {"relabelled": _record(base, asked, data=isinstance(given, RealData))}
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
    every = torch.arange(len(data.train))
    return SyntheticSet(
        stored=real_images(data.train, every),
        stored_labels=HardLabels(data.train.labels),
        info=data.info,
        source_indices=every,
        provenance={"configuration": data_options(data.info) | dict(data.reading_options), "versions": versions()},
    )


def check_asked(wanted: LabelSettings, teacher: object, encoder: object) -> None:
    """Raise `CondenseError` where somebody is missing who gives the labels, or is given for nothing."""
    if teacher is not None and not wanted.by_teacher:
        raise CondenseError(f"--labels {wanted.name} follow from classes, and no teacher is asked; leave --teacher out")
    if teacher is None and wanted.by_teacher:
        raise CondenseError(f"--labels {wanted.name} are given by a teacher; give --teacher")
    if encoder is not None and wanted.name != "projector":
        raise CondenseError(f"--encoder has no meaning for --labels {wanted.name}; leave it out")
    if encoder is None and wanted.name == "projector":
        raise CondenseError("--labels projector adapts an encoder: give --encoder, a teacher of such images")


def _adapting(
    wanted: LabelSettings,
    encoder: Teacher | str | Path | None,
    given: SyntheticSet | RealData,
    data: RealData | None,
) -> Adapting | None:
    """For labels of a projector; None for others, which need neither."""
    if encoder is None:
        if data is not None:
            raise CondenseError(f"--data has no meaning for --labels {wanted.name}; leave it out")
        return None
    if isinstance(given, RealData):
        if data is not None:
            raise CondenseError("--data: what is labelled is real data itself, which is learned from; leave it out")
        data = given
    if data is None:
        raise CondenseError("a projector learns from real data, not from a set: give it as --data")
    return Adapting(encoder if isinstance(encoder, Teacher) else Teacher.open(encoder), data)


def _record(base: SyntheticSet, asked: Labelling, *, data: bool) -> dict[str, Any]:
    """How the labels were made, for the set to tell: the teachers, all settings, and the command; no paths."""
    committee, settings = asked.committee, asked.wanted.settled(mirror=base.info.mirror)
    words = {"teacher": ",".join(_word(committee, row) for row in range(len(committee)))} if committee else {}
    adapted: dict[str, Any] = {}
    if asked.adapting is not None:
        encoder, learned_from = Committee.of(asked.adapting.encoder), asked.adapting.data
        words |= {"encoder": _word(encoder, 0)}
        words |= {} if data else data_options(learned_from.info) | dict(learned_from.reading_options)
        adapted = {"encoder": encoder.recorded[0], "learned_from": learned_from.fingerprint}
    reading = dict(base.provenance["configuration"]) if data else {}
    source = reading.pop("data", "set.h5")
    command = ["condense", "relabel", source, *option_words(reading | words | settings | {"out": "relabelled.h5"})]
    return {
        "teacher": None if committee is None else committee.recorded,
        "settings": settings,
        **adapted,
        "command": shlex.join(command),
        "versions": versions(),
    }


def _word(committee: Committee, row: int) -> str:
    """How a command names a teacher: its file, and its weight among several."""
    member = committee.members[row]
    name = f"{member.manifest.network}.safetensors" if member.path is None else member.path.name
    return name if len(committee) == 1 else f"{name}:{committee.weights[row]:.12g}"
