"""Labels of a projector: a few numbers that turn an encoder, which many sets share, into a teacher of these classes.

The idea of HeLlO (Yu et al., "Heavy Labels Out!", arXiv 2408.08201): instead of labels, a set has the low-rank factors
that adapt a public encoder; its views are labelled while networks are trained on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from condense.labels.advisers import Advisers, TeacherFacts
from condense.labels.labels import Attributes, Labels, Stored, read_text, settled, whole
from condense.labels.objectives import Objective
from condense.labels.showing import Showing
from condense.labels.shown import Answers
from condense.labels.views import Asked, AskedLabels, facts_of
from condense.runtime.errors import CondenseError

_MOST = 2**20  # outputs, or the rank


class ProjectorLabels(AskedLabels):
    """The `values` of a projector, float32 [P], which `condense.teachers.projector` knows by their order.

    `teacher` is the encoder, who is asked in training and is a part of what labels cost, public or not. The projector
    knows `outputs` classes, and learned from teachers that `taught_by` names.
    """

    kind = "projector"

    def __init__(
        self,
        values: Tensor,
        showing: Showing,
        objective: Objective,
        teacher: TeacherFacts,
        images: str,
        count: int,
        classes: Tensor | None,
        rank: int,
        outputs: int,
        taught_by: str,
    ) -> None:
        super().__init__(showing, objective, teacher, images, count, classes)
        self.projector = settled(values, "the values of a projector", torch.float32, 1)
        self.rank, self.outputs, self.taught_by = rank, outputs, taught_by
        if not torch.isfinite(self.projector).all():
            raise CondenseError("the values of a projector are not finite; the training that made them diverged")

    @property
    def arrays(self) -> dict[str, Stored]:
        """The values."""
        return {"projector": self.projector}

    @property
    def attributes(self) -> Attributes:
        """With what the values are those of."""
        return super().attributes | {"rank": self.rank, "outputs": self.outputs, "taught_by": self.taught_by}

    @property
    def encoder(self) -> str:
        """The encoder."""
        return self.teacher.hash

    def answers(self, advisers: Advisers | None) -> Answers:
        """The projector on the encoder, which must be the one that it was made for."""
        encoder = self.checked(advisers)
        return Asked(self.showing, encoder.adapted(self.projector, self.rank, self.outputs))

    def check(self, images: int, classes: int) -> None:
        """It must know as many classes."""
        super().check(images, classes)
        if self.outputs != classes:
            raise CondenseError(f"the projector knows {self.outputs} classes, and there are {classes}")

    def describe(self) -> str:
        """What they are, for people."""
        return self._described(
            f"given in training by a projector of rank {self.rank}, {self.projector.numel():,} numbers, that "
            f"learned from {self.taught_by}"
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None) -> Labels:
        """What a file describes."""
        taught_by = read_text(attributes, "taught_by")
        if taught_by is None:
            raise CondenseError("its labels do not tell who their projector learned from; make it again")
        numbers = _number(attributes, "rank"), _number(attributes, "outputs")
        return cls(whole(arrays, "projector"), *facts_of(attributes), classes, *numbers, taught_by)


def _number(attributes: Mapping[str, Any], name: str) -> int:
    number = attributes.get(name)
    if type(number) is not int or not 1 <= number <= _MOST:
        raise CondenseError(f"its labels are of a projector whose {name} is {number!r}; make it again")
    return number
