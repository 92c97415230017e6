"""Image files and Pillow images to uint8 pixels of one shape."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from condense.data.images.depth import has_all_bits, is_deep
from condense.data.images.formats import formats
from condense.data.images.orientation import upright, upright_size
from condense.data.images.unreadable import Problem, problem_of
from condense.data.images.window import Window

ImageShape = tuple[int, int, int]  # (C, H, W)

_GRAY_MODES = frozenset({"1", "L", "LA", "La"})
_TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints its errors where nobody set up logging


@dataclass(frozen=True)
class Header:
    """What an image file says before it is decoded: size as viewers show it, and colours.

    `deep` means more than 8 bits a channel, `windowable` that all of these can be read, `animated` more than one frame,
    of which the first is used.
    """

    height: int
    width: int
    gray: bool
    transparent: bool
    deep: bool
    windowable: bool
    animated: bool


def is_gray(image: Image.Image) -> bool:
    """Whether a Pillow image has no colours."""
    return image.mode in _GRAY_MODES


def read_header(path: Path) -> Header | Problem:
    """The header of an image file, or why it cannot be read."""
    try:
        with _open(path) as image:
            deep, windowable = is_deep(image), has_all_bits(image)  # before anything decodes it
            height, width = upright_size(image)
            return Header(
                height=height,
                width=width,
                gray=is_gray(image),
                transparent=image.mode in _TRANSPARENT_MODES or "transparency" in image.info,
                deep=deep,
                windowable=windowable,
                animated=image.format != "MPO" and getattr(image, "is_animated", False),  # MPO: previews of one photo
            )
    except Exception as error:
        return problem_of(error)


def decode_file(path: Path, shape: ImageShape, window: Window | None = None) -> np.ndarray | Problem:
    """The pixels of an image file, uint8 of `shape`, or why it cannot be decoded to its end.

    With a window, of an image with one channel of more than 8 bits.
    """
    try:
        with _open(path) as opened:
            image = upright(opened)
            return to_pixels(image if window is None else through_window(image, window), shape)
    except Exception as error:
        return problem_of(error)


def _open(path: Path) -> Image.Image:
    if not path.is_file():  # to open a pipe would wait for its other end
        raise FileNotFoundError(path)
    return Image.open(path, formats=formats())


def through_window(image: Image.Image, window: Window) -> Image.Image:
    """A Pillow image with one channel of more than 8 bits as one of 8 bits."""
    return Image.fromarray(window.apply(np.asarray(image)))


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings from standard error; what matters in them, condense says in its own notes.

    Python's filters are for the whole process: enter this where threads are started, not in them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


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
