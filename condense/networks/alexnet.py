"""AlexNet: Krizhevsky, Sutskever & Hinton, 2012, reduced to small images by Zhao, Mopuri & Bilen, ICLR 2021."""

from __future__ import annotations

from torch import nn

from condense.networks.base import Network
from condense.networks.layers import first_padding, make_norm


class AlexNet(Network):
    """Five convolutions, three of them pooled, each followed by `norm` and ReLU; no dropout."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, norm: str = "nonorm") -> None:
        def convolution(channels: int, filters: int, size: int, padding: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, filters, size, padding=padding), make_norm(norm, filters), nn.ReLU()]

        features = nn.Sequential(
            *convolution(image_shape[0], 128, 5, first_padding(image_shape, usual=2, digits=4)),
            nn.MaxPool2d(2),
            *convolution(128, 192, 5, 2),
            nn.MaxPool2d(2),
            *convolution(192, 256, 3, 1),
            *convolution(256, 192, 3, 1),
            *convolution(192, 192, 3, 1),
            nn.MaxPool2d(2),
        )
        super().__init__(features, image_shape, classes)
