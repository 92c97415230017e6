"""Any map-style torch Dataset of (image, label)."""

from __future__ import annotations

import dataclasses
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from condense.data.decoding import header_of, resize
from condense.data.raw import RawData, split_note, split_off_test
from condense.data.sources import TensorPixels
from condense.data.splitting import content_keys
from condense.runtime.errors import CondenseError


def read_datasets(
    train: Any, test: Any | None, image_size: tuple[int, int] | None, memory_limit: int, *, name: str | None = None
) -> RawData:
    """Read every item of one torch Dataset, or of a training and a test Dataset, once.

    An item is (image, label). The image is a Pillow image, a tensor [C, H, W] or [H, W], or an array (H, W) or
    (H, W, C); uint8, or floating point in [0, 1] as torchvision's `ToTensor` makes it. The label is an integer from 0.
    Class names come from the attribute `classes` where there is one. A single Dataset is split as a folder is. Raises
    `CondenseError` for other items, for a pair whose `classes` differ, for images that differ in size without
    `image_size` (H, W), and above `memory_limit` bytes.
    """
    original = _innermost(train)
    name = name or type(original).__name__.lower()
    images, labels = _read_items(train, image_size, memory_limit)
    boundary = len(images)
    if test is not None:
        _check_same_classes(train, test)
        more_images, more_labels = _read_items(test, image_size, memory_limit - sum(image.nbytes for image in images))
        images, labels = images + more_images, labels + more_labels
    if boundary == 0:
        raise CondenseError(f"the data set {name} is empty; it needs at least one image of every class")
    pixels, targets = _stack(images), torch.tensor(labels, dtype=torch.int64)
    names = getattr(original, "classes", None)
    if not isinstance(names, list | tuple):
        names = range(int(targets[:boundary].max()) + 1)
    classes = tuple(str(entry) for entry in names)
    if test is None:
        source = TensorPixels(pixels)
        raw = split_off_test(name, classes, source, targets, content_keys(source))
        return dataclasses.replace(raw, notes=(split_note(raw),))
    train_pixels, test_pixels = TensorPixels(pixels[:boundary]), TensorPixels(pixels[boundary:])
    return RawData(name, classes, train_pixels, targets[:boundary], test_pixels, targets[boundary:])


def _innermost(dataset: Any) -> Any:
    """The data set inside `Subset` and its like."""
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset


def _check_same_classes(train: Any, test: Any) -> None:
    """Labels are numbers: where both parts name their classes, these have to be the same in the same order."""
    here, there = (getattr(_innermost(part), "classes", None) for part in (train, test))
    if not (isinstance(here, list | tuple) and isinstance(there, list | tuple)):
        return
    for label, (name, other) in enumerate(zip_longest(here, there)):
        if name != other:
            raise CondenseError(
                f"label {label} is {name!r} in the training set and {other!r} in the test set; both need the same "
                "classes in the same order"
            )


def _read_items(
    dataset: Any, image_size: tuple[int, int] | None, memory_limit: int
) -> tuple[list[np.ndarray], list[int]]:
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise CondenseError(
            f"{type(dataset).__name__} has no length and items; give a map-style torch Dataset, or a pair of them"
        )
    images, labels, used = [], [], 0
    for index in range(len(dataset)):
        item = dataset[index]
        if not (isinstance(item, list | tuple) and len(item) == 2):
            raise CondenseError(
                f"item {index} is {_describe(item)}; a torch Dataset must give pairs of an image and a label"
            )
        image = _to_array(item[0], index)
        if image_size is not None and image.shape[1:] != image_size:
            image = resize(torch.from_numpy(image)[None], *image_size)[0].numpy()
        images.append(image)
        labels.append(_to_label(item[1], index))
        used += image.nbytes
        if used > memory_limit:
            raise CondenseError(
                f"the first {index + 1} of {len(dataset)} images exceed the memory limit; give a larger "
                "--memory-limit, a smaller --image-size, or save the images as class folders, which stay on disk"
            )
    return images, labels


def _to_array(image: Any, index: int) -> np.ndarray:
    """The image of an item as uint8 (C, H, W)."""
    if isinstance(image, Image.Image):
        header = header_of(image)
        if header.deep:
            raise CondenseError(f"image {index} has more than 8 bits a channel; convert the images to 8 bits")
        array = np.asarray(image.convert("L" if header.gray else "RGB"))
    elif isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    else:
        array = np.asarray(image)
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))):
        raise CondenseError(
            f"image {index} is {_describe(image)}; give Pillow images, tensors [C, H, W] or arrays (H, W, C), C 1 or 3"
        )
    array = array.reshape(*array.shape[:2], -1).transpose(2, 0, 1)
    return np.ascontiguousarray(_to_uint8(array, index))


def _to_uint8(array: np.ndarray, index: int) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        return np.round(array * 255).astype(np.uint8)
    raise CondenseError(
        f"image {index} is {array.dtype} from {array.min():.4g} to {array.max():.4g}; give uint8, or floating point in "
        "[0, 1] (leave out Normalize: condense normalises by itself)"
    )


def _to_label(label: Any, index: int) -> int:
    array = np.asarray(label)
    if array.dtype.kind not in "iu" or array.size != 1:
        raise CondenseError(f"label {index} is {_describe(label)}; labels must be integers, class indices from 0")
    return int(array.item())


def _describe(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"{value!r}" if isinstance(value, int | float | str) else f"a {type(value).__name__}{shape}"


def _stack(images: list[np.ndarray]) -> Tensor:
    """Images (C, H, W) of one size as [N, C, H, W]; where some are grayscale and some RGB, all become RGB."""
    first = images[0].shape[1:]
    for index, image in enumerate(images):
        if image.shape[1:] != first:
            raise CondenseError(
                f"images differ in size (height x width): number 0 is {first[0]}x{first[1]}, number {index} is "
                f"{image.shape[1]}x{image.shape[2]}; give --image-size, for example {min(first)}"
            )
    channels = max(len(image) for image in images)
    stacked = np.empty((len(images), channels, *first), np.uint8)
    for position, image in enumerate(images):
        stacked[position] = image  # one channel broadcasts over three
    return torch.from_numpy(stacked)
