"""What every network shares: features, one linear classifier, and its size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condense.runtime.errors import CondenseError


class ImagesTooSmallError(CondenseError):
    """A network's layers leave nothing of images of this size."""


class Network(nn.Module):
    """`features`, flattened, and one linear `classifier` on top of them.

    `image_shape` is (C, H, W). A subclass only builds its features; their number is measured. Modules change no tensor
    in place, so a network works under `torch.func`; with BatchNorm in training mode, which moves its running
    statistics, pass copies of the buffers to `functional_call` there.

    Raises `ImagesTooSmallError` if the features do not fit images of this shape.
    """

    name: str = ""  # full name, set by `build_network`, as the next two
    foreign: bool = False  # whether it is the user's or of another package
    draws: bool | None = None  # whether it draws random numbers while it is trained, as dropout does; None: unknown

    def __init__(self, features: nn.Module, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(count_features(features, image_shape), classes)

    def embed(self, images: Tensor) -> Tensor:
        """The features [N, D] of images [N, C, H, W], as the classifier sees them."""
        features: Tensor = self.features(images)
        return features.flatten(1)

    def activations(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps [N, c, h, w] after each activation, and the features [N, D].

        Raises `CondenseError` for networks that are not a chain of blocks.
        """
        raise CondenseError(f"{self.name or type(self).__name__} has no maps to be read; give a convnet")

    def forward(self, images: Tensor) -> Tensor:
        """The logits [N, classes] of images [N, C, H, W]."""
        logits: Tensor = self.classifier(self.embed(images))
        return logits


# kinds of torch's layers that never draw, by the module that they are in; but for these ones
_CALM = tuple(
    f"torch.nn.modules.{name}"
    for name in [
        "activation",
        "batchnorm",
        "container",
        "conv",
        "flatten",
        "instancenorm",
        "linear",
        "normalization",
        "padding",
        "pooling",
    ]
)
_DRAWING = (nn.RReLU, nn.MultiheadAttention, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


def may_draw(network: nn.Module) -> bool:
    """Whether a module has layers that draw random numbers in training, or layers of which nobody knows it.

    >>> may_draw(nn.Sequential(nn.Linear(2, 2), nn.ReLU())), may_draw(nn.Sequential(nn.Dropout()))
    (False, True)
    """
    return not all(_never_draws(type(module)) for module in network.modules())


def _never_draws(kind: type[nn.Module]) -> bool:
    calm = kind.__module__ in _CALM and not issubclass(kind, _DRAWING)
    return calm or kind.__module__.startswith("condense.networks.")


def count_features(features: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """How many numbers `features` gives for one image (C, H, W), found by a forward of one blank image.

    On the meta device, where `build_network` constructs, this computes shapes only.

    Raises `ImagesTooSmallError` if a layer leaves no pixel, or if a norm is left with one value for each image and
    channel group, whose output would not depend on the image.
    """
    image = torch.zeros(1, *image_shape, device=next(features.parameters()).device)
    training = features.training
    features.eval()  # in training mode BatchNorm refuses a batch of one; GroupNorm refuses a single value in both
    try:
        with torch.no_grad():
            return int(features(image).numel())
    except (RuntimeError, ValueError) as error:
        raise ImagesTooSmallError(f"images of {describe_shape(image_shape)} are too small for this network") from error
    finally:
        features.train(training)


def describe_shape(image_shape: tuple[int, int, int]) -> str:
    """An image shape for messages.

    >>> describe_shape((1, 28, 28))
    '1x28x28'
    """
    return "x".join(str(side) for side in image_shape)
