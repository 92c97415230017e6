"""The teachers of a benchmark: made by its own command, kept in its folder, known by what decides them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from benchmarks.described import TeacherDescription
from condense.data import RealData
from condense.networks import canonical_name
from condense.runtime.errors import CondenseError, near_names
from condense.runtime.files import write_text
from condense.runtime.subprocesses import subprocesses
from condense.runtime.validation import Closed
from condense.teachers import Committee, Teacher
from condense.teachers.importing import import_teacher
from condense.teachers.rule import TeacherRule
from condense.teachers.training import train_teachers


class TeacherEntry(Closed):
    """A teacher: a file of another code base, or one that is trained on the data."""

    net: str = Field(description="its network")
    file: str | None = Field(None, description="to be imported, seen from the current folder; none: it is trained")
    normalization: str | None = Field(None, description="of an imported one: the constants that it was trained with")
    seed: int = Field(0, ge=0, description="of a trained one")
    training: TeacherRule = Field(TeacherRule(), description="of a trained one: values other than the usual ones")

    @model_validator(mode="after")
    def _one_of_two(self) -> TeacherEntry:
        if self.file is not None and self.normalization is None:
            raise ValueError("a teacher from a file needs the normalization that it was trained with")
        if self.file is None and self.normalization is not None:
            raise ValueError("a teacher that is trained has the normalisation of the data; leave normalization out")
        if self.file is not None and self.model_fields_set & {"seed", "training"}:
            raise ValueError("a teacher from a file is trained already; leave seed and training out")
        return self


Teachers = Mapping[str, TeacherEntry]


def _weights(given: Any) -> Any:
    several = list(given.values()) if isinstance(given, dict) else [1.0]
    positive = all(type(weight) in (int, float) and 0 < weight < math.inf for weight in several)
    if not isinstance(given, str | dict) or not several or not positive:
        raise ValueError("must be a teacher's name, or several names with positive weights: {a: 0.8, b: 0.2}")
    return given


Weights = Annotated[
    str | dict[str, float], BeforeValidator(_weights)
]  # one teacher by its name in the grid, or several


def describe(wanted: Weights, teachers: Teachers, data: RealData) -> tuple[TeacherDescription, ...]:
    """Who votes, as the identity of a cell has it; raises `CondenseError` for teachers that the grid does not have.

    An imported teacher is known by its hash, a trained one by how it is trained.
    """
    weights = {wanted: 1.0} if isinstance(wanted, str) else wanted
    found = []
    for name, weight in weights.items():
        if name not in teachers:
            raise CondenseError(
                f"teacher {name!r} is none of the grid's ({', '.join(teachers) or 'it has none'})"
                + near_names(name, teachers)
            )
        entry = teachers[name]
        network = canonical_name(entry.net, data.image_shape)
        if entry.file is None:
            training = {"seed": entry.seed} | entry.training.model_dump(mode="json")
            found.append(TeacherDescription(name=name, network=network, weight=weight, training=training))
        else:
            teacher = _imported(entry, data, None)
            found.append(TeacherDescription(name=name, network=network, weight=weight, hash=teacher.hash))
    return tuple(found)


def described_file(path: str) -> TeacherDescription:
    """A teacher in a file of this project; raises `CondenseError` for another file."""
    teacher = Teacher.open(path)
    return TeacherDescription(name=Path(path).stem, network=teacher.manifest.network, weight=1.0, hash=teacher.hash)


def encoder_of(described: TeacherDescription, path: str) -> Committee:
    """The teacher that was described, alone; raises `CondenseError` where the file has become another one."""
    teacher = Teacher.open(path)
    if teacher.hash != described.hash:
        raise CondenseError(f"{path} has changed since the benchmark started; start it again")
    return Committee.of(teacher)


def committee(
    described: tuple[TeacherDescription, ...], teachers: Teachers, data: RealData, folder: Path, *, progress: bool
) -> Committee:
    """The teachers themselves: found in the folder of the benchmark, or made now."""
    members = [_kept(teachers[each.name], each, data, folder, progress) for each in described]
    return Committee(tuple(members), tuple(each.weight for each in described))


def _kept(entry: TeacherEntry, described: TeacherDescription, data: RealData, folder: Path, progress: bool) -> Teacher:
    identity = [data.info.identity, described.model_dump(mode="json", exclude={"name", "weight"})]
    digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()
    out = folder / "teachers" / f"{described.name}-{digest}"
    write_text(out.parent / ".gitignore", "*\n")  # too big to be kept with the records
    if entry.file is not None:
        if out.is_dir() and any(out.glob("*.safetensors")):
            return Teacher.open(out)
        if _imported(entry, data, None).hash != described.hash:
            raise CondenseError(f"{entry.file} has changed since the benchmark started; start it again")
        return _imported(entry, data, out)
    made = train_teachers(
        data, entry.net, out, rule=entry.training, seed=entry.seed, executor=subprocesses, progress=progress
    )
    for error in made.failed.values():
        raise CondenseError(f"teacher {described.name} could not be trained: {error}")
    return made.teachers[0]


def _imported(entry: TeacherEntry, data: RealData, out: Path | None) -> Teacher:
    assert entry.file is not None, "only files are imported"
    return import_teacher(
        entry.file, entry.net, entry.normalization, classes=data.classes, image_shape=data.image_shape, out=out
    )
