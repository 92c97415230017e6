"""What a node's neighbourhood says of it: features after some hops of a linear graph convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.graphs.real import TrainingNodes
from condense.graphs.structure import Edges, row_normalized

_COLUMNS = 64  # features that are sent along all edges at once


def propagated(data: TrainingNodes, hops: int) -> Tensor:
    """S^hops X with S = D^-1/2 (A + I) D^-1/2 of the graph that training sees: float64 [n, F].

    X is divided by the sum of its rows where the data says so. It is all that a simplified graph convolution of so many
    hops reads of a node (Wu et al., ICML 2019), so that its rows need no edges any more.
    """
    x = data.features.double()
    x = row_normalized(x) if data.info.normalize_rows else x
    structure = Edges(data.edges, len(x))
    blocks = []
    for block in x.split(_COLUMNS, dim=1):
        for _ in range(hops):
            block = structure.normalized(block)
        blocks.append(block)
    return torch.cat(blocks, 1)
