"""The nearest neighbours of every row of features, for methods that compare images with those around them."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_neighbours(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Squared Euclidean distances [n, count] to the nearest other rows of `features` [n, D], and their rows int64.

    Nearest first; `count` is at most n - 1. By scikit-learn, which never holds all distances.

    >>> nearest_neighbours(torch.tensor([[0.0], [1.0], [5.0]]), 1)[1].flatten()
    tensor([1, 0, 1])
    """
    from sklearn.neighbors import NearestNeighbors  # takes as long to import as torch, and most runs do not need it

    index = NearestNeighbors(n_neighbors=count).fit(features.numpy())
    distances, rows = index.kneighbors()  # without arguments a row is not its own neighbour
    return torch.from_numpy(distances).to(features.dtype).square(), torch.from_numpy(rows).long()
