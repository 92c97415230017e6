"""K-means on features, nearest real image to each centre: the strongest plain selection of DC-BENCH (k-means-emb)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from condense.runtime.seeds import derive_seed
from condense.selection.features import FeatureSelector, FeatureSettings


def nearest_to_centres(features: Tensor, count: int, seed: int, starts: int = 10) -> Tensor:
    """Cluster the rows into `count` groups and choose for each centre the nearest row not chosen yet: int64 [count].

    scikit-learn's k-means, the best of so many `starts`; of one where there are fewer than two rows for each centre, as
    most clusters are then single rows whatever the start, and starts take hours. Larger clusters choose first, so a
    prefix covers most of the class. `features` is [n, D], `count` at most n.
    """
    from sklearn.cluster import KMeans as Clustering  # takes as long to import as torch, and most runs do not need it
    from sklearn.exceptions import ConvergenceWarning

    starts = starts if 2 * count <= len(features) else 1
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer different rows than centres: rows are still chosen once
        clustering = Clustering(n_clusters=count, n_init=starts, random_state=seed % 2**32).fit(features.numpy())
    sizes = torch.bincount(torch.from_numpy(clustering.labels_).long(), minlength=count)
    distances = torch.cdist(torch.from_numpy(clustering.cluster_centers_), features)  # (count, n)
    chosen: list[int] = []
    for centre in sizes.argsort(descending=True, stable=True):
        row = distances[centre].clone()
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return torch.tensor(chosen)


class KMeans(FeatureSelector[FeatureSettings]):
    """K-means on the features of each group."""

    def choose_from(self, features: Tensor, count: int, name: int | str) -> Tensor:
        """Cluster the group."""
        return nearest_to_centres(features, count, derive_seed(self.job.seed, "k-means", name))
