"""LeNet-5: LeCun et al., 1998, with ReLU and max-pooling as in Zhao, Mopuri & Bilen, ICLR 2021."""

from __future__ import annotations

from torch import nn

from condense.networks.base import Network, count_features
from condense.networks.layers import first_padding


class LeNet(Network):
    """Two 5x5 convolutions with 6 and 16 filters, each pooled, and linear layers of 120 and 84 units."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        convolutions = nn.Sequential(
            nn.Conv2d(image_shape[0], 6, 5, padding=first_padding(image_shape, usual=0, digits=2)),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        features = nn.Sequential(
            *convolutions,
            nn.Linear(count_features(convolutions, image_shape), 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
        )
        super().__init__(features, image_shape, classes)
