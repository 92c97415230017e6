"""Data sets in the form of the Hugging Face hub, read from folders of Parquet files; nothing comes from the network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from condense.data import load_data
from condense.data.readers.huggingface import _columns
from condense.runtime.errors import CondenseError

datasets = pytest.importorskip("datasets", reason="the extra huggingface is not installed")
pyarrow = pytest.importorskip("pyarrow", reason="the extra huggingface is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra huggingface is not installed")

CLASSES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def image(seed: int, **options: Any) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return {"bytes": file.getvalue(), "path": None}


def features(**more: Any) -> Any:
    return datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES), **more})


def hub(folder: Path, **splits: list[int]) -> str:
    """A set with the given labels in each split, at `folder`."""
    folder.mkdir(exist_ok=True)
    for number, (name, labels) in enumerate(splits.items()):
        columns = {"image": [image(100 * number + index) for index in range(len(labels))], "label": labels}
        write(folder / f"{name}-00000-of-00001.parquet", columns)
    return f"hf:{folder}"


def write(path: Path, columns: dict[str, list[Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table(columns, schema=features().arrow_schema), path)


def test_labelled_splits(tmp_path: Path) -> None:
    data = load_data(hub(tmp_path / "pets", train=[0, 1, 1, 0], test=[0, 1]), download=True)
    assert (data.name, data.classes, data.image_shape) == ("pets", ("cat", "dog"), (3, 4, 6))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1, 1, 0], [0, 1])
    expected = Image.open(io.BytesIO(image(2)["bytes"]))
    assert np.array_equal(data.train.pixels(torch.tensor([2]))[0].permute(1, 2, 0), np.asarray(expected))
    assert data.notes == ()


def test_a_test_split_without_labels_loses_to_a_labelled_one(tmp_path: Path) -> None:
    name = hub(tmp_path / "pets", train=[0, 1, 1, 0], validation=[0, 1, 1], test=[-1, -1])
    data = load_data(name, download=True)
    assert data.test.labels.tolist() == [0, 1, 1]
    assert data.notes == (
        f"the split test of {name} is not used: its images have no labels",
        f"the split validation of {name} is the test split",
    )


def test_without_labelled_images_a_split_is_made(tmp_path: Path) -> None:
    data = load_data(hub(tmp_path / "pets", train=[0, 1] * 5, test=[-1, -1]), download=True)
    assert data.test.class_counts() == (1, 1)
    assert "pets has no test split" in data.notes[0]


def test_images_are_looked_at_in_their_files(tmp_path: Path) -> None:
    """Their orientation and depth."""
    turned = Image.Exif()
    turned[0x0112] = 6
    columns = {"image": [image(0, exif=turned), image(1, exif=turned)] * 2, "label": [0, 1] * 2}
    folder = tmp_path / "pets"
    write(folder / "train.parquet", columns)
    assert load_data(f"hf:{folder}", download=True).image_shape == (3, 6, 4)
    broken = {"bytes": b"no image", "path": None}
    columns["image"][3] = broken
    write(folder / "train.parquet", columns)
    with pytest.raises(CondenseError, match="image 3 of the hub's set cannot be read"):
        load_data(f"hf:{folder}", download=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"image": datasets.Image(), "breed": datasets.Value("string")},
            r"no column of class labels \(it has: image: PIL.Image.Image, breed: string\); if breed tells the class, "
            r"make it one with class_encode_column\('breed'\)",
        ),
        (
            {"image": datasets.Image(), "name": datasets.Value("string"), "label": datasets.Value("int64")},
            r"no column of class labels .*; if label tells the class, make it one with class_encode_column\('label'\)",
        ),
        ({"image": datasets.Image()}, "no column of class labels .*; condense needs an image classification set"),
        ({"text": datasets.Value("string")}, "no column of images"),
    ],
)
def test_columns_of_other_kinds(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(CondenseError, match=f"hf:pets has {message}"):
        _columns("pets", datasets.Features(columns))


def test_several_columns_are_noted() -> None:
    coarse = datasets.ClassLabel(names=["animal"])
    assert _columns("pets", features(coarse=coarse)) == (
        "image",
        "label",
        ("hf:pets has several columns of class labels (label, coarse); label is used",),
    )


def test_broken_images_are_left_out_on_request(tmp_path: Path) -> None:
    columns = {"image": [image(number) for number in range(6)], "label": [0, 1] * 3}
    columns["image"][3] = {"bytes": b"no image", "path": None}
    write(tmp_path / "pets" / "train.parquet", columns)
    with pytest.raises(CondenseError, match=r"image 3 of the hub's set cannot be read.*--skip-broken"):
        load_data(f"hf:{tmp_path / 'pets'}", download=True)
    data = load_data(f"hf:{tmp_path / 'pets'}", download=True, skip_broken=True)
    assert data.left_out == ("item 3",)
    assert len(data.train) + len(data.test) == 5


def test_some_classes_in_another_order(tmp_path: Path) -> None:
    data = load_data(hub(tmp_path / "pets", train=[0, 1, 1, 0], test=[0, 1]), download=True, classes=["dog", "cat"])
    assert (data.classes, data.train.labels.tolist(), data.test.labels.tolist()) == (
        ("dog", "cat"),
        [1, 0, 0, 1],
        [1, 0],
    )


def test_a_data_set_of_the_package_as_an_object(tmp_path: Path) -> None:
    """Its items are mappings, and its features name the classes."""
    name = hub(tmp_path / "pets", train=[0, 1, 1, 0], test=[0, 1])
    loaded = datasets.load_dataset(str(tmp_path / "pets"))
    data = load_data((loaded["train"], loaded["test"]))
    assert data.classes == ("cat", "dog")
    assert data.fingerprint == load_data(name, download=True).fingerprint
