"""One item of a torch Dataset: its image as uint8 pixels, its label as a class index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from condense.data.images.decoding import is_gray, quiet_pillow
from condense.data.images.depth import TO_8_BITS, has_all_bits, is_deep, to_uint8
from condense.data.images.orientation import upright
from condense.data.images.window import Window
from condense.data.raw import reason
from condense.runtime.errors import CondenseError
from condense.runtime.limits import refuse_limits

IMAGE_KEYS = ("image", "img", "pixel_values")
LABEL_KEYS = ("label", "labels", "target")
_LEAVE_OUT = "leave it out, or convert the others to 8 bits"
_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


class BrokenImageError(CondenseError):
    """An image that cannot be decoded, so that it may be left out."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"{sentence}; replace it, or give --skip-broken to leave such images out")


def image_and_label(item: Any, index: int, *, labelled: bool = True) -> tuple[Any, Any]:
    """The two parts of item number `index`: a pair, or a mapping with usual names.

    Where labels are not asked for, the item may also be an image alone or a mapping without one, and the label is 0.
    Raises `CondenseError` for any other item.
    """
    if not labelled:
        alone = item[0] if isinstance(item, list | tuple) and item else item
        key = next((key for key in IMAGE_KEYS if key in alone), None) if isinstance(alone, Mapping) else None
        return (alone if key is None else alone[key]), 0
    if isinstance(item, list | tuple) and len(item) == 2:
        return item[0], item[1]
    if isinstance(item, Mapping):
        image, label = (next((key for key in keys if key in item), None) for keys in (IMAGE_KEYS, LABEL_KEYS))
        if image is not None and label is not None:
            return item[image], item[label]
        raise CondenseError(
            f"item {index} has {', '.join(map(str, list(item)[:10])) or 'nothing'}; a mapping must have an image "
            f"({', '.join(IMAGE_KEYS)}) and a label ({', '.join(LABEL_KEYS)})"
        )
    raise CondenseError(
        f"item {index} is {describe(item)}; a torch Dataset must give pairs of an image and a label, or mappings with "
        "both"
    )


def image_pixels(image: Any, index: int, window: Window | None = None) -> np.ndarray:
    """The image of item number `index` as uint8 (C, H, W), C 1 or 3; a Pillow image is turned upright.

    Raises `CondenseError` for anything but a Pillow image, a tensor [C, H, W] or [H, W] and an array (H, W) or
    (H, W, C), uint8 or floating point in [0, 1]; with a `window`, for anything but numbers of more than 8 bits.
    Of these, `BrokenImageError` is a Pillow image that cannot be decoded.
    """
    if isinstance(image, Image.Image):
        _check_depth(image, index, windowed=window is not None)
    try:
        array = _from_pillow(image, window) if isinstance(image, Image.Image) else _from_tensor(image)
    except Exception as error:  # of a damaged file, and of tensors that are sparse, or have no values
        refuse_limits(error)
        sentence = f"image {index} is {describe(image)} that cannot be read ({reason(error)})"
        raise (BrokenImageError if isinstance(image, Image.Image) else CondenseError)(sentence) from error
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))) or array.size == 0:
        raise CondenseError(
            f"image {index} is {describe(image)}; give Pillow images, tensors [C, H, W] or arrays (H, W, C), C 1 or 3"
        )
    array = array.reshape(*array.shape[:2], -1).transpose(2, 0, 1)
    if isinstance(image, Image.Image) or window is None:
        return np.ascontiguousarray(_to_uint8(array, index))
    if array.dtype == np.uint8 or array.dtype.kind not in "iuf":
        raise CondenseError(
            f"image {index} is {array.dtype}, and --window is for values of more than 8 bits: {_LEAVE_OUT}"
        )
    return np.ascontiguousarray(window.apply(array))


def _check_depth(image: Image.Image, index: int, *, windowed: bool) -> None:
    if not windowed and is_deep(image):
        raise CondenseError(f"image {index} has more than 8 bits a channel; {TO_8_BITS}")
    if windowed and not has_all_bits(image):
        what = "several channels or a format that Pillow cuts to 8 bits" if is_deep(image) else "8 bits a channel"
        raise CondenseError(
            f"image {index} has {what}, and --window is for one channel of more than 8 bits: {_LEAVE_OUT}"
        )


def _from_pillow(image: Image.Image, window: Window | None) -> np.ndarray:
    with quiet_pillow():
        turned = upright(image)
        if window is not None:
            return window.apply(np.asarray(turned))
        return np.asarray(turned.convert("L" if is_gray(image) else "RGB"))


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
            f"{values}; give uint8, or floating point in [0, 1] (leave out Normalize: condense normalises by itself), "
            "or --window LOW HIGH, the values that become black and white"
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
