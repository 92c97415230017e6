"""Images that are read without labels, from every kind of source; and that nobody takes them for labelled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

import condense
from condense.cli.main import main
from condense.data import RealData, load_data
from condense.data.packing import pack
from condense.runtime.errors import CondenseError

COUNT = 30


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 6, 5, 3), dtype=np.uint8)


class Pictures(Dataset):
    def __init__(self, images: np.ndarray, item: Any) -> None:
        self.images, self.item = images, item

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.item(self.images[index])


def folder_of(path: Path, images: np.ndarray) -> Path:
    """Flat, in folders, and in folders of these."""
    for number, image in enumerate(images):
        place = path / ("", "a", "a/b")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02d}.png")
    (path / "notes.txt").write_text("nothing")
    return path


def sources(tmp_path: Path, images: np.ndarray) -> dict[str, Any]:
    np.savez(tmp_path / "alone.npz", images=images)
    np.savez(tmp_path / "labelled.npz", images=images, labels=np.arange(COUNT) % 3)
    with h5py.File(tmp_path / "alone.h5", "w") as file:
        file["x_train"] = images
    return {
        "folder": folder_of(tmp_path / "pictures", images),
        "npz": tmp_path / "alone.npz",
        "npz with labels": tmp_path / "labelled.npz",
        "h5": tmp_path / "alone.h5",
        "Dataset of images": Pictures(images, lambda image: torch.from_numpy(image).permute(2, 0, 1)),
        "Dataset of pairs": Pictures(images, lambda image: (image, "a label that is no number")),
        "Dataset of mappings": Pictures(images, lambda image: {"image": Image.fromarray(image)}),
    }


def all_images(data: RealData) -> list[bytes]:
    splits = (data.train, data.test)
    return sorted(row.numpy().tobytes() for split in splits for row in split.pixels(torch.arange(len(split))))


def test_every_source_gives_its_images_without_labels(tmp_path: Path, images: np.ndarray):
    expected = sorted(np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes() for image in images)
    for name, source in sources(tmp_path, images).items():
        data = load_data(source, labels="none")
        assert not data.train.labelled, name
        assert not data.test.labelled
        assert data.classes == ()
        assert all_images(data) == expected, name
        assert (len(data.train), len(data.test)) == (24, 6)
        assert any("6 of its 30 images (20 %) became one" in note for note in data.notes), name
        assert data.reading_options["labels"] == "none"
        with pytest.raises(
            CondenseError, match="was read without labels, and this needs them; leave --labels none out"
        ):
            _ = data.train.labels
        part = data.train.subset(torch.tensor([3, 1]))
        assert not part.labelled
        assert torch.equal(part.pixels(torch.tensor([0])), data.train.pixels(torch.tensor([3])))


def test_the_same_images_have_one_fingerprint_that_is_not_that_of_labelled_ones(tmp_path: Path, images: np.ndarray):
    paths = sources(tmp_path, images)
    alone, dropped = (load_data(paths[name], labels="none") for name in ("npz", "npz with labels"))
    assert alone.fingerprint == dropped.fingerprint != load_data(paths["npz with labels"]).fingerprint
    assert load_data("digits", labels="none").fingerprint != load_data("digits").fingerprint


def test_files_that_are_no_images_are_said(tmp_path: Path, images: np.ndarray):
    data = load_data(folder_of(tmp_path / "pictures", images), labels="none")
    assert any("1 file(s) have no suffix of an image and were left out: notes.txt" in note for note in data.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "1,2"}, "--labels none leaves no classes: leave --classes"),
        ({"group_by_folder": True}, "--labels none leaves no classes"),
    ],
)
def test_options_about_classes_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(CondenseError, match=message):
        load_data("digits", labels="none", **options)


def test_a_folder_without_images_is_refused(tmp_path: Path):
    with pytest.raises(CondenseError, match=r"no image files \(.png, .jpg, ...\) in"):
        load_data(tmp_path, labels="none")


@pytest.mark.parametrize("method", ["dm", "random", "herding", "idm"])
def test_methods_that_need_labels_say_so(method: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    data = load_data("digits", labels="none")
    with pytest.raises(CondenseError, match=f"{method} needs the classes of images, and digits was read without"):
        condense.distill(method, data, 1)
    words = ["distill", method, "--data", "digits", "--labels", "none", "--ipc", "1", "--out", str(tmp_path / "a.h5")]
    assert main(words) == 2
    assert "leave --labels none out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_packing_and_scoring_need_labels(tmp_path: Path):
    data, labelled = load_data("digits", labels="none"), load_data("digits")
    with pytest.raises(CondenseError, match="was read without labels"):
        pack(data, tmp_path / "packed.h5")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CondenseError, match="was read without labels"):
        condense.evaluate(condense.distill("random", labelled, 1), data, protocol="demo", runs=1)
    with pytest.raises(CondenseError, match="was read without labels"):
        data.holdout()
