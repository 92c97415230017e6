"""Facility location: Wei, Iyer & Bilmes, "Submodularity in Data Subset Selection and Active Learning", ICML 2015.

The greedy algorithm in its lazy form: Minoux, "Accelerated greedy algorithms for maximizing submodular set functions",
1978.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from condense.selection.base import Choice, Group
from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.last_layer import (
    ROWS_AT_ONCE,
    GradientSelector,
    Kernel,
    held,
    last_layer_gradients,
)


def facilities(kernel: Kernel, size: int, count: int) -> tuple[Tensor, Tensor]:
    """Rows chosen greedily so that each of all `size` rows has a similar one among them; and what each added.

    They maximise F(S) = sum_i max_{j in S} s_ij of a `kernel` whose values are not negative. Choice x is the row of the
    largest gain, sum_i max(0, s_ix - max_{j in S} s_ij), the maximum of no rows being 0; of gains that are equal to the
    last bit the first row. Gains only fall while S grows, so only those rows are looked at again whose last known gain
    is the largest: the choice is the same. Returns int64 [count] and float64 [count]; `count` is at most `size`.

    >>> line = torch.tensor([0.0, 1.0, 2.0, 9.0], dtype=torch.float64)
    >>> facilities(lambda rows: 10 - (line[rows, None] - line).abs(), 4, 2)
    (tensor([1, 3]), tensor([30.,  8.], dtype=torch.float64))
    """
    kernel = held(kernel, size)
    nearest = torch.zeros(size, dtype=torch.float64)  # how similar the most similar chosen row is to each

    def known(several: list[int], place: int) -> list[tuple[float, int, int]]:
        """What each row would add, with its sign turned, the row, and the choice for which that holds."""
        similar = kernel(torch.tensor(several))
        return [
            (-float((near - nearest).clamp_min_(0).sum()), row, place)
            for row, near in zip(several, similar, strict=True)
        ]

    heap = [entry for rows in torch.arange(size).split(ROWS_AT_ONCE) for entry in known(rows.tolist(), 0)]
    heapq.heapify(heap)
    rows, worth = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.float64)
    for place in range(count):
        several = 1  # twice as many each time: what is computed in one go takes less
        while heap[0][2] < place:
            best = [heapq.heappop(heap)[1] for _ in range(min(several, len(heap)))]
            for entry in known(best, place):
                heapq.heappush(heap, entry)
            several = min(2 * several, ROWS_AT_ONCE)
        negative, row, _ = heapq.heappop(heap)
        rows[place], worth[place] = row, -negative
        torch.maximum(nearest, kernel(torch.tensor([row]))[0], out=nearest)
    return rows, worth


class FacilityLocation(GradientSelector[EvidenceSettings]):
    """Images such that each image of the group has the gradient of a chosen one, by the cosine between them."""

    def choose_from(self, evidence: Evidence, group: Group) -> Choice:
        """The facilities of the group."""
        gradients = last_layer_gradients(evidence, group.members)
        rows, gains = facilities(gradients.similarities, len(gradients), group.count)
        return Choice(rows, scores=gains)
