"""Bilinear sampling of images that can be differentiated in every way.

`torch.nn.functional.grid_sample` has no forward-mode derivative, and so breaks the forward-over-reverse products by
which gradients are matched. Sampling is linear in the images: its derivative is itself, its transpose exists in torch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_bilinear(images: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
    """`grid_sample` with zeros outside, differentiable in `images` backwards, forwards and repeatedly.

    `images` is [N, C, H, W]; `grid` [N, H, W, 2] holds a position (x, y) for each pixel, -1 to 1 across the image. No
    derivative flows to the grid.

    >>> sample_bilinear(torch.ones(1, 1, 1, 2), torch.tensor([[[[0.0, 0.0], [2.0, 0.0]]]]), align_corners=False)
    tensor([[[[1., 0.]]]])
    """
    return _Sample.apply(images, grid, align_corners)


class _Resampling(torch.autograd.Function):
    """A map (images, grid, align_corners) that is linear in the images."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        _, grid, ctx.align_corners = inputs
        ctx.save_for_backward(grid)
        ctx.save_for_forward(grid)


class _Sample(_Resampling):
    """Each pixel takes the weighted values of the four pixels around its position."""

    @staticmethod
    def forward(images: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Spread.apply(gradient, *ctx.saved_tensors, ctx.align_corners), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _Sample.apply(tangent, *ctx.saved_tensors, ctx.align_corners)


class _Spread(_Resampling):
    """The transpose: each pixel gives its weighted value to the four pixels around its position."""

    @staticmethod
    def forward(values: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
        # images and values have the same shape here, and the images' own values do not matter
        spread, _ = torch.ops.aten.grid_sampler_2d_backward(values, values, grid, 0, 0, align_corners, [True, False])
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Sample.apply(gradient, *ctx.saved_tensors, ctx.align_corners), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _Spread.apply(tangent, *ctx.saved_tensors, ctx.align_corners)
