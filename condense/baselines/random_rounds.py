"""RS2: a fresh random part of the data in every round. Okanovic et al., "Repeated Random Sampling", ICLR 2024."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense.baselines.base import Baseline
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.info import DataInfo
from condense.data.sampling import check_enough, sample
from condense.labels import classified
from condense.methods.interface import MethodSettings
from condense.runtime.seeds import generator
from condense.training.rule import TrainingRule
from condense.training.sources import Batch, BatchSource, TrainingSource

Variant = Literal["with-replacement", "stratified", "without-replacement"]


class RoundSettings(MethodSettings):
    """Settings of `rs2`."""

    variant: Variant = Field(
        "with-replacement",
        description="a round is drawn from all images, of every class its share, or from those not seen yet",
    )


@dataclass(frozen=True, eq=False)
class Rounds:
    """The images of each round of a training: functions of (seed, round), r = `size` of N at a time.

    - with-replacement: r different images, whatever other rounds have drawn.
    - stratified: the same with the share of each class: its whole part, and the rest to classes that are drawn anew in
      every round, by what is left of their shares.
    - without-replacement: the images in a random order, r after r; behind its end comes another order. (The released
      code goes back to the beginning of the same order where r does not divide N.)
    """

    data: TrainingData
    size: int
    variant: Variant
    seed: int

    def at(self, number: int) -> Tensor:
        """The images of a round, in the order in which they are trained on: int64 [r]."""
        draws = generator(self.seed, "round", number)
        match self.variant:
            case "with-replacement":
                return torch.randperm(len(self.data), generator=draws)[: self.size]
            case "stratified":
                counts = self._shares(draws)
                drawn = torch.cat([sample(self.data.class_indices(k), count, draws) for k, count in enumerate(counts)])
                return drawn[torch.randperm(len(drawn), generator=draws)]
            case "without-replacement":
                return self._in_turn(number * self.size)

    def _shares(self, draws: torch.Generator) -> list[int]:
        """How many images each class gives to a round."""
        sizes = torch.tensor(self.data.class_counts(), dtype=torch.float64)
        shares = self.size * sizes / sizes.sum()
        counts = shares.floor().long()
        left = self.size - int(counts.sum())
        if left:
            counts[torch.multinomial((shares - counts).clamp_min(1e-12), left, generator=draws)] += 1
        return counts.tolist()

    def _in_turn(self, start: int) -> Tensor:
        images = len(self.data)
        first, offset = divmod(start, images)
        last = (start + self.size - 1) // images
        orders = [
            torch.randperm(images, generator=generator(self.seed, "order of images", order))
            for order in range(first, last + 1)
        ]
        return torch.cat(orders)[offset : offset + self.size]

    def batches(self, number: int, size: int) -> list[Tensor]:
        """A round in batches of so many images; a single one that is left over joins the batch before."""
        batches = list(self.at(number).split(size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def unique(self, updates: int, size: int) -> int:
        """How many different images so many updates in batches of so many see."""
        batches = (batch for number in itertools.count() for batch in self.batches(number, size))
        return self._different(itertools.islice(batches, updates))

    def unique_in(self, rounds: int) -> int:
        """How many different images so many whole rounds have."""
        return self._different(map(self.at, range(rounds)))

    def _different(self, parts: Iterable[Tensor]) -> int:
        seen = torch.zeros(len(self.data), dtype=torch.bool)
        for part in parts:
            seen[part] = True
        return int(seen.count_nonzero())


class RandomRounds(Baseline[RoundSettings]):
    """A fresh random part of the data in every round, from the seed of the baseline: networks see the same rounds."""

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: RoundSettings) -> None:
        """No round takes as many images of each class: only their number counts."""
        check_enough(data, budget.model_copy(update={"balanced": False}))

    @property
    def rounds(self) -> Rounds:
        """The images of each round."""
        size = self.job.budget.total(self.data.class_counts())
        return Rounds(self.data, size, self.settings.variant, self.job.seed)

    def source(self, *, weighted: bool = False) -> TrainingSource:
        """An epoch of the training is a round."""
        return _InRounds(self.rounds)

    def unique_images(self, rule: TrainingRule) -> int:
        """Those of all rounds of the training, counted."""
        rounds = self.rounds
        if rule.updates is None:
            return rounds.unique_in(rule.epochs_run(rounds.size))
        return rounds.unique(rule.updates_run(rounds.size), rule.batch_size)


@dataclass(frozen=True, eq=False)
class _InRounds(TrainingSource):
    rounds: Rounds

    @property
    def info(self) -> DataInfo:
        return self.rounds.data.info

    def __len__(self) -> int:
        return self.rounds.size

    def presented(self, rule: TrainingRule, seed: int, device: torch.device) -> BatchSource:
        return _Batches(self.rounds, rule.batch_size, classified(self.rounds.data).presented(rule, seed, device))


@dataclass(frozen=True, eq=False)
class _Batches(BatchSource):
    rounds: Rounds
    size: int
    shown: BatchSource

    def batch(self, epoch: int, number: int, ids: Tensor) -> Batch:
        return self.shown.batch(epoch, number, ids)

    def batches(self, epoch: int) -> list[Tensor]:
        """The round of this epoch."""
        return self.rounds.batches(epoch, self.size)
