"""Random subsets: the baseline that every method has to beat."""

from __future__ import annotations

import torch

from condense.data.sampling import sample
from condense.methods.interface import MethodSettings
from condense.runtime.seeds import generator
from condense.selection.base import Choice, Selector


class Random(Selector[MethodSettings]):
    """Images of each group drawn uniformly without replacement; every seed is a new draw."""

    def choose(self) -> Choice:
        """Draw."""
        drawn = [
            sample(group.members, group.count, generator(self.job.seed, "random subset", group.name))
            for group in self.groups()
        ]
        return Choice(torch.cat(drawn))
