"""LAMB and AdaBelief against their formulas in plain Python, and what makes them what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from condense.synthesizers.image_optimizers import AdaBelief, Lamb
from condense.training.state import load_optimizer_state, optimizer_state


def naive(name: str, start: np.ndarray, gradients: np.ndarray, lr: float) -> np.ndarray:
    value, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for count, gradient in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * gradient
        if name == "lamb":
            square = 0.999 * square + 0.001 * gradient**2
        else:
            square = 0.999 * square + 0.001 * (gradient - mean) ** 2 + 1e-16
        first, second = mean / (1 - 0.9**count), square / (1 - 0.999**count)
        if name == "lamb":
            update = first / (np.sqrt(second) + 1e-6)
            lengths = np.sqrt((value**2).sum()), np.sqrt((update**2).sum())
            value = value - lr * (lengths[0] / lengths[1] if min(lengths) > 0 else 1) * update
        else:
            value = value - lr * first / (np.sqrt(second) + 1e-16)
    return value


def moved(kind: type, start: np.ndarray, gradients: np.ndarray, lr: float) -> torch.Tensor:
    value = torch.tensor(start).requires_grad_()
    optimizer = kind([value], lr=lr)
    for gradient in gradients:
        value.grad = torch.tensor(gradient)
        optimizer.step()
    return value.detach()


@pytest.mark.parametrize(("name", "kind"), [("lamb", Lamb), ("adabelief", AdaBelief)])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])
def test_steps_are_those_of_the_formula(name: str, kind: type, scale: float):
    draws = np.random.default_rng(0)
    start, gradients = draws.normal(size=(3, 2, 2)), scale * draws.normal(size=(7, 3, 2, 2))
    gradients[3] = 0
    found = moved(kind, start, gradients, 0.03)
    np.testing.assert_allclose(found.numpy(), naive(name, start, gradients, 0.03), rtol=1e-9)


def test_a_step_of_lamb_is_as_long_as_the_rate_says_whatever_the_gradient():
    draws = np.random.default_rng(1)
    start, gradient = draws.normal(size=(5, 4)), draws.normal(size=(5, 4))
    for scale in (1e-3, 1.0, 1e3):
        step = moved(Lamb, start, [scale * gradient], 0.02).numpy() - start
        assert np.linalg.norm(step) / np.linalg.norm(start) == pytest.approx(0.02, rel=1e-9)
    assert np.array_equal(moved(Lamb, start, [0 * gradient], 0.02).numpy(), start)
    from_zero = moved(Lamb, 0 * start, [gradient], 0.02).numpy()
    np.testing.assert_allclose(from_zero, -0.02 * np.sign(gradient), rtol=1e-3)


def test_values_have_ratios_of_their_own():
    values = [torch.full((2,), size).requires_grad_() for size in (1.0, 10.0)]
    optimizer = Lamb(values, lr=0.1)
    for value in values:
        value.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(values[0].detach(), torch.full((2,), 0.9))
    torch.testing.assert_close(values[1].detach(), torch.full((2,), 9.0))


@pytest.mark.parametrize("kind", [Lamb, AdaBelief])
def test_a_state_goes_on_to_the_same_bits(kind: type):
    draws = np.random.default_rng(2)
    start, gradients = draws.normal(size=6).astype(np.float32), draws.normal(size=(6, 6)).astype(np.float32)
    whole = moved(kind, start, gradients, 0.1)
    value = torch.tensor(start).requires_grad_()
    optimizer = kind([value], lr=0.1)
    for gradient in gradients:
        value.grad = torch.tensor(gradient)
        optimizer.step()
        kept = {name: each.clone() for name, each in optimizer_state(optimizer).items()}
        optimizer = kind([value], lr=0.1)
        load_optimizer_state(optimizer, kept)
    assert torch.equal(value.detach(), whole)
