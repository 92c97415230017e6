"""Ridge regression in closed form against its other forms, float64 finite differences and naive code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from condense.kernel_ridge import absolute_ridge, label_margin, relative_ridge
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator


def normal(*shape: int, purpose: str = "features") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


FEATURES, LABELS, OTHERS = normal(7, 5), normal(7, 3, purpose="labels"), normal(4, 5, purpose="others")


def said(features: Tensor, labels: Tensor, others: Tensor, part: float = 1e-2) -> Tensor:
    return others @ relative_ridge(features, part).weights(labels)


def test_the_dual_form_is_the_primal_one():
    """(Phi^T Phi + lambda I)^-1 Phi^T Y, and the gradient of |Phi W - Y|^2 + lambda |W|^2 vanishes there."""
    for kernel in (relative_ridge(FEATURES, 0.03), absolute_ridge(FEATURES, 0.7)):
        weights = kernel.weights(LABELS)
        gram = FEATURES.T @ FEATURES + kernel.ridge * torch.eye(5, dtype=torch.float64)
        torch.testing.assert_close(weights, torch.linalg.solve(gram, FEATURES.T @ LABELS), rtol=1e-10, atol=1e-12)
        slope = FEATURES.T @ (FEATURES @ weights - LABELS) + kernel.ridge * weights
        assert slope.abs().max() < 1e-10


def test_the_ridge_is_what_was_asked_for():
    trace = sum(sum(value**2 for value in row) for row in FEATURES.tolist())
    assert relative_ridge(FEATURES, 0.03).ridge.item() == pytest.approx(0.03 * trace / 7, rel=1e-12)
    assert absolute_ridge(FEATURES, 0.7).ridge.item() == 0.7


def test_predictions_with_a_relative_ridge_know_no_scale_and_no_order():
    expected, order = said(FEATURES, LABELS, OTHERS), torch.randperm(7, generator=generator(1, "order"))
    torch.testing.assert_close(said(30 * FEATURES, LABELS, 30 * OTHERS), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(said(FEATURES[order], LABELS[order], OTHERS), expected, rtol=1e-10, atol=1e-12)
    absolute = OTHERS @ absolute_ridge(FEATURES, 0.7).weights(LABELS)
    scaled = 30 * OTHERS @ absolute_ridge(30 * FEATURES, 0.7).weights(LABELS)
    assert (absolute - scaled).norm() > 0.1 * absolute.norm()


def test_gradients_go_through_features_labels_and_the_ridge():
    leaves = [value.clone().requires_grad_() for value in (FEATURES, LABELS, OTHERS)]
    assert torch.autograd.gradcheck(said, leaves)
    fixed = FEATURES.clone().requires_grad_()
    kernel = relative_ridge(fixed, 0.03)
    (slope,) = torch.autograd.grad(kernel.ridge, fixed)
    torch.testing.assert_close(slope, 2 * 0.03 / 7 * FEATURES)


def test_a_few_images_in_float32_lose_nothing():
    """Features that are nearly alike: in float32 a ridge of a millionth is below rounding."""
    features = (1 + 1e-3 * normal(6, 40)).float()
    expected = said(features.double(), LABELS[:6], normal(4, 40, purpose="others"), part=1e-6)
    found = said(features, LABELS[:6].float(), normal(4, 40, purpose="others"), part=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [relative_ridge, absolute_ridge])
def test_a_singular_kernel_takes_a_larger_ridge(make):
    """Two rows are the same, and the ridge is below what float64 resolves beside them."""
    alike = 1e3 * torch.cat([FEATURES, FEATURES[:1]])
    kernel = make(alike, 1e-18)
    assert kernel.tenfold > 0
    asked = 1e-18 if make is absolute_ridge else 1e-18 * alike.square().sum() / 8
    assert kernel.ridge.item() == pytest.approx(float(asked) * 10**kernel.tenfold, rel=1e-9)
    gram = alike @ alike.T + kernel.ridge * torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(kernel.lower @ kernel.lower.T, gram, rtol=1e-9, atol=1e-6)
    assert make(FEATURES[:3], 1e-2).tenfold == 0


def test_features_of_which_nothing_can_be_learned_are_refused():
    with pytest.raises(CondenseError, match="kernel of 3 images is singular, even with a ridge of 0: their features"):
        relative_ridge(torch.zeros(3, 4), 1e-6)


def test_features_that_are_not_finite_go_on_to_the_guard_of_losses():
    broken = FEATURES.clone()
    broken[0, 0] = float("nan")
    assert not relative_ridge(broken, 1e-6).weights(LABELS).isfinite().all()


def test_margins_of_labels():
    labels = normal(6, 4, purpose="margins")
    expected = []
    for row in labels.tolist():
        second, first = sorted(row)[-2:]
        expected.append(-min(first - second, 0.25))
    assert label_margin(labels, 0.25).item() == pytest.approx(sum(expected) / 6, rel=1e-12)
    assert min(expected) == -0.25 < max(expected), "both cases occur"
    assert label_margin(labels[:, :1], 0.25) == 0
    assert torch.autograd.gradcheck(lambda values: label_margin(values, 0.25), labels.requires_grad_())
