from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from condense.data import load_data
from condense.data.sources import TensorPixels
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`

TWO_SPLITS = {"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3}


def read_png(path: Path) -> np.ndarray:
    """(C, H, W), the plain way."""
    array = np.asarray(Image.open(path))
    return array[None] if array.ndim == 2 else np.stack([array[:, :, channel] for channel in range(3)])


def test_a_tree_with_two_splits(tree: Tree) -> None:
    root = tree(TWO_SPLITS)
    data = load_data(root)
    assert (data.name, data.classes, data.image_shape) == ("pets", ("cat", "dog"), (3, 6, 5))
    assert data.train.labels.tolist() == [0] * 4 + [1] * 5
    assert data.test.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.train.class_counts() == (4, 5)
    assert data.train.class_indices(1).tolist() == [4, 5, 6, 7, 8]
    read = data.train.pixels(torch.tensor([5, 0]))
    assert read.dtype == torch.uint8
    assert np.array_equal(read[0], read_png(root / "train/dog/001.png"))
    assert np.array_equal(read[1], read_png(root / "train/cat/000.png"))
    assert np.array_equal(data.test.pixels(torch.tensor([4]))[0], read_png(root / "test/dog/002.png"))
    assert data.mirror
    assert data.notes == ()


def test_images_are_normalised_by_the_training_split(tree: Tree) -> None:
    data = load_data(tree(TWO_SPLITS))
    images = data.train.images(torch.arange(9))
    assert images.dtype == torch.float32
    assert images.mean((0, 2, 3)).abs().max() < 1e-6
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(3))


@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("train", "validation"), ("Training", "Testing")])
def test_other_names_of_the_splits(tree: Tree, train: str, test: str) -> None:
    data = load_data(tree({f"{train}/cat": 2, f"{train}/dog": 2, f"{test}/cat": 1, f"{test}/dog": 1}))
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (4, 2)


def test_test_wins_over_val_and_a_note_says_so(tree: Tree) -> None:
    data = load_data(tree({**TWO_SPLITS, "val/cat": 1}))
    assert len(data.test) == 5
    assert "val/ in pets is not used: test/ is the test split" in data.notes


def test_grayscale_jpeg_of_any_size_has_no_mirror(tree: Tree) -> None:
    data = load_data(tree(TWO_SPLITS, size=(9, 4), mode="L", suffix=".JPEG"))
    assert data.image_shape == (1, 9, 4)
    assert not data.mirror
    assert load_data(tree({}), mirror=True).mirror


def test_class_folders_alone_are_split_by_content(tree: Tree) -> None:
    root = tree({"cat": 10, "dog": 20, "eel": 1})
    data = load_data(root)
    assert data.train.class_counts() == (8, 16, 1)
    assert data.test.class_counts() == (2, 4, 0)
    assert any("no test split" in note and "6 of its 31 images" in note for note in data.notes)
    before = {image.numpy().tobytes() for image in data.test.pixels(torch.arange(6))}
    for path in sorted((root / "cat").iterdir()):  # other names, another order
        path.rename(path.with_name(f"{int(path.stem) * 7 % 10}-renamed.png"))
    assert {image.numpy().tobytes() for image in load_data(root).test.pixels(torch.arange(6))} == before


def test_the_split_does_not_depend_on_size_or_memory(tree: Tree) -> None:
    root = tree({"cat": 10, "dog": 10}, size=(8, 8))
    small = load_data(root, image_size=4)
    streamed = load_data(root, memory_limit=1)
    assert len(streamed.test) == 4
    assert small.image_shape == (3, 4, 4)
    shrunk = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in streamed.test.pixels(torch.arange(4))]
    expected = [np.asarray(image.resize((4, 4), Image.Resampling.BILINEAR)) for image in shrunk]
    assert np.array_equal(small.test.pixels(torch.arange(4)).permute(0, 2, 3, 1), np.stack(expected))


def test_mixed_sizes_need_image_size(tree: Tree) -> None:
    tree({"train/cat": 3, "test/cat": 1, "test/dog": 1}, size=(6, 5))
    root = tree({"train/dog": 3}, size=(6, 7))
    message = r"train/cat/000.png is 6x5, train/dog/000.png is 6x7; give --image-size, for example 5"
    with pytest.raises(CondenseError, match=message):
        load_data(root)
    assert load_data(root, image_size=5).image_shape == (3, 5, 5)
    assert load_data(root, image_size=(4, 6)).image_shape == (3, 4, 6)


def test_resizing_keeps_the_aspect_and_cuts_the_middle(tree: Tree) -> None:
    root = tree({"cat": 2, "dog": 2})
    for path in root.rglob("*.png"):
        stripes = np.zeros((4, 12, 3), np.uint8)
        stripes[:, 2:10] = 200  # stretched to a square, the dark ends would show
        Image.fromarray(stripes).save(path)
    data = load_data(root, image_size=2)
    assert data.image_shape == (3, 2, 2)
    assert (data.train.pixels(torch.arange(2)) == 200).all()


def test_mixed_modes_become_rgb(tree: Tree) -> None:
    tree({"train/cat": 3, "test/cat": 1}, mode="L")
    root = tree({"train/dog": 3, "test/dog": 1})
    data = load_data(root)
    assert data.image_shape == (3, 6, 5)
    gray = data.train.pixels(torch.tensor([0]))[0]
    assert torch.equal(gray[0], gray[1])
    assert torch.equal(gray[0], gray[2])
    assert "4 of 8 images are grayscale and became RGB like the others" in data.notes


def test_transparency_and_palettes(tree: Tree) -> None:
    root = tree(TWO_SPLITS)
    for number, path in enumerate(sorted((root / "train/cat").iterdir())):
        image = Image.open(path)
        image.convert("RGBA" if number else "P").save(path)
    data = load_data(root)
    assert data.image_shape == (3, 6, 5)
    assert "3 of 14 images have a transparency channel, which is left out" in data.notes


def test_images_of_more_than_8_bits_are_refused(tree: Tree) -> None:
    root = tree(TWO_SPLITS)
    Image.fromarray(np.full((6, 5), 40000, np.uint16)).save(root / "train/cat/001.png")
    with pytest.raises(CondenseError, match=r"more than 8 bits .* train/cat/001.png; give --window"):
        load_data(root)


def test_unreadable_files_are_listed(tree: Tree) -> None:
    root = tree(TWO_SPLITS, size=(40, 40))
    (root / "train/cat/002.png").write_text("not an image")
    half = (root / "test/dog/001.png").read_bytes()
    (root / "test/dog/001.png").write_bytes(half[: len(half) // 2])
    message = r"2 of 14 image files in .*pets cannot be read: train/cat/002.png, test/dog/001.png; replace or remove"
    with pytest.raises(CondenseError, match=message):
        load_data(root)
    (root / "train/cat/002.png").unlink()
    for memory_limit in (10, 2**20):  # a half file has a good header
        with pytest.raises(CondenseError, match=r"1 of 13 image files .* test/dog/001.png; replace"):
            load_data(root, memory_limit=memory_limit)


def test_many_unreadable_files_are_counted(tree: Tree) -> None:
    root = tree({"cat": 9, "dog": 3})
    for path in (root / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(CondenseError, match=r"9 of 12 .* cat/004.png and 4 more;") as raised:
        load_data(root)
    assert "cat/005.png" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no image files"),
        ({"cat": 3}, "only one class, 'cat'"),
        ({"cat": 0, "dog": 0}, "no image files"),
        ({"cat": 0, "dog": 3}, "class 'cat' of pets has no training image"),
        ({"Test/cat": 2, "Test/dog": 2}, "Test/ but no train/"),
        ({"train/cat": 2, "train/dog": 2, "test/cat": 0}, "test split of pets is empty"),
        ({"train/cat": 2, "train/dog": 2, "test/dgo": 2}, r"training split lacks, for example 'dgo'; did you mean dog"),
    ],
)
def test_layouts_that_cannot_work(tree: Tree, counts: dict[str, int], message: str) -> None:
    root = tree(counts)
    root.mkdir(exist_ok=True)
    with pytest.raises(CondenseError, match=message):
        load_data(root)


def test_notes_on_imbalance_missing_classes_and_other_files(tree: Tree) -> None:
    root = tree({"train/cat": 2, "train/dog": 7, "train/eel": 3, "test/cat": 1})
    (root / "train/dog/notes.txt").write_text("good dogs")
    (root / "train/dog/.hidden").write_text("")
    (root / ".git").mkdir()
    (root / "train/dog/.thumbnails").mkdir()
    shutil.copy(next((root / "train/dog").glob("*.png")), root / "train/dog/.thumbnails/small.png")
    assert load_data(root).notes == (
        "1 file(s) without the suffix of an image were left out (1 .txt), for example train/dog/notes.txt",
        "classes are unbalanced: 'dog' has 7 training images, 'cat' has 2",
        "2 class(es) have no test image: dog, eel",
    )


def test_folders_inside_class_folders_are_searched(tree: Tree) -> None:
    data = load_data(tree({"train/cat/a": 2, "train/cat/b": 1, "train/dog": 2, "test/cat": 1, "test/dog": 1}))
    assert data.train.class_counts() == (3, 2)


def decoded_tensors(value: Any, seen: set[int] | None = None) -> list[torch.Tensor]:
    """Every uint8 tensor that is reachable from an object of condense."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return [value] if value.dtype == torch.uint8 else []
    inside = value if isinstance(value, list | tuple) else vars(value).values() if hasattr(value, "__dict__") else ()
    return [tensor for part in inside for tensor in decoded_tensors(part, seen)]


def test_a_tree_above_the_memory_limit_is_streamed(tree: Tree) -> None:
    names = [f"class{number:03d}" for number in range(200)]
    root = tree({f"train/{name}": 2 for name in names} | {f"test/{name}": 1 for name in names}, size=(24, 32))
    whole = load_data(root)
    streamed = load_data(root, memory_limit=10**6)
    assert whole.train.source.decoded_bytes + whole.test.source.decoded_bytes > 10**6
    assert isinstance(whole.train.source, TensorPixels)
    assert decoded_tensors(whole)
    assert decoded_tensors(streamed) == []
    assert any("memory limit" in note for note in streamed.notes)
    assert whole.notes == ()
    assert streamed.info == whole.info
    shuffled = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    assert torch.equal(streamed.train.pixels(shuffled), whole.train.pixels(shuffled))
    assert torch.equal(streamed.train.images(shuffled[:20]), whole.train.images(shuffled[:20]))
    assert torch.equal(streamed.test.pixels(torch.arange(200)), whole.test.pixels(torch.arange(200)))
    assert streamed.train.class_indices(150).tolist() == [300, 301]
    assert decoded_tensors(streamed) == []


def test_large_images_are_decoded_alike_by_several_threads(tree: Tree) -> None:
    root = tree({"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1}, size=(130, 140))
    data = load_data(root, memory_limit=1)
    names = [f"train/{name}/{number:03d}.png" for name in ("cat", "dog") for number in range(3)]
    expected = np.stack([read_png(root / name) for name in names])
    assert np.array_equal(data.train.pixels(torch.arange(6)), expected)


def test_a_train_folder_without_a_test_folder_is_split_like_its_classes_alone(tree):
    root = tree({"train/cat": 10, "train/dog": 5})
    data = load_data(root)
    assert (len(data.train), len(data.test)) == (12, 3)
    assert data.test.class_counts() == (2, 1)
    assert any("20 %" in note for note in data.notes)
    assert load_data(root / "train").fingerprint == data.fingerprint
