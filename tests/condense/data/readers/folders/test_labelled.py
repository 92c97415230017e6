"""Images whose labels lie in a table: CSV as people write it, `metadata.csv`, and Tiny-ImageNet as it is unzipped."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condense.data import RealData, load_data
from condense.data.readers.folders.label_tables import read_label_table
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


def write(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


ANIMALS = [(f"{number:02d}.png", "cat" if number % 3 else "dog") for number in range(15)]  # 10 cats, 5 dogs


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """15 images in a folder, named 00.png to 14.png."""
    for number, (name, _) in enumerate(ANIMALS):
        picture(tmp_path / "photos" / name, number)
    return tmp_path / "photos"


@pytest.fixture
def sorted_photos(tmp_path: Path) -> Path:
    """The same images in class folders."""
    for number, (name, label) in enumerate(ANIMALS):
        picture(tmp_path / "sorted" / label / name, number)
    return tmp_path / "sorted"


def labelled(data: RealData) -> set[tuple[bytes, str]]:
    """The pixels of every image with its class."""
    return {
        (image.numpy().tobytes(), data.classes[label])
        for split in (data.train, data.test)
        for image, label in zip(split.pixels(torch.arange(len(split))), split.labels.tolist())
    }


class TestTables:
    @pytest.mark.parametrize(
        ("header", "delimiter"),
        [
            (("file_name", "label"), ","),
            (("filename", "class"), ","),
            (("Image", "Target"), ","),
            (("path", "category"), ";"),
            (("ID", "Class Name"), "\t"),
            (None, ","),
            (None, "\t"),
            (None, " "),
        ],
    )
    def test_usual_columns_mean_what_class_folders_mean(
        self, photos: Path, sorted_photos: Path, header: tuple[str, str] | None, delimiter: str
    ) -> None:
        table = write(photos.parent / "labels.csv", [*([header] if header else []), *ANIMALS], delimiter)
        data = load_data(photos, labels=table)
        assert (data.name, data.classes) == ("photos", ("cat", "dog"))
        assert data.fingerprint == load_data(sorted_photos).fingerprint
        assert "photos has no test split; 3 of its 15 images" in data.notes[0]

    def test_a_byte_order_mark_and_other_columns(self, photos: Path) -> None:
        """As spreadsheets write them."""
        rows = [("taken", "file_name", "place", "label"), *(("2020", name, "x, y", label) for name, label in ANIMALS)]
        table = write(photos / "labels.csv", rows)
        table.write_text("\ufeff" + table.read_text(encoding="utf-8"), encoding="utf-8")
        assert load_data(photos, labels=table).train.class_counts() == (8, 4)

    def test_ends_of_lines_of_other_systems(self, photos: Path) -> None:
        for end in ("\r\n", "\n", "\r"):
            (photos / "labels.csv").write_bytes(end.join(["file,label", *map(",".join, ANIMALS)]).encode())
            assert load_data(photos, labels="labels.csv").train.class_counts() == (8, 4)

    def test_any_letter_is_part_of_a_name(self, tmp_path: Path) -> None:
        names = ["one\u2028two.png", "a\x0bb.png", "grün, blau.png", 'a "b".png']
        for number, name in enumerate(names):
            picture(tmp_path / "photos" / name, number)
        rows = [("file", "label"), *((name, f"{number % 2}") for number, name in enumerate(names))]
        data = load_data(tmp_path / "photos", labels=write(tmp_path / "t.csv", rows))
        assert len(data.train) + len(data.test) == 4

    def test_ids_without_suffix(self, photos: Path, sorted_photos: Path) -> None:
        rows = [("id", "label"), *((name.removesuffix(".png"), label) for name, label in ANIMALS)]
        data = load_data(photos, labels=write(photos / "labels.csv", rows))
        assert labelled(data) == labelled(load_data(sorted_photos))

    @pytest.mark.parametrize(
        "written",
        [
            *("{name}", "sub/{name}", "./images/sub/{name}", "photos/images/sub/{name}", "/home/me/images/sub/{name}"),
            *("C:\\\\data\\\\images\\\\sub\\\\{name}", "../photos/images/sub/{name}"),
        ],
    )
    def test_paths_are_found_in_nested_folders(self, tmp_path: Path, sorted_photos: Path, written: str) -> None:
        for number, (name, _) in enumerate(ANIMALS):
            picture(tmp_path / "photos" / "images" / "sub" / name, number)
        rows = [("path", "label"), *((written.format(name=name), label) for name, label in ANIMALS)]
        data = load_data(tmp_path / "photos", labels=write(tmp_path / "labels.csv", rows))
        assert labelled(data) == labelled(load_data(sorted_photos))

    def test_the_table_may_be_named_from_inside_the_folder(self, photos: Path) -> None:
        write(photos / "labels.csv", [("file", "label"), *ANIMALS])
        data = load_data(photos, labels="labels.csv")
        assert data.train.class_counts() == (8, 4)
        assert data.reading_options == {"labels": "labels.csv"}

    def test_a_name_in_two_folders_needs_its_path(self, tmp_path: Path) -> None:
        for number, name in enumerate(("a/1.png", "b/1.png", "a/2.png", "b/3.png")):
            picture(tmp_path / "photos" / name, number)
        table = write(tmp_path / "t.csv", [("file", "label"), ("1.png", "x"), ("2.png", "y")])
        with pytest.raises(CondenseError, match=r"'1.png' in line 2 of .*t.csv may be any of several files; give"):
            load_data(tmp_path / "photos", labels=table)
        write(table, [("file", "label"), ("a/1.png", "x"), ("b/1.png", "x"), ("2.png", "y"), ("3.png", "y")])
        assert load_data(tmp_path / "photos", labels=table).test.class_counts() == (1, 1)

    def test_a_file_elsewhere_is_not_taken_for_one_of_its_name(self, tmp_path: Path) -> None:
        picture(tmp_path / "photos/a/1.png", 0)
        picture(tmp_path / "photos/a/2.png", 1)
        table = write(
            tmp_path / "t.csv", [("file", "label"), ("b/1.png", "x"), ("/data/b/2.png", "y"), ("a/2.png", "y")]
        )
        with pytest.raises(
            CondenseError, match=r"2 file\(s\) that t.csv names are not in .*photos: b/1.png, /data/b/2.png"
        ):
            load_data(tmp_path / "photos", labels=table)

    def test_numbers_are_sorted_by_value(self, tmp_path: Path) -> None:
        rows = [(f"{number}.png", number // 2) for number in range(24)]
        for name, label in rows:
            picture(tmp_path / "photos" / name, label)
        data = load_data(tmp_path / "photos", labels=write(tmp_path / "t.csv", [("file", "label"), *rows]))
        assert data.classes == tuple(str(number) for number in range(12))

    def test_files_without_a_row_and_rows_without_a_label_are_noted(self, photos: Path) -> None:
        rows = [("file", "label"), *ANIMALS[:12], ("12.png", "")]
        data = load_data(photos, labels=write(photos / "labels.csv", rows))
        note = "3 of 15 image files in photos have no label in labels.csv and were left out: 12.png, 13.png, 14.png"
        assert note in data.notes
        assert len(data.train) + len(data.test) == 12

    def test_rows_without_a_file_are_refused_or_skipped(self, photos: Path) -> None:
        rows = [("file", "label"), *ANIMALS, ("99.png", "cat"), ("98.png", "bird")]
        table = write(photos / "labels.csv", rows)
        message = r"2 file\(s\) that labels.csv names are not in .*: 99.png, 98.png; add them, or give --skip-broken"
        with pytest.raises(CondenseError, match=message):
            load_data(photos, labels=table)
        data = load_data(photos, labels=table, skip_broken=True)
        assert data.left_out == ("99.png", "98.png")
        assert "2 line(s) without a file were left out: 99.png, 98.png" in data.notes
        assert data.reading_options == {"labels": "labels.csv", "skip_broken": True}
        assert data.fingerprint == load_data(photos, labels=write(table, rows[:-2])).fingerprint

    def test_the_same_row_twice_is_one_image(self, photos: Path) -> None:
        """As tables of boxes have it."""
        table = write(photos / "labels.csv", [("file", "label"), *ANIMALS, *ANIMALS[:3]])
        assert len(load_data(photos, labels=table).train) == 12

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "is empty; give a CSV"),
            ("file,label\n", "labels no image; give a CSV"),
            ("a,b,c\n1,2,3\n", r"has the columns a, b, c, and none of files \(file_name, .* and of labels \(label, "),
            (
                "file,b,c\n1,2,3\n",
                r"has the columns file, b, c, and none of labels \(label, .*; name them in",
            ),
            ("file,label\n00.png\n", r"line 2 of .* has 1 column\(s\), too few"),
            ("file,label\n00.png,cat\n00.png,dog\n", "lines 2 and 3 of .* say different things of 00.png"),
            ("file,label\n00.png,0.25\n01.png,0.5\n", r"line 2 of .* has the label 0.25, .* \(regression\) are not"),
            ("file,label\n00.png,cat\n01.png,cat\n", "photos has only one class, 'cat'"),
            ("file,label\nx.png,cat\ny.png,dog\n", "no file in .*photos fits a line of .*, whose first names 'x.png'"),
            ('file,label\n"00.png,cat\n01.png,dog\n', "cannot read line"),
            ("file,label\n00.png," + 200_000 * "x" + "\n", "cannot read line 2 of .*: field larger than field limit"),
            ("file,label\n00.png,ca\0t\n01.png,dog\n", "is not UTF-8 text|line contains NUL"),
            (
                "file,label,split\n00.png,cat,train\n01.png,dog,later\n",
                "line 3 of .* has the split 'later'; give",
            ),
            (
                "file,label,split\n00.png,cat,train\n01.png,dog,\n",
                "line 3 of .* has the split ''; give train, val",
            ),
            ("file,label,split\n00.png,cat,test\n01.png,dog,test\n", "has no images of the split train, only of test"),
            (b"file,label\n00.png,caf\xe9\n", "it is not a text file"),
            (b"\xff\xfef\0i\0l\0e\0", "it is not a text file"),
            (b"PK\x03\x04\xff\xfe", "it is not a text file"),
        ],
    )
    def test_tables_that_cannot_be_used(self, photos: Path, content: str | bytes, message: str) -> None:
        table = photos / "labels.csv"
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(CondenseError, match=message) as raised:
            load_data(photos, labels=table)
        assert "\n" not in str(raised.value)

    def test_no_table(self, photos: Path, tmp_path: Path) -> None:
        for name, reason in (
            ("none.csv", "No such file"),
            ("a" * 300, "File name too long"),
            ("a\0b", "embedded null"),
        ):
            with pytest.raises(CondenseError, match=f"cannot read .*: {reason}"):
                load_data(photos, labels=name)
        with pytest.raises(CondenseError, match=r"cannot read .*photos: Is a directory"):
            load_data(photos, labels=photos)
        (tmp_path / "empty").mkdir()
        table = write(tmp_path / "t.csv", [("file", "label"), *ANIMALS])
        with pytest.raises(CondenseError, match=r"no image files .* in .*empty; give the folder that has those of"):
            load_data(tmp_path / "empty", labels=table)
        for other in ("digits", "hf:pets", tmp_path / "a.npz"):
            with pytest.raises(CondenseError, match="--labels is for the path of a folder of images; leave it out"):
                load_data(other, labels=table)

    def test_a_huge_file_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "large.csv"
        with path.open("wb") as file:
            file.truncate(2**40)
        tracemalloc.start()
        with pytest.raises(CondenseError, match=r"has 1,099,511,627,776 bytes, and at most 268,435,456 are read"):
            read_label_table(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10**6

    def test_a_path_that_leads_out_reads_nothing(self, photos: Path, tmp_path: Path) -> None:
        picture(tmp_path / "secret.png", 0)
        rows = [("file", "label"), *ANIMALS, ("../secret.png", "cat"), (f"{tmp_path}/secret.png", "cat")]
        with pytest.raises(CondenseError, match=r"2 file\(s\) that labels.csv names are not in .*: ../secret.png, /"):
            load_data(photos, labels=write(photos / "labels.csv", rows))


class TestSplits:
    @pytest.mark.parametrize("names", [("train", "test"), ("Train", "val"), ("training", "dev")])
    def test_a_column_of_splits(self, photos: Path, names: tuple[str, str]) -> None:
        rows = [(name, label, names[number < 6]) for number, (name, label) in enumerate(ANIMALS)]
        data = load_data(photos, labels=write(photos / "labels.csv", [("file", "label", "split"), *rows]))
        assert (data.train.class_counts(), data.test.class_counts()) == ((6, 3), (4, 2))
        noted = f"the split {names[1]} of photos is the test split" in data.notes
        assert noted == (names[1] != "test")

    def test_the_third_split_is_left_out(self, photos: Path) -> None:
        splits = ["train"] * 9 + ["val"] * 3 + ["test"] * 3
        rows = [(*animal, split) for animal, split in zip(ANIMALS, splits)]
        data = load_data(photos, labels=write(photos / "labels.csv", [("file", "label", "split"), *rows]))
        assert (len(data.train), len(data.test)) == (9, 3)
        assert "the split val of photos, 3 images, is not used: test is the test split" in data.notes

    def test_folders_called_like_splits(self, tmp_path: Path) -> None:
        rows = [(f"{'test' if number < 6 else 'train'}/{name}", label) for number, (name, label) in enumerate(ANIMALS)]
        for number, (name, _) in enumerate(rows):
            picture(tmp_path / "photos" / name, number)
        table = write(tmp_path / "t.csv", [("file", "label"), *rows])
        assert len(load_data(tmp_path / "photos", labels=table).test) == 6
        write(table, [("file", "label"), *rows[6:]])  # as competitions have it
        data = load_data(tmp_path / "photos", labels=table)
        assert data.test.class_counts() == (1, 1)
        assert any("6 of 15 image files in photos have no label in t.csv" in note for note in data.notes)

    def test_folders_as_groups(self, tmp_path: Path) -> None:
        """Patients: the images of each stay on one side."""
        rows = [(f"patient{number // 3}/{number}.png", "ill" if number // 3 % 2 else "well") for number in range(30)]
        for number, (name, _) in enumerate(rows):
            picture(tmp_path / "scans" / name, number)
        table = write(tmp_path / "t.csv", [("file", "label"), *rows])
        data = load_data(tmp_path / "scans", labels=table, group_by_folder=True)
        assert data.test.class_counts() == (3, 3)
        held_out = {image for image, _ in labelled(data)} - {
            image.numpy().tobytes() for image in data.train.pixels(torch.arange(len(data.train)))
        }
        patients = {
            name.split("/")[0]
            for name, _ in rows
            if np.asarray(Image.open(tmp_path / "scans" / name)).transpose(2, 0, 1).tobytes() in held_out
        }
        assert len(patients) == 2
        assert data.reading_options == {"labels": "t.csv", "group_by_folder": True}
        for name, _ in rows:
            (tmp_path / "scans" / name).rename(tmp_path / "scans" / Path(name).name)
        write(table, [("file", "label"), *((Path(name).name, label) for name, label in rows)])
        with pytest.raises(CondenseError, match="the files of scans have no sub-folders: leave --group-by-folder out"):
            load_data(tmp_path / "scans", labels=table, group_by_folder=True)


class TestMetadata:
    """`metadata.csv` as Hugging Face's imagefolder has it."""

    def test_beside_the_images(self, photos: Path, sorted_photos: Path) -> None:
        write(photos / "metadata.csv", [("file_name", "label"), *ANIMALS])
        assert load_data(photos).fingerprint == load_data(sorted_photos).fingerprint
        assert not any("left out" in note for note in load_data(photos).notes)

    def test_above_one_folder_of_images(self, photos: Path, sorted_photos: Path) -> None:
        (photos / "images").mkdir()
        for name, _ in ANIMALS:
            (photos / name).rename(photos / "images" / name)
        write(
            photos / "metadata.csv", [("file_name", "label"), *((f"images/{name}", label) for name, label in ANIMALS)]
        )
        assert load_data(photos).fingerprint == load_data(sorted_photos).fingerprint

    def test_in_each_split(self, tmp_path: Path) -> None:
        for split, animals in (("test", ANIMALS[:6]), ("train", ANIMALS[6:])):
            for number, (name, _) in enumerate(animals):
                picture(tmp_path / "photos" / split / name, number)
            write(tmp_path / "photos" / split / "metadata.csv", [("file_name", "label"), *animals])
        data = load_data(tmp_path / "photos")
        assert (data.train.class_counts(), data.test.class_counts()) == ((6, 3), (4, 2))
        assert data.notes == ()
        write(tmp_path / "photos/test/metadata.csv", [("file_name", "label"), *ANIMALS[:5], ("05.png", "bird")])
        with pytest.raises(CondenseError, match=r"line 7 of .*metadata.csv has the class 'bird', which the training"):
            load_data(tmp_path / "photos")
        assert load_data(tmp_path / "photos/train").test.class_counts() == (1, 1)

    def test_in_the_training_split_alone(self, photos: Path) -> None:
        root = photos.parent / "pets"
        root.mkdir()
        write(photos / "metadata.csv", [("file_name", "label"), *ANIMALS])
        photos.rename(root / "train")
        picture(root / "test/cat/1.png", 100)
        picture(root / "test/dog/1.png", 101)
        data = load_data(root)
        assert (data.train.class_counts(), data.test.class_counts()) == ((10, 5), (1, 1))
        picture(root / "test/bird/1.png", 102)
        with pytest.raises(CondenseError, match="that the training split lacks, for example 'bird'"):
            load_data(root)

    def test_class_folders_win(self, tree: Tree) -> None:
        root = tree({"cat": 5, "dog": 5})
        before = load_data(root)
        write(root / "metadata.csv", [("file_name", "label"), ("cat/000.png", "dog"), ("dog/000.png", "cat")])
        data = load_data(root)
        assert data.fingerprint == before.fingerprint
        note = "metadata.csv in pets is not read, because its images lie in class folders; give --labels for its labels"
        assert note in data.notes

    def test_captions_are_no_labels(self, tree: Tree) -> None:
        root = tree({"train/cat": 5, "train/dog": 5, "test": 2})
        write(root / "test/metadata.csv", [("file_name", "text"), ("000.png", "a cat"), ("001.png", "a dog")])
        with pytest.raises(CondenseError, match=r"test has no class folders, and metadata.csv is not looked into"):
            load_data(root)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three classes of Tiny-ImageNet as it is unzipped."""
    root, classes = tmp_path / "tiny-imagenet-200", ["n02124075", "n07753592", "n07747607"]
    (root / "test").mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(classes) + "\n")
    (root / "words.txt").write_text("n02124075\tEgyptian cat\nn07753592\tbanana\nn07747607\torange\n")
    for place, name in enumerate(classes):
        for number in range(4):
            picture(root / "train" / name / "images" / f"{name}_{number}.JPEG", 10 * place + number)
        (root / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t10\t63\t58\n")
    rows = [(f"val_{number}.JPEG", classes[number % 3], 0, 32, 44, 62) for number in range(6)]
    for number in range(6):
        picture(root / "val" / "images" / f"val_{number}.JPEG", 100 + number)
        picture(root / "test" / "images" / f"test_{number}.JPEG", 200 + number)
    write(root / "val" / "val_annotations.txt", rows, "\t")
    return root


class TestTinyImageNet:
    def test_as_it_is_unzipped(self, tiny: Path) -> None:
        data = load_data(tiny)
        assert data.name == "tiny-imagenet"  # as recipes know it
        assert data.classes == ("n02124075", "n07747607", "n07753592")
        assert (data.train.class_counts(), data.test.class_counts()) == ((4, 4, 4), (2, 2, 2))
        assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
        expected = np.asarray(Image.open(tiny / "val/images/val_3.JPEG")).transpose(2, 0, 1)
        assert np.array_equal(data.test.pixels(torch.tensor([1]))[0], expected)
        assert data.notes[:2] == (
            "val/ of tiny-imagenet-200 is the test split",
            "test/ in tiny-imagenet-200 is not used: it has no class folders, so its images have no labels",
        )

    def test_some_of_its_classes(self, tiny: Path) -> None:
        data = load_data(tiny, classes=["n07753592", "n02124075"])
        assert data.classes == ("n07753592", "n02124075")
        assert (data.train.class_counts(), data.test.class_counts()) == ((4, 4), (2, 2))

    def test_its_validation_images_alone(self, tiny: Path) -> None:
        rows = [(f"val_{number}.JPEG", f"n{number % 3}", 0, 32, 44, 62) for number in range(6)]
        write(tiny / "val" / "val_annotations.txt", rows, "\t")
        data = load_data(tiny / "val")
        assert (data.classes, data.test.class_counts()) == (("n0", "n1", "n2"), (1, 1, 1))
        again = load_data(tiny / "val" / "images", labels=tiny / "val" / "val_annotations.txt")
        assert again.fingerprint == data.fingerprint

    def test_a_class_that_training_lacks(self, tiny: Path) -> None:
        write(tiny / "val" / "val_annotations.txt", [("val_0.JPEG", "n07747608", 0, 0, 1, 1)], "\t")
        with pytest.raises(CondenseError, match=r"has the class 'n07747608', which .* lacks; did you mean"):
            load_data(tiny)
