"""Arrays under the names and in the forms that other programs write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from condense.data import load_data
from condense.data.readers.array_names import array_names
from condense.runtime.errors import CondenseError

Arrays = dict[str, np.ndarray]


@pytest.fixture(params=[".npz", ".h5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"shapes{request.param}"


def save(path: Path, arrays: Arrays) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return path
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value.astype(h5py.string_dtype()) if value.dtype.kind == "U" else value
    return path


NAMES = [
    ("x_train", "y_train", "x_test", "y_test"),
    ("X_train", "Y_train", "X_test", "Y_test"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("train_data", "train_labels", "test_data", "test_labels"),
    ("images_train", "labels_train", "images_test", "labels_test"),
    ("train_imgs", "train_targets", "test_imgs", "test_targets"),
    ("Train-Images", "Train-Labels", "Test-Images", "Test-Labels"),
]


class TestNames:
    @pytest.mark.parametrize("names", NAMES)
    def test_usual_names(self, path: Path, arrays: Arrays, names: tuple[str, ...]) -> None:
        expected = load_data(save(path, arrays)).fingerprint
        data = load_data(save(path, dict(zip(names, arrays.values()))))
        assert data.fingerprint == expected
        assert data.notes == ()

    def test_validation_data_are_the_test_split_if_there_is_no_other(self, path: Path, arrays: Arrays) -> None:
        renamed = {key.replace("test", "val"): value for key, value in arrays.items()}
        data = load_data(save(path, renamed))
        assert data.notes == (f"the split val of {path.name} is the test split",)
        assert data.fingerprint == load_data(save(path, arrays)).fingerprint
        both = arrays | {key: value[:3] for key, value in renamed.items() if "val" in key}
        assert load_data(save(path, both)).fingerprint == load_data(save(path, arrays)).fingerprint

    @pytest.mark.parametrize("names", [("images", "labels"), ("data", "target"), ("X", "y"), ("image", "label")])
    def test_one_piece_is_split_by_content(self, path: Path, arrays: Arrays, names: tuple[str, str]) -> None:
        images = np.concatenate([arrays["train_images"], arrays["test_images"]])
        labels = np.arange(18) % 3
        data = load_data(save(path, dict(zip(names, (images, labels)))))
        assert (data.train.class_counts(), data.test.class_counts()) == ((5, 5, 5), (1, 1, 1))
        assert "shapes has no test split; 3 of its 18 images" in data.notes[0]
        order = np.random.default_rng(1).permutation(18)
        other = load_data(save(path, dict(zip(names, (images[order], labels[order])))))
        held_out = [{image.numpy().tobytes() for image in part.test.pixels(torch.arange(3))} for part in (data, other)]
        assert held_out[0] == held_out[1]

    def test_a_training_split_alone_is_split(self, path: Path, arrays: Arrays) -> None:
        del arrays["test_labels"]
        assert load_data(save(path, arrays)).test.class_counts() == (1, 1, 1)

    def test_names_that_say_nothing(self, path: Path, arrays: Arrays) -> None:
        with pytest.raises(
            CondenseError, match=r"no images and labels to train on \(it has: arr_0, arr_1\); call them"
        ):
            load_data(save(path, {"arr_0": arrays["train_images"], "arr_1": arrays["train_labels"]}))
        with pytest.raises(CondenseError, match="12 images but 6 labels; give every image one label"):
            load_data(save(path, {"images": arrays["train_images"], "labels": arrays["test_labels"]}))

    def test_of_several_the_first_is_taken(self) -> None:
        (train, test) = array_names(Path("a.npz"), ["data", "images", "target", "labels"])
        assert (train.images, train.labels, test) == ("images", "labels", None)


class TestForms:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
    def test_floats_in_0_to_1_are_rounded(self, path: Path, arrays: Arrays, dtype: Any) -> None:
        floats = {key: (array / 255).astype(dtype) if "images" in key else array for key, array in arrays.items()}
        data = load_data(save(path, floats))
        note = f"train_images of {path.name} is {np.dtype(dtype)} in [0, 1] and was rounded to 8 bits"
        assert note in data.notes
        assert data.fingerprint == load_data(save(path, arrays)).fingerprint

    def test_floats_beyond_need_a_window(self, path: Path, arrays: Arrays) -> None:
        floats = {key: array.astype(np.float32) if "images" in key else array for key, array in arrays.items()}
        with pytest.raises(
            CondenseError, match=r"is float32 from .* to .*; images must be uint8, .* --window LOW HIGH"
        ):
            load_data(save(path, floats))
        assert load_data(path, window=(0, 255)).fingerprint == load_data(save(path, arrays)).fingerprint

    @pytest.mark.parametrize("channels", [1, 3])
    def test_channels_first(self, path: Path, arrays: Arrays, channels: int) -> None:
        draws = np.random.default_rng(0)
        for split, count in (("train", 12), ("test", 6)):
            arrays[f"{split}_images"] = draws.integers(0, 256, (count, 5, 4, channels), dtype=np.uint8)
        expected = load_data(save(path, arrays))
        turned = {key: array.transpose(0, 3, 1, 2) if "images" in key else array for key, array in arrays.items()}
        data = load_data(save(path, turned))
        assert data.fingerprint == expected.fingerprint
        assert f"train_images of {path.name} has its channels before height and width" in data.notes
        assert expected.notes == ()

    def test_floats_with_channels_first_that_are_streamed(self, tmp_path: Path, arrays: Arrays) -> None:
        for split, count in (("train", 12), ("test", 6)):
            arrays[f"{split}_images"] = np.random.default_rng(count).random((count, 3, 5, 4), np.float32)
        whole = load_data(save(tmp_path / "a.npz", arrays))
        streamed = load_data(save(tmp_path / "a.h5", arrays), memory_limit=300)
        assert streamed.fingerprint == whole.fingerprint
        wanted = torch.tensor([7, 2, 2])
        assert torch.equal(streamed.train.pixels(wanted), whole.train.pixels(wanted))


class TestTextLabels:
    def texts(self, arrays: Arrays, names: list[str]) -> Arrays:
        return {key: np.array(names)[array] if "labels" in key else array for key, array in arrays.items()}

    def test_classes_are_sorted(self, path: Path, arrays: Arrays) -> None:
        data = load_data(save(path, self.texts(arrays, ["zebra", "ant", "grün"])))
        assert data.classes == ("ant", "grün", "zebra")
        assert data.train.labels.tolist() == [2, 0, 1] * 4
        assert data.test.labels.tolist() == [2, 0, 1] * 2

    def test_numbers_by_their_value(self, path: Path, arrays: Arrays) -> None:
        assert load_data(save(path, self.texts(arrays, ["10", "9", "100"]))).classes == ("9", "10", "100")

    def test_bytes(self, path: Path, arrays: Arrays) -> None:
        encoded = {key: array.astype("S") if array.dtype.kind == "U" else array for key, array in arrays.items()}
        encoded = self.texts(arrays, ["b", "a", "c"])
        encoded = {key: array.astype("S") if array.dtype.kind == "U" else array for key, array in encoded.items()}
        assert load_data(save(path, encoded)).classes == ("a", "b", "c")

    def test_an_order_may_be_given(self, path: Path, arrays: Arrays) -> None:
        named = self.texts(arrays, ["low", "mid", "high"]) | {"classes": np.array(["low", "mid", "high"])}
        assert load_data(save(path, named)).train.labels.tolist() == [0, 1, 2] * 4
        named["classes"] = np.array(["low", "mid"])
        with pytest.raises(
            CondenseError, match=r"train_labels of .* has the label 'high', but classes has no such name"
        ):
            load_data(save(path, named))

    def test_a_test_label_that_training_lacks(self, path: Path, arrays: Arrays) -> None:
        named = self.texts(arrays, ["ant", "bee", "cat"])
        named["test_labels"] = np.array(["ant", "bee", "cats"] * 2)
        message = "test_labels of .* has the label 'cats', but the training images have no such class; did you mean cat"
        with pytest.raises(CondenseError, match=message):
            load_data(save(path, named))
