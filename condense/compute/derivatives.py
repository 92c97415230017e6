"""Derivatives of a network's loss as pure functions, up to second derivatives times a direction.

Everything that matches gradients or trajectories needs one quantity: with g = d loss / d parameters and a direction v,
the derivatives of <g, v> with respect to the parameters (a Hessian-vector product) and to the images and labels (mixed
products). Because second derivatives commute, they are the derivative of the ordinary gradients along v:

    d<g, v> / dx  =  d/de [ d loss(theta + e v, x) / dx ]  at e = 0,   for x any of parameters, images, labels.

So one forward-mode derivative of one reverse-mode gradient gives all of them exactly, and no graph of the second order
is ever built. Augmentation stays outside: parameters only see augmented images, so a chain through its ordinary
backward pass is all that it needs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from condense.compute.losses import cross_entropy
from condense.networks import Network
from condense.runtime.errors import CondenseError, first_line
from condense.runtime.global_draws import drawing

# torch loads its own forward-mode rules with a function that it has deprecated: nothing that a user could change
warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)

Parameters = dict[str, Tensor]
Mean = Callable[[nn.Module, Parameters, Tensor], Tensor]  # of a network, its parameters and images: one number
Reader = Callable[[Network, Tensor], tuple[Tensor, ...]]  # of a network and images [N, ...]: tensors of N rows


@dataclass(frozen=True, eq=False)
class MixedProduct:
    """The derivatives of <g, v>: `parameters` = H v, `images` [N, C, H, W], `labels`.

    `labels` is [N, K], or None for class indices; `parameters` is empty where it was not asked for.
    """

    parameters: Parameters
    images: Tensor
    labels: Tensor | None


def apply_network(
    network: nn.Module, parameters: Parameters, images: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """What `network` gives for `images` with these parameters: a pure function.

    With `dtype`, everything within the network is of that type, and the result again of the images' type. Buffers are
    copied, so BatchNorm in training mode uses the batch and moves no statistics.
    """
    inner = dtype or images.dtype
    return called(network, _state(network, parameters, inner), images.to(inner)).to(images.dtype)


def called(network: nn.Module, state: Parameters, images: Tensor) -> Tensor:
    """What `network` gives for `images` with this state, its draws as they should be."""
    with drawing(network, images):
        result: Tensor = functional_call(network, state, (images,))
    return result


def read_network(
    network: Network, parameters: Parameters, images: Tensor, read: Reader, dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """What `read(network, images)` gives with these parameters, as `apply_network` does it."""
    inner = dtype or images.dtype
    state = {f"network.{name}": value for name, value in _state(network, parameters, inner).items()}
    with drawing(network, images):
        results: tuple[Tensor, ...] = functional_call(_Reading(network, read), state, (images.to(inner),))
    return tuple(result.to(images.dtype) for result in results)


class _Reading(nn.Module):
    """A network seen through a function of it: `functional_call` only calls forward."""

    def __init__(self, network: Network, read: Reader) -> None:
        super().__init__()
        self.network, self.read = network, read

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.read(self.network, images)


def _state(network: nn.Module, parameters: Parameters, dtype: torch.dtype) -> Parameters:
    """Copies of the buffers, and parameters in this type; where features are read, these may replace buffers too."""
    return {
        name: buffer.to(dtype, copy=True) if buffer.is_floating_point() else buffer.clone()
        for name, buffer in network.named_buffers()
    } | {name: value.to(dtype) for name, value in parameters.items()}


def network_loss(
    network: nn.Module, parameters: Parameters, images: Tensor, labels: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """The mean cross-entropy of `apply_network`; `labels` are class indices int64 [N], or probabilities [N, K]."""
    return cross_entropy(apply_network(network, parameters, images, dtype), labels)


def loss_gradient(
    network: nn.Module, parameters: Parameters, images: Tensor, labels: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, Parameters]:
    """`network_loss` and its gradient with respect to the parameters; no graph is recorded."""

    def loss(parameters: Parameters) -> Tensor:
        return network_loss(network, parameters, images, labels, dtype)

    gradient, value = grad_and_value(loss)(parameters)
    return value, gradient


def mean_gradient(network: nn.Module, mean: Mean, parameters: Parameters, images: Tensor) -> tuple[Tensor, Parameters]:
    """`mean(network, parameters, images)` and its gradient with respect to the parameters; no graph is recorded.

    `mean` may take derivatives itself, by `torch.func`.
    """
    with _differentiable_twice(network):
        gradient, value = grad_and_value(lambda parameters: mean(network, parameters, images))(parameters)
    return value, gradient


def mixed_product(
    network: nn.Module,
    parameters: Parameters,
    images: Tensor,
    labels: Tensor,
    direction: Parameters,
    dtype: torch.dtype | None = None,
    *,
    images_only: bool = False,
) -> MixedProduct:
    """The derivatives of <g, direction>, g = d loss / d parameters, by forward over reverse.

    `parameters` and `direction` have the names and shapes of `network.named_parameters()`; `direction` may be zero
    where nothing is matched, and should be about as long as `parameters` where rounding matters (see `stretch`). See
    the module's docstring for the identity; the loss is `network_loss`. With `images_only` H v is left out (it is
    empty), which saves a quarter to a third of the work. Nothing is recorded for autograd: results have no graph.
    """
    soft = labels.is_floating_point()
    wanted = (1,) if images_only else (0, 1)

    def gradients(parameters: Parameters) -> tuple[Tensor | Parameters, ...]:
        def loss(parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
            return network_loss(network, parameters, images, labels, dtype)

        found: tuple[Tensor | Parameters, ...] = grad(loss, argnums=(*wanted, 2) if soft else wanted)(
            parameters, images, labels
        )
        return found

    # Copies: compiled, torch fails where a dual number is a view that does not begin its memory.
    fixed = {name: value.detach().clone() for name, value in parameters.items()}
    images, labels = images.detach(), labels.detach()
    with _differentiable_twice(network):
        products = jvp(gradients, (fixed,), (direction,))[1]  # compiled, the unused gradient itself is never computed
    if images_only:
        products = ({}, *products)
    return MixedProduct(products[0], products[1], products[2] if soft else None)


def _differentiable_twice(network: nn.Module) -> AbstractContextManager[None]:
    """Attention by its formula: torch's faster ones have no second derivatives. No network of condense has any."""
    return sdpa_kernel(SDPBackend.MATH) if getattr(network, "foreign", False) else nullcontext()


def check_mixed_product(network: Network, image_shape: tuple[int, int, int]) -> None:
    """Raise `CondenseError` if torch has no second derivatives of a network that is someone else's."""
    if not network.foreign:
        return
    images, labels = torch.zeros(2, *image_shape), torch.zeros(2, dtype=torch.int64)
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    try:
        mixed_product(network, parameters, images, labels, parameters)
    except RuntimeError as error:  # NotImplementedError is one
        raise CondenseError(
            f"network {network.name} cannot be matched by its gradients: {first_line(error)}; give another network, or "
            "a method that matches features, such as dm"
        ) from error


def stretch(parameters: Parameters, direction: Parameters) -> Tensor:
    """By how much a direction should be multiplied before its mixed product, which is then divided by it: a scalar.

    The tangents of norms carry a rounding error that does not shrink with the direction, which so becomes about as long
    as the parameters. The factor is a power of two, which rounds neither way.
    """
    whole = length(parameters)
    ratio = whole / length(direction).clamp(min=torch.finfo(whole.dtype).tiny ** 0.5)
    return ratio / torch.frexp(ratio).mantissa


def length(values: Parameters) -> Tensor:
    """The Euclidean norm of all values as one vector."""
    lengths = torch.stack([torch.linalg.vector_norm(value) for value in values.values()])
    whole: Tensor = torch.linalg.vector_norm(lengths)
    return whole
