"""Views: what a training sees of an image in an epoch, as a function of (seed, epoch, image).

A label that was made for one view is of use only where the very same view can be made again, so nothing here depends
on a batch, a worker or a generator's state. Numbers come from `condense.runtime.seeds.uniforms`, the same on every
machine and with every library; pixels are copied, or interpolated image by image, so that they are the same bits in
whatever batch an image is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.augmentation.names import ViewAugmentation
from condense.data.info import DataInfo
from condense.runtime.seeds import uniforms
from condense.runtime.validation import Closed

_PADDING = 8  # a side has an eighth of it around it: 4 pixels at 32, as everybody pads CIFAR
_RATIO = 3 / 4  # of the sides of a crop, and its inverse
_MOSAICS_FROM = 128  # pixels of the shorter side
_ATTEMPTS = 10  # to find a crop that fits, as torchvision's RandomResizedCrop makes them


class ViewRule(Closed):
    """Which views there are: `shuffle`d strips, then a crop, then perhaps a mirror image.

    - `padded`: a window of the image with an eighth of its side around it (crop with padding 4 at 32 pixels).
    - `resized`: a part of at least `least` of the area, sides in a ratio from 3/4 to 4/3, enlarged to the whole image
      (RandomResizedCrop).
    - `shuffle`: so many strips of rows in random order, and of columns in another one, as the released code of RDED
      shuffles the cells of its mosaics; 1 leaves the image as it is.
    """

    crop: Literal["none", "padded", "resized"] = Field(default="padded", description="which part of an image is seen")
    least: float = Field(default=0.08, gt=0, le=1, description="resized: smallest share of the area")
    flip: bool = Field(default=True, description="half of the views are mirror images")
    shuffle: int = Field(default=1, ge=1, le=16, description="strips on a side that are put in random order")

    @classmethod
    def named(cls, name: ViewAugmentation, info: DataInfo) -> Self:
        """The rule that training rules call `name`, with flips only where a mirror image keeps its class.

        `mosaic-crop-flip` is for the mosaics of RDED: strips shuffled, then resized crops of at least 1 / strips of the
        area. They have 2 x 2 cells from 128 pixels on, and are whole images below that.

        >>> from condense.data.preprocessing import None_
        >>> ViewRule.named("mosaic-crop-flip", DataInfo("photos", ("a",), (3, 224, 224), True, "", None_()))
        ViewRule(crop='resized', least=0.5, flip=True, shuffle=2)
        """
        if name == "mosaic-crop-flip":
            cells = 2 if min(info.image_shape[1:]) >= _MOSAICS_FROM else 1
            return cls(crop="resized", least=1 / cells, flip=info.mirror, shuffle=cells)
        return cls(crop="padded" if name == "crop-flip" else "resized", flip=info.mirror)

    def to_dict(self) -> dict[str, Any]:
        """Every field, JSON-able."""
        return self.model_dump(mode="json")


@dataclass(frozen=True, eq=False)
class Views:
    """One row for each of N images, on the processor.

    `box` int64 [N, 4] is the window: first row, first column, height, width; of a padded image, counted in that.
    `flip` bool [N] says which are mirrored, `order` int64 [N, 2, shuffle] the order of strips of rows and of columns.
    """

    rule: ViewRule
    box: Tensor
    flip: Tensor
    order: Tensor

    def __len__(self) -> int:
        return len(self.box)


def draw_views(rule: ViewRule, image_shape: tuple[int, int, int], seed: int, epoch: int | Tensor, ids: Tensor) -> Views:
    """The views of the images `ids` (int64 [N]) of this shape (C, H, W) in an epoch, or in one each (int64 [N]).

    >>> rule, shape = ViewRule(), (3, 32, 32)
    >>> both, second = (draw_views(rule, shape, 0, 3, torch.tensor(ids)) for ids in ([7, 8], [8]))
    >>> torch.equal(both.box[1:], second.box)
    True
    """
    epochs = epoch.tolist() if isinstance(epoch, Tensor) else [epoch] * len(ids)
    drawn = [_draw(rule, *image_shape[1:], seed, *which) for which in zip(epochs, ids.tolist(), strict=True)]
    boxes, flips, orders = zip(*drawn)
    return Views(rule, torch.tensor(boxes), torch.tensor(flips), torch.tensor(orders))


def _draw(
    rule: ViewRule, height: int, width: int, seed: int, epoch: int, number: int
) -> tuple[tuple[int, int, int, int], bool, list[list[int]]]:
    """Numbers for one image: place and mirror image first, then the orders of strips, then attempts at a crop."""
    count = 2 * rule.shuffle
    attempts = 2 * _ATTEMPTS if rule.crop == "resized" else 0
    down, right, mirrored, *more = uniforms(3 + count + attempts, seed, "view", epoch, number)
    strips = more[: rule.shuffle], more[rule.shuffle : count]
    orders = [sorted(range(rule.shuffle), key=numbers.__getitem__) for numbers in strips]
    rows, columns, room = height, width, (0, 0)
    if rule.crop == "padded":
        room = (2 * (height // _PADDING), 2 * (width // _PADDING))
    elif rule.crop == "resized":
        rows, columns = _crop_size(rule, height, width, more[count:])
        room = (height - rows, width - columns)
    box = (int(down * (room[0] + 1)), int(right * (room[1] + 1)), rows, columns)
    return box, rule.flip and mirrored < 0.5, orders


def draw_crop(
    rule: ViewRule, image_shape: tuple[int, int, int], seed: int, purpose: str, *indices: int
) -> tuple[int, int, int, int]:
    """A `resized` crop for another purpose than a view: first row, first column, height and width of its box."""
    _, height, width = image_shape
    down, right, *numbers = uniforms(2 + 2 * _ATTEMPTS, seed, purpose, *indices)
    rows, columns = _crop_size(rule, height, width, numbers)
    return int(down * (height - rows + 1)), int(right * (width - columns + 1)), rows, columns


def square_crop(
    image_shape: tuple[int, int, int], least: float, seed: int, purpose: str, *indices: int
) -> tuple[int, int, int, int]:
    """A square of at least this share of the area, somewhere in the image; its box as that of `draw_crop`.

    One that would be higher or wider than the image is as large as fits.
    """
    _, height, width = image_shape
    share, down, right = uniforms(3, seed, purpose, *indices)
    side = min(round(math.sqrt((least + (1 - least) * share) * height * width)), height, width)
    return int(down * (height - side + 1)), int(right * (width - side + 1)), side, side


def _crop_size(rule: ViewRule, height: int, width: int, numbers: list[float]) -> tuple[int, int]:
    """The first of some attempts that fits into the image; where none does, the largest part of an allowed ratio."""
    for share, ratio in zip(numbers[::2], numbers[1::2]):
        area = (rule.least + (1 - rule.least) * share) * height * width
        aspect = math.exp((1 - 2 * ratio) * math.log(_RATIO))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return rows, columns
    return min(height, round(width / _RATIO)), min(width, round(height / _RATIO))


def see(images: Tensor, views: Views, fill: Tensor | float = 0.0) -> Tensor:
    """The images [N, C, H, W] as these views show them; what lies beyond an image is `fill`, a number or one a channel.

    Zero is the mean of normalised images; of pixels the mean has to be given.
    """
    images = _shuffled(images, views)
    if views.rule.crop == "padded":
        images = _windows(images, views.box, fill)
    elif views.rule.crop == "resized":
        images = _enlarged(images, views.box)
    return torch.where(views.flip.to(images.device)[:, None, None, None], images.flip(-1), images)


def _shuffled(images: Tensor, views: Views) -> Tensor:
    side = views.rule.shuffle
    if side == 1:
        return images
    height, width = images.shape[2:]
    rows, columns = (
        torch.cat([_strips(order, length), torch.arange(length // side * side, length).expand(len(order), -1)], 1)
        for order, length in zip(views.order.unbind(1), (height, width))
    )  # (N, H), (N, W): where each row and column comes from; what no strip covers stays
    return torch.stack([image[:, down][:, :, right] for image, down, right in zip(images, rows, columns)])


def _strips(order: Tensor, length: int) -> Tensor:
    """The places [N, side * size] of strips of equal size in these orders [N, side]."""
    size = length // order.shape[1]
    return (order[:, :, None] * size + torch.arange(size)).flatten(1)


def _windows(images: Tensor, box: Tensor, fill: Tensor | float) -> Tensor:
    height, width = images.shape[2:]
    down, right = height // _PADDING, width // _PADDING
    if isinstance(fill, Tensor):
        fill = fill.to(images).view(-1, 1, 1)
        padded = F.pad(images - fill, (right, right, down, down)) + fill
        padded[:, :, down : down + height, right : right + width] = images  # not a rounding of it
    else:
        padded = F.pad(images, (right, right, down, down), value=fill)
    return torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, (top, left, _, _) in zip(padded, box.tolist(), strict=True)
        ]
    )


def _enlarged(images: Tensor, box: Tensor) -> Tensor:
    size = images.shape[2:]
    return torch.cat(
        [
            F.interpolate(
                image[None, :, top : top + rows, left : left + columns], size, mode="bilinear", align_corners=False
            )
            for image, (top, left, rows, columns) in zip(images, box.tolist(), strict=True)
        ]
    )
