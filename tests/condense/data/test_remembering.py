"""A second command on the same data does not read it again, and never believes what may have changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condense.data import RealData, load_data, pack, remembering, sources
from condense.data.readers import known
from condense.data.readers.folders import folder as folders
from condense.data.sources import PixelSource
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Rows

Tree = Callable[..., Path]
Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counts:
    """How often what was called since the last look."""

    def __init__(self) -> None:
        self.decoded = self.hashed = self.surveyed = self.rows = 0

    def taken(self) -> tuple[int, int, int, int]:
        taken = self.decoded, self.hashed, self.surveyed, self.rows
        self.decoded = self.hashed = self.surveyed = self.rows = 0
        return taken


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Counts decoded images, keys of images, surveys and rows of files."""
    counted = Counts()
    decode, key, survey, keys, read = (
        sources.decode_file,
        folders.content_key,
        remembering.survey,
        known.content_keys,
        Rows.read,
    )

    def counting_decode(*given: object) -> np.ndarray | None:
        counted.decoded += 1
        return decode(*given)

    def counting_key(*given: object) -> bytes:
        counted.hashed += 1
        return key(*given)

    def counting_survey(source: PixelSource) -> object:
        counted.surveyed += 1
        return survey(source)

    def counting_keys(source: PixelSource) -> list[bytes]:
        counted.hashed += len(source)
        return keys(source)

    def counting_read(rows: Rows, *spans: tuple[int, int]) -> np.ndarray:
        counted.rows += sum(stop - start for start, stop in spans)
        return read(rows, *spans)

    monkeypatch.setattr(sources, "decode_file", counting_decode)
    monkeypatch.setattr(folders, "content_key", counting_key)
    monkeypatch.setattr(remembering, "survey", counting_survey)
    monkeypatch.setattr(known, "content_keys", counting_keys)
    monkeypatch.setattr(Rows, "read", counting_read)
    return counted


def pixels(data: RealData) -> torch.Tensor:
    return torch.cat([split.pixels(torch.arange(len(split))) for split in (data.train, data.test)])


def save_npz(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_a_folder_is_decoded_once_and_then_when_it_is_used(tree: Tree, counts: Counts) -> None:
    root = tree({"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3})
    first = load_data(root)
    assert counts.taken() == (14, 0, 2, 0)
    again = load_data(root)
    assert counts.taken() == (0, 0, 0, 0)
    assert again.info == first.info
    assert torch.equal(again.train.pixels(torch.tensor([2])), first.train.pixels(torch.tensor([2])))
    assert counts.taken()[0] == 9  # training images only, and once
    assert torch.equal(pixels(again), pixels(first))
    assert counts.taken()[0] == 5


def test_a_streamed_folder_is_not_decoded_at_all(tree: Tree, counts: Counts) -> None:
    root = tree({"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3})
    first = load_data(root, memory_limit=10)
    counts.taken()
    assert load_data(root, memory_limit=10).info == first.info
    assert counts.taken() == (0, 0, 0, 0)


def test_a_folder_that_is_split_by_content_is_hashed_once(tree: Tree, counts: Counts) -> None:
    root = tree({"cat": 10, "dog": 5})
    first = load_data(root)
    assert counts.taken() == (15, 15, 2, 0)
    again = load_data(root)
    assert counts.taken() == (0, 0, 0, 0)
    assert again.info == first.info
    assert torch.equal(again.test.labels, first.test.labels)
    assert torch.equal(pixels(again), pixels(first))


@pytest.mark.parametrize("streamed", [False, True])
def test_arrays_are_surveyed_once(tmp_path: Path, arrays: Arrays, counts: Counts, streamed: bool) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    for path in (save_npz(tmp_path / "a.npz", arrays), tmp_path / "a.h5"):
        limit = {"memory_limit": 10} if streamed and path.suffix == ".h5" else {}
        first = load_data(path, **limit)
        assert counts.taken()[2] == 2
        again = load_data(path, **limit)
        assert counts.taken() == (0, 0, 0, 0)
        assert again.info == first.info
        assert torch.equal(pixels(again), pixels(first))
        counts.taken()


def test_named_sets_are_hashed_once(tmp_path: Path, counts: Counts) -> None:
    first = load_data("digits")
    assert counts.taken() == (0, 1797, 2, 0)
    again = load_data("digits")
    assert counts.taken() == (0, 0, 0, 0)
    assert again.info == first.info
    assert torch.equal(pixels(again), pixels(first))
    write_mnist(tmp_path, 0)
    first = load_data("mnist", data_root=tmp_path)
    assert counts.taken() == (0, 0, 2, 0)
    assert load_data("mnist", data_root=tmp_path).info == first.info
    assert counts.taken() == (0, 0, 0, 0)
    write_mnist(tmp_path, 1)
    assert load_data("mnist", data_root=tmp_path).fingerprint != first.fingerprint


def write_mnist(root: Path, seed: int) -> None:
    """Files as torchvision has them."""
    folder, draws = root / "MNIST" / "raw", np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        images, labels = draws.integers(0, 256, (20, 28, 28), dtype=np.uint8), (np.arange(20) % 10).astype(np.uint8)
        head = b"".join(number.to_bytes(4, "big") for number in (0x803, 20, 28, 28))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = b"".join(number.to_bytes(4, "big") for number in (0x801, 20))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def test_a_packed_file_vouches_for_itself(tmp_path: Path, arrays: Arrays, cache: Path, counts: Counts) -> None:
    """No row is read when it is opened, in whatever place and with whatever cache; its survey is that of its rows."""
    data = load_data(save_npz(tmp_path / "a.npz", arrays))
    path = pack(data, tmp_path / "packed.h5")
    path = path.rename(tmp_path / "moved.h5")
    for number, limit in enumerate((10, 2**30)):
        os.environ["CONDENSE_CACHE"] = str(tmp_path / f"empty{number}")  # undone with the variable of the fixture
        counts.taken()
        packed = load_data(path, memory_limit=limit, normalization="computed")
        assert counts.taken() == (0, 0, 0, 0)
        assert not (tmp_path / f"empty{number}").exists()
        assert packed.info == load_data(tmp_path / "a.npz", normalization="computed").info
        assert torch.equal(pixels(packed), pixels(data))


def test_a_packed_file_that_is_resized_is_read_once(tmp_path: Path, arrays: Arrays, counts: Counts) -> None:
    data = load_data(save_npz(tmp_path / "a.npz", arrays))
    path = pack(data, tmp_path / "packed.h5")
    counts.taken()
    smaller = load_data(path, image_size=3)
    assert counts.taken() == (0, 0, 2, 18)
    assert smaller.fingerprint == load_data(tmp_path / "a.npz", image_size=3).fingerprint != data.fingerprint
    counts.taken()
    assert load_data(path, image_size=3).info == smaller.info
    assert counts.taken() == (0, 0, 0, 0)


# What may have changed


def _other_pixels(path: Path) -> None:
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(path)


def _same_size_and_time(path: Path) -> None:
    facts, content = path.stat(), path.read_bytes()
    path.with_suffix(".new").write_bytes(content[::-1])
    os.utime(path.with_suffix(".new"), ns=(facts.st_atime_ns, facts.st_mtime_ns))
    path.with_suffix(".new").rename(path)


def _removed(path: Path) -> None:
    path.unlink()


def _renamed(path: Path) -> None:
    path.rename(path.with_name("zzz.png"))


@pytest.mark.parametrize("change", [_other_pixels, _same_size_and_time, _removed, _renamed])
def test_a_change_of_one_file_is_noticed(tree: Tree, counts: Counts, change: Callable[[Path], None]) -> None:
    root = tree({"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3})
    first = load_data(root)
    counts.taken()
    change(root / "train" / "cat" / "001.png")
    if change is _same_size_and_time:
        with pytest.raises(CondenseError, match="cannot be read: train/cat/001"):
            load_data(root)
    else:
        assert load_data(root).fingerprint != first.fingerprint
    assert counts.taken()[0] > 0


def test_other_sizes_and_other_code_are_other_surveys(
    tmp_path: Path, arrays: Arrays, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_npz(tmp_path / "a.npz", arrays)
    whole, small = load_data(path), load_data(path, image_size=3)
    assert counts.taken()[2] == 4
    assert load_data(path).info == whole.info
    assert load_data(path, image_size=3).info == small.info
    assert counts.taken()[2] == 0
    monkeypatch.setattr(remembering, "_revision", lambda: "another")
    assert load_data(path).info == whole.info
    assert counts.taken()[2] == 2


def test_what_changes_while_it_is_read_is_not_kept(
    tmp_path: Path, arrays: Arrays, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, survey = save_npz(tmp_path / "a.npz", arrays), remembering.survey

    def slow(source: PixelSource) -> object:
        os.utime(path, ns=(0, 0))
        return survey(source)

    monkeypatch.setattr(remembering, "survey", slow)
    load_data(path)
    assert not cache.exists()


def test_a_cache_that_cannot_be_used_costs_nothing(
    tmp_path: Path, arrays: Arrays, cache: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_npz(tmp_path / "a.npz", arrays)
    info = load_data(path).info
    for kept in cache.rglob("*.safetensors"):
        kept.write_bytes(kept.read_bytes()[:-1])
    counts.taken()
    assert load_data(path).info == info
    assert counts.taken()[2] == 2  # read again and kept again
    assert load_data(path).info == info
    assert counts.taken()[2] == 0
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "file" / "cache"))
    assert load_data(path).info == info
    assert counts.taken()[2] == 2


def test_files_that_change_after_they_were_surveyed_are_not_taken_for_others(tree: Tree) -> None:
    """What is decoded late must still be what the fingerprint tells."""
    root = tree({"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3})
    load_data(root)
    data = load_data(root)
    (root / "train" / "cat" / "001.png").write_bytes(b"")
    with pytest.raises(CondenseError, match=r"1 of 14 image files in .* cannot be read: train/cat/001"):
        data.train.pixels(torch.tensor([0]))
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(root / "train" / "cat" / "001.png")
    with pytest.raises(CondenseError, match=r"images have changed since .* were first read; remove .*read and start"):
        data.train.pixels(torch.tensor([0]))
    assert len(data.test.pixels(torch.arange(5))) == 5


def test_pixels_get_into_memory_once(tree: Tree, counts: Counts) -> None:
    root = tree({"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3})
    load_data(root)
    data = load_data(root)
    counts.taken()
    for _ in range(3):
        data.train.pixels(torch.arange(9))
    chunks: Iterator[torch.Tensor] = data.train.source.chunks()
    assert sum(map(len, chunks)) == len(data.train) == 9
    assert counts.taken()[0] == 9


def test_every_module_that_reads_data_is_part_of_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in rooms of their own too: an image that is decoded otherwise is another image."""
    code = Path(shutil.copytree(Path(remembering.__file__).parent, tmp_path / "data"))
    monkeypatch.setattr(remembering, "__file__", str(code / "remembering.py"))
    revision = remembering._revision.__wrapped__
    before = revision()
    for module in ("sources.py", "images/decoding.py", "readers/arrays.py", "readers/folders/folder.py"):
        path = code / module
        path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        assert revision() != before
        before = revision()


def write_labels(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in rows), encoding="utf-8")
    return path


def test_tables_of_labels_are_not_confused(tree: Tree, tmp_path: Path, counts: Counts) -> None:
    """The same files with other labels are other data: split otherwise, in another order."""
    root = tree({"all": 12})
    rows = [(f"all/{number:03d}.png", "even" if number % 2 == 0 else "odd") for number in range(12)]
    other = [(name, "low" if number < 6 else "odd") for number, (name, _) in enumerate(rows)]
    tables = [write_labels(tmp_path / f"{place}.csv", part) for place, part in enumerate((rows, other, rows[:8]))]
    first = [load_data(root, labels=table) for table in tables]
    assert len({data.fingerprint for data in first}) == 3
    counts.taken()
    again = [load_data(root, labels=table) for table in tables]
    assert counts.taken() == (0, 0, 0, 0)
    for data, expected in zip(again, first):
        assert data.info == expected.info
        assert torch.equal(pixels(data), pixels(expected))
    write_labels(tables[0], other)  # the same file, with another content
    assert load_data(root, labels=tables[0]).fingerprint == first[1].fingerprint


def test_classes_are_not_confused(tree: Tree, tmp_path: Path, arrays: Arrays) -> None:
    sources = [tree({"0": 6, "1": 6, "2": 6}), save_npz(tmp_path / "a.npz", arrays)]
    for source in sources:
        choices = (None, ["0", "1"], ["1", "0"], ["1", "2"])
        first = [load_data(source, classes=choice) for choice in choices]
        assert len({data.fingerprint for data in first}) == 4
        for choice, expected in zip(choices, first):
            data = load_data(source, classes=choice)
            assert data.info == expected.info
            assert torch.equal(pixels(data), pixels(expected))


def test_which_images_are_broken_is_tried_once(tree: Tree, counts: Counts) -> None:
    root = tree({"cat": 10, "dog": 5})
    (root / "cat" / "003.png").write_bytes(b"no image")
    first = load_data(root, skip_broken=True)
    assert counts.taken() == (15 + 14, 14, 2, 0)
    assert load_data(root, skip_broken=True).info == first.info
    assert counts.taken() == (0, 0, 0, 0)
