"""Differentiating through training: second derivatives times a direction, without a graph of the second order.

Everything that matches gradients or trajectories needs one quantity: with g = d loss / d parameters and a direction v,
the derivatives of <g, v> with respect to the parameters (a Hessian-vector product) and to the images and labels (mixed
products). Because second derivatives commute, they are the derivative of the ordinary gradients along v:

    d<g, v> / dx  =  d/de [ d loss(theta + e v, x) / dx ]  at e = 0,   for x any of parameters, images, labels.

So one forward-mode derivative of one reverse-mode gradient gives all of them exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

Parameters = dict[str, Tensor]
Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class MixedProduct:
    """The loss gradient g and the derivatives of <g, v>: `parameters` = H v, `images` [N, C, H, W], `labels` [N, K].

    `labels` is None for class indices.
    """

    gradient: Parameters
    parameters: Parameters
    images: Tensor
    labels: Tensor | None


def network_loss(
    network: nn.Module, parameters: Parameters, images: Tensor, labels: Tensor, augment: Augment | None = None
) -> Tensor:
    """The mean cross-entropy of `network` with these parameters, as a pure function.

    `labels` are class indices int64 [N], or logits [N, K] whose softmax is the target. `augment` is applied to the
    images. Buffers are copied, so BatchNorm in training mode uses the batch and moves no statistics.
    """
    seen = images if augment is None else augment(images)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    logits = functional_call(network, parameters | buffers, (seen,))
    return F.cross_entropy(logits, labels.softmax(1) if labels.is_floating_point() else labels)


def mixed_product(
    network: nn.Module,
    parameters: Parameters,
    images: Tensor,
    labels: Tensor,
    direction: Parameters,
    augment: Augment | None = None,
) -> MixedProduct:
    """g = d loss / d parameters and the derivatives of <g, direction>, by forward over reverse.

    `parameters` and `direction` have the names and shapes of `network.named_parameters()`. See the module's docstring
    for the identity; the loss is `network_loss`. Nothing is recorded for autograd: the results have no graph.
    """
    soft = labels.is_floating_point()

    def gradients(parameters: Parameters) -> tuple[Parameters, ...]:
        def loss(parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
            return network_loss(network, parameters, images, labels, augment)

        return grad(loss, argnums=(0, 1, 2) if soft else (0, 1))(parameters, images, labels)

    fixed = {name: value.detach() for name, value in parameters.items()}
    images, labels = images.detach(), labels.detach()
    values, products = jvp(gradients, (fixed,), (direction,))[:2]
    return MixedProduct(values[0], products[0], products[1], products[2] if soft else None)
