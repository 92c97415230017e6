"""Kernel ridge regression on features: a classifier in closed form, differentiable in what it was fitted to.

Of all linear classifiers W [D, K] of features Phi [m, D] with labels Y [m, K], the one with the smallest
|Phi W - Y|^2 + lambda |W|^2 is

    W = Phi^T a,   a = (G + lambda I)^-1 Y,   G = Phi Phi^T,

so that what a network would say after endless training of its last layer costs one solve of size m. All of it is in
float64: G has the squared condition of Phi, and a ridge of a millionth of its diagonal is below what float32 resolves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condense.runtime.errors import CondenseError

_TENFOLDS = 12  # times that a ridge is made ten times as large before the features are given up


@dataclass(frozen=True, eq=False)
class RidgeKernel:
    """A = G + lambda I of features [m, D], factored: A = L L^T.

    `ridge` is lambda, a scalar; where that was too small for a factorisation, because rows are alike, it is 10^tenfold
    times what was asked for.
    """

    features: Tensor
    ridge: Tensor
    lower: Tensor
    tenfold: int

    def solve(self, values: Tensor) -> Tensor:
        """A^-1 times float64 [m, K]."""
        return torch.cholesky_solve(values, self.lower)

    def weights(self, values: Tensor) -> Tensor:
        """The classifier Phi^T A^-1 values, float64 [D, K], of values [m, K]."""
        return self.features.T @ self.solve(values.double())


def relative_ridge(features: Tensor, part: float) -> RidgeKernel:
    """With lambda = part tr(G) / m, as FRePo has it: predictions do not depend on the scale of the features [m, D].

    The trace is differentiated too.

    >>> round(relative_ridge(torch.tensor([[3.0], [4.0]]), 0.5).ridge.item(), 6)  # 0.5 (9 + 16) / 2
    6.25
    """
    features = features.double()
    return _factored(features, part * features.square().sum() / len(features))


def absolute_ridge(features: Tensor, ridge: float) -> RidgeKernel:
    """With this lambda, as RCIG has it."""
    return _factored(features.double(), torch.tensor(ridge, dtype=torch.float64, device=features.device))


def _factored(features: Tensor, ridge: Tensor) -> RidgeKernel:
    gram = features @ features.T  # (m, m)
    for tenfold in range(_TENFOLDS + 1):
        used = ridge * 10.0**tenfold
        lower, failed = torch.linalg.cholesky_ex(
            gram + used * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        )
        if not failed or not gram.isfinite().all():  # numbers that are not finite are found where losses are guarded
            return RidgeKernel(features, used, lower, tenfold)
    raise CondenseError(
        f"the kernel of {len(gram)} images is singular, even with a ridge of {used.item():.3g}: their features vanish, "
        "or are all alike; start from other images, or give another network"
    )


def label_margin(labels: Tensor, most: float) -> Tensor:
    """-mean_i min(top1(y_i) - top2(y_i), most): keeps learned labels [m, K] from being of two classes at once.

    FRePo, released code, with `most` = 1/K (RCIG: 1/(2 K)). Labels of one number have no margin, which is 0.

    >>> round(label_margin(torch.tensor([[0.9, 0.1], [0.6, 0.4]]), most=0.5).item(), 4)
    -0.35
    """
    if labels.shape[1] < 2:
        return labels.new_zeros(())
    first, second = labels.topk(2, 1).values.unbind(1)
    return -(first - second).clamp(max=most).mean()
