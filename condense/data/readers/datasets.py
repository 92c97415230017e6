"""Any map-style torch Dataset of (image, label)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from condense.data.class_choice import check_chosen
from condense.data.images.decoding import resize
from condense.data.labels import numbered_classes
from condense.data.raw import RawData, note_on_broken, reason, split_note, split_off_test
from condense.data.readers.items import LABEL_KEYS, BrokenImageError, class_index, image_and_label, image_pixels
from condense.data.reading import Reading
from condense.data.sources import TensorPixels
from condense.data.splitting import content_keys
from condense.runtime.errors import CondenseError


@dataclass(frozen=True)
class _Items:
    """What a Dataset gave: images uint8 (C, H, W), labels, and the numbers of the items that cannot be decoded."""

    images: list[np.ndarray]
    labels: list[int]
    broken: list[int]


def read_datasets(
    train: Any, test: Any | None, reading: Reading, *, name: str | None = None, notes: tuple[str, ...] = ()
) -> RawData:
    """Read every item of one torch Dataset, or of a training and a test Dataset, once.

    An item is (image, label), or a mapping that has both by usual names; without labels, also an image alone. The image
    is a Pillow image, which is turned upright as its EXIF data say, a tensor [C, H, W] or [H, W], or an array (H, W) or
    (H, W, C); uint8, or floating point in [0, 1] as torchvision's `ToTensor` makes it, or anything of more bits with a
    window. The label is an integer from 0. Class names come from the attribute `classes` where there is one, or from
    the `features` of Hugging Face. A single Dataset is split as a folder is. `notes` are for whoever uses the data.
    Raises `CondenseError` for other items, for a pair whose classes differ, for images that differ in size without an
    image size, and above the memory limit.
    """
    original = _innermost(train)
    name = name or type(original).__name__.lower()
    names = None if reading.unlabelled else _class_names(train)
    numbers = None  # of labels, where classes are chosen
    if reading.classes is not None and names is not None:
        check_chosen(name, reading.classes, names)
        numbers = {names.index(entry): number for number, entry in enumerate(reading.classes)}
        names = reading.classes
    first = _read_items(train, reading, reading.memory_limit, numbers)
    second = _Items([], [], [])
    if test is not None:
        if not reading.unlabelled:
            _check_same_classes(train, test)
        left = reading.memory_limit - sum(image.nbytes for image in first.images)
        second = _read_items(test, reading, left, numbers)
    boundary, images = len(first.images), first.images + second.images
    left_out = (
        *(f"item {index}{'' if test is None else ' of the training set'}" for index in first.broken),
        *(f"item {index} of the test set" for index in second.broken),
    )
    notes += note_on_broken(left_out)
    if boundary == 0:
        raise CondenseError(f"the data set {name} is empty; it needs at least one image of every class")
    pixels, targets = _stack(images), torch.tensor(first.labels + second.labels, dtype=torch.int64)
    classes = None if reading.unlabelled else names or numbered_classes(name, targets[:boundary])
    if test is None:
        source = TensorPixels(pixels)
        raw = split_off_test(name, classes, source, targets, content_keys(source))
        return dataclasses.replace(raw, notes=(split_note(raw), *notes), left_out=left_out)
    train_pixels, test_pixels = TensorPixels(pixels[:boundary]), TensorPixels(pixels[boundary:])
    return RawData(
        name,
        classes,
        train_pixels,
        targets[:boundary],
        test_pixels,
        targets[boundary:],
        notes=notes,
        left_out=left_out,
    )


def _innermost(dataset: Any) -> Any:
    """The data set inside `Subset` and its like."""
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """The names that a data set has for its labels; None if it has none."""
    original = _innermost(dataset)
    names = getattr(original, "classes", None)
    features = getattr(original, "features", None)
    if names is None and isinstance(features, Mapping):  # of Hugging Face's package datasets
        label = next((key for key in LABEL_KEYS if key in features), None)
        names = None if label is None else getattr(features[label], "names", None)
    return tuple(str(entry) for entry in names) if isinstance(names, list | tuple) else None


def _check_same_classes(train: Any, test: Any) -> None:
    """Labels are numbers: where both parts name their classes, these have to be the same in the same order."""
    here, there = (_class_names(part) for part in (train, test))
    if here is None or there is None:
        return
    for label, (name, other) in enumerate(zip_longest(here, there)):
        if name != other:
            raise CondenseError(
                f"label {label} is {name!r} in the training set and {other!r} in the test set; both need the same "
                "classes in the same order"
            )


def _read_items(dataset: Any, reading: Reading, memory_limit: int, numbers: dict[int, int] | None) -> _Items:
    """The items whose label has one of the `numbers`, which it is given instead; all as they are for None."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise CondenseError(
            f"{type(dataset).__name__} has no length and items; give a map-style torch Dataset, or a pair of them"
        )
    items, used = _Items([], [], []), 0
    for index in range(len(dataset)):
        try:
            item, label = image_and_label(_item(dataset, index), index, labelled=not reading.unlabelled)
            number = class_index(label, index)
            if numbers is not None and number not in numbers:
                continue
            image = image_pixels(item, index, reading.window)
        except BrokenImageError:
            if not reading.skip_broken:
                raise
            items.broken.append(index)
            continue
        if reading.image_size is not None and image.shape[1:] != reading.image_size:
            image = resize(torch.from_numpy(image)[None], *reading.image_size)[0].numpy()
        items.images.append(image)
        items.labels.append(number if numbers is None else numbers[number])
        used += image.nbytes
        if used > memory_limit:
            raise CondenseError(
                f"the first {index + 1} of {len(dataset)} images exceed the memory limit; give a larger "
                "--memory-limit, a smaller --image-size, or save the images as class folders, which stay on disk"
            )
    return items


def _item(dataset: Any, index: int) -> Any:
    """An item of a Dataset, which may decode its image by itself."""
    try:
        return dataset[index]
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BrokenImageError(f"item {index} cannot be read ({reason(error)})") from error
    except OSError as error:
        if error.errno is not None:  # of the system, not of Pillow about a file that is cut short
            raise
        raise BrokenImageError(f"item {index} cannot be read ({reason(error)})") from error


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
