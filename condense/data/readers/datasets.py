"""Any map-style torch Dataset of (image, label)."""

from __future__ import annotations

import dataclasses
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.data.images.decoding import resize
from condense.data.labels import numbered_classes
from condense.data.raw import RawData, split_note, split_off_test
from condense.data.readers.items import class_index, describe, image_pixels
from condense.data.sources import TensorPixels
from condense.data.splitting import content_keys
from condense.runtime.errors import CondenseError


def read_datasets(
    train: Any,
    test: Any | None,
    image_size: tuple[int, int] | None,
    memory_limit: int,
    *,
    name: str | None = None,
    notes: tuple[str, ...] = (),
) -> RawData:
    """Read every item of one torch Dataset, or of a training and a test Dataset, once.

    An item is (image, label). The image is a Pillow image, which is turned upright as its EXIF data say, a tensor
    [C, H, W] or [H, W], or an array (H, W) or (H, W, C); uint8, or floating point in [0, 1] as torchvision's `ToTensor`
    makes it. The label is an integer from 0. Class names come from the attribute `classes` where there is one. A single
    Dataset is split as a folder is. `notes` are for whoever uses the data. Raises `CondenseError` for other items, for
    a pair whose `classes` differ, for images that differ in size without `image_size` (H, W), and above `memory_limit`
    bytes.
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
    if isinstance(names, list | tuple):
        classes = tuple(str(entry) for entry in names)
    else:
        classes = numbered_classes(name, targets[:boundary])
    if test is None:
        source = TensorPixels(pixels)
        raw = split_off_test(name, classes, source, targets, content_keys(source))
        return dataclasses.replace(raw, notes=(split_note(raw), *notes))
    train_pixels, test_pixels = TensorPixels(pixels[:boundary]), TensorPixels(pixels[boundary:])
    return RawData(name, classes, train_pixels, targets[:boundary], test_pixels, targets[boundary:], notes=notes)


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
                f"item {index} is {describe(item)}; a torch Dataset must give pairs of an image and a label"
            )
        image = image_pixels(item[0], index)
        if image_size is not None and image.shape[1:] != image_size:
            image = resize(torch.from_numpy(image)[None], *image_size)[0].numpy()
        images.append(image)
        labels.append(class_index(item[1], index))
        used += image.nbytes
        if used > memory_limit:
            raise CondenseError(
                f"the first {index + 1} of {len(dataset)} images exceed the memory limit; give a larger "
                "--memory-limit, a smaller --image-size, or save the images as class folders, which stay on disk"
            )
    return images, labels


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
