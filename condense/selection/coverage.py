"""CCS: Zheng et al., "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023 (algorithm 1)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from condense.data import TrainingData
from condense.data.budget import Budget
from condense.runtime.progress import say
from condense.runtime.seeds import generator
from condense.selection.area_under_margin import mean_area_under_margin
from condense.selection.base import Choice, Group
from condense.selection.evidence import AveragedEvidenceSettings, Evidence
from condense.selection.picking import EvidenceSelector


class CoverageSettings(AveragedEvidenceSettings):
    """Settings of `ccs`."""

    dropped: float = Field(0.3, ge=0, lt=1, description="part of each class that is left out first, the hardest images")
    strata: int = Field(50, ge=1, description="equal parts of the range of scores, each of which gives images")


def stratified(easiness: Tensor, count: int, strata: int, draws: torch.Generator) -> Tensor:
    """Rows drawn from all strata of the scores `easiness` [n] alike: int64 [count], `count` at most n.

    The range of scores is divided into so many parts of equal width. From that with the fewest rows to that with the
    most, each gives what is its share of the rest, or all it has, drawn uniformly.

    >>> stratified(torch.tensor([0.0, 9.0, 9.2, 9.4, 10.0]), 2, strata=2, draws=torch.Generator().manual_seed(0))[0]
    tensor(0)
    """
    low, high = easiness.min(), easiness.max()
    places = ((easiness - low) / (high - low).clamp_min(torch.finfo(easiness.dtype).tiny) * strata).long()
    order = torch.randperm(len(easiness), generator=draws)
    members = [order[(places.clamp_max(strata - 1) == stratum)[order]] for stratum in range(strata)]
    chosen: list[Tensor] = []
    for position, rows in enumerate(sorted(members, key=len)):
        share = (count - sum(map(len, chosen))) // (strata - position)
        chosen.append(rows[:share])
    return torch.cat(chosen)


class Coverage(EvidenceSelector[CoverageSettings]):
    """Images of every difficulty but the greatest, by the area under the margin, within each class.

    The paper drops more where fewer are kept, by values that were searched for (0.3 of CIFAR-10 where a tenth is kept).
    """

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: CoverageSettings) -> None:
        """As for all; where more is kept than is left by what should be dropped, that is said."""
        super().check(data, budget, settings)
        part = budget.total(data.class_counts()) / len(data)
        if part > 1 - settings.dropped:
            say(
                f"note: {part:.0%} of the images are kept, so that less than --dropped {settings.dropped:g} is left out"
            )

    def choose_by(self, evidence: Evidence) -> Choice:
        """Leave out the hardest of each group, then draw from the strata of the rest."""
        easiness = mean_area_under_margin(evidence).double()
        indices = torch.cat([self._of_group(group, easiness[group.members]) for group in self.groups()])
        return Choice(indices, scores=easiness[indices])

    def _of_group(self, group: Group, easiness: Tensor) -> Tensor:
        size = len(group.members)
        kept = max(group.count, size - int(self.settings.dropped * size))
        easiest = easiness.argsort(descending=True, stable=True)[:kept]
        draws = generator(self.job.seed, "strata", group.name)
        return group.members[easiest[stratified(easiness[easiest], group.count, self.settings.strata, draws)]]
