"""D2 pruning: Maharana, Yadav & Bansal, "Message Passing for Balancing Diversity and Difficulty", ICLR 2024."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from condense.selection.base import Choice, Group
from condense.selection.error_norms import error_norms
from condense.selection.evidence import EarlyEvidenceSettings, Evidence
from condense.selection.neighbours import nearest_neighbours
from condense.selection.picking import EvidenceSelector


class GraphSettings(EarlyEvidenceSettings):
    """Settings of `d2`."""

    neighbours: int = Field(5, ge=1, description="of each image in the graph")
    forward_decay: float = Field(1.0, ge=0, description="how fast messages of difficulty fade with the distance")
    reverse_decay: float = Field(1.0, ge=0, description="the same of the messages that an image was chosen")


def passed_messages(
    features: Tensor, difficulty: Tensor, count: int, neighbours: int, forward_decay: float, reverse_decay: float
) -> tuple[Tensor, Tensor]:
    """Rows chosen for their own difficulty and that around them, less what is chosen already; and what each had.

    With x >= 0 the difficulty ([n]), d the Euclidean distances of `features` ([n, D]) to the nearest rows, divided by
    their mean (released code takes them as they are, so that its decays mean something else for every network):

    - s_i = x_i + sum_j exp(-gamma_f d_ij) x_j over the neighbours j of i;
    - `count` times: the largest s_k is chosen, and each of its neighbours j loses exp(-gamma_r d_kj) s_k.

    Two rows are neighbours if either is one of the nearest of the other. Returns int64 [count] and float64 [count].
    """
    squares, rows = nearest_neighbours(features, min(neighbours, len(features) - 1))
    distances = squares.double().sqrt()
    distances /= distances.mean().clamp_min(torch.finfo(torch.float64).tiny)
    edges: list[dict[int, float]] = [{} for _ in features]
    for row, (near, far) in enumerate(zip(rows.tolist(), distances.tolist(), strict=True)):
        for other, distance in zip(near, far, strict=True):
            edges[row][other] = edges[other][row] = distance
    scores = difficulty.double().clone()
    for row, around in enumerate(edges):
        others, apart = torch.tensor(list(around)), torch.tensor(list(around.values()), dtype=torch.float64)
        scores[row] += ((-forward_decay * apart).exp() * difficulty[others]).sum()
    chosen, worth = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.float64)
    for place in range(count):
        best = int(scores.argmax())
        chosen[place], worth[place] = best, scores[best]
        others, apart = torch.tensor(list(edges[best])), torch.tensor(list(edges[best].values()), dtype=torch.float64)
        scores[others] -= (-reverse_decay * apart).exp() * worth[place]
        scores[best] = -torch.inf
    return chosen, worth


class DifficultyAndDiversity(EvidenceSelector[GraphSettings]):
    """Difficult images that lie apart: EL2N, passed along the neighbours within each group."""

    def choose_by(self, evidence: Evidence) -> Choice:
        """Pass messages in each group."""
        features, difficulty = evidence.features(), error_norms(evidence)
        chosen, scores = zip(*(self._of_group(group, features, difficulty) for group in self.groups()), strict=True)
        return Choice(torch.cat(chosen), scores=torch.cat(scores))

    def _of_group(self, group: Group, features: Tensor, difficulty: Tensor) -> tuple[Tensor, Tensor]:
        given = self.settings
        about = given.neighbours, given.forward_decay, given.reverse_decay
        members = group.members
        if len(members) == 1:
            return members, difficulty[members].double()
        rows, worth = passed_messages(features[members], difficulty[members], group.count, *about)
        return members[rows], worth
