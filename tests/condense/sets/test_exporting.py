"""Exports as other programs see them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from condense.data.info import DataInfo
from condense.data.preprocessing import Normalization, Whitening
from condense.labels import LogitLabels
from condense.runtime.errors import CondenseError
from condense.sets.exporting import EXPORTS, folder_names
from condense.sets.synthetic_set import SyntheticSet

CLASSES = ("T-shirt/top", "Trouser", "Pullover")  # not in alphabetical order


def make_set(channels: int = 1, dtype: torch.dtype = torch.float32, **changes: Any) -> SyntheticSet:
    shape = (channels, 5, 7)
    preprocessing = Normalization((0.4,) * channels, (0.3,) * channels)
    draws = torch.Generator().manual_seed(0)
    learned = torch.randn(6, *shape, generator=draws)
    stored = learned if dtype == torch.float32 else torch.randint(0, 256, (6, *shape), dtype=dtype, generator=draws)
    arguments: dict[str, Any] = {
        "stored": stored,
        "stored_labels": torch.tensor([2, 0, 1, 0, 1, 2]),
        "info": DataInfo("clothes", CLASSES, shape, True, "ab" * 16, preprocessing),
        "provenance": {"configuration": {"method": "dm"}},
    }
    return SyntheticSet(**{**arguments, **changes})


ROWS = torch.arange(18.0).reshape(6, 3)
SOFT: dict[str, Any] = {"stored_labels": LogitLabels(ROWS, torch.tensor([2, 0, 1, 0, 1, 2]), 2.0)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_folder_gives_the_labels_and_the_rounded_pixels(tmp_path: Path, channels: int, dtype: torch.dtype) -> None:
    synthetic = make_set(channels, dtype)
    synthetic.export(tmp_path / "out", "folder")
    expected = np.clip(synthetic.images.numpy() * 0.3 + 0.4, 0, 1) * 255
    files = ImageFolder(str(tmp_path / "out"))
    assert len(files) == 6
    for path, label in files.samples:
        row = int(Path(path).stem)
        assert label == synthetic.labels[row]
        with Image.open(path) as picture:
            assert picture.mode == ("L" if channels == 1 else "RGB")
            pixels = pil_to_tensor(picture).numpy()
        assert np.abs(pixels - expected[row]).max() < 0.51
        if dtype == torch.uint8:
            assert np.array_equal(pixels, synthetic.stored[row].numpy())


def test_a_folder_explains_itself(tmp_path: Path) -> None:
    synthetic = make_set(**SOFT)
    synthetic.export(tmp_path / "out", "folder")
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert metadata["classes"] == list(CLASSES)
    assert metadata["folders"] == sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert metadata["provenance"] == synthetic.provenance
    assert "ROUNDED TO 8 BITS" in (tmp_path / "out" / "README.txt").read_text()
    assert np.array_equal(np.load(tmp_path / "out" / "targets.npy"), ROWS.numpy())
    with np.load(tmp_path / "out" / "preprocessing.npz") as arrays:
        assert arrays["mean"].tolist() == [0.4]


def test_folders_sort_in_label_order() -> None:
    for classes in (
        ("b", "a"),
        ("a", "b"),
        tuple(map(str, range(12))),
        ("x/y", "x y", "x_y"),
        ("..", "a"),
        ("a" * 300, "b"),
    ):
        names = folder_names(classes)
        assert names == sorted(set(names))
        assert len(names) == len(classes)
        assert not any("/" in name or name.startswith(".") or len(name) > 100 for name in names)
    assert folder_names(("cat", "dog")) == ["cat", "dog"]


def test_a_class_without_images_does_not_shift_the_others(tmp_path: Path) -> None:
    make_set(stored_labels=torch.tensor([2, 0, 0, 0, 2, 2])).export(tmp_path / "out", "folder")
    files = ImageFolder(str(tmp_path / "out"), allow_empty=True)
    assert sorted(files.targets) == [0, 0, 0, 2, 2, 2]


def test_torch_gives_plain_tensors(tmp_path: Path) -> None:
    synthetic = make_set(dtype=torch.uint8, **SOFT)
    synthetic.export(tmp_path / "set.pt", "torch")
    content = torch.load(tmp_path / "set.pt", weights_only=True)
    assert torch.equal(content["images"], synthetic.images)
    assert torch.equal(content["labels"], synthetic.labels)
    assert torch.equal(content["targets"], ROWS)
    assert content["classes"] == list(CLASSES)
    assert content["label_kind"] == "logits"
    assert content["preprocessing"]["kind"] == "normalize"
    assert content["preprocessing"]["std"].tolist() == [0.3]
    synthetic.export(tmp_path / "other name.pt", "torch")
    assert (tmp_path / "set.pt").read_bytes() == (tmp_path / "other name.pt").read_bytes()


def test_torch_gives_the_whitening(tmp_path: Path) -> None:
    info = DataInfo("clothes", CLASSES, (1, 5, 7), True, "ab" * 16, Whitening(torch.zeros(35), torch.eye(35)))
    make_set(info=info).export(tmp_path / "set.pt", "torch")
    preprocessing = torch.load(tmp_path / "set.pt", weights_only=True)["preprocessing"]
    assert torch.equal(preprocessing["matrix"], torch.eye(35))
    assert preprocessing["eps"].item() == pytest.approx(0.1)


def test_hugging_face_reads_its_export(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra huggingface")
    synthetic = make_set(3, **SOFT)
    synthetic.export(tmp_path / "out", "huggingface")
    rows = datasets.load_from_disk(str(tmp_path / "out"))
    assert rows.features["label"].names == list(CLASSES)
    assert rows["label"][:] == synthetic.labels.tolist()
    numbers = rows.with_format("torch")[:]
    assert torch.equal(numbers["pixel_values"], synthetic.images)
    assert torch.equal(numbers["target"], ROWS)
    expected = synthetic.plain_images.clamp(0, 1) * 255
    assert (pil_to_tensor(rows[0]["image"]) - expected[0]).abs().max() < 0.51
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["provenance"] == synthetic.provenance


def test_without_hugging_face_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # what Python does for a package that is not there
    with pytest.raises(CondenseError, match=r"condense-data\[huggingface\].*--to folder") as caught:
        make_set().export(tmp_path / "out", "huggingface")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", EXPORTS)
def test_an_existing_target_is_only_replaced_on_request(tmp_path: Path, form: str) -> None:
    if form == "huggingface":
        pytest.importorskip("datasets", reason="needs the extra huggingface")
    target = tmp_path / "out"
    make_set().export(target, form)
    with pytest.raises(CondenseError, match="--overwrite"):
        make_set().export(target, form)
    make_set(stored_labels=torch.zeros(6, dtype=torch.int64)).export(target, form, overwrite=True)
    assert list(tmp_path.iterdir()) == [target]
    if form == "folder":
        assert len(list(target.glob("0_*/*.png"))) == 6


def test_overwriting_spares_what_is_no_export(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.png").write_bytes(b"precious")
    for form in ("folder", "torch"):
        with pytest.raises(CondenseError, match="photos"):
            make_set().export(photos, form, overwrite=True)
    with pytest.raises(CondenseError, match="no earlier export"):
        make_set().export(photos / "holiday.png", "folder", overwrite=True)
    assert (photos / "holiday.png").read_bytes() == b"precious"


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CondenseError, match="did you mean folder"):
        make_set().export(tmp_path / "out", "folders")


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for form in ("folder", "torch"):
        with pytest.raises(CondenseError, match="cannot write") as caught:
            make_set().export(tmp_path / "file" / "out", form)
        assert "\n" not in str(caught.value)
