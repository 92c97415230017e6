"""CV-DD: several teachers vote on every slice, by weights that follow from how good students of each alone are.

Cui et al., "Dataset Distillation via Committee Voting", CVPR 2025, and the released code: of a pool of teachers, two
vote on each place of an image in its class, or where slices hold several places on each slice. Where there is one these
are the two of the largest weights; while there are as many pairs as places each pair has one, in the order of the pool;
beyond that pairs are drawn. The loss is
sum_m w_m (CE_m + r L_m), the weights of the pair in the ratio that the committee has them (`vote_weights` makes them of
accuracies: softmax(p / 5); they should be measured on held-out training images).
"""

from __future__ import annotations

import itertools

from pydantic import Field

from condense.methods.interface import Job
from condense.methods.slices.layouts import Slice
from condense.runtime.seeds import uniforms
from condense.synthesizers.recovery.base import Recovery, RecoverySettings
from condense.synthesizers.recovery.starts import Start
from condense.teachers.committee import Committee


class CommitteeSettings(RecoverySettings):
    """Settings of `cv-dd`."""

    initialization: Start = Field("patches", description="what the images start from: noise, real images or patches")
    voters: int = Field(2, ge=1, description="teachers that vote on a slice; all of them where there are no more")


class CommitteeVoting(Recovery[CommitteeSettings]):
    """A part of the committee votes on each slice."""

    def __init__(self, job: Job, settings: CommitteeSettings, part: Slice) -> None:
        by_place = settings.layout == "ipc-index"
        self.turn = int(part.places[0]) if by_place else part.number
        self.turns = job.ipc if by_place else len(self.slices(job, settings))
        super().__init__(job, settings, part)

    def voters(self, committee: Committee) -> Committee:
        """Those of this slice's turn."""
        rows = voters_of_turn(committee, self.settings.voters, self.turn, self.turns, self.job.seed)
        return committee.part(rows)


def voters_of_turn(committee: Committee, count: int, turn: int, turns: int, seed: int) -> tuple[int, ...]:
    """Which members vote in a turn of so many, in the order of the committee."""
    if count >= len(committee):
        return tuple(range(len(committee)))
    if turns == 1:
        best = sorted(range(len(committee)), key=lambda row: -committee.weights[row])[:count]
        return tuple(sorted(best))
    groups = list(itertools.combinations(range(len(committee)), count))
    if turns <= len(groups):
        return groups[turn % len(groups)]
    return groups[int(uniforms(1, seed, "voters", turn)[0] * len(groups))]
