"""Images that cannot be decoded are left out on request, as if they were not there, and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import condense
from condense.cli.main import main
from condense.data import load_data
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`

SIZE = (40, 30)  # large enough for JPEG data to be cut


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))


def cut(path: Path) -> None:
    """Its header is whole, its pixels are not."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_image(path: Path) -> None:
    path.write_bytes(b"<html>404</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


BROKEN = {"cat/001.jpg": cut, "cat/007.jpg": no_image, "dog/004.jpg": empty}


def test_the_splits_are_those_of_a_tree_without_them(tree: Tree, tmp_path: Path) -> None:
    root = tree({"cat": 12, "dog": 10}, size=SIZE, suffix=".jpg")
    clean = shutil.copytree(root, tmp_path / "clean" / "pets")
    for name, damage in BROKEN.items():
        damage(root / name)
        (clean / name).unlink()
    expected = load_data(clean)
    message = (
        r"3 of 22 image files in .* cannot be read: .*; replace or remove them, or give --skip-broken to leave them"
    )
    with pytest.raises(CondenseError, match=message):
        load_data(root)
    for _ in range(2):  # the second time by what is remembered
        data = load_data(root, skip_broken=True)
        assert data.fingerprint == expected.fingerprint
        assert torch.equal(data.test.pixels(torch.arange(4)), expected.test.pixels(torch.arange(4)))
        assert set(data.left_out) == set(BROKEN)
        assert "3 image(s) that cannot be read were left out: cat/001.jpg, cat/007.jpg, dog/004.jpg" in data.notes
        assert data.reading_options == {"skip_broken": True}


def test_it_changes_nothing_where_all_is_well(tree: Tree) -> None:
    root = tree({"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1})
    data = load_data(root, skip_broken=True)
    assert (data.left_out, data.reading_options) == ((), {})
    assert data.info == load_data(root).info


def test_in_both_splits_of_a_tree(tree: Tree) -> None:
    root = tree({"train/cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 2}, size=SIZE, suffix=".jpg")
    cut(root / "train/dog/000.jpg")
    cut(root / "test/cat/001.jpg")
    with pytest.raises(CondenseError, match=r"--skip-broken"):
        load_data(root)
    data = load_data(root, skip_broken=True)
    assert (data.train.class_counts(), data.test.class_counts()) == ((3, 2), (1, 2))
    assert data.left_out == ("train/dog/000.jpg", "test/cat/001.jpg")


def test_the_shape_is_that_of_the_others(tree: Tree) -> None:
    """A file of another size and colour, whose pixels are cut, decides nothing."""
    root = tree({"cat": 4, "dog": 4}, size=SIZE, suffix=".jpg", mode="L")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(root / "cat/000.jpg")
    cut(root / "cat/000.jpg")
    assert load_data(root, skip_broken=True).image_shape == (1, *SIZE)


def test_a_file_that_is_mended_or_breaks_is_noticed(tree: Tree) -> None:
    root = tree({"cat": 6, "dog": 6}, size=SIZE, suffix=".jpg")
    whole = (root / "cat/001.jpg").read_bytes()
    cut(root / "cat/001.jpg")
    assert load_data(root, skip_broken=True).left_out == ("cat/001.jpg",)
    (root / "cat/001.jpg").write_bytes(whole)
    cut(root / "dog/001.jpg")
    assert load_data(root, skip_broken=True).left_out == ("dog/001.jpg",)


def test_a_class_without_whole_images_is_refused(tree: Tree) -> None:
    root = tree({"cat": 4, "dog": 2}, size=SIZE, suffix=".jpg")
    for number in range(2):
        cut(root / f"dog/00{number}.jpg")
    with pytest.raises(CondenseError, match="class 'dog' of pets has no training image"):
        load_data(root, skip_broken=True)
    for number in range(4):
        cut(root / f"cat/00{number}.jpg")
    with pytest.raises(CondenseError, match=r"6 of 6 image files in .* cannot be read: .*; replace or remove them$"):
        load_data(root, skip_broken=True)


class Files:
    """A Dataset that opens its files itself, as torchvision's `ImageFolder` does."""

    classes = ("cat", "dog")

    def __init__(self, root: Path, *, lazily: bool) -> None:
        self.paths, self.lazily = sorted(root.glob("*/*.jpg")), lazily

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.open(self.paths[index])
        return image if self.lazily else image.convert("RGB"), self.classes.index(self.paths[index].parent.name)


@pytest.mark.parametrize("lazily", [False, True])
def test_items_of_a_dataset(tree: Tree, *, lazily: bool) -> None:
    root = tree({"cat": 12, "dog": 10}, size=SIZE, suffix=".jpg")
    for name, damage in BROKEN.items():
        damage(root / name)
    files = Files(root, lazily=lazily)
    with pytest.raises(CondenseError, match=r"(item|image) 1 .*cannot be read \(.*; replace it, or give --skip-broken"):
        load_data(files)  # type: ignore[arg-type]
    data = load_data(files, skip_broken=True)  # type: ignore[arg-type]
    assert data.left_out == ("item 1", "item 7", "item 16")
    assert len(data.train) + len(data.test) == 19
    pair = load_data((files, files), skip_broken=True)  # type: ignore[arg-type]
    assert pair.left_out[::3] == ("item 1 of the training set", "item 1 of the test set")
    for name in BROKEN:
        (root / name).unlink()
    assert data.fingerprint == load_data(Files(root, lazily=lazily)).fingerprint  # type: ignore[arg-type]


def test_a_missing_file_of_a_dataset_is_no_broken_image(tree: Tree) -> None:
    files = Files(tree({"cat": 3, "dog": 3}, suffix=".jpg"), lazily=False)
    files.paths[2].unlink()
    with pytest.raises(FileNotFoundError):
        load_data(files, skip_broken=True)  # type: ignore[arg-type]


def test_pack_lists_all_of_them(tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tree({"cat": 12, "dog": 10}, size=SIZE, suffix=".jpg"), tmp_path / "pets.h5"
    for number in range(7):
        cut(root / f"cat/{number:03d}.jpg")
    assert main(["pack", str(root), "--out", str(out)]) == 2
    assert "or give --skip-broken to leave them out" in capsys.readouterr().err
    assert main(["pack", str(root), "--skip-broken", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "note: 7 image(s) that cannot be read were left out: " in told.err
    assert "and 2 more; condense pack lists all of them" in told.err
    assert told.out.splitlines()[1:] == [f"left out: cat/{number:03d}.jpg" for number in range(7)]
    assert load_data(out).reading_options == {}
    assert load_data(out).fingerprint == load_data(root, skip_broken=True).fingerprint


def test_it_is_in_the_command_that_makes_a_set_again(tree: Tree) -> None:
    root = tree({"cat": 12, "dog": 10}, size=SIZE, suffix=".jpg")
    whole = condense.distill("random", load_data(root, skip_broken=True), 1)
    assert "--skip-broken" not in whole.provenance["command"]
    cut(root / "cat/001.jpg")
    made = condense.distill("random", load_data(root, skip_broken=True), 1)
    assert " --skip-broken " in made.provenance["command"]
