"""Products with the Jacobian J of a network's logits by its parameters, and their derivatives by the images.

A network that is linearised at its parameters says J w for a tangent w: how its logits would change along w. Tangents
have the names and shapes of the parameters; where a network is given by its `values`, its statistics may be among them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp

from condense.compute.derivatives import Parameters, read_network
from condense.networks import Network


def push_forward(
    network: Network, values: Parameters, images: Tensor, tangent: Parameters, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The features [N, D] of images, which no tangent changes, and J tangent [N, K]."""

    def outputs(parameters: Parameters) -> tuple[Tensor, ...]:
        return read_network(network, values | parameters, images, features_and_logits, dtype)

    found, tangents = jvp(outputs, (_parameters(network, values),), (tangent,))[:2]
    return found[0], tangents[1]


def pull_back(
    network: Network, values: Parameters, images: Tensor, cotangents: Tensor, dtype: torch.dtype | None = None
) -> Parameters:
    """J^T cotangents, for `cotangents` [N, K]: the gradient of <cotangents, logits> by the parameters."""

    def logits(parameters: Parameters) -> Tensor:
        return read_network(network, values | parameters, images, features_and_logits, dtype)[1]

    products: Parameters = vjp(logits, _parameters(network, values))[1](cotangents)[0]
    return products


def pull_back_to_images(
    network: Network,
    values: Parameters,
    images: Tensor,
    tangent: Parameters,
    of_features: Tensor,
    of_pushed: Tensor,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The gradient of <of_features, features> + <of_pushed, J tangent> by the images [N, C, H, W].

    With the logits z_e and features f_e at parameters + e tangent, it is the derivative by e, at e = 0, of the gradient
    of <of_pushed, z_e> + e <of_features, f_e>: one forward-mode derivative of one ordinary gradient.
    """

    def gradient(parameters: Parameters, step: Tensor) -> Tensor:
        def product(images: Tensor) -> Tensor:
            features, logits = read_network(network, values | parameters, images, features_and_logits, dtype)
            return (of_pushed * logits).sum() + step * (of_features * features).sum()

        found: Tensor = grad(product)(images)
        return found

    zero, one = images.new_zeros(()), images.new_ones(())
    slope: Tensor = jvp(gradient, (_parameters(network, values), zero), (tangent, one))[1]
    return slope


def features_and_logits(network: Network, images: Tensor) -> tuple[Tensor, ...]:
    """Features [N, D] and logits [N, K], of one forward."""
    features = network.embed(images)
    return features, network.classifier(features)


def _parameters(network: Network, values: Parameters) -> Parameters:
    """Copies: compiled, torch fails where a dual number is a view that does not begin its memory."""
    return {name: values[name].detach().clone() for name, _ in network.named_parameters()}
