"""The layers that networks are made of, by the words of their names."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from condense.runtime.errors import CondenseError

_GROUPS = 4

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leaky": nn.LeakyReLU,  # slope 0.01
    "swish": nn.SiLU,
}

POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avgpool": lambda: nn.AvgPool2d(2),
    "maxpool": lambda: nn.MaxPool2d(2),
    "nopool": nn.Identity,
}


def make_norm(norm: str, channels: int, size: tuple[int, int] | None = None) -> nn.Module:
    """The norm called `norm` for maps of `channels` channels; `ln` needs their `size` (H, W) as well.

    `in` is GroupNorm with one group for each channel: instance norm with affine parameters and without running
    statistics, the same in training and evaluation, and the form in which the published networks write it. `ln` has
    one weight and bias for each channel and pixel, as there.
    """
    match norm:
        case "in":
            return nn.GroupNorm(channels, channels)
        case "bn":
            return nn.BatchNorm2d(channels)
        case "ln" if size is not None:
            return nn.LayerNorm((channels, *size))
        case "gn":
            if channels % _GROUPS:
                raise CondenseError(f"width {channels} with gn must be a multiple of its {_GROUPS} groups")
            return nn.GroupNorm(_GROUPS, channels)
        case "nonorm":
            return nn.Identity()
    raise ValueError(f"no norm {norm!r} for {channels} channels of size {size}")


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """The layers of BatchNorm: in training mode what they give for an image depends on the batch that it is in."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]


def first_padding(image_shape: tuple[int, int, int], usual: int, digits: int) -> int:
    """The padding of the first convolution: `digits` for 1x28x28 images, which the published networks widen to 32."""
    return digits if tuple(image_shape) == (1, 28, 28) else usual
