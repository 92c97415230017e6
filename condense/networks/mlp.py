"""A multi-layer perceptron, as in Zhao, Mopuri & Bilen, ICLR 2021."""

from __future__ import annotations

import math

from torch import nn

from condense.networks.base import Network


class MLP(Network):
    """Two hidden layers of 128 units with ReLU."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        features = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(image_shape), 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
        )
        super().__init__(features, image_shape, classes)
