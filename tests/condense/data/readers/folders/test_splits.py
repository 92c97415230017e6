"""Which folders become the training and the test split, and how a test split is made of sub-folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import condense
from condense.data import RealData, load_data
from condense.data.readers.folders.sequences import Place, frames
from condense.data.readers.folders.splits import TEST_NAMES, TRAIN_NAMES
from condense.data.splitting import content_key, grouped_split
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`

TRAIN = {"train/cat": 6, "train/dog": 6}


def add_images(folder: Path, count: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (5, 6), (number, 0, 0)).save(folder / f"{number}.png")


class TestChoice:
    @pytest.mark.parametrize("name", [*TEST_NAMES, "Eval", "DEV"])
    def test_every_name_of_a_test_split(self, tree: Tree, name: str) -> None:
        data = load_data(tree({**TRAIN, f"{name}/cat": 1, f"{name}/dog": 2}))
        assert (data.train.class_counts(), data.test.class_counts()) == ((6, 6), (1, 2))
        named = name.lower().startswith("test")
        assert data.notes == (() if named else (f"{name}/ of pets is the test split",))

    @pytest.mark.parametrize("name", [*TRAIN_NAMES, "Train"])
    def test_every_name_of_a_training_split(self, tree: Tree, name: str) -> None:
        data = load_data(tree({f"{name}/cat": 3, f"{name}/dog": 2, "tst/cat": 1, "tst/dog": 1}))
        assert (data.train.class_counts(), data.test.class_counts()) == ((3, 2), (1, 1))

    @pytest.mark.parametrize("heap", ["test", "test/images"])
    def test_a_heap_of_images_without_labels_loses_to_classes(self, tree: Tree, heap: str) -> None:
        root = tree({**TRAIN, "val/cat": 1, "val/dog": 2})
        add_images(root / heap)
        data = load_data(root)
        assert data.test.class_counts() == (1, 2)
        assert data.notes[:2] == (
            "val/ of pets is the test split",
            "test/ in pets is not used: it has no class folders, so its images have no labels",
        )

    def test_a_heap_alone_is_said_and_a_split_made(self, tree: Tree) -> None:
        root = tree(TRAIN)
        add_images(root / "test")
        data = load_data(root)
        assert data.test.class_counts() == (1, 1)
        assert "pets has no test split" in data.notes[0]
        assert "test/ in pets is not used: it has no class folders, so its images have no labels" in data.notes

    @pytest.mark.parametrize("table", ["annotations.txt", "labels.csv"])
    def test_labels_in_a_file_of_another_name_are_named(self, tree: Tree, table: str) -> None:
        root = tree({"train/n1/images": 3, "train/n2/images": 3})
        add_images(root / "val/images")
        add_images(root / "test/images")
        (root / "val" / table).write_text("0.png n1")
        (root / "val/README.txt").write_text("pets")
        message = rf"val has no class folders, and {table} is not looked into for labels; call it metadata.csv if"
        with pytest.raises(CondenseError, match=message):
            load_data(root)
        assert load_data(root / "train").test.class_counts() == (1, 1)
        (root / "val" / table).unlink()
        assert load_data(root).test.class_counts() == (1, 1)

    def test_classes_that_training_lacks_are_no_heap(self, tree: Tree) -> None:
        with pytest.raises(CondenseError, match="training split lacks, for example 'ant'"):
            load_data(tree({**TRAIN, "test/ant": 1, "test/bee": 1, "val/cat": 1}))

    def test_empty_class_folders_lose_to_full_ones(self, tree: Tree) -> None:
        data = load_data(tree({**TRAIN, "test/cat": 0, "test/dog": 0, "val/cat": 1, "val/dog": 1}))
        assert data.test.class_counts() == (1, 1)

    def test_folders_that_are_not_used_are_named(self, tree: Tree) -> None:
        root = tree({**TRAIN, "test/cat": 1, "test/dog": 1, "more/cat": 1, "eval/cat": 1, "training/dog": 1, "docs": 0})
        (root / "docs/a.txt").write_text("")
        assert load_data(root).notes == (
            "eval/ in pets is not used: test/ is the test split",
            "more/ in pets is not used",
            "training/ in pets is not used",
        )

    @pytest.mark.parametrize("wrapping", ["one", "one/two"])
    def test_a_folder_around_the_splits_is_looked_through(self, tree: Tree, wrapping: str) -> None:
        root = tree({f"{wrapping}/train/cat": 2, f"{wrapping}/train/dog": 2, f"{wrapping}/eval/cat": 1})
        add_images(root / "__MACOSX/train/cat")
        (root / "README.md").write_text("pets")
        data = load_data(root)
        assert (data.name, data.classes) == ("pets", ("cat", "dog"))
        assert data.notes[0] == f"the splits of pets are in its folder {wrapping}/"
        assert data.fingerprint == load_data(root / wrapping).fingerprint

    def test_one_class_folder_is_not_looked_through(self, tree: Tree) -> None:
        with pytest.raises(CondenseError, match="only one class, 'cat'"):
            load_data(tree({"cat/test": 2, "cat/old": 2}))


CLIPS = {f"{name}/clip{number:02d}": 5 for name in ("run", "walk") for number in range(10)}


def sides(data: RealData, root: Path) -> dict[str, set[str]]:
    """On which sides of the split the images of each sub-folder are; all images of the tree differ."""
    place = {}
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            place[image.tobytes()] = path.parent.relative_to(root).as_posix()
    found: dict[str, set[str]] = {}
    for side, split in (("train", data.train), ("test", data.test)):
        for image in split.pixels(torch.arange(len(split))):
            found.setdefault(place[image.permute(1, 2, 0).numpy().tobytes()], set()).add(side)
    return found


class TestSubfolders:
    def test_sub_folders_are_shared_by_both_splits_and_a_note_says_so(self, tree: Tree) -> None:
        root = tree(CLIPS)
        data = load_data(root)
        assert any(len(both) == 2 for both in sides(data, root).values())
        assert data.notes[1:] == (
            "the sub-folders of 2 class folder(s) were merged, for example run has clip00, clip01, clip02, clip03 and "
            "6 more; if these are the classes, move them up",
            "if these sub-folders are clips, bursts or patients, training and the made test split share them, so "
            "accuracy will be too high; give --group-by-folder to keep each on one side",
        )

    def test_with_the_option_each_is_on_one_side(self, tree: Tree) -> None:
        root = tree(CLIPS)
        data = load_data(root, group_by_folder=True)
        found = sides(data, root)
        assert all(len(side) == 1 for side in found.values())
        assert data.test.class_counts() == (10, 10)
        for clip in (f"clip{number:02d}" for number in range(10)):  # a patient may have images of several classes
            assert found[f"run/{clip}"] == found[f"walk/{clip}"]
        assert data.notes == (
            "pets has no test split; 20 of its 100 images (whole sub-folders, near 20 % of every class) became one",
        )
        assert data.fingerprint == load_data(root, group_by_folder=True).fingerprint
        assert data.fingerprint != load_data(root).fingerprint

    def test_the_split_depends_on_what_the_images_hold_alone(self, tree: Tree) -> None:
        root = tree(CLIPS)
        data = load_data(root, group_by_folder=True)
        before = {image.numpy().tobytes() for image in data.test.pixels(torch.arange(20))}
        for name in ("run", "walk"):
            for number, path in enumerate(sorted((root / name).iterdir())):
                path.rename(path.with_name(f"{7 * number % 10}th clip"))
        data = load_data(root, group_by_folder=True)
        assert {image.numpy().tobytes() for image in data.test.pixels(torch.arange(20))} == before

    def test_deeper_folders_and_images_beside_them(self, tree: Tree) -> None:
        """A sub-folder goes with all that is below it; images without one go each for itself."""
        root = tree({"ill/p1/left": 2, "ill/p1/right": 2, "ill/p2": 4, "ill": 12, "well/p3": 4, "well/p4": 6})
        data = load_data(root, group_by_folder=True)
        found = sides(data, root)
        assert found["ill/p1/left"] == found["ill/p1/right"]
        assert all(len(side) == 1 for place, side in found.items() if place != "ill")
        assert min(data.test.class_counts()) > 0
        assert min(data.train.class_counts()) > 0

    @pytest.mark.parametrize(
        ("counts", "message"),
        [
            ({"cat": 5, "dog": 5}, "class folders of pets have no sub-folders: leave --group-by-folder out"),
            ({"cat/a": 5, "dog/b": 5}, "none can be split off because no class can spare a sub-folder"),
            ({"train/cat/a": 2, "train/dog/b": 2, "dev/cat": 1}, "has a test split, dev/, of its own"),
        ],
    )
    def test_where_it_cannot_be(self, tree: Tree, counts: dict[str, int], message: str) -> None:
        with pytest.raises(CondenseError, match=message):
            load_data(tree(counts), group_by_folder=True)

    @pytest.mark.parametrize("source", ["digits", "hf:anything", "nothing.npz", [(1, 2)]])
    def test_it_is_for_folders(self, source: object) -> None:
        with pytest.raises(CondenseError, match="--group-by-folder is for a path of class folders"):
            load_data(source, group_by_folder=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_divided_near_the_fraction(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    groups = torch.randint(0, 30, (300,), generator=draws).tolist()
    labels = torch.randint(0, 3, (300,), generator=draws)
    keys = [content_key(bytes([seed, index % 256, index // 256])) for index in range(300)]
    kept, held_out = grouped_split(labels, keys, groups, 0.2)
    assert sorted([*kept.tolist(), *held_out.tolist()]) == list(range(300))
    assert not {groups[index] for index in kept} & {groups[index] for index in held_out}
    total, held = Counter(labels.tolist()), Counter(labels[held_out].tolist())
    for label in range(3):
        assert 0.1 < held[label] / total[label] < 0.35


def test_a_class_with_two_large_groups_gives_the_smaller_one() -> None:
    labels = torch.tensor([0] * 10 + [1] * 10)
    groups = ["a"] * 4 + ["b"] * 6 + ["c"] * 7 + ["d"] * 3
    keys = [bytes([index]) for index in range(20)]
    _, held_out = grouped_split(labels, keys, groups, 0.2)
    assert {groups[index] for index in held_out} == {"a", "d"}
    _, none = grouped_split(torch.zeros(5, dtype=torch.int64), keys[:5], ["a"] * 5, 0.2)
    assert len(none) == 0


class TestFrames:
    def named(self, tree: Tree, pattern: str) -> RealData:
        root = tree({"run": 6, "walk": 6})
        for name, clip in (("run", 2), ("walk", 3)):
            for number, path in enumerate(sorted((root / name).iterdir())):
                path.rename(root / name / pattern.format(clip=clip + 5 * (number % 2), frame=number // 2 + 1, n=number))
        return load_data(root)

    def test_names_like_frames_are_noted(self, tree: Tree) -> None:
        data = self.named(tree, "clip{clip:02d}_{frame}.png")
        assert any("run/clip02_1.png and run/clip02_2.png" in note for note in data.notes)
        assert any("into a sub-folder of its class and give --group-by-folder" in note for note in data.notes)

    @pytest.mark.parametrize(
        "pattern", ["{n:03d}.png", "IMG_{n:04d}.png", "walk-{n}.png", "n0123_{n}.png", "a{n}b.png"]
    )
    def test_plain_numbers_are_not(self, tree: Tree, pattern: str) -> None:
        assert len(self.named(tree, pattern).notes) == 1

    def test_scattered_numbers_are_not(self) -> None:
        """As those of images that were drawn from a large collection, year by year."""
        names = [f"{year}_{97 * number:06d}.jpg" for year in (2007, 2008) for number in range(10)]
        assert frames([Place("cat", Path(name)) for name in names]) is None  # type: ignore[arg-type]


def test_the_option_is_in_the_command_that_makes_a_set_again(tree: Tree, tmp_path: Path) -> None:
    root = tree(CLIPS)
    for grouped in (False, True):
        made = condense.distill("random", load_data(root, group_by_folder=grouped), 1)
        assert ("--group-by-folder" in made.provenance["command"].split()) == grouped
        assert ("group_by_folder" in made.provenance["configuration"]) == grouped
    with pytest.raises(CondenseError, match="needs experts") as error:
        condense.distill("mtt", load_data(root, group_by_folder=True, image_size=8), 1, network="convnet-d1-w4")
    assert "--group-by-folder" in str(error.value)
