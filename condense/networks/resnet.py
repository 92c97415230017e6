"""ResNet: He et al., CVPR 2016, for small images, as published sets are evaluated on.

- Zhao, Mopuri & Bilen, ICLR 2021, and Cazenavette et al., CVPR 2022: 64 to 512 filters, one 3x3 convolution before the
  blocks; ResNet-18, and a form of it that halves images by averages (AP).
- Kim et al., ICML 2022 (IDC), and Wang et al., CVPR 2025 (NCFM): ResNet-10 and ResNetAP-10 whose weights are normal and
  scaled by the number of outputs; half as wide for CIFAR; larger images are halved before the blocks.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from condense.networks.base import Network
from condense.networks.layers import make_norm

_STAGES = 4


class FanOutConvolution(nn.Conv2d):
    """A convolution without bias whose weights are normal with variance 2 / (size^2 outputs)."""

    def initialize(self, source: torch.Generator) -> None:
        """Draw the weights."""
        nn.init.normal_(self.weight, 0, math.sqrt(2 / (self.weight[0, 0].numel() * self.out_channels)), source)


class ResNet(Network):
    """Four stages of `blocks` basic blocks, each stage but the first halving the image and doubling the filters.

    With `pooled` an image is halved by averages of 2x2 pixels, otherwise by the stride of a convolution. With
    `averaged` the features are the mean over pixels, otherwise all of them.
    """

    blocks: ClassVar[int]
    pooled: ClassVar[bool] = False
    averaged: ClassVar[bool] = True
    convolution: ClassVar[type[nn.Conv2d]] = nn.Conv2d

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, norm: str = "in", filters: int = 64) -> None:
        layers, channels = self.stem(image_shape, filters, norm), filters
        for stage in range(_STAGES):
            outputs = filters * 2**stage
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(channels, outputs, stride, norm, self.pooled, self.convolution))
                channels = outputs
        if self.averaged:
            layers.append(nn.AdaptiveAvgPool2d(1))
        super().__init__(nn.Sequential(*layers), image_shape, classes)

    def stem(self, image_shape: tuple[int, int, int], filters: int, norm: str) -> list[nn.Module]:
        """What comes before the blocks."""
        first = self.convolution(image_shape[0], filters, 3, padding=1, bias=False)
        return [first, make_norm(norm, filters), nn.ReLU()]


class ResNet18(ResNet):
    """Two basic blocks in every stage."""

    blocks = 2


class ResNet10(ResNet):
    """One basic block in every stage."""

    blocks = 1


class ResNet18AP(ResNet18):
    """ResNet-18 that halves by averages and gives all pixels of its last maps to the classifier."""

    pooled = True
    averaged = False


class ResNet10IDC(ResNet10):
    """IDC's ResNet-10: images above 64 pixels are halved before the blocks, those above 128 pixels twice."""

    convolution = FanOutConvolution

    def stem(self, image_shape: tuple[int, int, int], filters: int, norm: str) -> list[nn.Module]:
        """One convolution, of 7x7 pixels and stride 2 for large images, and max-pooling for all but small ones."""
        layers = super().stem(image_shape, filters, norm)
        if min(image_shape[1:]) > 128:
            layers[0] = self.convolution(image_shape[0], filters, 7, stride=2, padding=3, bias=False)
        return layers if min(image_shape[1:]) <= 64 else [*layers, nn.MaxPool2d(3, 2, 1)]


class ResNetAP10(ResNet10IDC):
    """IDC's ResNetAP-10: its ResNet-10 with averages instead of strides and of max-pooling."""

    pooled = True

    def stem(self, image_shape: tuple[int, int, int], filters: int, norm: str) -> list[nn.Module]:
        """One convolution, of 7x7 pixels for large images, and averages of 2x2 or 4x4 pixels for all but small ones."""
        layers = ResNet.stem(self, image_shape, filters, norm)
        if min(image_shape[1:]) <= 64:
            return layers
        if min(image_shape[1:]) <= 128:
            return [*layers, nn.AvgPool2d(2)]
        layers[0] = self.convolution(image_shape[0], filters, 7, padding=3, bias=False)
        return [*layers, nn.AvgPool2d(4)]


class BasicBlock(nn.Module):
    """relu(residual(x) + shortcut(x)) with two 3x3 convolutions; the shortcut is 1x1 where the shape changes.

    With `pooled` a `stride` of 2 is an average over 2x2 pixels, in the residual after its first activation.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        stride: int,
        norm: str,
        pooled: bool = False,
        convolution: type[nn.Conv2d] = nn.Conv2d,
    ) -> None:
        super().__init__()
        step = 1 if pooled else stride
        halving = [nn.AvgPool2d(stride)] if pooled and stride > 1 else []
        self.residual = nn.Sequential(
            convolution(channels, filters, 3, stride=step, padding=1, bias=False),
            make_norm(norm, filters),
            nn.ReLU(),
            *halving,
            convolution(filters, filters, 3, padding=1, bias=False),
            make_norm(norm, filters),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == filters
            else nn.Sequential(
                convolution(channels, filters, 1, stride=step, bias=False),
                *halving,
                make_norm(norm, filters),
            )
        )
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """[N, channels, H, W] to [N, filters, H / stride, W / stride]."""
        activated: Tensor = self.activation(self.residual(maps) + self.shortcut(maps))
        return activated
