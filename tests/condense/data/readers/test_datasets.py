from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from condense.data import load_data
from condense.runtime.errors import CondenseError


class Items(Dataset[Any]):
    def __init__(self, items: list[Any], classes: list[str] | None = None) -> None:
        self.items = items
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def arrays(count: int, shape: tuple[int, ...] = (6, 5, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def forms(array: np.ndarray) -> list[Any]:
    """One image in every form that is accepted."""
    channels_first = torch.from_numpy(array.transpose(2, 0, 1).copy())
    return [Image.fromarray(array), array, channels_first, channels_first / 255, channels_first.double() / 255]


def test_every_form_of_an_image_means_the_same() -> None:
    images = arrays(8)
    variants = [Items([(forms(image)[kind], index % 2) for index, image in enumerate(images)]) for kind in range(5)]
    loaded = [load_data((variant, variant)) for variant in variants]
    assert len({data.fingerprint for data in loaded}) == 1
    assert np.array_equal(loaded[0].train.pixels(torch.arange(8)).permute(0, 2, 3, 1), images)


@pytest.mark.parametrize("label", [np.int64(1), np.array([1]), torch.tensor(1), np.uint8(1)])
def test_every_form_of_a_label(label: Any) -> None:
    items = Items([(image, label if index % 2 else 0) for index, image in enumerate(arrays(4))])
    assert load_data((items, items)).train.labels.tolist() == [0, 1, 0, 1]


def test_a_pair_with_names() -> None:
    train = Items([(image, index % 3) for index, image in enumerate(arrays(9))], ["ant", "bee", "cat"])
    test = Items([(image, 1) for image in arrays(2, seed=1)])
    data = load_data((train, test))
    assert data.name == "items"
    assert data.classes == ("ant", "bee", "cat")
    assert data.mirror
    assert data.test.labels.tolist() == [1, 1]
    assert data.notes == ("2 class(es) have no test image: ant, cat",)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (["ant", "cat", "bee"], "label 1 is 'bee' in the training set and 'cat' in the test set"),
        (["ant", "bee"], "label 2 is 'cat' in the training set and None in the test set"),
    ],
)
def test_a_pair_with_other_names_is_refused(others: list[str], message: str) -> None:
    """Two `ImageFolder`s number their classes each for itself."""
    train = Items([(image, index % 3) for index, image in enumerate(arrays(9))], ["ant", "bee", "cat"])
    test = Items([(image, 1) for image in arrays(2, seed=1)], others)
    with pytest.raises(CondenseError, match=message):
        load_data((train, Subset(test, [0])))


def test_a_single_one_is_split_by_content() -> None:
    items = [(image, index % 2) for index, image in enumerate(arrays(20))]
    data, reversed_data = load_data(Items(items)), load_data(Items(items[::-1]))
    assert data.train.class_counts() == (8, 8)
    assert data.test.class_counts() == (2, 2)
    assert any("no test split" in note for note in data.notes)
    held_out, again = (
        {image.numpy().tobytes() for image in part.test.pixels(torch.arange(4))} for part in (data, reversed_data)
    )
    assert held_out == again


def test_grayscale_tensors_and_names_through_a_subset() -> None:
    images = torch.from_numpy(arrays(10, (1, 7, 7)))
    data = load_data(TensorDataset(images, torch.arange(10) % 2))
    assert data.image_shape == (1, 7, 7)
    assert not data.mirror
    assert data.name == "tensordataset"
    flat = Items([(image[0], index % 2) for index, image in enumerate(images)], ["even", "odd"])
    part = Subset(flat, range(8))
    data = load_data((part, part))
    assert data.classes == ("even", "odd")
    assert data.image_shape == (1, 7, 7)
    assert data.name == "items"


def test_mixed_colours_become_rgb() -> None:
    gray = Image.fromarray(arrays(1, (6, 5))[0])
    colour = Image.fromarray(arrays(1)[0])
    items = Items([(gray, 0), (colour, 1)])
    pixels = load_data((items, items)).train.pixels(torch.arange(2))
    assert pixels.shape == (2, 3, 6, 5)
    assert torch.equal(pixels[0, 0], pixels[0, 2])


def test_mixed_sizes_need_image_size() -> None:
    items = Items([(arrays(1)[0], 0), (arrays(1, (9, 8, 3))[0], 1)])
    with pytest.raises(CondenseError, match=r"number 0 is 6x5, number 1 is 9x8; give --image-size, for example 5"):
        load_data((items, items))
    assert load_data((items, items), image_size=(4, 5)).image_shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(3, 4, 4), r"item 0 is a Tensor of shape \(3, 4, 4\); .* pairs"),
        ((torch.zeros(4, 4), 0.5), r"label 0 is 0.5; labels must be integers, .*; .*\(regression\) are not supported"),
        (
            (torch.zeros(4, 4), torch.zeros(10)),
            r"label 0 is a Tensor of shape \(10,\); .*; of one-hot .* give the argmax",
        ),
        ((torch.zeros(4, 4), "cat"), "label 0 is 'cat'; .*: number them by their place in a list of the class names"),
        ((torch.full((4, 4), -1.5), 0), r"image 0 is float32 from -1.5 to -1.5; .*leave out Normalize"),
        ((torch.zeros(4, 4, dtype=torch.int64), 0), "image 0 is int64"),
        ((torch.zeros(5, 4, 4), 0), r"image 0 is a Tensor of shape \(5, 4, 4\)"),
        ((Image.new("I;16", (4, 4)), 0), "image 0 has more than 8 bits"),
        ((3, 0), "image 0 is 3; give"),
        ((torch.zeros(0, 4), 0), r"image 0 is a Tensor of shape \(0, 4\); give"),
        ((torch.zeros(4, 4, dtype=torch.bool), 0), "image 0 is bool; give uint8, or floating point"),
        ((torch.zeros(4, 4, dtype=torch.complex64), 0), "image 0 is complex64; give uint8"),
        ((torch.zeros(4, 4).to_sparse(), 0), r"image 0 is a Tensor of shape \(4, 4\) that cannot be read \("),
        ((torch.zeros(4, 4, device="meta"), 0), r"image 0 is a Tensor of shape \(4, 4\) that cannot be read \("),
        (
            (torch.zeros(4, 4), torch.tensor(1.0, dtype=torch.bfloat16)),
            r"label 0 is .*\(regression\) are not supported",
        ),
        ((torch.zeros(4, 4), np.array(["cat"])), "label 0 is a ndarray"),
        ((torch.zeros(4, 4), 2**70), "label 0 is 1180591620717411303424; labels must be integers"),
    ],
)
def test_items_that_cannot_be_used(item: Any, message: str) -> None:
    with pytest.raises(CondenseError, match=message) as raised:
        load_data(Items([item, item]))
    assert "\n" not in str(raised.value)


def test_a_damaged_pillow_image_is_named(tmp_path: Path) -> None:
    """A data set opens it well, and only its pixels are cut short."""
    Image.fromarray(arrays(1, (40, 40, 3))[0]).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    items = Items([(np.zeros((40, 40, 3), np.uint8), 0), (Image.open(tmp_path / "a.png"), 1)])
    with pytest.raises(CondenseError, match=r"image 1 is a PngImageFile that cannot be read \(image file is truncated"):
        load_data((items, items))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3, 1], "training labels of items are 1 to 3; they must start at 0: subtract 1 from all"),
        ([0, 3, 7, 0], "class '1' of items has no training image, though labels go up to 7; add some, or number"),
        ([0, 1, 10**7, 0], "class '2' of items has no training image, though labels go up to 10000000"),
        ([0, 1, -1, 0], "a training image of items has label -1"),
    ],
)
def test_labels_without_names_must_be_numbers_from_0(labels: list[int], message: str) -> None:
    items = Items(list(zip(arrays(4), labels)))
    for source in (items, (items, items)):
        with pytest.raises(CondenseError, match=message):
            load_data(source)


def test_data_sets_that_cannot_be_used() -> None:
    with pytest.raises(CondenseError, match="items is empty"):
        load_data(Items([]))
    with pytest.raises(CondenseError, match="map-style"):
        load_data(iter([]))  # type: ignore[arg-type]
    with pytest.raises(CondenseError, match="3 data sets were given"):
        load_data((Items([]),) * 3)  # type: ignore[arg-type]


def test_the_memory_limit_holds() -> None:
    items = Items([(image, index % 2) for index, image in enumerate(arrays(20))])
    with pytest.raises(CondenseError, match="first 3 of 20 images exceed the memory limit"):
        load_data(items, memory_limit=250)
    assert len(load_data(items, memory_limit=250, image_size=2).train) == 16


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "target"), ("pixel_values", "labels")])
def test_items_may_be_mappings(image: str, label: str) -> None:
    pictures = arrays(8)
    pairs = Items([(picture, index % 2) for index, picture in enumerate(pictures)])
    mappings = Items([{label: index % 2, "id": index, image: picture} for index, picture in enumerate(pictures)])
    assert load_data((mappings, mappings)).fingerprint == load_data((pairs, pairs)).fingerprint


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"image": arrays(1)[0]}, r"item 0 has image; a mapping must have an image \(image, img, pixel_values\) and a"),
        ({"photo": 0, "label": 1}, "item 0 has photo, label; a mapping must have an image"),
        ({}, "item 0 has nothing; a mapping must have"),
        ({"pixel_values": torch.full((3, 4, 4), -0.5), "label": 0}, "image 0 is float32 from -0.5 to -0.5"),
    ],
)
def test_mappings_that_cannot_be_used(item: Any, message: str) -> None:
    with pytest.raises(CondenseError, match=message):
        load_data(Items([item, item]))
