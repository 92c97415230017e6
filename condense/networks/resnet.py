"""ResNet: He et al., CVPR 2016, for small images, as published sets are evaluated on.

- He et al.: ResNet-20 and ResNet-56 for CIFAR, with 16 to 64 filters in three stages and shortcuts without parameters;
  and the stem of ImageNet's ResNets, for those below.
- Zhao, Mopuri & Bilen, ICLR 2021, and Cazenavette et al., CVPR 2022: 64 to 512 filters, one 3x3 convolution before the
  blocks; ResNet-18, and a form of it that halves images by averages (AP).
- Kim et al., ICML 2022 (IDC), and Wang et al., CVPR 2025 (NCFM): ResNet-10 and ResNetAP-10 whose weights are normal and
  scaled by the number of outputs; half as wide for CIFAR; larger images are halved before the blocks.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.networks.base import Network
from condense.networks.layers import make_norm


class FanOutConvolution(nn.Conv2d):
    """A convolution without bias whose weights are normal with variance 2 / (size^2 outputs)."""

    def initialize(self, source: torch.Generator) -> None:
        """Draw the weights."""
        nn.init.normal_(self.weight, 0, math.sqrt(2 / (self.weight[0, 0].numel() * self.out_channels)), source)


class ResNet(Network):
    """`stages` of `blocks` basic blocks, each stage but the first halving the image and doubling the filters.

    `stem` is what comes before the blocks: one 3x3 convolution (`stem3`), or ImageNet's 7x7 convolution of stride 2 and
    3x3 max-pooling of stride 2 (`stem7`). With `pooled` an image is halved by averages of 2x2 pixels, otherwise by the
    stride of a convolution. With `padded` shortcuts have no parameters. With `averaged` the features are the mean over
    pixels, otherwise all of them.
    """

    blocks: ClassVar[int]
    stages: ClassVar[int] = 4
    pooled: ClassVar[bool] = False
    padded: ClassVar[bool] = False
    averaged: ClassVar[bool] = True
    convolution: ClassVar[type[nn.Conv2d]] = nn.Conv2d

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        norm: str = "in",
        filters: int = 64,
        stem: str = "stem3",
    ) -> None:
        layers = self.stem7(image_shape, filters, norm) if stem == "stem7" else self.stem(image_shape, filters, norm)
        channels = filters
        for stage in range(self.stages):
            outputs = filters * 2**stage
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(
                    BasicBlock(
                        channels,
                        outputs,
                        stride,
                        norm,
                        pooled=self.pooled,
                        padded=self.padded,
                        convolution=self.convolution,
                    )
                )
                channels = outputs
        if self.averaged:
            layers.append(nn.AdaptiveAvgPool2d(1))
        super().__init__(nn.Sequential(*layers), image_shape, classes)

    def stem(self, image_shape: tuple[int, int, int], filters: int, norm: str) -> list[nn.Module]:
        """What comes before the blocks."""
        first = self.convolution(image_shape[0], filters, 3, padding=1, bias=False)
        return [first, make_norm(norm, filters), nn.ReLU()]

    def stem7(self, image_shape: tuple[int, int, int], filters: int, norm: str) -> list[nn.Module]:
        """ImageNet's: a 7x7 convolution and max-pooling, each halving the image."""
        first = self.convolution(image_shape[0], filters, 7, stride=2, padding=3, bias=False)
        return [first, make_norm(norm, filters), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]


class CifarResNet(ResNet):
    """Three stages from 16 filters on; a shortcut that changes the shape is padded with zeros (He et al.'s option A).

    With BatchNorm these are the tensors, in their order, of the public checkpoints of
    `akamaster/pytorch_resnet_cifar10`; those of `chenyaofo/pytorch-cifar-models` have 1x1 convolutions as shortcuts
    (option B).
    """

    stages = 3
    padded = True

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, norm: str = "in") -> None:
        super().__init__(image_shape, classes, norm=norm, filters=16)


class ResNet20(CifarResNet):
    """Three basic blocks in every stage: 0.27 million parameters."""

    blocks = 3


class ResNet56(CifarResNet):
    """Nine basic blocks in every stage: 0.85 million parameters."""

    blocks = 9


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
        if min(image_shape[1:]) > 128:
            return self.stem7(image_shape, filters, norm)
        layers = super().stem(image_shape, filters, norm)
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
    """relu(residual(x) + shortcut(x)) with two 3x3 convolutions.

    Where the shape changes the shortcut is a 1x1 convolution, or `padded` with zeros. With `pooled` a `stride` of 2 is
    an average over 2x2 pixels, in the residual after its first activation.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        stride: int,
        norm: str,
        *,
        pooled: bool = False,
        padded: bool = False,
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
        self.shortcut: nn.Module
        if stride == 1 and channels == filters:
            self.shortcut = nn.Identity()
        elif padded:
            self.shortcut = PaddedShortcut(channels, filters, stride)
        else:
            projection = convolution(channels, filters, 1, stride=step, bias=False)
            self.shortcut = nn.Sequential(projection, *halving, make_norm(norm, filters))
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """[N, channels, H, W] to [N, filters, H / stride, W / stride]."""
        activated: Tensor = self.activation(self.residual(maps) + self.shortcut(maps))
        return activated


class PaddedShortcut(nn.Module):
    """Every `stride`-th pixel, between as many channels of zeros as are missing, half of them on either side."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        before = (filters - channels) // 2
        self.stride, self.padding = stride, (0, 0, 0, 0, before, filters - channels - before)

    def forward(self, maps: Tensor) -> Tensor:
        """[N, channels, H, W] to [N, filters, H / stride, W / stride]."""
        return F.pad(maps[:, :, :: self.stride, :: self.stride], self.padding)
