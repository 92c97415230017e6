"""ConvNet: Gidaris & Komodakis, CVPR 2018, in the form of Zhao, Mopuri & Bilen, ICLR 2021."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from condense.networks.base import Network
from condense.networks.layers import ACTIVATIONS, POOLINGS, first_padding, make_norm


class Blocks(Network):
    """A chain of blocks `features[i]`, each of which has a part `activation`."""

    def activations(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps [N, width, h, w] after the activation of each block, before its pooling, and the features [N, D]."""
        maps = []
        for block in self.features.children():
            for name, part in block.named_children():
                images = part(images)
                if name == "activation":
                    maps.append(images)
        return maps, images.flatten(1)


class ConvNet(Blocks):
    """`depth` blocks of 3x3 convolution with `width` filters, norm, activation and 2x2 pooling; then the classifier.

    Blocks are `features[i]`, their parts `.convolution`, `.norm`, `.activation` and `.pooling`.

    >>> ConvNet((3, 32, 32), classes=10).classifier.in_features
    2048
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: int = 3,
        width: int = 128,
        norm: str = "in",
        activation: str = "relu",
        pooling: str = "avgpool",
    ) -> None:
        channels, rows, columns = image_shape
        padding = first_padding(image_shape, usual=1, digits=3)
        blocks = []
        for _ in range(depth):
            rows, columns = rows + 2 * padding - 2, columns + 2 * padding - 2
            block = OrderedDict(
                convolution=nn.Conv2d(channels, width, 3, padding=padding),
                norm=make_norm(norm, width, (rows, columns)),
                activation=ACTIVATIONS[activation](),
                pooling=POOLINGS[pooling](),
            )
            blocks.append(nn.Sequential(block))
            if pooling != "nopool":
                rows, columns = rows // 2, columns // 2
            channels, padding = width, 1
        super().__init__(nn.Sequential(*blocks), image_shape, classes)
