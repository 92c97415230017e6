"""The subsets of ImageNet-1k by name, from a folder as torchvision keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image

from condense.cli.main import main
from condense.data import load_data
from condense.data.catalogue import DATA_SETS
from condense.data.imagenet_subsets import IMAGENET_SUBSETS
from condense.recipes import load_recipe
from condense.runtime.errors import CondenseError

SUBSETS = [entry for entry in DATA_SETS if entry.imagenet_classes]


def write_folder(root: Path, classes: Mapping[str, int], images: dict[str, int]) -> Path:
    """Class folders called by WordNet numbers, each with images whose colour says which class they are of."""
    for part, count in images.items():
        for name, index in classes.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = Image.new("RGB", (20 + number, 16), (index % 256, index // 256, 40 * number))
                picture.save(folder / f"{folder.name}_{number}.JPEG", format="PNG")  # exact, whatever the name says
    return root


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory) -> Path:
    """Images of imagewoof, and many folders of other classes, those of imagefruit empty."""
    root = tmp_path_factory.mktemp("data") / "imagenet"
    write_folder(root, {f"n{index:08d}": index for index in range(300)}, {"train": 0, "val": 0})
    write_folder(root, IMAGENET_SUBSETS["imagefruit"], {"train": 0, "val": 0})
    (root / "train" / "__MACOSX").mkdir()  # what systems leave behind is no class
    return write_folder(root, IMAGENET_SUBSETS["imagewoof"], {"train": 3, "val": 1})


def seen(data, split) -> list[int]:
    """The classes that the colours of the images say."""
    first = split.pixels(torch.arange(len(split)))[:, :, 4, 4].int()
    return (first[:, 0] + 256 * first[:, 1]).tolist()


@pytest.mark.parametrize("below", ["", "imagenet"])
def test_classes_are_chosen_by_their_index_and_keep_their_order(imagenet: Path, below: str) -> None:
    data = load_data("imagewoof", data_root=imagenet if not below else imagenet.parent, image_size=8)
    wanted = [193, 182, 258, 162, 155, 167, 159, 273, 207, 229]
    assert data.classes[:3] == ("Australian terrier", "Border terrier", "Samoyed")
    assert data.train.labels.tolist() == [label for label in range(10) for _ in range(3)]
    assert seen(data, data.train) == [index for index in wanted for _ in range(3)]
    assert seen(data, data.test) == wanted
    assert (data.name, data.image_shape, data.mirror) == ("imagewoof", (3, 8, 8), True)
    assert data.preprocessing.to_arrays()["mean"].tolist() == [0.485, 0.456, 0.406]


@pytest.mark.parametrize("entry", SUBSETS, ids=lambda entry: entry.name)
def test_a_folder_of_the_subset_alone_will_do(tmp_path: Path, entry) -> None:
    write_folder(tmp_path / entry.name, entry.imagenet_classes, {"train": 1, "val": 1})
    data = load_data(entry.name, data_root=tmp_path, image_size=8)
    assert seen(data, data.train) == seen(data, data.test) == list(entry.imagenet_classes.values())
    assert len(set(data.classes)) == 10
    recipe = load_recipe("mtt", None)
    assert recipe.normalization_for(data.name, 1) == "imagenet"
    assert recipe.settings_for(data.name, 10)["max_start"] == 10  # the recipe of such a subset, by its name


def test_what_is_missing_is_said(tmp_path: Path, imagenet: Path) -> None:
    with pytest.raises(CondenseError, match=rf"no train/ and val/ in {tmp_path}, {tmp_path}/imagenet, .*--data-root"):
        load_data("imagefruit", data_root=tmp_path, image_size=8)
    with pytest.raises(CondenseError, match="differ in size; give --image-size, for example 128"):
        load_data("imagewoof", data_root=imagenet)
    with pytest.raises(CondenseError, match="the train split of imagefruit is empty"):
        load_data("imagefruit", data_root=imagenet, image_size=8)
    classes = dict(list(IMAGENET_SUBSETS["imagefruit"].items())[:7])
    write_folder(tmp_path / "few", classes, {"train": 1, "val": 1})
    with pytest.raises(CondenseError, match=r"no folders for 3 of the 10 classes of imagefruit, for example n07720875"):
        load_data("imagefruit", data_root=tmp_path / "few", image_size=8)


def test_some_of_its_classes_in_another_order(imagenet: Path) -> None:
    data = load_data("imagewoof", data_root=imagenet, image_size=8, classes=["beagle", "Australian terrier"])
    assert data.classes == ("beagle", "Australian terrier")
    assert seen(data, data.train) == [193] * 3 + [162] * 3
    assert data.train.labels.tolist() == [1] * 3 + [0] * 3


def test_broken_images_are_left_out(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "imagewoof", IMAGENET_SUBSETS["imagewoof"], {"train": 2, "val": 1})
    broken = "train/n02088364/n02088364_0.JPEG"
    (root / broken).write_bytes(b"no image")
    with pytest.raises(CondenseError, match=f"cannot be read: {broken}; .*--skip-broken"):
        load_data("imagewoof", data_root=tmp_path, image_size=8)
    data = load_data("imagewoof", data_root=tmp_path, image_size=8, skip_broken=True)
    assert data.train.class_counts() == (2, 2, 2, 1, 2, 2, 2, 2, 2, 2)
    assert data.left_out == (broken,)
    assert data.notes[0] == f"1 image(s) that cannot be read were left out: {broken}"


def test_the_list_of_data_has_them(capsys) -> None:
    assert main(["data"]) == 0
    listed = capsys.readouterr().out
    assert all(entry.name in listed for entry in SUBSETS)
    assert len(SUBSETS) == 6
