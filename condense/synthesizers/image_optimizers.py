"""Optimisers of images that torch does not have, with the defaults of optax, by which their methods were published."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_FIRST, _SECOND = 0.9, 0.999  # share of an average that stays in an update: of gradients, and of squares


class _ByAverages(torch.optim.Optimizer):
    """Keeps averages of gradients and of squares, corrected for their start at zero; a subclass moves by them."""

    def __init__(self, values: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(values, {"lr": lr})

    @abstractmethod
    def squared(self, gradient: Tensor, mean: Tensor) -> Tensor:
        """What is averaged as a square; `mean` is the average of gradients, this one among them."""

    @abstractmethod
    def move(self, value: Tensor, mean: Tensor, square: Tensor, lr: float) -> None:
        """One step of `value`, in place, by the corrected averages."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every value that has a gradient."""
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is not None:
                    self._advance(value, value.grad, self.state[value], group["lr"])

    def _advance(self, value: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float) -> None:
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(value), torch.zeros_like(value)
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - _FIRST)
        state["square"].lerp_(self.squared(gradient, state["mean"]), 1 - _SECOND)
        first, second = (1 - kept ** state["step"].item() for kept in (_FIRST, _SECOND))
        self.move(value, state["mean"] / first, state["square"] / second, lr)


class Lamb(_ByAverages):
    """x <- x - lr |x| / |u| u, with u = m / (sqrt(v) + 1e-6) and v the average of g^2.

    So a step has the length lr |x|, whatever the gradient's. You et al., ICLR 2020, without weight decay; the ratio,
    which has no bound, is 1 where x or u vanishes. Lengths are those of a whole tensor.
    """

    def squared(self, gradient: Tensor, mean: Tensor) -> Tensor:
        """g^2."""
        return gradient.square()

    def move(self, value: Tensor, mean: Tensor, square: Tensor, lr: float) -> None:
        """By the ratio of lengths."""
        update = mean / (square.sqrt() + 1e-6)
        length, of_update = value.norm(), update.norm()
        value.sub_(lr * (length / of_update if length > 0 and of_update > 0 else 1.0) * update)


class AdaBelief(_ByAverages):
    """x <- x - lr m / (sqrt(v) + 1e-16), with v the average of (g - m)^2 + 1e-13.

    Steps are long where gradients agree with their average. Zhuang et al., NeurIPS 2020, without weight decay; m has
    the gradient in it, as in the paper and in today's optax, of which the constants are. Earlier releases of optax took
    the average without it, which makes steps a tenth shorter.
    """

    def squared(self, gradient: Tensor, mean: Tensor) -> Tensor:
        """(g - m)^2."""
        return (gradient - mean).square() + 1e-16 / (1 - _SECOND)

    def move(self, value: Tensor, mean: Tensor, square: Tensor, lr: float) -> None:
        """By the belief in m."""
        value.sub_(lr * mean / (square.sqrt() + 1e-16))
