"""The mathematics of matching: pure distances between what networks see in real and in synthetic images."""

from __future__ import annotations

import torch
from torch import Tensor


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean feature vector of each class, float32 or wider.

    `features` is [N, D], `labels` int64 [N]; the result is [C, D]. A class without images has the mean zero.

    >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2)
    tensor([[2.],
            [5.]])
    """
    sums = features.new_zeros(classes, features.shape[1]).index_add(0, labels, features)  # (C, D)
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return sums / counts[:, None]


def match_means(real: Tensor, synthetic: Tensor) -> Tensor:
    """Distribution matching: the sum over classes of squared distances between class means.

    Both are [C, D]; L = sum_c |r_c - s_c|^2, summed over features and classes, nothing averaged, because the published
    learning rates are tied to this scale (Zhao & Bilen, WACV 2023, equation 4, and the released code).

    >>> match_means(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    tensor(4.)
    """
    return (real - synthetic).square().sum()
