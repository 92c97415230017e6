"""The layers that networks are made of, by the words of their names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from condense.runtime.errors import CondenseError

_GROUPS = 4

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leaky": nn.LeakyReLU,  # slope 0.01
    "swish": nn.SiLU,
    "softplus": lambda: nn.Softplus(beta=60),  # RCIG's ReLU with a second derivative
}

POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avgpool": lambda: nn.AvgPool2d(2),
    "maxpool": lambda: nn.MaxPool2d(2),
    "nopool": nn.Identity,
}


class InstanceNorm(nn.GroupNorm):
    """y = (x - m) / sqrt(v + eps) * weight + bias, m and v being the mean and variance of a channel of an image.

    This is GroupNorm with one group for each channel, the form in which the published networks write it. Compiled, the
    formula itself is differentiated: second derivatives of trajectories take a tenth less time than by torch's rule.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:
        """Maps [N, C, H, W] to maps of this shape."""
        if not torch.compiler.is_compiling():
            return super().forward(input)
        maps = input.to(torch.promote_types(input.dtype, torch.float32))  # moments in bfloat16 would be off by 0.4 %
        centred = maps - maps.mean((2, 3), keepdim=True)
        variance = centred.square().mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        scale = torch.rsqrt(variance + self.eps) * self.weight[:, None, None]
        return (centred * scale + self.bias[:, None, None]).to(input.dtype)


def make_norm(norm: str, channels: int, size: tuple[int, int] | None = None) -> nn.Module:
    """The norm called `norm` for maps of `channels` channels; `ln` needs their `size` (H, W) as well.

    `in` has affine parameters and no running statistics, and is the same in training and evaluation. `ln` has one
    weight and bias for each channel and pixel. Both as in the published networks.
    """
    match norm:
        case "in":
            return InstanceNorm(channels)
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
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def first_padding(image_shape: tuple[int, int, int], usual: int, digits: int) -> int:
    """The padding of the first convolution: `digits` for 1x28x28 images, which the published networks widen to 32."""
    return digits if tuple(image_shape) == (1, 28, 28) else usual
