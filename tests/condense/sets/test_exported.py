"""Exports come back as the sets that they were made of."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from condense.data.info import DataInfo
from condense.data.preprocessing import None_, Normalization, Preprocessing, Whitening
from condense.labels import InterpolatedLabels, LogitLabels, RegressionLabels
from condense.runtime.errors import CondenseError
from condense.sets.importing import import_synthetic
from condense.sets.synthetic_set import SyntheticSet
from condense.sets.tiles import Tiles

CLASSES = ("T-shirt/top", "Trouser", "Pullover")  # not in alphabetical order
SOFT = {"stored_labels": LogitLabels(torch.arange(18.0).reshape(6, 3), torch.tensor([2, 0, 1, 0, 1, 2]), 2.0)}
VALUES = {"stored_labels": RegressionLabels(torch.arange(30.0).reshape(6, 5), torch.tensor([2, 0, 1, 0, 1, 2]))}
OF_CLASSES = torch.randn(6, 3), torch.tensor([2, 0, 1, 0, 1, 2])
BY_KL = {"stored_labels": InterpolatedLabels(*OF_CLASSES, 30.0, "kl-t2")}
BY_MSE = {"stored_labels": LogitLabels(*OF_CLASSES, 1.0, "mse", 0.1, teacher="net 0123abcd")}
WHITENING = Whitening(torch.rand(35), torch.eye(35) + 0.1 * torch.rand(35, 35))


def info(channels: int = 1, preprocessing: Preprocessing | None = None) -> DataInfo:
    usual = Normalization((0.4, 0.5, 0.6)[:channels], (0.3, 0.2, 0.1)[:channels])
    return DataInfo("clothes", CLASSES, (channels, 5, 7), False, "ab" * 16, preprocessing or usual)


def make_set(channels: int = 1, **changes: Any) -> SyntheticSet:
    arguments: dict[str, Any] = {
        "stored": torch.randn(6, channels, 5, 7, generator=torch.Generator().manual_seed(0)),
        "stored_labels": torch.tensor([2, 0, 1, 0, 1, 2]),
        "info": info(channels),
        "learned_lr": 0.0123,
        "mirrored": True,
        "augmentation": {"name": "dsa", "strategy": ["flip", "crop"]},
        "protocol": "dsa",
        "provenance": {"configuration": {"method": "dm", "seed": 0}, "command": "condense distill dm"},
    }
    return SyntheticSet(**{**arguments, **changes})


def exported(folder: Path, to: str, synthetic: SyntheticSet | None = None) -> Path:
    path = folder / ("set.pt" if to == "torch" else "export")
    (synthetic or make_set()).export(path, to, overwrite=True)
    return path


def refusal(path: Path, data: DataInfo | None = None, **options: Any) -> str:
    with pytest.raises(CondenseError) as caught:
        import_synthetic(path, data or info(), **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def assert_same(read: SyntheticSet, written: SyntheticSet) -> None:
    """Everything but the numbers of images, which a form may round."""
    assert torch.equal(read.labels, written.labels)
    assert (read.targets is None) == (written.targets is None)
    assert read.targets is None or torch.equal(read.targets, written.targets)
    assert read.stored_labels.attributes == written.stored_labels.attributes
    for name in ("label_kind", "learned_lr", "mirrored", "augmentation", "protocol"):
        assert getattr(read, name) == getattr(written, name)
    for name in ("name", "classes", "image_shape", "mirror", "fingerprint", "identity"):
        assert getattr(read.info, name) == getattr(written.info, name)
    assert {**written.provenance, "imported from": read.provenance["imported from"]} == read.provenance


FORMS = ["torch", "folder", "huggingface"]


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labels", [{}, SOFT, VALUES, BY_KL, BY_MSE], ids=["hard", "soft", "values", "kl", "mse"])
def test_an_export_comes_back(tmp_path: Path, capsys, to: str, channels: int, labels: dict[str, Any]) -> None:
    if to == "huggingface":
        pytest.importorskip("datasets")
    written = make_set(channels, **labels)
    path = exported(tmp_path, to, written)
    capsys.readouterr()  # datasets shows its progress
    read = import_synthetic(path, info(channels))
    assert_same(read, written)
    said = capsys.readouterr().err
    if to == "folder":
        assert read.space == "pixels"
        assert "8 bits" in said
        clipped = written.plain_images.clamp(0, 1)
        assert (read.plain_images - clipped).abs().max() < 0.51 / 255
    else:
        assert torch.equal(read.images, written.images)
        assert said == ""
    assert import_synthetic(path, info(channels), learned_lr=0.5).learned_lr == 0.5
    read.save(tmp_path / "set.h5")
    assert torch.equal(SyntheticSet.load(tmp_path / "set.h5").images, read.images)


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("decoder", [None, Tiles(2)], ids=["plain", "mosaics"])
def test_what_there_is_of_each_image_comes_back(tmp_path: Path, to: str, decoder: Tiles | None) -> None:
    """Without weights an imported set would be trained on otherwise than the one that was exported."""
    if to == "huggingface":
        pytest.importorskip("datasets")
    of_images = {
        "weights": torch.tensor([0.0, 1.0, 0.1, 2.5, 1.0, 3.0]),
        "source_indices": torch.tensor([7, 2, 2**40, 0, 5, 1]),
        "scores": torch.tensor([0.1, -1e-9, 3.0, 2.0, 1.0, 0.0], dtype=torch.float64),
    }
    written = make_set(stored=torch.rand(6, 1, 5, 7), decoder=decoder, space="unit", **of_images)
    path = exported(tmp_path, to, written)
    read = import_synthetic(path, info())
    rows = torch.arange(6) if decoder is None else decoder.rows(6)
    for name, values in of_images.items():
        assert torch.equal(getattr(read, name), values[rows])
    assert torch.equal(read.training_weights, written.training_weights)
    if to == "folder":
        assert "weights.npy" in (path / "README.txt").read_text()
        (path / "weights.npy").unlink()
        assert "weights.npy" in refusal(path)


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("preprocessing", [None_(), WHITENING], ids=["none", "zca"])
def test_the_preprocessing_is_that_of_the_export(tmp_path: Path, to: str, preprocessing: Preprocessing) -> None:
    if to == "huggingface":
        pytest.importorskip("datasets")
    written = make_set(info=info(preprocessing=preprocessing))
    assert_same(import_synthetic(exported(tmp_path, to, written), info()), written)  # other than that of the data


def test_pixels_come_back_through_a_folder_as_they_were(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (6, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    read = import_synthetic(exported(tmp_path, "folder", make_set(3, stored=pixels)), info(3))
    assert torch.equal(read.stored, pixels)


@pytest.mark.parametrize("to", FORMS)
def test_mosaics_come_back_decoded(tmp_path: Path, capsys, to: str) -> None:
    if to == "huggingface":
        pytest.importorskip("datasets")
    stored = torch.rand(6, 1, 5, 7)
    written = make_set(stored=stored, space="unit", decoder=Tiles(2), **SOFT)
    read = import_synthetic(exported(tmp_path, to, written), info())
    assert "stored in fewer bytes, and the export decoded them" in capsys.readouterr().err
    assert read.decoder is None
    assert len(read) == 24
    assert_same(read, written)
    assert to == "folder" or torch.equal(read.images, written.images)


def test_an_export_must_fit_the_data(tmp_path: Path, capsys) -> None:
    for to in ("torch", "folder"):
        path = exported(tmp_path, to)
        capsys.readouterr()
        other = DataInfo("clothes", CLASSES, (1, 5, 7), False, "cd" * 16, None_())
        assert import_synthetic(path, other).info.fingerprint == "ab" * 16
        assert "fingerprint abababababab" in capsys.readouterr().err
        assert "another order of classes" in refusal(
            path, DataInfo("clothes", CLASSES[::-1], (1, 5, 7), False, "ab" * 16, None_())
        )
        assert "--image-size" in refusal(path, DataInfo("clothes", CLASSES, (1, 8, 8), False, "ab" * 16, None_()))
        assert "leave --space and --factor out" in refusal(path, space="unit")
        assert "leave --space and --factor out" in refusal(path, factor=2)


def changed_torch(folder: Path, **changes: Any) -> Path:
    path = exported(folder, "torch", make_set(**SOFT))
    content = {**torch.load(path, weights_only=True), **changes}
    torch.save({name: value for name, value in content.items() if value is not ...}, path)
    return path


def nested_tuples() -> tuple[Any, ...]:
    """Few objects that are written out as very many."""
    value: tuple[Any, ...] = ()
    for _ in range(100):
        value = (value, value)
    return value


RING: dict[str, Any] = {}
RING["itself"] = RING


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": ...}, "lacks images"),
        ({"labels": ...}, "lacks labels"),
        ({"targets": ...}, "its labels lack values"),
        ({"classes": ...}, "classes is missing"),
        ({"classes": ["a", "b"]}, "labels run from 0 to 2"),
        ({"classes": torch.zeros(3)}, "classes"),
        ({"image_shape": [1, 5, 0]}, "image_shape"),
        ({"images": torch.zeros(1).expand(6, 1, 5, 7)}, "of which the file has 1"),
        ({"images": "images"}, "images are no tensor"),
        ({"images": torch.zeros(6, 1, 5, 8)}, "shape"),
        ({"images": torch.zeros(6, 1, 5, 7, dtype=torch.int32)}, "int32"),
        ({"labels": torch.zeros(6)}, "int64"),
        ({"preprocessing": "normalize"}, "preprocessing"),
        ({"preprocessing": {"kind": "normalize"}}, "mean"),
        ({"preprocessing": {"kind": "normalize", "mean": "x", "std": 3}}, "mean"),
        ({"preprocessing": {"kind": "blur"}}, "blur"),
        ({"label_kind": "soft"}, "'soft', which this condense does not know"),
        ({"temperature": float("nan")}, "temperature"),
        ({"learned_lr": "1"}, "learned_lr"),
        ({"mirror": 3}, "mirror"),
        ({"provenance": {"a": torch.zeros(3)}}, "JSON"),
        ({"provenance": RING}, "levels deep"),
        ({"provenance": {"a": nested_tuples()}}, "levels deep"),
        ({"augmentation": [1]}, "augmentation"),
    ],
)
def test_a_damaged_pt_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in refusal(changed_torch(tmp_path, **changes))


def edit_metadata(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").write_text(json.dumps({**content, **changes}))

    return edit


def save_picture(size: tuple[int, int], mode: str = "L") -> Callable[[Path], None]:
    return lambda folder: Image.new(mode, size).save(folder / "0_T-shirt_top" / "00001.png")


def put_pipe(folder: Path) -> None:
    (folder / "0_T-shirt_top" / "00001.png").unlink()
    os.mkfifo(folder / "0_T-shirt_top" / "00001.png")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no metadata": (lambda folder: (folder / "metadata.json").unlink(), "directory without metadata.json"),
    "no JSON": (lambda folder: (folder / "metadata.json").write_text("{"), "no JSON"),
    "other": (edit_metadata(format="other"), "not of condense export"),
    "a list": (lambda folder: (folder / "metadata.json").write_text("[1]"), "not of condense export"),
    "path": (edit_metadata(folders=["../export/0_T-shirt_top", "1_Trouser", "2_Pullover"]), "folder for each class"),
    "parent": (edit_metadata(folders=["..", "1_Trouser", "2_Pullover"]), "folder for each class"),
    "two folders": (edit_metadata(folders=["1_Trouser", "2_Pullover"]), "folder for each class"),
    "no row": (lambda folder: (folder / "0_T-shirt_top" / "00001.png").unlink(), "picture of row 1"),
    "no pictures": (lambda folder: [shutil.rmtree(each) for each in folder.iterdir() if each.is_dir()], "row 0"),
    "no png": (lambda folder: (folder / "0_T-shirt_top" / "00001.png").write_bytes(b"GIF89a"), "cannot be read"),
    "size": (save_picture((8, 8)), "8x8 pixels"),
    "mode": (save_picture((7, 5), "RGBA"), "mode RGBA"),
    "pipe": (put_pipe, "no regular file"),
    "no targets": (lambda folder: (folder / "targets.npy").unlink(), "targets.npy"),
    "objects": (lambda folder: np.save(folder / "targets.npy", np.array([{}] * 6)), "Python objects"),
    "targets": (
        lambda folder: np.save(folder / "targets.npy", np.zeros((6, 4), np.float32)),
        "4 numbers for an image, for 3 classes",
    ),
    "texts": (lambda folder: np.save(folder / "targets.npy", np.array(["a"])), "targets.npy are an array of"),
    "no preprocessing": (lambda folder: (folder / "preprocessing.npz").unlink(), "preprocessing.npz"),
    "preprocessing": (lambda folder: np.savez(folder / "preprocessing.npz", mean=np.array(["a"])), "normalize"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_folder_is_refused(tmp_path: Path, kind: str) -> None:
    path = exported(tmp_path, "folder", make_set(**SOFT))
    damage, said = DAMAGE[kind]
    damage(path)
    assert said in refusal(path)


def edit_state(folder: Path, **changes: Any) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, **changes}))


def other_columns(folder: Path, columns: dict[str, Any]) -> None:
    import datasets

    datasets.Dataset.from_dict(columns).save_to_disk(folder / "other")
    arrow = next((folder / "other").glob("*.arrow"))
    arrow.rename(next(folder.glob("*.arrow")))


def compress(folder: Path) -> None:
    import pyarrow.ipc

    arrow = next(folder.glob("*.arrow"))
    with pyarrow.memory_map(str(arrow)) as source:
        table = pyarrow.ipc.open_stream(source).read_all()
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with (
        pyarrow.OSFile(str(folder / "new"), "wb") as sink,
        pyarrow.ipc.new_stream(sink, table.schema, options=options) as new,
    ):
        new.write_table(table)
    (folder / "new").rename(arrow)


IMAGE = [[[0.5] * 7] * 5]  # [1, 5, 7]
TARGET = [0.0] * 3
ARROW_DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "path": (lambda folder: edit_state(folder, _data_files=[{"filename": "../a.arrow"}]), "names no files of Arrow"),
    "nothing": (lambda folder: edit_state(folder, _data_files=[]), "names no files of Arrow"),
    "others": (lambda folder: edit_state(folder, _data_files=[3]), "names no files of Arrow"),
    "missing": (lambda folder: edit_state(folder, _data_files=[{"filename": "a.arrow"}]), "a.arrow"),
    "no Arrow": (lambda folder: next(folder.glob("*.arrow")).write_bytes(b"hello"), "are damaged"),
    "cut": (lambda folder: os.truncate(next(folder.glob("*.arrow")), 2000), "are damaged"),
    "columns": (lambda folder: other_columns(folder, {"label": [0] * 6}), "column pixel_values"),
    "numbers": (
        lambda folder: other_columns(folder, {"pixel_values": [1.0] * 6, "label": [0] * 6, "target": [TARGET] * 6}),
        "column pixel_values has no numbers [6, 1, 5, 7]",
    ),
    "ragged": (
        lambda folder: other_columns(
            folder, {"pixel_values": [IMAGE, [[[0.5] * 6] * 5]], "label": [0, 0], "target": [TARGET] * 2}
        ),
        "column pixel_values",
    ),
    "labels": (
        lambda folder: other_columns(folder, {"pixel_values": [IMAGE], "label": ["a"], "target": [TARGET]}),
        "column label",
    ),
    "holes": (
        lambda folder: other_columns(folder, {"pixel_values": [IMAGE, None], "label": [0, 1], "target": [TARGET] * 2}),
        "column pixel_values",
    ),
}


def test_a_compressed_table_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    path = exported(tmp_path, "huggingface")
    compress(path)
    with pytest.raises(CondenseError) as caught:
        import_synthetic(path, info())
    causes = [caught.value.__cause__, caught.value.__cause__ and caught.value.__cause__.__cause__]
    assert "compressed batch" in str(causes[1])


def test_without_pyarrow_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    path = exported(tmp_path, "huggingface")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "[huggingface]'" in refusal(path)


@pytest.mark.parametrize("kind", ARROW_DAMAGE)
def test_a_damaged_folder_of_datasets_is_refused(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("datasets")
    path = exported(tmp_path, "huggingface", make_set(**SOFT))
    damage, said = ARROW_DAMAGE[kind]
    damage(path)
    assert said in refusal(path)
