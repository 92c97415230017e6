"""Targets that are made of other labels: some in one part of a training and some in the rest, or with weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from condense.training.sources import Targets, TargetSource


@dataclass(frozen=True, eq=False)
class Switched:
    """The targets of `first` in the epochs below `epoch`, then those of `then`."""

    first: TargetSource
    then: TargetSource
    epoch: int

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """Those of the epoch."""
        return (self.first if epoch < self.epoch else self.then).for_batch(epoch, ids)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Labels of images that do not count alike: `weights` float32 [N]."""

    labels: TargetSource
    weights: Tensor

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        """With the weights of the images."""
        return replace(self.labels.for_batch(epoch, ids), weights=self.weights[ids])
