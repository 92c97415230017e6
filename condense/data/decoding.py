"""Image files and Pillow images to uint8 pixels of one shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

ImageShape = tuple[int, int, int]  # (C, H, W)

_GRAY_MODES = frozenset({"1", "L", "LA", "La"})
_TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_DEEP_MODES = ("I", "F")  # more than 8 bits a channel: Pillow would clip, not scale, their values


@dataclass(frozen=True)
class Header:
    """What an image file says before it is decoded; `deep` means more than 8 bits a channel."""

    height: int
    width: int
    gray: bool
    transparent: bool
    deep: bool


def header_of(image: Image.Image) -> Header:
    """Size and colour of a Pillow image, decoded or not."""
    return Header(
        height=image.height,
        width=image.width,
        gray=image.mode in _GRAY_MODES,
        transparent=image.mode in _TRANSPARENT_MODES or "transparency" in image.info,
        deep=image.mode.startswith(_DEEP_MODES),
    )


def read_header(path: Path) -> Header | None:
    """The header of an image file; None if Pillow cannot make sense of it."""
    try:
        with Image.open(path) as image:
            return header_of(image)
    except Exception:  # Pillow's readers raise anything from SyntaxError to struct.error on damaged files
        return None


def decode_file(path: Path, shape: ImageShape) -> np.ndarray | None:
    """The pixels of an image file, uint8 of `shape`; None if it cannot be decoded to its end."""
    try:
        with Image.open(path) as image:
            return to_pixels(image, shape)
    except Exception:  # as above
        return None


def to_pixels(image: Image.Image, shape: ImageShape) -> np.ndarray:
    """A Pillow image as uint8 (C, H, W), C 1 or 3.

    An image of another size is cut in its middle to the aspect of `shape`, then resized bilinearly with antialiasing.
    """
    channels, height, width = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Every image of uint8 [N, C, H, W] to [N, C, height, width], as `to_pixels` does."""
    channels = pixels.shape[1]
    resized = np.empty((len(pixels), channels, height, width), np.uint8)
    for position, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):  # (H, W, C)
        pillow = Image.fromarray(image[..., 0] if channels == 1 else np.ascontiguousarray(image))
        resized[position] = to_pixels(pillow, (channels, height, width))
    return torch.from_numpy(resized)
