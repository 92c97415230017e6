"""VGG-11: Simonyan & Zisserman, ICLR 2015, with norms and one linear layer as in Zhao, Mopuri & Bilen, ICLR 2021."""

from __future__ import annotations

from torch import nn

from condense.networks.base import Network
from condense.networks.layers import first_padding, make_norm

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # filters; a stage ends with pooling


class VGG11(Network):
    """Eight 3x3 convolutions with `norm` and ReLU in five stages that each halve the image.

    Pooling keeps the border of odd sides, so that the 28 or 24 pixels of a side outlast five halvings.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, norm: str = "in") -> None:
        channels, padding = image_shape[0], first_padding(image_shape, usual=1, digits=3)
        layers: list[nn.Module] = []
        for stage in _STAGES:
            for filters in stage:
                layers += [nn.Conv2d(channels, filters, 3, padding=padding), make_norm(norm, filters), nn.ReLU()]
                channels, padding = filters, 1
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        super().__init__(nn.Sequential(*layers), image_shape, classes)
