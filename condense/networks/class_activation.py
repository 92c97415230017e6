"""Where a network looks when it sees a class: class activation maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.networks.readers import LayerReader
from condense.runtime.errors import CondenseError
from condense.runtime.global_draws import global_generators


def last_maps(network: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """The name of the layer that ends last of those that give maps of more than one pixel for images (C, H, W).

    Raises `CondenseError` for a network without any.
    """
    names = {part: name for name, part in network.named_modules()}
    ended: list[str] = []

    def look(part: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            ended.append(names[part])

    handles = [part.register_forward_hook(look) for part in names]
    example = next(network.parameters())
    try:
        with torch.no_grad(), global_generators(0):
            network(torch.zeros(1, *image_shape, dtype=example.dtype, device=example.device))
    finally:
        for handle in handles:
            handle.remove()
    if not ended:
        raise CondenseError(f"{type(network).__name__} has no maps to see where it looks; give a convolutional network")
    return ended[-1]


def class_activation(network: nn.Module, images: Tensor, labels: Tensor, layer: str) -> Tensor:
    """How much each pixel speaks for the class of its image, [N, H, W] from 0 to 1, for images [N, C, H, W].

    relu(sum_k a_k A_k) with the maps A_k of `layer` and the mean a_k over their pixels of the gradient of the class's
    logit (Grad-CAM: Selvaraju et al., ICCV 2017; for networks that average their last maps these are the class
    activation maps of Zhou et al., CVPR 2016), enlarged bilinearly, and brought to [0, 1] image by image. Where nothing
    speaks for the class all of it is 0. The network should be in evaluation mode.
    """
    seen = images.detach().requires_grad_()
    logits, (maps,) = LayerReader((layer,), outputs=True, take=_as_it_is).with_output(network, seen)
    (slopes,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), maps)
    activation = (slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu().detach()  # (N, 1, h, w)
    enlarged = F.interpolate(activation, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    low, high = enlarged.amin((1, 2), keepdim=True), enlarged.amax((1, 2), keepdim=True)
    return (enlarged - low) / (high - low).clamp_min(torch.finfo(enlarged.dtype).tiny)


def _as_it_is(maps: Tensor) -> Tensor:
    """The very tensor that the layers behind it go on with, so that they can be differentiated by it."""
    return maps
