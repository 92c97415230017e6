"""Folders as they really are on disks: links, leftovers of systems, names that are no text, files of other kinds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from condense.data import load_data
from condense.data.readers.folders.tree import walk
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`

TWO_SPLITS = {"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3}
UNREADABLE = os.fsdecode(b"caf\xe9")  # a latin-1 name


def counts(root: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    data = load_data(root)
    return data.train.class_counts(), data.test.class_counts()


class TestLinks:
    @pytest.mark.parametrize("target", ["..", ".", "../..", "../../..", "../../test", "../dog", "../dog/deep", "deep"])
    def test_a_link_inside_a_class_adds_nothing_that_is_read_anyway(self, tree: Tree, target: str) -> None:
        root = tree(TWO_SPLITS | {"train/cat/deep": 1, "train/dog/deep": 1})
        before = load_data(root)
        (root / "train/cat/link").symlink_to(target)
        after = load_data(root)
        assert after.fingerprint == before.fingerprint
        assert (
            "1 link(s) to folders that are read elsewhere were not followed, for example train/cat/link" in after.notes
        )

    def test_links_that_lead_back_and_forth_end(self, tree: Tree) -> None:
        root = tree(TWO_SPLITS)
        for name, target in (("a", "../.."), ("b", ".."), ("c", "c"), ("d", "e"), ("e", "d")):
            (root / "train/cat" / name).symlink_to(target)
            (root / "train/dog" / name).symlink_to(target)
        assert counts(root) == ((4, 5), (2, 3))

    def test_folders_outside_are_read_once(self, tree: Tree, tmp_path: Path) -> None:
        outside = tree({"more": 3, "more/cats": 2})
        root = tmp_path / "links"
        for part in ("train/cat", "train/dog", "test/cat", "test/dog"):
            (root / part).mkdir(parents=True)
            Image.new("RGB", (5, 6)).save(root / part / "0.png")
        (root / "train/cat/one").symlink_to(outside / "more/cats")
        (root / "train/cat/two").symlink_to(outside / "more")
        (root / "train/dog/three").symlink_to(outside / "more")
        (outside / "more/back").symlink_to(root)
        assert counts(root) == ((6, 1), (1, 1))

    def test_class_folders_may_be_links(self, tree: Tree, tmp_path: Path) -> None:
        """As subsets of ImageNet are made."""
        whole = tree(TWO_SPLITS | {"train/eel": 3, "test/eel": 1})
        for part in ("train", "test"):
            (tmp_path / "subset" / part).mkdir(parents=True)
            for name in ("cat", "eel"):
                (tmp_path / "subset" / part / name).symlink_to(whole / part / name)
        assert counts(tmp_path / "subset") == ((4, 3), (2, 1))

    @pytest.mark.parametrize(
        ("link", "target"),
        [("train/self", "."), ("train/eel", "cat"), ("test/eel", "../train/dog"), ("train/eel", "../test")],
    )
    def test_a_class_that_is_a_link_to_something_else_in_the_tree_is_refused(
        self, tree: Tree, link: str, target: str
    ) -> None:
        root = tree(TWO_SPLITS)
        (root / link).symlink_to(target)
        with pytest.raises(CondenseError, match=r"are the same folder, by a link; remove one of the two"):
            load_data(root)

    def test_a_tree_of_one_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "self").symlink_to(".")
        with pytest.raises(CondenseError, match="are the same folder, by a link"):
            load_data(tmp_path)

    def test_a_walk_tells_each_file_once_with_its_folder(self, tmp_path: Path) -> None:
        for name in ("a/1", "a/in/2", "b/3"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("")
        (tmp_path / "a/link").symlink_to("../b")
        repeated: list[str] = []
        files = sorted(walk(tmp_path, [tmp_path / "a", tmp_path / "b"], repeated=repeated))
        assert files == [(0, "a/1"), (0, "a/in/2"), (1, "b/3")]
        assert repeated == ["a/link"]


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN", "lost+found", "#recycle"])
def test_what_systems_leave_is_no_class_and_no_image(tree: Tree, name: str) -> None:
    root = tree({"cat": 5, "dog": 5})
    before = load_data(root).fingerprint
    tree({name: 1, f"{name}/dog": 2, f"cat/{name}": 2}, seed=1)
    (root / "dog/._000.png").write_bytes(b"\0\5\26\7")
    data = load_data(root)
    assert data.classes == ("cat", "dog")
    assert data.fingerprint == before
    (root / "train").mkdir()
    for part in ("cat", "dog"):
        (root / part).rename(root / "train" / part)
    tree({f"train/{name}/cat": 1, "test/cat": 1, "test/dog": 1, f"test/{name}": 1}, seed=2)
    assert counts(root) == ((5, 5), (1, 1))


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".gif", ".jp2", ".tga", ".pcx", ".mpo", ".JPG", ".Tiff"])
def test_every_suffix_of_a_format_that_is_read(tree: Tree, suffix: str) -> None:
    data = load_data(tree({"train/cat": 2, "train/dog": 3, "test/cat": 1, "test/dog": 1}, suffix=suffix))
    assert data.train.class_counts() == (2, 3)


def test_files_that_are_left_out_are_counted_by_suffix(tree: Tree) -> None:
    root = tree(TWO_SPLITS)
    for name in ("a.heic", "b.HEIC", "Thumbs.db", "labels", "c.heic"):
        (root / "train/cat" / name).write_text("")
    (root / "test/dog/notes.txt").write_text("")
    (root / "train/loose.png").write_bytes((root / "train/cat/000.png").read_bytes())
    (root / "test/loose.png").write_text("no image")
    (root / "also.jpg").write_text("no image")
    (root / "README").write_text("pets")
    assert load_data(root).notes == (
        "6 file(s) without the suffix of an image were left out (3 .heic, 1 .db, 1 without any, 1 .txt), for example "
        "train/cat/Thumbs.db",
        "3 image file(s) beside the class folders were left out, for example also.jpg",
    )


def test_a_class_of_other_files_says_which(tree: Tree) -> None:
    root = tree(TWO_SPLITS)
    for path in (root / "train/dog").iterdir():
        path.rename(path.with_suffix(".heic"))
    message = "class 'dog' of pets has no training image, only 5 .heic; convert them to .png, or leave the folder out"
    with pytest.raises(CondenseError, match=message):
        load_data(root)
    for path in (root / "train/cat").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(CondenseError, match=r"no image files .* \(only 9 .heic\); use train/CLASS"):
        load_data(root)


class TestNamesThatAreNoText:
    MESSAGE = r"the name '{}' of a {} is not UTF-8 text, so it cannot be stored; rename it"

    @pytest.mark.parametrize("part", ["train", "test", "both", "alone"])
    def test_class_folders(self, tree: Tree, part: str) -> None:
        parts = {"train": ["train"], "test": ["test"], "both": ["train", "test"]}.get(part, [""])
        root = tree({"cat": 2, "dog": 2} if part == "alone" else TWO_SPLITS)
        for folder in parts:
            (root / folder / "dog").rename(root / folder / UNREADABLE)
        with pytest.raises(CondenseError, match=self.MESSAGE.format(r"caf\\xe9", "class")) as raised:
            load_data(root)
        str(raised.value).encode()

    def test_the_folder_of_the_data(self, tree: Tree) -> None:
        root = tree(TWO_SPLITS)
        with pytest.raises(CondenseError, match=self.MESSAGE.format(r"caf\\xe9", "data set")):
            load_data(root.rename(root.with_name(UNREADABLE)))

    def test_files_and_folders_above_and_below_need_not_be_text(self, tree: Tree) -> None:
        root = tree(TWO_SPLITS)
        before = load_data(root).fingerprint
        (root / "train/dog/004.png").rename(root / "train/dog" / f"{UNREADABLE}.png")
        (root / "train/dog" / f"{UNREADABLE}.txt").write_text("")
        above = root.with_name(UNREADABLE)
        above.mkdir()
        data = load_data(root.rename(above / "pets"))
        assert data.fingerprint == before
        (above / "pets/train/dog" / f"{UNREADABLE}.png").write_text("no image")
        with pytest.raises(CondenseError, match="1 of 14 image files"):
            load_data(above / "pets")


def test_a_wrapped_class_level_is_pointed_out(tree: Tree) -> None:
    root = tree({"one/cat": 2, "one/dog": 2})
    with pytest.raises(
        CondenseError, match=r"only one class, 'one'; if its sub-folders are the classes, give .*pets/one"
    ):
        load_data(root)


def test_merged_classes_are_noted(tree: Tree) -> None:
    root = tree({f"{part}/{name}": 2 for part in ("train", "test") for name in ("animal/cat", "animal/dog", "thing")})
    data = load_data(root)
    assert data.classes == ("animal", "thing")
    assert data.notes == (
        "the sub-folders of 2 class folder(s) were merged, for example train/animal has cat, dog; if these are the "
        "classes, move them up",
    )
