"""The inner work of every method, run as a plan says: features, gradients and mixed products of one network structure.

Methods draw a new network in every iteration, so parameters are always arguments: what is compiled, once for each
shape, serves all networks of the structure. A batch goes through in equal parts of about `micro_batch` images that fit
the processor's cache, which changes nothing but rounding: the loss is a mean over images, and norms look at one image
at a time. While BatchNorm is in training mode it looks at the whole batch, which then is not divided.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from condense.compute.compilation import compiled
from condense.compute.derivatives import (
    Mean,
    MixedProduct,
    Parameters,
    Reader,
    called,
    loss_gradient,
    mean_gradient,
    mixed_product,
    read_network,
    stretch,
)
from condense.compute.losses import Loss, cross_entropy
from condense.compute.plan import Plan
from condense.compute.precision import DTYPES
from condense.compute.tangents import pull_back, pull_back_to_images, push_forward
from condense.networks import Network
from condense.networks.base import may_draw
from condense.networks.layers import batch_norms

REVISION = 2  # to be raised with every change of its speed: kept rates of earlier ones are not believed any more


class Engine:
    """One network structure and the plan by which it is run.

    `network` gives the structure and the mode (training or evaluation) only; its parameter values are never used.
    """

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        self.network, self.plan = network, plan
        if getattr(network, "draws", None) is None:
            network.draws = may_draw(network)  # type: ignore[assignment]
        self._batch_norms = batch_norms(network)
        self._made: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._dtype = None if plan.precision == "float32" else DTYPES[plan.precision]

    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The features [N, D] of `images`; differentiable in them if they ask for it."""
        return self.read(parameters, images, _embed)[0]

    def read(self, parameters: Parameters, images: Tensor, read: Reader) -> tuple[Tensor, ...]:
        """What `read` sees of the images in the network: tensors of one row for each; differentiable in the images.

        `read` must be the same function in every call, or it is compiled again.
        """
        network = self._as_network
        run = self._kept(read, lambda parameters, images: read_network(network, parameters, images, read, self._dtype))
        parts = [run(parameters, part) for part in self._divided(images)]
        return tuple(torch.cat(column) for column in zip(*parts))

    def gradient(self, parameters: Parameters, images: Tensor, labels: Tensor) -> tuple[Tensor, Parameters]:
        """The mean cross-entropy of a batch and its gradient with respect to the parameters.

        `labels` are class indices, or probabilities [N, K], here and in all that follows.
        """
        parts = zip(self._divided(images), self._divided(labels))
        return _mean((len(part) / len(images), self._gradient(parameters, part, targets)) for part, targets in parts)

    def mean_gradient(self, mean: Mean, parameters: Parameters, images: Tensor) -> tuple[Tensor, Parameters]:
        """`mean(network, parameters, images)`, a mean over images, and its gradient with respect to the parameters.

        `mean` must be the same function in every call, or it is compiled again; it may take derivatives itself. This is
        for training, as `loss` is: in the type of `parameters`.
        """
        run = self._kept(mean, lambda parameters, images: mean_gradient(self.network, mean, parameters, images))
        return _mean((len(part) / len(images), run(parameters, part)) for part in self._divided(images))

    def mixed_product(
        self,
        parameters: Parameters,
        images: Tensor,
        labels: Tensor,
        direction: Parameters,
        *,
        images_only: bool = False,
    ) -> MixedProduct:
        """`condense.compute.derivatives.mixed_product` of a batch, for a direction of any length."""
        run = self._image_product if images_only else self._mixed_product
        longer = stretch(parameters, direction)
        stretched = {name: longer * value for name, value in direction.items()}
        products = []
        for part, targets in zip(self._divided(images), self._divided(labels)):
            product = run(parameters, part.detach(), targets.detach(), stretched)
            products.append(_scaled(product, len(part) / len(images) / longer))
        return functools.reduce(_joined, products)

    def push_forward(self, values: Parameters, images: Tensor, tangent: Parameters) -> tuple[Tensor, Tensor]:
        """`condense.compute.tangents.push_forward` of a batch: features [N, D], and J tangent [N, K]."""
        parts = [self._pushed(values, part, tangent) for part in self._divided(images)]
        features, pushed = zip(*parts)
        return torch.cat(features), torch.cat(pushed)

    def pull_back(self, values: Parameters, images: Tensor, cotangents: Tensor) -> Parameters:
        """`condense.compute.tangents.pull_back` of a batch: J^T cotangents."""
        parts = zip(self._divided(images), self._divided(cotangents))
        return functools.reduce(_sum, [self._pulled(values, part, rows) for part, rows in parts])

    def pull_back_to_images(
        self, values: Parameters, images: Tensor, tangent: Parameters, of_features: Tensor, of_pushed: Tensor
    ) -> Tensor:
        """`condense.compute.tangents.pull_back_to_images` of a batch."""
        parts = zip(self._divided(images), self._divided(of_features), self._divided(of_pushed))
        return torch.cat([self._image_pulled(values, part, tangent, *rows) for part, *rows in parts])

    def loss(
        self,
        state: Parameters,
        images: Tensor,
        targets: Tensor,
        loss: Loss = cross_entropy,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of a whole batch, for training: differentiable in the parameters in `state`.

        `state` has the network's buffers too, which BatchNorm moves in place. Precision does not matter here: what is
        trained is trained in the type of `state`. `loss` must be the same function in every call, or it is compiled
        again.
        """

        def of_batch(state: Parameters, images: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
            return loss(called(self.network, state, images), targets, weights)

        value: Tensor = self._kept(loss, of_batch)(state, images, targets, weights)
        return value

    @property
    def whole_batches(self) -> bool:
        """Whether BatchNorm in training mode looks at all images of a batch."""
        return any(norm.training for norm in self._batch_norms)

    def _divided(self, values: Tensor) -> Iterator[Tensor]:
        """Equal parts of at most `micro_batch` rows (some one row shorter than the others).

        A batch stays whole where BatchNorm looks at all of it, and where the network draws random numbers, which would
        be those of every part.
        """
        whole = self.whole_batches or self.network.draws
        yield from values.tensor_split(1 if whole else math.ceil(len(values) / self.plan.micro_batch))

    def _kept(self, given: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
        """What was first made of a function that a caller gave."""
        if given not in self._made:
            self._made[given] = self._fast(function)
        return self._made[given]

    @functools.cached_property
    def _gradient(self) -> Callable[[Parameters, Tensor, Tensor], tuple[Tensor, Parameters]]:
        return self._fast(
            lambda parameters, images, labels: loss_gradient(self.network, parameters, images, labels, self._dtype)
        )

    @functools.cached_property
    def _mixed_product(self) -> Callable[[Parameters, Tensor, Tensor, Parameters], MixedProduct]:
        return self._fast(
            lambda parameters, images, labels, direction: mixed_product(
                self.network, parameters, images, labels, direction, self._dtype
            )
        )

    @functools.cached_property
    def _image_product(self) -> Callable[[Parameters, Tensor, Tensor, Parameters], MixedProduct]:
        return self._fast(
            lambda parameters, images, labels, direction: mixed_product(
                self.network, parameters, images, labels, direction, self._dtype, images_only=True
            )
        )

    @functools.cached_property
    def _pushed(self) -> Callable[[Parameters, Tensor, Parameters], tuple[Tensor, Tensor]]:
        return self._fast(functools.partial(push_forward, self._as_network, dtype=self._dtype))

    @functools.cached_property
    def _pulled(self) -> Callable[[Parameters, Tensor, Tensor], Parameters]:
        return self._fast(functools.partial(pull_back, self._as_network, dtype=self._dtype))

    @functools.cached_property
    def _image_pulled(self) -> Callable[[Parameters, Tensor, Parameters, Tensor, Tensor], Tensor]:
        return self._fast(functools.partial(pull_back_to_images, self._as_network, dtype=self._dtype))

    @property
    def _as_network(self) -> Network:
        assert isinstance(self.network, Network), "features are those of a Network, not of any module"
        return self.network

    def _fast(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.plan.compile == "off" or self.network.draws:  # compiled, draws would follow other seeds
            return function
        fast = compiled(function)
        if self.plan.device != "cpu":
            return fast
        # as the processor convolves; where arguments lie otherwise, compiled code turns its own results to and fro
        return lambda *arguments: fast(*tree_map(_channels_last, arguments))


def _channels_last(value: Any) -> Any:
    """Images and weights of convolutions in the order in memory N, H, W, C."""
    four = isinstance(value, Tensor) and value.dim() == 4
    return value.contiguous(memory_format=torch.channels_last) if four else value


def _embed(network: Network, images: Tensor) -> tuple[Tensor, ...]:
    return (network.embed(images),)


def _mean(parts: Iterable[tuple[float, tuple[Tensor, Parameters]]]) -> tuple[Tensor, Parameters]:
    """A value and its gradient, of a whole batch, from its parts: the share of each, its value and its gradient."""
    total: tuple[Tensor, Parameters] | None = None
    for share, (value, gradient) in parts:
        value, gradient = share * value, {name: share * slope for name, slope in gradient.items()}
        total = (value, gradient) if total is None else (total[0] + value, _sum(total[1], gradient))
    assert total is not None, "a batch has at least one image"
    return total


def _sum(left: Parameters, right: Parameters) -> Parameters:
    return {name: value + right[name] for name, value in left.items()}


def _scaled(product: MixedProduct, factor: Tensor) -> MixedProduct:
    """Every part of the product times a number."""
    return MixedProduct(
        parameters={name: factor * value for name, value in product.parameters.items()},
        images=factor * product.images,
        labels=None if product.labels is None else factor * product.labels,
    )


def _joined(left: MixedProduct, right: MixedProduct) -> MixedProduct:
    """Two parts of one batch, in this order."""
    labels = None
    if left.labels is not None and right.labels is not None:
        labels = torch.cat([left.labels, right.labels])
    return MixedProduct(
        parameters=_sum(left.parameters, right.parameters),
        images=torch.cat([left.images, right.images]),
        labels=labels,
    )
