"""ResNet: He et al., CVPR 2016, with the stem for small images (one 3x3 convolution, no pooling)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from condense.networks.base import Network
from condense.networks.layers import make_norm

_FILTERS = (64, 128, 256, 512)


class ResNet(Network):
    """Four stages of `blocks` basic blocks, each stage but the first halving the image, then the mean over pixels."""

    blocks: ClassVar[int]

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, norm: str = "in") -> None:
        channels = _FILTERS[0]
        layers: list[nn.Module] = [
            nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=False),
            make_norm(norm, channels),
            nn.ReLU(),
        ]
        for stage, filters in enumerate(_FILTERS):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(channels, filters, stride, norm))
                channels = filters
        super().__init__(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), image_shape, classes)


class ResNet18(ResNet):
    """Two basic blocks in every stage."""

    blocks = 2


class ResNet10(ResNet):
    """One basic block in every stage."""

    blocks = 1


class BasicBlock(nn.Module):
    """relu(residual(x) + shortcut(x)) with two 3x3 convolutions; the shortcut is 1x1 where the shape changes."""

    def __init__(self, channels: int, filters: int, stride: int, norm: str) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False),
            make_norm(norm, filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            make_norm(norm, filters),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == filters
            else nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride=stride, bias=False),
                make_norm(norm, filters),
            )
        )
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """[N, channels, H, W] to [N, filters, H / stride, W / stride]."""
        return self.activation(self.residual(maps) + self.shortcut(maps))
