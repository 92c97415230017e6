"""The classifiers of torchvision by name, untrained: `torchvision:mobilenet_v3_small`.

This module imports torch and torchvision only when such a network is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from condense.networks.registry import TORCHVISION, NetworkEntry
from condense.runtime.errors import CondenseError, unknown_name

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TorchvisionNetwork(NetworkEntry):
    """A network that torchvision makes."""

    def factory(self) -> Callable[..., Any]:
        """What makes the network for an image shape and a number of classes."""
        return functools.partial(torchvision_classifier, self.name.removeprefix(TORCHVISION))


def torchvision_network(name: str) -> TorchvisionNetwork:
    """The entry of a name that begins with `torchvision:`; capitals, and - for _, do not matter.

    Raises `CondenseError` if torchvision has no classifier of this name.

    >>> torchvision_network("torchvision:MobileNet-v3_small").name
    'torchvision:mobilenet_v3_small'
    """
    from torchvision import models

    model, names = name[len(TORCHVISION) :].lower().replace("-", "_"), models.list_models(module=models)
    if model not in names:
        raise unknown_name("classifier of torchvision", model, names)
    return TorchvisionNetwork(TORCHVISION + model, f"torchvision.models:{model}", "a classifier of torchvision")


def torchvision_classifier(model: str, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The classifier `model` of torchvision for images (C, H, W), with the values of its constructor.

    - Weights are never downloaded.
    - Transformers that are built for one image size are built for this one. Raises `CondenseError` where they need
      square images and these are not.
    - Auxiliary classifiers (GoogLeNet, Inception) are left out.
    - For images of other than 3 channels the first convolution is another one, alike but for its channels, with
      PyTorch's default initial values.
    """
    from torchvision import models

    channels, height, width = image_shape
    options: dict[str, Any] = {}
    if model.startswith("vit_"):
        if height != width:
            raise CondenseError(f"it takes square images, not {height}x{width}; give another one")
        options["image_size"] = height
    elif model.startswith("maxvit_"):
        options["input_size"] = (height, width)
    elif model in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    network: nn.Module = models.get_model(model, weights=None, num_classes=classes, **options)
    if channels != 3:
        _take_channels(network, channels)
    return network


def _take_channels(network: nn.Module, channels: int) -> None:
    """Put a convolution from so many channels in the place of the first one."""
    from torch import nn

    name, old = next((name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    network.set_submodule(name, new)
