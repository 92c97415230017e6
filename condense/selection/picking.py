"""From scores to a choice: the images of the highest scores, as many as there is room for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from condense.compute.costs import Workload
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.runtime.seeds import generator
from condense.selection.base import Choice, Group, Selector
from condense.selection.evidence import Evidence, EvidenceSettings, evidence_work


def pick(scores: Tensor, groups: Sequence[Group], seed: int) -> Tensor:
    """The members of each group with the highest scores, highest first: int64, group after group.

    `scores` are of all images, [N]. Equal ones (events are counted in whole numbers, so there are many) come in an
    order drawn from `seed`, or the first images of a data set would be preferred.

    >>> groups = [Group(torch.tensor([0, 2, 4]), 2, "even"), Group(torch.tensor([1, 3]), 1, "odd")]
    >>> pick(torch.tensor([0.1, 0.2, 0.9, 0.3, 0.5]), groups, seed=0)
    tensor([2, 4, 3])
    """
    chosen = []
    for group in groups:
        order = torch.randperm(len(group.members), generator=generator(seed, "order of equal scores", group.name))
        members = group.members[order]
        ranked = members[scores[members].argsort(descending=True, stable=True)]
        chosen.append(ranked[: group.count])
    return torch.cat(chosen)


EvidenceSettingsT = TypeVar("EvidenceSettingsT", bound=EvidenceSettings)


class EvidenceSelector(Selector[EvidenceSettingsT]):
    """A selector that trains networks on all images first: a method fills `choose_by`."""

    def choose(self) -> Choice:
        """Gather the evidence, then choose."""
        chosen = self.choose_by(self.evidence)
        self.earlier_seconds = self.evidence.seconds_saved
        return chosen

    @cached_property
    def evidence(self) -> Evidence:
        """What the networks tell."""
        return Evidence(self.job, self.settings)

    @abstractmethod
    def choose_by(self, evidence: Evidence) -> Choice:
        """The choice, group by group (see `groups`)."""

    @classmethod
    def preparation(cls, data: TrainingData, budget: Budget, settings: EvidenceSettingsT) -> list[Workload]:
        """The trainings behind the evidence."""
        return evidence_work(data, settings)


class ScoredSelector(EvidenceSelector[EvidenceSettingsT]):
    """A selector that ranks images by a number for each: a method fills `scores`."""

    @abstractmethod
    def scores(self, evidence: Evidence) -> Tensor:
        """A number for each training image, [N]; the highest are kept first."""

    def choose_by(self, evidence: Evidence) -> Choice:
        """The highest of each group."""
        scores = self.scores(evidence).double()
        indices = pick(scores, self.groups(), self.job.seed)
        return Choice(indices, scores=scores[indices])
