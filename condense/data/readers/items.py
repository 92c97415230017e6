"""One item of a torch Dataset: its image as uint8 pixels, its label as a class index."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from condense.data.images.decoding import is_gray, quiet_pillow
from condense.data.images.depth import TO_8_BITS, is_deep, to_uint8
from condense.data.images.orientation import upright
from condense.data.raw import reason
from condense.runtime.errors import CondenseError

_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def image_pixels(image: Any, index: int) -> np.ndarray:
    """The image of item number `index` as uint8 (C, H, W), C 1 or 3; a Pillow image is turned upright.

    Raises `CondenseError` for anything but a Pillow image, a tensor [C, H, W] or [H, W] and an array (H, W) or
    (H, W, C), uint8 or floating point in [0, 1].
    """
    if isinstance(image, Image.Image) and is_deep(image):
        raise CondenseError(f"image {index} has more than 8 bits a channel; {TO_8_BITS}")
    try:
        array = _from_pillow(image) if isinstance(image, Image.Image) else _from_tensor(image)
    except Exception as error:  # of a damaged file, and of tensors that are sparse, or have no values
        raise CondenseError(f"image {index} is {describe(image)} that cannot be read ({reason(error)})") from error
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))) or array.size == 0:
        raise CondenseError(
            f"image {index} is {describe(image)}; give Pillow images, tensors [C, H, W] or arrays (H, W, C), C 1 or 3"
        )
    array = array.reshape(*array.shape[:2], -1).transpose(2, 0, 1)
    return np.ascontiguousarray(_to_uint8(array, index))


def _from_pillow(image: Image.Image) -> np.ndarray:
    with quiet_pillow():
        return np.asarray(upright(image).convert("L" if is_gray(image) else "RGB"))


def _from_tensor(image: Any) -> np.ndarray:
    """An array (H, W) or (H, W, C) of a tensor [C, H, W] or [H, W]; of an array, itself."""
    if not isinstance(image, Tensor):
        return np.asarray(image)
    array = _plain(image).numpy()
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def _plain(tensor: Tensor) -> Tensor:
    """On the processor, in a type that numpy has: it has no bfloat16 and no 8-bit floats."""
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() and tensor.dtype not in _NUMPY_FLOATS else tensor


def _to_uint8(array: np.ndarray, index: int) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise CondenseError(f"image {index} is {array.dtype}; give uint8, or floating point in [0, 1]")
    lowest, highest = array.min(), array.max()
    if array.dtype.kind == "f" and lowest >= 0 and highest <= 1:
        return np.round(array * 255).astype(np.uint8)
    values = f"image {index} is {array.dtype} from {lowest:.4g} to {highest:.4g}"
    if array.dtype.kind == "f":
        raise CondenseError(
            f"{values}; give uint8, or floating point in [0, 1] (leave out Normalize: condense normalises by itself)"
        )
    raise CondenseError(f"{values}; give uint8: {to_uint8(array.dtype)}")


def class_index(label: Any, index: int) -> int:
    """The label of item number `index`; raises `CondenseError` unless it is one integer."""
    array = _plain(label).numpy() if isinstance(label, Tensor) else np.asarray(label)
    if array.dtype.kind in "iu" and array.size == 1 and abs(int(array.item())) < 2**63:
        return int(array.item())
    hint = ""
    if isinstance(label, str):
        hint = ": number them by their place in a list of the class names, and give this list as attribute classes"
    elif array.dtype.kind == "f" and array.size == 1:
        hint = "; values to be predicted (regression) are not supported"
    elif array.dtype.kind in "iuf" and array.ndim == 1:
        hint = "; of one-hot labels give the argmax, several labels an image are not supported"
    raise CondenseError(f"label {index} is {describe(label)}; labels must be integers, class indices from 0{hint}")


def describe(value: Any) -> str:
    """What a value is, for errors."""
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"{value!r}" if isinstance(value, int | float | str) else f"a {type(value).__name__}{shape}"
