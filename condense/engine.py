"""The inner work of every method, run as a plan says: features, gradients and mixed products of one network structure.

Methods draw a new network in every iteration, so parameters are always arguments: what is compiled, once for each
shape, serves all networks of the structure. A batch goes through in equal parts of about `micro_batch` images that fit
the processor's cache, which changes nothing but rounding: the loss is a mean over images, and norms look at one image
at a time. While BatchNorm is in training mode it looks at the whole batch, which then is not divided.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from condense.derivatives import MixedProduct, Parameters, Reader, loss_gradient, mixed_product, read_network
from condense.networks import Network
from condense.networks.layers import batch_norms
from condense.runtime.compilation import compiled
from condense.runtime.plan import Plan
from condense.runtime.precision import DTYPES


class Engine:
    """One network structure and the plan by which it is run.

    `network` gives the structure and the mode (training or evaluation) only; its parameter values are never used.
    """

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        self.network, self.plan = network, plan
        self._batch_norms = batch_norms(network)
        self._readers: dict[Reader, Callable[[Parameters, Tensor], tuple[Tensor, ...]]] = {}
        self._dtype = None if plan.precision == "float32" else DTYPES[plan.precision]

    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """The features [N, D] of `images`; differentiable in them if they ask for it."""
        return self.read(parameters, images, _embed)[0]

    def read(self, parameters: Parameters, images: Tensor, read: Reader) -> tuple[Tensor, ...]:
        """What `read` sees of the images in the network: tensors of one row for each; differentiable in the images.

        `read` must be the same function in every call, or it is compiled again.
        """
        run = self._reader(read)
        parts = [run(parameters, part) for part in self._divided(images)]
        return tuple(torch.cat(column) for column in zip(*parts))

    def gradient(self, parameters: Parameters, images: Tensor, labels: Tensor) -> tuple[Tensor, Parameters]:
        """The mean cross-entropy of a batch and its gradient with respect to the parameters.

        `labels` are class indices, or probabilities [N, K], here and in all that follows.
        """
        total: tuple[Tensor, Parameters] | None = None
        for part, targets in zip(self._divided(images), self._divided(labels)):
            loss, gradient = self._gradient(parameters, part, targets)
            share = len(part) / len(images)
            loss, gradient = share * loss, {name: share * value for name, value in gradient.items()}
            total = (loss, gradient) if total is None else (total[0] + loss, _sum(total[1], gradient))
        assert total is not None, "a batch has at least one image"
        return total

    def mixed_product(
        self,
        parameters: Parameters,
        images: Tensor,
        labels: Tensor,
        direction: Parameters,
        *,
        images_only: bool = False,
    ) -> MixedProduct:
        """`condense.derivatives.mixed_product` of a batch."""
        run = self._image_product if images_only else self._mixed_product
        products = []
        for part, targets in zip(self._divided(images), self._divided(labels)):
            product = run(parameters, part.detach(), targets.detach(), direction)
            products.append(_scaled(product, len(part) / len(images)))
        return functools.reduce(_joined, products)

    def loss(self, state: Parameters, images: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of a whole batch, for training: differentiable in the parameters in `state`.

        `state` has the network's buffers too, which BatchNorm moves in place. Precision does not matter here: what is
        trained is trained in the type of `state`.
        """
        return self._loss(state, images, labels)

    @property
    def whole_batches(self) -> bool:
        """Whether batches must not be divided, because BatchNorm in training mode looks at all of their images."""
        return any(norm.training for norm in self._batch_norms)

    def _divided(self, values: Tensor) -> Iterator[Tensor]:
        """Equal parts of at most `micro_batch` rows (some one row shorter than the others)."""
        yield from values.tensor_split(1 if self.whole_batches else math.ceil(len(values) / self.plan.micro_batch))

    def _reader(self, read: Reader) -> Callable[[Parameters, Tensor], tuple[Tensor, ...]]:
        network = self.network
        assert isinstance(network, Network), "features are those of a Network, not of any module"
        if read not in self._readers:
            self._readers[read] = self._fast(
                lambda parameters, images: read_network(network, parameters, images, read, self._dtype)
            )
        return self._readers[read]

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
    def _loss(self) -> Callable[[Parameters, Tensor, Tensor], Tensor]:
        return self._fast(
            lambda state, images, labels: F.cross_entropy(functional_call(self.network, state, (images,)), labels)
        )

    def _fast(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return compiled(function) if self.plan.compile == "on" else function


def _embed(network: Network, images: Tensor) -> tuple[Tensor, ...]:
    return (network.embed(images),)


def _sum(left: Parameters, right: Parameters) -> Parameters:
    return {name: value + right[name] for name, value in left.items()}


def _scaled(product: MixedProduct, share: float) -> MixedProduct:
    """The part that some images of a batch have in the product of its mean loss."""
    return MixedProduct(
        parameters={name: share * value for name, value in product.parameters.items()},
        images=share * product.images,
        labels=None if product.labels is None else share * product.labels,
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
