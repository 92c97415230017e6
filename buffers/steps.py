"""The steps by which experts are trained that are easier to imitate: towards flat regions, and smoothly."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import grad

from condense.compute.derivatives import Parameters, apply_network, length
from condense.training.loop import Step, Update, descend

_TINY = 1e-12


def adaptive_ascent(weights: Parameters, gradient: Parameters, radius: float) -> Parameters:
    """Where the loss rises fastest, in proportion to the weights: e = rho w^2 g / | |w| g |.

    The norm is over all parameters (ASAM: Kwon et al., ICML 2021; Du et al., CVPR 2023, released code).

    >>> adaptive_ascent({"weight": torch.tensor([2.0])}, {"weight": torch.tensor([1.0])}, 0.5)
    {'weight': tensor([1.])}
    """
    norm = length({name: weights[name].abs() * value for name, value in gradient.items()})
    return {name: radius * weights[name].square() * value / (norm + _TINY) for name, value in gradient.items()}


def flat_direction(gradient: Parameters, perturbed: Parameters, ascent_weight: float) -> Parameters:
    """GSAM's direction: g_p - alpha g', g' being the part of g at right angles to g_p.

    g is the gradient at the weights, g_p that at the perturbed ones; angles are between whole vectors (Zhuang et al.,
    ICLR 2022).
    """
    square = length(perturbed).square() + _TINY
    along = torch.stack([(gradient[name] * value).sum() for name, value in perturbed.items()]).sum() / square
    return {name: value - ascent_weight * (gradient[name] - along * value) for name, value in perturbed.items()}


def image_gradient_penalty(network: nn.Module, parameters: Parameters, images: Tensor) -> Tensor:
    """mean (|J| - 1)^2 with J = d sum_c f_c(x) / dx, its norm over the channels of every pixel.

    `images` [N, C, H, W] are not augmented; differentiable in the parameters (Shen et al., 2023: AST).
    """

    def total(images: Tensor) -> Tensor:
        return apply_network(network, parameters, images).sum()

    jacobian = grad(total)(images)  # (N, C, H, W)
    lengths: Tensor = torch.linalg.vector_norm(jacobian, dim=1)
    return (lengths - 1).square().mean()


def flat_step(radius: float, ascent_weight: float) -> Update:
    """A step of GSAM: two gradients of one augmented batch; statistics of BatchNorm move in the first only."""

    def update(step: Step) -> Tensor:
        weights, loss, gradient = _loss_gradient(step)
        moved = {name: weights[name] + value for name, value in adaptive_ascent(weights, gradient, radius).items()}
        _, perturbed = step.engine.gradient(moved, step.batch.images, step.batch.targets.values)
        _follow(step, flat_direction(gradient, perturbed, ascent_weight))
        return loss

    return update


def smooth_step(loss_weight: float, penalty: float) -> Update:
    """A step down the weighted loss and the image gradient penalty; only the first moves statistics of BatchNorm."""
    if not penalty and loss_weight == 1:
        return descend

    def update(step: Step) -> Tensor:
        weights, loss, gradient = _loss_gradient(step)
        total = {name: loss_weight * value for name, value in gradient.items()}
        if penalty:
            _, slope = step.engine.mean_gradient(image_gradient_penalty, weights, step.batch.plain)
            total = {name: value + penalty * slope[name] for name, value in total.items()}
        _follow(step, total)
        return loss

    return update


def _loss_gradient(step: Step) -> tuple[Parameters, Tensor, Parameters]:
    """The weights, the loss of the augmented batch and its gradient, without graphs; statistics of BatchNorm move."""
    leaves = {name: value for name, value in step.state.items() if value.requires_grad}
    loss = step.loss()
    gradient = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
    return {name: value.detach() for name, value in leaves.items()}, loss.detach(), gradient


def _follow(step: Step, direction: Parameters) -> None:
    """One step of the optimiser, with `direction` in the place of the gradient."""
    for name, value in direction.items():
        step.state[name].grad = value
    step.optimizer.step()
