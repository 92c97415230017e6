"""VGG: Simonyan & Zisserman, ICLR 2015, with norms and one linear layer as in Zhao, Mopuri & Bilen, ICLR 2021."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from condense.networks.base import Network
from condense.networks.layers import first_padding, make_norm

_FILTERS = (64, 128, 256, 512, 512)  # of the convolutions of each stage


class VGG(Network):
    """3x3 convolutions with `norm` and ReLU in five stages that each halve the image.

    Pooling keeps the border of odd sides, so that the 28 or 24 pixels of a side outlast five halvings.
    """

    convolutions: ClassVar[tuple[int, ...]]  # in each stage

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, norm: str = "in") -> None:
        channels, padding = image_shape[0], first_padding(image_shape, usual=1, digits=3)
        layers: list[nn.Module] = []
        for count, filters in zip(self.convolutions, _FILTERS):
            for _ in range(count):
                layers += [nn.Conv2d(channels, filters, 3, padding=padding), make_norm(norm, filters), nn.ReLU()]
                channels, padding = filters, 1
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        super().__init__(nn.Sequential(*layers), image_shape, classes)


class VGG11(VGG):
    """Eight convolutions."""

    convolutions = (1, 1, 2, 2, 2)


class VGG13(VGG):
    """Ten convolutions."""

    convolutions = (2, 2, 2, 2, 2)


class VGG16(VGG):
    """Thirteen convolutions."""

    convolutions = (2, 2, 3, 3, 3)


class VGG19(VGG):
    """Sixteen convolutions."""

    convolutions = (2, 2, 4, 4, 4)
