"""`Committee`: several teachers that vote with weights; one teacher is a committee of one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from condense.data.info import DataInfo
from condense.runtime.errors import CondenseError
from condense.teachers.classifier import Voters
from condense.teachers.projector import Projector
from condense.teachers.teacher import Teacher, teacher_files


@dataclass(frozen=True, eq=False)
class Committee:
    """Teachers of the same classes and image shape, and a weight for each; weights are brought to sum to 1.

    Raises `CondenseError` for none, for weights that are not positive numbers, and for members that differ.
    """

    members: tuple[Teacher, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        weights = self.weights or (1.0,) * len(self.members)
        if not self.members or len(weights) != len(self.members):
            raise CondenseError(f"{len(weights)} weights for {len(self.members)} teachers; give one weight each")
        if not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise CondenseError(f"the weights of teachers are {list(weights)}; give positive numbers")
        object.__setattr__(self, "weights", tuple(weight / sum(weights) for weight in weights))
        first = self.members[0].manifest
        for other in (member.manifest for member in self.members[1:]):
            if (other.classes, other.image_shape) != (first.classes, first.image_shape):
                raise CondenseError(
                    f"teachers {first.network} and {other.network} know other classes or image shapes; give teachers "
                    "of one data set"
                )

    @classmethod
    def open(cls, words: str | Path | Sequence[str | Path]) -> Committee:
        """The teachers that are named: files, or folders of them, with commas between and perhaps weights behind.

        `A:0.8,B:0.2` are two with weights; without any, all have the same. A folder of several is all of them.

        Raises `CondenseError` for files that are none, and for weights given to some only.
        """
        parts = [str(word) for word in words] if isinstance(words, list | tuple) else str(words).split(",")
        named = [_weighted(part.strip()) for part in parts]
        given = [weight for _, weight in named if weight is not None]
        if given and len(given) < len(named):
            raise CondenseError(
                f"--teacher {','.join(parts)} has weights for some only; give all or none, as in A:0.8,B:0.2"
            )
        members: list[Teacher] = []
        weights: list[float] = []
        for path, weight in named:
            files = teacher_files(Path(path))
            members += [Teacher.open(file) for file in files]
            weights += [(1.0 if weight is None else weight) / len(files) if given else 1.0] * len(files)
        return cls(tuple(members), tuple(weights))

    @classmethod
    def of(cls, teacher: Teacher | Committee | str | Path) -> Committee:
        """A committee from whatever names one."""
        if isinstance(teacher, Committee):
            return teacher
        return cls((teacher,)) if isinstance(teacher, Teacher) else cls.open(teacher)

    def __len__(self) -> int:
        return len(self.members)

    def part(self, rows: Iterable[int]) -> Committee:
        """Some of its members, with their weights in the same ratios."""
        chosen = list(rows)
        return Committee(tuple(self.members[row] for row in chosen), tuple(self.weights[row] for row in chosen))

    @property
    def hash(self) -> str:
        """16 hex digits of members and weights; that of the teacher where there is one."""
        if len(self.members) == 1:
            return self.members[0].hash
        text = json.dumps([(member.hash, round(weight, 12)) for member, weight in zip(self.members, self.weights)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def bytes(self) -> int:
        """What their values cost to keep."""
        return sum(member.bytes for member in self.members)

    @property
    def recorded(self) -> list[dict[str, Any]]:
        """Who votes, as records have it: network, hash and weight of each."""
        return [
            {"network": member.manifest.network, "hash": member.hash, "weight": round(weight, 12)}
            for member, weight in zip(self.members, self.weights)
        ]

    @property
    def name(self) -> str:
        """For people and for the heads of tables."""
        return " + ".join(member.name for member in self.members)

    def check_matches(self, info: DataInfo) -> tuple[str, ...]:
        """As `Teacher.check_matches`, of each of them; the sentences for the user."""
        notes = [member.check_matches(info) for member in self.members]
        return tuple(dict.fromkeys(note for note in notes if note is not None))

    def check_statistics(self, purpose: str) -> None:
        """Raise `CondenseError` unless each has BatchNorm: its running statistics are what `purpose` needs."""
        for member in self.members:
            if not member.has_statistics:
                raise CondenseError(
                    f"{purpose} needs the running statistics of BatchNorm, and teacher {member.manifest.network} has "
                    "none; give one with BatchNorm, such as convnet-bn or resnet18-bn"
                )

    def adapted(self, values: torch.Tensor, rank: int, outputs: int) -> Projector:
        """A projector on its only member; raises `CondenseError` where there are several."""
        if len(self) > 1:
            raise CondenseError(f"a projector is on one encoder, and {self.name} are {len(self)}; give one")
        return self.members[0].adapted(values, rank, outputs)

    def classifiers(self, device: torch.device) -> Voters:
        """Copies of all of them on a device, ready to be asked."""
        return Voters(tuple(member.classifier(device) for member in self.members), self.weights)


def vote_weights(accuracies: Sequence[float], temperature: float = 5.0) -> tuple[float, ...]:
    """Weights of teachers from the accuracies (percent) of students trained on what each of them alone distilled.

    softmax(accuracies / temperature): CV-DD (Cui et al., CVPR 2025) has temperature 5 for images and 10 for labels.
    Use held-out training images: accuracies on test images would leak into the set.

    >>> [round(weight, 2) for weight in vote_weights([65.0, 58.0])]
    [0.8, 0.2]
    """
    return tuple(torch.softmax(torch.tensor(accuracies, dtype=torch.float64) / temperature, 0).tolist())


def _weighted(word: str) -> tuple[str, float | None]:
    """A path and the weight behind it, if there is one.

    >>> _weighted("teachers/a.safetensors:0.8"), _weighted("teachers")
    (('teachers/a.safetensors', 0.8), ('teachers', None))
    """
    path, colon, number = word.rpartition(":")
    try:
        return (path, float(number)) if colon else (word, None)
    except ValueError:
        return word, None
