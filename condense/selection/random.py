"""Random subsets: the baseline that every method has to beat."""

from __future__ import annotations

from torch import Tensor

from condense.data.sampling import random_indices
from condense.methods.interface import MethodSettings
from condense.selection.base import Selector


class Random(Selector[MethodSettings]):
    """Images of each class drawn uniformly without replacement; every seed is a new draw."""

    def choose(self) -> Tensor:
        """Draw."""
        return random_indices(self.data, self.job.ipc, self.job.seed, "random subset")
