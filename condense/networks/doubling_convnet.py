"""The ConvNet of FRePo (Zhou, Nezhadarya & Ba, NeurIPS 2022) and RCIG (Loo et al., ICML 2023): wider block by block."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from condense.networks.convnet import Blocks
from condense.networks.layers import ACTIVATIONS, first_padding, make_norm

_NEWEST = 0.9  # share of the latest batch in the running statistics of BatchNorm; flax calls it momentum 0.1


class DoublingConvNet(Blocks):
    """`depth` blocks of 3x3 convolution with `width`, 2 `width`, 4 `width`, ... filters, activation and 2x2 pooling.

    The norm is at the entrance of every block but the first, as FRePo has it (RCIG has it behind the convolution).
    Weights are normal with variance 1 / fan_in, cut off at two standard deviations, and biases 0: flax's defaults. What
    BatchNorm keeps of a batch are its mean and, unlike flax, its unbiased variance.

    >>> DoublingConvNet((3, 32, 32), classes=10, norm="nonorm").classifier.in_features
    8192
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: int = 3,
        width: int = 128,
        norm: str = "nonorm",
        activation: str = "relu",
    ) -> None:
        channels = image_shape[0]
        padding = first_padding(image_shape, usual=1, digits=3)
        blocks = []
        for number in range(depth):
            block: OrderedDict[str, nn.Module] = OrderedDict()
            if number:
                block["norm"] = make_norm(norm, channels)
            block["convolution"] = _Convolution(channels, width * 2**number, 3, padding=padding)
            block["activation"] = ACTIVATIONS[activation]()
            block["pooling"] = nn.AvgPool2d(2)
            blocks.append(nn.Sequential(block))
            channels, padding = width * 2**number, 1
        super().__init__(nn.Sequential(*blocks), image_shape, classes)
        self.classifier = _Linear(self.classifier.in_features, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = _NEWEST


class _Convolution(nn.Conv2d):
    def initialize(self, source: torch.Generator) -> None:
        _draw(self.weight, self.bias, source)


class _Linear(nn.Linear):
    def initialize(self, source: torch.Generator) -> None:
        _draw(self.weight, self.bias, source)


_OF_CUT_OFF = 0.87962566103423978  # standard deviation of a standard normal number that is at most 2 away from 0


def _draw(weight: torch.Tensor, bias: torch.Tensor | None, source: torch.Generator) -> None:
    nn.init.trunc_normal_(weight, a=-2, b=2, generator=source)
    with torch.no_grad():
        weight.div_(_OF_CUT_OFF * math.sqrt(weight[0].numel()))
        if bias is not None:
            bias.zero_()
