"""GLISTER: Killamsetty et al., "Generalization based Data Subset Selection for Efficient and Robust Learning", 2021.

The greedy algorithm on the Taylor approximation, with the last layer alone, within each class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.data import TrainingData
from condense.data.budget import Budget
from condense.runtime.progress import say
from condense.runtime.seeds import generator
from condense.selection.base import Choice, Group
from condense.selection.evidence import Evidence, EvidenceSettings, evidence_rule
from condense.selection.last_layer import GradientSelector, LastLayerGradients, last_layer_gradients


class GlisterSettings(EvidenceSettings):
    """Settings of `glister`."""

    validation: float = Field(
        0.1, gt=0, lt=1, description="part of each class that is never chosen: the loss on it is what choices lower"
    )
    refresh: int = Field(1, ge=1, description="choices after each of which the gradient of that loss is computed again")


@dataclass(frozen=True, eq=False)
class Validation:
    """What the network says of v images whose loss is to fall, `logits` [v, K] and `features` [v, D]; and `labels`."""

    logits: Tensor
    features: Tensor
    labels: Tensor

    def gradient(self, step: Tensor) -> Tensor:
        """The mean gradient once the last layer has moved by -step, a matrix [K, D + 1] as the result is."""
        logits = self.logits - self.features @ step[:, :-1].T - step[:, -1]
        errors = torch.softmax(logits, 1) - F.one_hot(self.labels, logits.shape[1])
        return LastLayerGradients(errors, self.features).mean


def descend(
    gradients: LastLayerGradients, validation: Validation, count: int, rate: float, refresh: int
) -> tuple[Tensor, Tensor]:
    """Rows whose gradients lower the loss on other images the most, chosen greedily; and the gain of each.

    The gain of x is <G_x, V>: V is the mean gradient of the `validation` images after a step of -`rate` along the mean
    gradient of the rows chosen so far, computed again after each `refresh` choices. Of equal gains the first row.
    (The authors' code takes the sum of the chosen gradients for their mean, so that the step grows with every choice;
    DeepCore means this one, but its update is passed by a misspelt name and never called, which leaves a ranking by the
    first V.) Returns int64 [count] and float64 [count].
    """
    rows, worth = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.float64)
    total = torch.zeros_like(gradients.mean)  # of the chosen gradients
    for place in range(count):
        if place % refresh == 0:
            gains = gradients.along(validation.gradient(rate / max(place, 1) * total))
            gains[rows[:place]] = -torch.inf
        best = int(gains.argmax())
        rows[place], worth[place] = best, gains[best]
        gains[best] = -torch.inf
        total += gradients.at(rows[place : place + 1]).mean
    return rows, worth


def set_aside(labels: Tensor, part: float, most: int, draws: torch.Generator) -> Tensor:
    """Rows to validate on, drawn at random: so large a `part` of every class of `labels` [n], but at most `most`.

    That is at least one of every class that has two; int64.

    >>> labels = torch.tensor([0] * 20 + [1] * 6 + [2])
    >>> labels[set_aside(labels, 0.1, 27, torch.Generator().manual_seed(0))].sort().values
    tensor([0, 0, 1])
    """
    order = torch.randperm(len(labels), generator=draws)
    aside = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        own = order[labels[order] == label]
        aside[own[: max(round(part * len(own)), min(1, len(own) - 1))]] = True
    return order[aside[order]][:most]


class Glister(GradientSelector[GlisterSettings]):
    """Images whose gradients lower the loss on a part of the training images that is set aside, by class.

    The network has seen that part, as it has seen all training images. Where more images are chosen than this leaves,
    fewer are set aside; where that would be none, the images of the group themselves stand for them.
    """

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: GlisterSettings) -> None:
        """As for all; a set that leaves too few images to set aside is said."""
        super().check(data, budget, settings)
        sizes = data.class_counts() if budget.balanced else [len(data)]
        counts = budget.counts(sizes) if budget.balanced else [budget.total(data.class_counts())]
        short = sum(
            count > 0 and size - count < max(1, round(settings.validation * size))
            for size, count in zip(sizes, counts, strict=True)
        )
        if short:
            say(
                f"note: {budget} leaves too few images for validation on {100 * settings.validation:g} %"
                f"{f' in {short} of {len(sizes)} classes' if budget.balanced else ''}: fewer are set aside, and where "
                "none is left, all images are validated on"
            )

    def choose_from(self, evidence: Evidence, group: Group) -> Choice:
        """Descend in the group."""
        members, given = group.members, self.settings
        draws = generator(self.job.seed, "validation", group.name)
        spare = len(members) - group.count
        aside = set_aside(evidence.labels[members], given.validation, spare, draws)
        free = torch.ones(len(members), dtype=torch.bool)
        free[aside] = False
        asked = members[aside] if len(aside) else members
        validation = Validation(
            evidence.logits[-1][asked].double(), evidence.features()[asked].double(), evidence.labels[asked]
        )
        places, rate = free.nonzero()[:, 0], evidence_rule(given).lr
        gradients = last_layer_gradients(evidence, members[places])
        rows, gains = descend(gradients, validation, group.count, rate, given.refresh)
        return Choice(places[rows], scores=gains)
