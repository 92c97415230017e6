"""The augmentation of gradient matching before DSA: Zhao, Mopuri & Bilen, ICLR 2021, for networks that are evaluated.

Every image goes through one operation of its own. It is not differentiable, so nothing is matched under it. Empty space
has the mean of the batch, but that around a smaller image is zero, as in the released code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.augmentation.names import ClassicAugmentation

_PAD = 4  # pixels around an image of which a window is cut
_SCALE = 0.2  # an axis is so much longer or shorter, at most
_ANGLE = 45  # degrees, at most; whole ones, and 45 itself only to the left
_NOISE = 0.001  # standard deviation


@dataclass(frozen=True, eq=False)
class ClassicDraws:
    """What is drawn for N images, on the processor; every row has the parameters of every operation."""

    operation: Tensor  # int64 [N], position in the strategy
    corner: Tensor  # int64 [N, 2], first row and column of the window in the padded image
    scale: Tensor  # float64 [N, 2], factor of the height and the width
    angle: Tensor  # int64 [N], degrees
    noise: Tensor  # float32 [N, C, H, W], standard normal; empty where the strategy has no noise


def draw_classic(
    name: ClassicAugmentation, image_shape: tuple[int, int, int], count: int, generator: torch.Generator
) -> ClassicDraws:
    """One row for each of `count` images (C, H, W)."""
    operations = _STRATEGIES[name]
    noisy = count if "noise" in operations else 0
    return ClassicDraws(
        operation=torch.randint(len(operations), (count,), generator=generator),
        corner=torch.randint(2 * _PAD, (count, 2), generator=generator),
        scale=1 - _SCALE + 2 * _SCALE * torch.rand(count, 2, generator=generator, dtype=torch.float64),
        angle=torch.randint(-_ANGLE, _ANGLE, (count,), generator=generator),
        noise=torch.randn(noisy, *image_shape, generator=generator),
    )


def augment_classic(name: ClassicAugmentation, images: Tensor, draws: ClassicDraws) -> Tensor:
    """Images [N, C, H, W], each after its own operation, with their type and device.

    >>> draws = draw_classic("dc-crop-noise", (1, 4, 4), 3, torch.Generator().manual_seed(0))
    >>> augment_classic("dc-crop-noise", torch.zeros(3, 1, 4, 4), draws).shape
    torch.Size([3, 1, 4, 4])
    """
    means = images.mean((0, 2, 3))  # (C,), of the whole batch
    operations = [_OPERATIONS[operation] for operation in _STRATEGIES[name]]
    chosen = draws.operation.tolist()
    return torch.stack([operations[chosen[row]](image, means, draws, row) for row, image in enumerate(images)])


def _crop(image: Tensor, means: Tensor, draws: ClassicDraws, row: int) -> Tensor:
    """A window of the padded image."""
    channels, height, width = image.shape
    padded = means[:, None, None].expand(channels, height + 2 * _PAD, width + 2 * _PAD).clone()
    padded[:, _PAD : _PAD + height, _PAD : _PAD + width] = image
    top, left = draws.corner[row].tolist()
    return _window(padded, image, top, left)


def _scale(image: Tensor, means: Tensor, draws: ClassicDraws, row: int) -> Tensor:
    """Both axes by their own factor, to the nearest pixel; the middle of what comes out, on zeros."""
    channels, height, width = image.shape
    rows, columns = (int(factor * side) for factor, side in zip(draws.scale[row].tolist(), (height, width)))
    rows, columns = max(rows, 1), max(columns, 1)
    side = max(rows, columns, height, width)
    canvas = image.new_zeros(channels, side, side)
    top, left = (side - rows) // 2, (side - columns) // 2
    canvas[:, top : top + rows, left : left + columns] = F.interpolate(image[None], (rows, columns))[0]
    return _window(canvas, image, (side - height) // 2, (side - width) // 2)


def _rotate(image: Tensor, means: Tensor, draws: ClassicDraws, row: int) -> Tensor:
    """The middle of the rotated image, by cubic splines; around it the mean of all channels."""
    from scipy import ndimage  # late: it takes a while, and few trainings need it

    pixels = image.detach().cpu().numpy()
    turned = ndimage.rotate(pixels, int(draws.angle[row]), axes=(-2, -1), cval=float(means.mean()))
    whole = torch.from_numpy(turned).to(image)
    top, left = ((whole.shape[axis] - image.shape[axis]) // 2 for axis in (1, 2))
    return _window(whole, image, top, left)


def _noise(image: Tensor, means: Tensor, draws: ClassicDraws, row: int) -> Tensor:
    """With a little normal noise."""
    return image + _NOISE * draws.noise[row].to(image)


def _window(canvas: Tensor, image: Tensor, top: int, left: int) -> Tensor:
    """The part of the canvas that begins there and is as large as the image."""
    return canvas[:, top : top + image.shape[1], left : left + image.shape[2]]


_STRATEGIES: dict[ClassicAugmentation, tuple[str, ...]] = {
    "dc-crop-scale-rotate": ("crop", "scale", "rotate"),
    "dc-crop-noise": ("crop", "noise"),
}
_OPERATIONS: dict[str, Callable[[Tensor, Tensor, ClassicDraws, int], Tensor]] = {
    "crop": _crop,
    "scale": _scale,
    "rotate": _rotate,
    "noise": _noise,
}
