"""Pictures of image tensors, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from condense.runtime.printing import printable

_TARGET = 64  # pixels on the longer side of a shown image, if a whole factor gets it there or a little below
_GAP = 2  # pixels between images
_LONGEST_NAME = 20  # letters


def to_uint8(images: Tensor) -> Tensor:
    """Images in about [0, 1] as uint8 pixels: clipped to [0, 1] and rounded to 8 bits; any shape.

    >>> to_uint8(torch.tensor([-0.2, 0.5, 1.3])).tolist()
    [0, 128, 255]
    """
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def brought_into_range(images: Tensor) -> Tensor:
    """Images [N, C, H, W] whose values leave [0, 1], each with less contrast: learned images go far beyond white.

    The 1 % and 99 % quantiles of an image become 0 and 1 where they lie outside; an image within [0, 1] stays as it is.

    >>> brought_into_range(torch.tensor([-1.0, 1.0]).repeat_interleave(50).view(1, 1, 10, 10)).unique().tolist()
    [0.0, 1.0]
    """
    if not images.numel():
        return images
    low, high = images.flatten(1).quantile(torch.tensor([0.01, 0.99], dtype=images.dtype), dim=1).view(2, -1, 1, 1, 1)
    low, high = low.clamp(max=0), high.clamp(min=1)
    stretched: Tensor = (images - low) / (high - low)
    return stretched


def to_picture(image: Tensor) -> Image.Image:
    """One image [C, H, W] in about [0, 1], with 1 or 3 channels, as a grey or colour picture."""
    pixels = to_uint8(image).permute(1, 2, 0).contiguous().numpy()  # [H, W, C]
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def picture_rows(rows: Sequence[Tensor], *, names: Sequence[str] = ()) -> Image.Image:
    """Rows [n, C, H, W] of images in about [0, 1], of any lengths; `names` stand to the left of the rows they name.

    Values are clipped to [0, 1]. Small images are enlarged by a whole factor, by nearest neighbour so that they stay
    sharp, to at most 64 pixels on the longer side. Long names are shortened; names are left out where a row is too low
    for a line of text.

    >>> picture_rows(torch.zeros(6, 1, 8, 8).split(3)).size
    (200, 134)
    """
    height, width = rows[0].shape[2:]
    scale = max(1, _TARGET // max(height, width))
    cell_height, cell_width = height * scale + _GAP, width * scale + _GAP
    font = ImageFont.load_default()
    labels = [_shortened(name) for name in names]
    if any(_text_height(font, label) >= cell_height for label in labels):
        labels = []
    margin = max((int(font.getlength(label)) + 4 * _GAP for label in labels), default=0)
    size = (margin + max(map(len, rows)) * cell_width + _GAP, len(rows) * cell_height + _GAP)
    grid = Image.new("RGB", size, "white")
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            picture = to_picture(image).resize((width * scale, height * scale), Image.Resampling.NEAREST)
            grid.paste(picture, (margin + column * cell_width + _GAP, row * cell_height + _GAP))
    draw = ImageDraw.Draw(grid)
    for row, label in enumerate(labels):
        top = row * cell_height + (cell_height - _text_height(font, label)) // 2
        draw.text((margin - 2 * _GAP - font.getlength(label), top), label, fill="black", font=font)
    return grid


def _shortened(name: str) -> str:
    name = printable(name).encode("latin-1", "replace").decode("latin-1")  # the default font has no other letters
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def _text_height(font: ImageFont.ImageFont | ImageFont.FreeTypeFont, text: str) -> int:
    _, _, _, bottom = font.getbbox(text)
    return int(bottom)
