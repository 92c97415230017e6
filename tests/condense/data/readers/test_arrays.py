from __future__ import annotations

import io
import os
import resource
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from condense.data import RealData, load_data, pack
from condense.data.sources import Hdf5Pixels
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`

Arrays = dict[str, np.ndarray]


def save(path: Path, arrays: Arrays) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return path
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value.astype(h5py.string_dtype()) if value.dtype.kind == "U" else value
    return path


def assert_same(first: RealData, second: RealData) -> None:
    assert (first.name, first.classes, first.mirror) == (second.name, second.classes, second.mirror)
    assert first.fingerprint == second.fingerprint
    assert first.preprocessing.equals(second.preprocessing)
    for one, other in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(one.pixels(torch.arange(len(one))), other.pixels(torch.arange(len(other))))
        assert torch.equal(one.labels, other.labels)


@pytest.fixture(params=[".npz", ".h5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"shapes{request.param}"


class TestBothFormats:
    def test_grayscale(self, path: Path, arrays: Arrays) -> None:
        data = load_data(str(save(path, arrays)))
        assert (data.name, data.classes, data.image_shape, data.mirror) == ("shapes", ("0", "1", "2"), (1, 5, 4), False)
        assert np.array_equal(data.train.pixels(torch.arange(12))[:, 0], arrays["train_images"])
        assert data.test.labels.tolist() == [0, 1, 2, 0, 1, 2]

    def test_rgb_with_names(self, path: Path, arrays: Arrays) -> None:
        draws = np.random.default_rng(1)
        for split, count in (("train", 12), ("test", 6)):
            arrays[f"{split}_images"] = draws.integers(0, 256, (count, 5, 4, 3), dtype=np.uint8)
            arrays[f"{split}_labels"] = arrays[f"{split}_labels"].astype(np.uint8)[:, None]  # (N, 1) is common
        data = load_data(save(path, arrays | {"classes": np.array(["red", "grün", "blue"])}))
        assert data.classes == ("red", "grün", "blue")
        assert data.image_shape == (3, 5, 4)
        assert data.mirror
        assert np.array_equal(data.test.pixels(torch.tensor([3]))[0, 2], arrays["test_images"][3, :, :, 2])

    def test_resizing(self, path: Path, arrays: Arrays) -> None:
        data = load_data(save(path, arrays), image_size=3)
        assert data.image_shape == (1, 3, 3)
        assert data.fingerprint != load_data(path).fingerprint

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            (
                "train_images",
                np.full((12, 5, 4), 1.5),
                r"is float64 from 1.5 to 1.5; images must be uint8, or .*--window",
            ),
            ("train_images", np.full((12, 5, 4), np.nan), "is float64 from nan to nan; images must be uint8, or"),
            ("train_images", np.zeros((12, 5, 4), np.uint16), "is uint16; images must be uint8, .* give --window LOW"),
            (
                "train_images",
                np.zeros((12, 4, 5, 4), np.uint8),
                r"\(12, 4, 5, 4\); give .* with C 1 or 3",
            ),
            ("train_images", np.zeros((12, 0, 4), np.uint8), r"shape \(12, 0, 4\); images need at least one pixel"),
            ("train_images", np.ones((12, 5, 4), bool), r"is bool; .* \(255 \* images.astype\('uint8'\)\)"),
            ("test_images", np.zeros((6, 20), np.uint8), r"shape \(6, 20\)"),
            ("test_images", np.zeros((6, 5, 5), np.uint8), r"\(1, 5, 4\) but test images of \(1, 5, 5\)"),
            ("train_labels", np.zeros(12), r"train_labels of .* is float64; .* integers .*, for example .*'int64'"),
            ("train_labels", np.arange(12) / 2, r"is float64; .* \(regression\) are not supported"),
            ("train_labels", np.full(12, np.nan), r"is float64; .* \(regression\) are not supported"),
            ("train_labels", np.array(["a", "b", "c"] * 4), "test_labels of .* is int64 and others are text; give all"),
            ("test_labels", np.array([b"a", b"b"] * 3), "train_labels of .* is int64 and others are text; give all"),
            ("test_labels", np.arange(6) % 2 == 0, r"is bool; .* for example labels.astype\('int64'\)"),
            ("train_labels", np.arange(12) % 3 + 1, "training labels of shapes are 1 to 3; .* subtract 1 from all"),
            ("train_labels", np.arange(12) % 3 * 9 + 2, r"class '0' .* up to 20; add some, or number .*return_inverse"),
            ("train_labels", np.arange(12) % 3 - 1, "a training image of shapes has label -1; .* leave images out"),
            (
                "test_labels",
                np.full(6, -1),
                "test split of shapes has label -1, .*; -1 usually says that an image has no",
            ),
            ("train_labels", np.zeros((12, 3), int), r"shape \(12, 3\); labels must be \(N,\)"),
            ("test_labels", np.array(3), r"shape \(\); labels must be \(N,\)"),
            ("classes", np.array(["a"]), "only one class, 'a'"),
            ("classes", np.array([], str), "has no class; it needs at least two"),
            ("train_labels", np.arange(11) % 3, "12 images but 11 labels"),
            ("train_labels", np.zeros(12, int), "only one class"),
            ("train_labels", np.arange(12) % 2 * 2, "class '1' of shapes has no training image"),
            ("test_labels", np.arange(6), "test split of shapes has label 5, but its 3 classes are numbered 0 to 2"),
            ("test_labels", np.arange(6) % 3 - 1, "label -1"),
            ("classes", np.array(["a", "b"]), "label 2, but its 2 classes"),
            ("classes", np.array(["a", "b", "a"]), "several classes called 'a'"),
        ],
    )
    def test_wrong_content(self, path: Path, arrays: Arrays, key: str, value: np.ndarray, message: str) -> None:
        with pytest.raises(CondenseError, match=message) as raised:
            load_data(save(path, arrays | {key: value}))
        assert "\n" not in str(raised.value)

    def test_labels_from_1_beside_names(self, path: Path, arrays: Arrays) -> None:
        changed = {key: arrays[key] + 1 for key in ("train_labels", "test_labels")}
        message = "train split of shapes has label 3, but its 3 classes are numbered 0 to 2; they seem to start at 1"
        with pytest.raises(CondenseError, match=message):
            load_data(save(path, arrays | changed | {"classes": np.array(["a", "b", "c"])}))

    @pytest.mark.parametrize("label", [10**7, 2**62])
    def test_one_huge_label_costs_nothing(self, path: Path, arrays: Arrays, label: int) -> None:
        arrays["train_labels"] = arrays["train_labels"].astype(np.int64)
        arrays["train_labels"][7] = label
        save(path, arrays)
        tracemalloc.start()
        with pytest.raises(
            CondenseError, match=rf"class '3' of shapes has no training image, .* up to {label}; add some"
        ):
            load_data(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10**7

    def test_an_upper_case_suffix(self, path: Path, arrays: Arrays) -> None:
        before = load_data(save(path, arrays))
        assert_same(load_data(path.rename(path.with_suffix(path.suffix.upper()))), before)

    @pytest.mark.parametrize("name", ["caf\udce9", "\ud800", "a\0b"])
    def test_names_that_are_no_text(self, path: Path, arrays: Arrays, name: str) -> None:
        names = np.array(["a", "b", name], "U")
        encoded = np.array([os.fsencode(text) if text != "\ud800" else b"\xff" for text in names])
        stored = encoded if path.suffix == ".h5" else names
        with pytest.raises(CondenseError, match=r"the name '.*' of a class is not UTF-8 text, so it cannot be stored"):
            load_data(save(path, arrays | {"classes": stored}))

    def test_missing_arrays(self, path: Path, arrays: Arrays) -> None:
        del arrays["train_labels"], arrays["test_labels"]
        message = r"no images and labels to train on \(it has: test_images, train_images\); call them train_images"
        with pytest.raises(CondenseError, match=message):
            load_data(save(path, arrays))

    def test_empty_split(self, path: Path, arrays: Arrays) -> None:
        empty = {"test_images": np.zeros((0, 5, 4), np.uint8), "test_labels": np.zeros(0, int)}
        with pytest.raises(CondenseError, match="test split of shapes is empty"):
            load_data(save(path, arrays | empty))

    def test_damaged_file(self, path: Path, arrays: Arrays) -> None:
        content = save(path, arrays).read_bytes()
        for damaged in (b"", b"text", content[: len(content) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(CondenseError, match=r"cannot read .*shapes|shapes.* is (not an HDF5 file|damaged)"):
                load_data(path)


def test_pickled_objects_are_refused(tmp_path: Path, arrays: Arrays) -> None:
    path = save(tmp_path / "a.npz", arrays | {"classes": np.array(["a", "b", "c"], dtype=object)})
    with pytest.raises(CondenseError, match="allow_pickle=False; save plain number and text arrays"):
        load_data(path)


def test_a_large_npz_is_refused_and_a_large_h5_is_streamed(tmp_path: Path, arrays: Arrays) -> None:
    npz, h5 = save(tmp_path / "shapes.npz", arrays), save(tmp_path / "shapes.h5", arrays)
    with pytest.raises(CondenseError, match=r"memory limit .* give a larger --memory-limit once, to pack it"):
        load_data(npz, memory_limit=100)
    streamed = load_data(h5, memory_limit=100)
    assert isinstance(streamed.train.source, Hdf5Pixels)
    assert any("memory limit" in note for note in streamed.notes)
    assert_same(streamed, load_data(npz))
    wanted = torch.tensor([7, 2, 3, 2, 11, 0])
    assert np.array_equal(streamed.train.pixels(wanted)[:, 0], arrays["train_images"][wanted.numpy()])
    assert streamed.train.pixels(wanted[:0]).shape == (0, 1, 5, 4)
    assert_same(load_data(h5, image_size=3, memory_limit=100), load_data(npz, image_size=3))


@pytest.mark.parametrize("key", ["train_labels", "classes", "test_images"])
def test_what_unpacks_beyond_the_memory_limit_is_refused_before_it_is(tmp_path: Path, arrays: Arrays, key: str) -> None:
    """Every array counts: 100 MB of zeros take 100 kB in a file."""
    size = 10**8
    large = {"train_labels": np.zeros(size // 8, np.int64), "classes": np.zeros(1, f"S{size}")}
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in ({"classes": np.array(["a"])} | arrays).items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, large.get(key, np.zeros(size, np.uint8)) if name == key else array)
    assert (tmp_path / "bomb.npz").stat().st_size < 10**6
    tracemalloc.start()
    with pytest.raises(
        CondenseError, match=r"the arrays of .*bomb.npz take 0.10 GB, above the memory limit of 0.05 GB"
    ):
        load_data(tmp_path / "bomb.npz", memory_limit=5 * 10**7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7


def test_an_entry_beside_an_array_does_not_hide_its_size(tmp_path: Path, arrays: Arrays) -> None:
    """numpy would take an entry `train_images` for the array `train_images.npy`."""
    path = save(tmp_path / "shapes.npz", arrays)
    before = load_data(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train_images", b"anything")
    assert_same(load_data(path), before)


def test_folder_npz_h5_and_pack_agree(tree: Tree, tmp_path: Path) -> None:
    folder = load_data(tree({"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3}))
    arrays = {"classes": np.array(folder.classes)}
    for name, split in (("train", folder.train), ("test", folder.test)):
        arrays[f"{name}_images"] = split.pixels(torch.arange(len(split))).permute(0, 2, 3, 1).numpy()
        arrays[f"{name}_labels"] = split.labels.numpy()
    assert_same(load_data(save(tmp_path / "pets.npz", arrays)), folder)
    assert_same(load_data(save(tmp_path / "pets.h5", arrays)), folder)
    streamed = load_data(tmp_path / "pets", memory_limit=100)
    assert_same(load_data(pack(streamed, tmp_path / "packed.h5")), folder)


@pytest.mark.parametrize("normalization", [None, "zca", "none"])
def test_pack_keeps_everything(tmp_path: Path, normalization: str | None) -> None:
    data = load_data("digits", normalization=normalization, mirror=True)
    path = pack(data, tmp_path / "new" / "other-name.h5")
    again = load_data(path)
    assert_same(again, data)
    assert again.mirror
    assert again.preprocessing.kind == data.preprocessing.kind
    assert load_data(path, normalization="computed", mirror=False).info == load_data("digits").info


def test_pack_is_atomic_and_repeatable(tmp_path: Path, arrays: Arrays) -> None:
    data = load_data(save(tmp_path / "shapes.npz", arrays))
    first = pack(data, tmp_path / "a.h5").read_bytes()
    assert pack(data, tmp_path / "a.h5").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "shapes.npz"]
    with pytest.raises(CondenseError, match="cannot write"):
        pack(data, tmp_path / "a.h5" / "b.h5")


def test_a_disk_without_room_for_a_packed_file(tmp_path: Path, arrays: Arrays) -> None:
    data = load_data(save(tmp_path / "shapes.npz", arrays))
    size = pack(data, tmp_path / "a.h5").stat().st_size
    (tmp_path / "a.h5").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 100, size // 2, size - 1, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            if room < size:
                with pytest.raises(CondenseError, match=r"cannot write .*a\.h5: File too large; choose another place"):
                    pack(data, tmp_path / "a.h5")
                assert [path.name for path in tmp_path.iterdir()] == ["shapes.npz"]
            else:
                pack(data, tmp_path / "a.h5")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same(load_data(tmp_path / "a.h5"), data)


def npy(array: np.ndarray, **header: Any) -> bytes:
    """An array as `.npz` files hold it, its header changed."""
    stream = io.BytesIO()
    said = np.lib.format.header_data_from_array_1_0(array) | header
    np.lib.format.write_array_header_1_0(stream, said)
    return stream.getvalue() + array.tobytes()


@pytest.mark.parametrize("key", ["train_images", "train_labels", "classes"])
def test_an_npz_declares_no_more_than_it_has(tmp_path: Path, arrays: Arrays, key: str) -> None:
    arrays["classes"] = np.array(["a", "b", "c"])
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, array in arrays.items():
            changes = {"shape": (2**40, *array.shape[1:])} if name == key else {}
            archive.writestr(f"{name}.npy", npy(array, **changes))
    with pytest.raises(CondenseError, match=f"cannot read .*{key}.npy declares more than it has"):
        load_data(tmp_path / "a.npz")


def test_a_changed_byte_of_an_npz_is_noticed(tmp_path: Path, arrays: Arrays) -> None:
    path = save(tmp_path / "a.npz", arrays)
    content = path.read_bytes()
    place = content.index(arrays["train_images"].tobytes()) + 5
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(CondenseError, match="Bad CRC-32"):
        load_data(path)


def test_a_packed_file_whose_format_is_forgotten_is_not_taken_for_another_program_s(
    tmp_path: Path, arrays: Arrays
) -> None:
    path = pack(load_data(save(tmp_path / "shapes.npz", arrays)), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["format"]
    with pytest.raises(CondenseError, match="damaged, or an HDF5 file of another program"):
        load_data(path)


def test_a_damaged_image_of_a_packed_file_is_refused_when_it_is_read(tmp_path: Path, arrays: Arrays) -> None:
    path = pack(load_data(save(tmp_path / "shapes.npz", arrays)), tmp_path / "a.h5")
    content = path.read_bytes()
    place = content.index(arrays["train_images"].tobytes()) + 20 * 3
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    data = load_data(path, memory_limit=10)
    assert np.array_equal(data.train.pixels(torch.tensor([4, 2]))[:, 0], arrays["train_images"][[4, 2]])
    with pytest.raises(CondenseError, match="rows of train_images do not fit their checksums"):
        data.train.pixels(torch.tensor([3]))
    with pytest.raises(CondenseError, match="rows of train_images do not fit their checksums"):
        load_data(path).train.pixels(torch.tensor([0]))  # all of them get into memory


def test_a_packed_file_can_be_packed_onto_itself(tmp_path: Path, arrays: Arrays) -> None:
    data = load_data(save(tmp_path / "shapes.h5", arrays), memory_limit=10)
    before = data.fingerprint
    assert load_data(pack(data, tmp_path / "shapes.h5")).fingerprint == before


def test_a_file_that_vanishes_while_streaming(tmp_path: Path, arrays: Arrays) -> None:
    path = save(tmp_path / "shapes.h5", arrays)
    data = load_data(path, memory_limit=10)
    path.unlink()
    with pytest.raises(CondenseError, match="cannot read train_images"):
        data.train.pixels(torch.tensor([0]))
