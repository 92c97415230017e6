"""GradMatch: Killamsetty et al., "Gradient Matching based Data Subset Selection", ICML 2021.

Orthogonal matching pursuit on the gradients of the last layer, within each class, with weights that are not negative.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from condense.runtime.progress import say
from condense.selection.base import Choice, Group
from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.last_layer import GradientSelector, LastLayerGradients, last_layer_gradients


class GradMatchSettings(EvidenceSettings):
    """Settings of `gradmatch`."""

    ridge: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="penalty on the squares of weights, in mean squares of a gradient"
    )


def pursue(gradients: LastLayerGradients, target: Tensor, count: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Rows whose weighted sum comes near to `target` [K, D + 1], chosen greedily; and the gain of each.

    Each choice is the unused row of the largest <G_i, R> (the gain), where R = T - sum_{j in S} w_j G_j is left of the
    target T by those before with the w that minimise |R|^2 + ridge |w|^2. Of equal gains the first row. The sign
    counts, as weights are to be positive, and so does the length of a gradient: both as in the paper.

    With the Gram matrix H of S plus the ridge, w = H^-1 (<G_j, T>)_j. Row t of a triangular matrix M with M H M^T = 1
    holds a direction that is conjugate to those before; w and R move along it alone, so that a choice takes one look at
    the gradients of all rows and O(t^2) numbers of its own. (DeepCore solves for w from the beginning each time, and
    fits the first row without the ridge.) Returns int64 [count] and float64 [count].

    >>> errors = torch.tensor([[3.0, 0.0], [2.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
    >>> gradients = LastLayerGradients(errors, torch.zeros(3, 0, dtype=torch.float64))
    >>> pursue(gradients, torch.tensor([[3.0], [1.0]], dtype=torch.float64), 2, ridge=1e-9)[0]
    tensor([0, 2])
    """
    left = target.clone()
    overlaps = gradients.along(target)  # (n), <G_i, T>
    rows, gains = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.float64)
    directions = torch.zeros(count, count, dtype=torch.float64)
    for place in range(count):
        along = gradients.along(left)
        along[rows[:place]] = -torch.inf
        best = int(along.argmax())
        rows[place], gains[place] = best, along[best]
        chosen, before = gradients.at(rows[: place + 1]), directions[:place, :place]
        products = chosen.inner_products(torch.tensor([place]))[0]  # (place + 1)
        known = before @ products[:-1]
        rest = (products[-1] + ridge - known @ known).clamp_min(ridge)  # at least the ridge, but for rounding
        direction = torch.cat([-(before.T @ known), torch.ones(1, dtype=torch.float64)]) / rest.sqrt()
        directions[place, : place + 1] = direction
        left -= (direction @ overlaps[rows[: place + 1]]) * chosen.total(direction)
    return rows, gains


def positive_weights(gradients: LastLayerGradients, target: Tensor, ridge: float) -> Tensor:
    """The w >= 0 that minimise |T - sum_i w_i G_i|^2 + ridge |w|^2 over all n rows; float64 [n].

    By the factor H = L L^T of their Gram matrix plus the ridge this is |L^T w - L^-1 (<G_i, T>)_i|^2 plus a constant.
    (DeepCore gives the solver H w = (<G_i, T>)_i, whose squares weigh errors otherwise where a bound is active.)

    >>> errors = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    >>> gradients = LastLayerGradients(errors, torch.zeros(2, 0, dtype=torch.float64))
    >>> positive_weights(gradients, torch.tensor([[3.0], [-3.0]], dtype=torch.float64), ridge=1.0)
    tensor([1.5000, 0.0000], dtype=torch.float64)
    """
    from scipy.optimize import nnls  # late: it takes a while, and few runs need it

    count = len(gradients)
    gram = gradients.inner_products(torch.arange(count))
    factor = torch.linalg.cholesky(gram + ridge * torch.eye(count, dtype=torch.float64))
    aims = torch.linalg.solve_triangular(factor, gradients.along(target)[:, None], upper=False)[:, 0]
    return torch.from_numpy(nnls(factor.T.numpy(), aims.numpy(), maxiter=30 * count)[0])


class GradMatch(GradientSelector[GradMatchSettings]):
    """Images whose weighted gradients sum to the mean gradient of their group.

    The ridge is relative to the mean square of the group's gradients, so that it means the same for a network that was
    trained for long, whose gradients are small. (The paper takes it as it is, and so does DeepCore's code, whose
    gradients are divided by the size of a batch: its ridge is 65,536 times as large, and the pursuit little more than
    an order by the product with the mean gradient.) Weights are scaled so that they sum to the number of images of the
    group. The budget is filled by the pursuit; an image to which the final fit gives no weight stays in the choice,
    with a weight of 0. (DeepCore leaves it out, so that sets are smaller than was asked for; the code of the authors
    then adds random images of weight 1.)
    """

    def choose_by(self, evidence: Evidence) -> Choice:
        """The choices in all groups; images without weight are said."""
        choice = super().choose_by(evidence)
        assert choice.weights is not None, "every group has some"
        idle = int((choice.weights == 0).sum())
        if idle:
            say(f"note: {idle} of {len(choice.weights)} chosen images have weight 0: the others match without them")
        return choice

    def choose_from(self, evidence: Evidence, group: Group) -> Choice:
        """Pursue the mean gradient of the group."""
        gradients = last_layer_gradients(evidence, group.members)
        target, squares = gradients.mean, gradients.norms.square().mean()
        ridge = float((self.settings.ridge * squares).clamp_min(torch.finfo(torch.float64).tiny))
        rows, gains = pursue(gradients, target, group.count, ridge)
        weights = positive_weights(gradients.at(rows), target, ridge)
        weights = weights if weights.any() else torch.ones_like(weights)  # gradients that are all zero
        return Choice(rows, weights=(weights / weights.sum() * len(gradients)).float(), scores=gains)
