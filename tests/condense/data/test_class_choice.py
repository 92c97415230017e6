"""Some classes of a data set, in an order of one's own, from every kind of source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import condense
from condense.cli.main import main
from condense.data import RealData, load_data, pack
from condense.data.class_choice import chosen_classes, classes_word
from condense.data.imagenet_subsets import IMAGENET_SUBSETS
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`


def by_class(data: RealData) -> dict[str, list[bytes]]:
    """The pixels of the training images of each class."""
    return {
        name: [image.numpy().tobytes() for image in data.train.pixels(data.train.class_indices(label))]
        for label, name in enumerate(data.classes)
    }


class TestChoice:
    def test_a_list_a_text_and_a_file_mean_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "names.txt"
        path.write_text("\ufeffcat\n\n shark, white \nbee\n", encoding="utf-8")
        names = ("cat", "shark, white", "bee")
        assert chosen_classes(path) == chosen_classes(str(path)) == chosen_classes(list(names)) == names
        assert chosen_classes('cat,"shark, white",bee') == names
        assert chosen_classes(classes_word(names)) == names

    @pytest.mark.parametrize("name", IMAGENET_SUBSETS)
    def test_subsets_of_imagenet(self, name: str) -> None:
        assert chosen_classes(name) == tuple(IMAGENET_SUBSETS[name])
        assert len(set(chosen_classes(name))) == 10

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            (
                "imagefriut",
                "neither a list with commas, .* nor a file .*, nor one of imagenette, .*; did you mean imagefruit",
            ),
            ("cat", "'cat' is neither a list with commas"),
            ("a" * 300, "is neither a list with commas"),
            ("a\0b", "is neither a list with commas"),
            ("cat,", r"names 1 class\(es\); it needs at least two"),
            (["cat"], r"names 1 class\(es\); it needs at least two"),
            ("cat,dog,cat", "has 'cat' several times"),
            ('cat,"dog', "is no list of names"),
            (Path("none.txt"), "cannot read none.txt"),
        ],
    )
    def test_choices_that_are_none(self, choice: Any, message: str) -> None:
        with pytest.raises(CondenseError, match=message):
            chosen_classes(choice)


class TestSources:
    def test_folders_read_no_other_class(self, tree: Tree) -> None:
        root = tree({"ant": 10, "bee": 10, "cat": 10, "dog": 10})
        whole = load_data(root)
        (root / "ant/000.png").write_bytes(b"broken, but not asked for")
        data = load_data(root, classes=["dog", "bee"])
        assert data.classes == ("dog", "bee")
        assert by_class(data) == {name: by_class(whole)[name] for name in ("dog", "bee")}
        assert data.fingerprint != load_data(root, classes="bee,dog").fingerprint
        assert data.reading_options == {"classes": "dog,bee"}

    def test_folders_with_a_test_split(self, tree: Tree) -> None:
        data = load_data(
            tree({"train/ant": 2, "train/bee": 3, "train/cat": 2, "test/bee": 1, "test/cat": 2}), classes=["cat", "bee"]
        )
        assert (data.train.class_counts(), data.test.labels.tolist()) == ((2, 3), [0, 0, 1])

    @pytest.mark.parametrize("form", ["npz", "packed", "pair", "one"])
    def test_other_sources(self, tmp_path: Path, arrays: dict[str, np.ndarray], form: str) -> None:
        np.savez(tmp_path / "a.npz", **arrays, classes=np.array(["ant", "bee", "cat"]))  # type: ignore[arg-type]
        source: Any = tmp_path / "a.npz"
        if form == "packed":
            source = pack(load_data(source), tmp_path / "a.h5")
        elif form != "npz":
            parts = [
                TensorDataset(torch.from_numpy(arrays[f"{part}_images"]), torch.from_numpy(arrays[f"{part}_labels"]))
                for part in ("train", "test")
            ]
            for part in parts:
                part.classes = ["ant", "bee", "cat"]  # type: ignore[attr-defined]
            source = tuple(parts) if form == "pair" else parts[0]
        whole, data = load_data(source), load_data(source, classes=["cat", "ant"])
        assert data.classes == ("cat", "ant")
        assert by_class(data) == {name: by_class(whole)[name] for name in ("cat", "ant")}
        assert data.fingerprint != whole.fingerprint
        assert data.fingerprint == load_data(pack(data, tmp_path / "part.h5")).fingerprint
        with pytest.raises(
            CondenseError, match=r"has no class 'dog' \(it has: ant, bee, cat\).*; give --classes names"
        ):
            load_data(source, classes=["cat", "dog"])

    def test_numbered_classes(self) -> None:
        data = load_data("digits", classes="7,1")
        assert data.classes == ("7", "1")
        whole = load_data("digits")
        assert by_class(data) == {name: by_class(whole)[name] for name in ("7", "1")}
        assert data.name == "digits"

    def test_a_subset_by_name_of_any_folder_of_imagenet(self, tree: Tree) -> None:
        """As torchvision keeps it, or a part of it, or Tiny-ImageNet."""
        names = [*IMAGENET_SUBSETS["imagefruit"], "n01440764", "n02102040"]
        root = tree({f"{part}/{name}": 1 for part in ("train", "val") for name in names})
        data = load_data(root, classes="imagefruit")
        assert data.classes == tuple(IMAGENET_SUBSETS["imagefruit"])
        assert data.reading_options["classes"].split(",") == list(IMAGENET_SUBSETS["imagefruit"])
        with pytest.raises(CondenseError, match="has no class 'n02979186'"):
            load_data(root, classes="imagenette")


def test_a_set_records_its_classes_and_is_scored_on_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set.h5"
    assert main(["distill", "random", "--data", "digits", "--classes", "7,1", "--ipc", "1", "--out", str(out)]) == 0
    synthetic = condense.SyntheticSet.load(out)
    assert synthetic.info.classes == ("7", "1")
    assert synthetic.provenance["configuration"]["classes"] == "7,1"
    assert " --classes 7,1 " in synthetic.provenance["command"]
    again = tmp_path / "again.h5"
    words = synthetic.provenance["command"].replace("set.h5", str(again)).split()
    assert main(words[1:]) == 0
    assert again.read_bytes() == out.read_bytes()
    assert main(["evaluate", str(out), "--protocol", "demo", "--runs", "1"]) == 0
    assert main(["evaluate", str(out), "--data", "digits", "--protocol", "demo", "--runs", "1"]) == 2
    assert "condense:" in capsys.readouterr().err
