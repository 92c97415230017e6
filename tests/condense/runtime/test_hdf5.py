"""The one reader and the one writer of HDF5: what is refused before it is followed, and what a full disk does."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from condense.data import load_data
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.heaps import check_heaps
from condense.runtime.hdf5.reader import Contents, checksum_of_attributes, read_contents
from condense.runtime.hdf5.writer import Pieces, write_contents

KIND = "condense thing"
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 4, 5), dtype=np.uint8)
Alter = Callable[[h5py.File], None]


def contents() -> Contents:
    arrays = {"labels": np.arange(50) % 3, "classes": np.array(["épée".encode(), b"cat"]), "none": np.zeros((5, 0))}
    return Contents(arrays, {"/": {"name": "x", "mirror": True, "sizes": [1, 2]}, "group": {"kind": "none"}})


def write(path: Path, images: np.ndarray = IMAGES) -> Path:
    pieces = {"images": Pieces(images.shape, images.dtype, np.array_split(images, 3))}
    write_contents(path, contents(), kind=KIND, schema=1, rows=pieces)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "thing.h5")


def read(path: Path) -> Contents:
    return read_contents(path, kind=KIND, schema=1)


def refusal(path: Path) -> str:
    with pytest.raises(CondenseError) as caught:
        read(path).rows["images"].read((0, 50))
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


# Writing


def test_what_was_written_is_read_back_and_plain_h5py_reads_it(path: Path) -> None:
    found = read(path)
    for name, array in contents().arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert np.array_equal(found.arrays[name], array)
    assert found.attributes["/"] == {"name": "x", "mirror": True, "sizes": [1, 2], "format": KIND, "schema": 1}
    assert found.attributes["group"] == {"kind": "none"}
    rows = found.rows["images"]
    assert np.array_equal(rows.read((0, 50)), IMAGES)
    assert np.array_equal(rows.read((7, 9), (0, 1), (49, 50)), IMAGES[[7, 8, 0, 49]])
    assert [np.array_equal(row, IMAGES[index]) for row, index in zip(rows.each(3, 1), (3, 1))] == [True, True]
    with h5py.File(path) as file:
        assert np.array_equal(file["images"][:], IMAGES)
        assert list(file["classes"].asstr()) == ["épée", "cat"]


def test_the_same_contents_give_the_same_bytes_whatever_the_pieces(path: Path, tmp_path: Path) -> None:
    pieces = {"images": Pieces(IMAGES.shape, IMAGES.dtype, np.array_split(IMAGES, 50))}
    write_contents(tmp_path / "other name.h5", contents(), kind=KIND, schema=1, rows=pieces)
    assert path.read_bytes() == (tmp_path / "other name.h5").read_bytes()


def test_arrays_may_be_filled_while_rows_are_taken(tmp_path: Path) -> None:
    total = np.zeros(1)

    def pieces() -> Iterator[np.ndarray]:
        for piece in np.array_split(IMAGES, 4):
            total[0] += piece.sum()
            yield piece

    rows = {"images": Pieces(IMAGES.shape, IMAGES.dtype, pieces())}
    write_contents(tmp_path / "a.h5", Contents({"total": total}, {}), kind=KIND, schema=1, rows=rows)
    assert read(tmp_path / "a.h5").arrays["total"].tolist() == [IMAGES.sum()]


def test_a_large_array_passes_through_memory_in_pieces(tmp_path: Path) -> None:
    """A file of 200 MB is written by a process that may have no more than a part of it beside what it has already."""
    code = """
import resource, sys
import numpy as np
from condense.runtime.hdf5.reader import Contents
from condense.runtime.hdf5.writer import Pieces, write_contents
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + 100 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
pieces = (np.full((100, 20_000), index, np.uint8) for index in range(100))
rows = {"images": Pieces((10_000, 20_000), np.dtype("u1"), pieces)}
write_contents(sys.argv[1], Contents({}, {}), kind="condense thing", schema=1, rows=rows)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.h5")], check=True)
    rows = read(tmp_path / "a.h5").rows["images"]
    assert rows.shape == (10_000, 20_000)
    assert rows.each(4_321)[0].tolist() == [43] * 20_000


@contextmanager
def little_space(most: int) -> Iterator[None]:
    """Files that are longer than `most` bytes cannot be written, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("most", [0, 1000, 3000, 100_000])
def test_without_space_nothing_is_taken_and_the_old_file_stays(tmp_path: Path, most: int) -> None:
    path = write(tmp_path / "thing.h5")
    before, taken = path.read_bytes(), []

    def pieces() -> Iterator[np.ndarray]:
        taken.append(1)
        yield np.zeros((200, 1000), np.uint8)

    rows = {"images": Pieces((200, 1000), np.dtype("u1"), pieces())}
    with little_space(most), pytest.raises(CondenseError, match=r"cannot write .*; choose another place or free some"):
        write_contents(path, contents(), kind=KIND, schema=1, rows=rows)
    assert not taken
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_rows_are_taken_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[np.ndarray]:
        yield IMAGES[:10]
        raise CondenseError("an image is damaged")

    rows = {"images": Pieces(IMAGES.shape, IMAGES.dtype, pieces())}
    with pytest.raises(CondenseError, match="an image is damaged"):
        write_contents(tmp_path / "a.h5", contents(), kind=KIND, schema=1, rows=rows)
    assert list(tmp_path.iterdir()) == []


# Reading what does not vouch for itself


def test_a_damaged_row_is_refused_when_it_is_read_and_no_other(path: Path) -> None:
    rows = read(path).rows["images"]
    content = bytearray(path.read_bytes())
    content[rows.offset + 20 * 7 + 3] ^= 1
    path.write_bytes(content)
    rows = read(path).rows["images"]
    assert np.array_equal(rows.read((0, 7), (8, 50)), np.delete(IMAGES, 7, 0))
    with pytest.raises(CondenseError, match="rows of images do not fit their checksums"):
        rows.each(7)


def test_a_file_that_is_replaced_after_it_was_opened_is_noticed(path: Path) -> None:
    rows = read(path).rows["images"]
    write(path, 255 - IMAGES)
    with pytest.raises(CondenseError, match="has changed since it was opened; start again"):
        rows.each(0)
    path.unlink()
    with pytest.raises(CondenseError, match=r"cannot read images of .*: No such file"):
        rows.each(0)


def _soft_link(file: h5py.File) -> None:
    del file["labels"]
    file["labels"] = h5py.SoftLink("/images")


def _soft_link_to_itself(file: h5py.File) -> None:
    del file["labels"]
    file["labels"] = h5py.SoftLink("/labels")


def _external_link(file: h5py.File) -> None:
    del file["labels"]
    file["labels"] = h5py.ExternalLink("other.h5", "/labels")


def _external_link_to_a_pipe(file: h5py.File) -> None:
    os.mkfifo(Path(file.filename).with_name("pipe"))
    file["group/x"] = h5py.ExternalLink("pipe", "/labels")


def _external_storage(file: h5py.File) -> None:
    del file["labels"]
    file.create_dataset("labels", (50,), "i8", external=[("/etc/passwd", 0, 400)])


def _virtual(file: h5py.File) -> None:
    del file["labels"]
    layout = h5py.VirtualLayout((50,), "i8")
    layout[:] = h5py.VirtualSource("other.h5", "labels", (50,))
    file.create_virtual_dataset("labels", layout)


def _virtual_of_itself(file: h5py.File) -> None:
    del file["labels"]
    layout = h5py.VirtualLayout((50,), "i8")
    layout[:] = h5py.VirtualSource(".", "labels", (50,))
    file.create_virtual_dataset("labels", layout)


def _two_names(file: h5py.File) -> None:
    file["group/labels"] = file["labels"]


def _a_group_in_itself(file: h5py.File) -> None:
    file["group/group"] = file["group"]


def _many_objects(file: h5py.File) -> None:
    for number in range(11_000):
        file["group"].create_group(str(number))


def _a_type(file: h5py.File) -> None:
    file["group/type"] = np.dtype("f8")


def _references(file: h5py.File) -> None:
    file["group/references"] = np.array([file["labels"].ref], h5py.ref_dtype)


def _records(file: h5py.File) -> None:
    file["group/records"] = np.zeros(3, [("a", "i4"), ("b", "f8")])


def _nothing(file: h5py.File) -> None:
    file["group/nothing"] = h5py.Empty("f4")


def _attribute_of_references(file: h5py.File) -> None:
    file["group"].attrs["reference"] = file["labels"].ref


def _attribute_of_nothing(file: h5py.File) -> None:
    file.attrs["name"] = h5py.Empty("f4")


def _many_attributes(file: h5py.File) -> None:
    for number in range(1001):
        file["group"].attrs[str(number)] = 0


def _declared(**options: Any) -> Alter:
    def alter(file: h5py.File) -> None:
        del file["labels"]
        file.create_dataset("labels", (2**28,), "i8", **options)

    return alter


def _a_kind_of_compression(file: h5py.File) -> None:
    file.create_dataset("group/scaled", data=np.arange(1000), scaleoffset=0)


def _groups_in_each_other(file: h5py.File) -> None:
    file.create_group("/".join(["group"] * 17))


HOSTILE: dict[str, tuple[Alter, str]] = {
    "soft link": (_soft_link, "only hard links are followed"),
    "soft link to itself": (_soft_link_to_itself, "only hard links are followed"),
    "external link": (_external_link, "only hard links are followed"),
    "external link to a pipe": (_external_link_to_a_pipe, "only hard links are followed"),
    "external storage": (_external_storage, "keeps labels in other files or datasets"),
    "virtual": (_virtual, "keeps labels in other files or datasets"),
    "virtual of itself": (_virtual_of_itself, "keeps labels in other files or datasets"),
    "two names": (_two_names, "by another name too"),
    "a group in itself": (_a_group_in_itself, "by another name too"),
    "groups in each other": (_groups_in_each_other, "16 groups in each other"),
    "many objects": (_many_objects, "damaged|more than 10,000 objects"),
    "a type": (_a_type, "neither a group nor a dataset"),
    "references": (_references, "neither numbers nor text"),
    "records": (_records, "neither numbers nor text"),
    "nothing": (_nothing, "has nothing in group/nothing"),
    "attribute of references": (_attribute_of_references, "neither numbers nor text"),
    "attribute of nothing": (_attribute_of_nothing, "neither numbers nor text"),
    "many attributes": (_many_attributes, "more than 1,000 attributes"),
    "declared": (_declared(), "declares 2,147,483,648 bytes for labels"),
    "declared in chunks": (_declared(chunks=(2**20,)), "declares more of labels than it has stored"),
    "declared and compressed": (
        _declared(chunks=(2**20,), compression="gzip"),
        "declares more of labels than it has stored",
    ),
    "declared in one chunk": (_declared(chunks=(2**28,)), "has labels in chunks of 2,147,483,648 bytes"),
    "another compression": (_a_kind_of_compression, "compressed in a way that is not read"),
}


DANGEROUS = ("external link to a pipe", "virtual of itself", "declared", "declared in chunks", "declared in one chunk")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leads_elsewhere_or_declares_too_much_is_refused(path: Path, name: str) -> None:
    alter, said = HOSTILE[name]
    with h5py.File(path, "r+") as file:
        alter(file)
    message = refusal_of_a_process(path) if name in DANGEROUS else refusal(path)
    assert any(part in message for part in said.split("|")), message


def refusal_of_a_process(path: Path) -> str:
    """That of a process which may crash, wait for ever or ask for too much memory."""
    code = """
import resource, sys
from pathlib import Path
from condense.runtime.hdf5.reader import read_contents
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + 2**29
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    read_contents(sys.argv[1], kind="condense thing", schema=1)
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    return done.stdout


def test_pipes_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    assert "it is no regular file; give a condense thing" in refusal(tmp_path / "pipe.h5")
    (tmp_path / "folder.h5").mkdir()
    assert "Is a directory" in refusal(tmp_path / "folder.h5")
    (tmp_path / "text.h5").write_text("text")
    assert "is not an HDF5 file" in refusal(tmp_path / "text.h5")


def test_another_kind_and_another_schema_are_named(path: Path) -> None:
    with pytest.raises(CondenseError, match="is a condense thing; give a condense other"):
        read_contents(path, kind="condense other", schema=1)
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 2
    assert "has schema 2 but this condense reads up to 1" in refusal(path)
    for schema in ("1", 1.5, [1], 0):
        with h5py.File(path, "r+") as file:
            file.attrs["schema"] = schema
        assert "does not tell its schema" in refusal(path)


# Arrays of others


def save_others(path: Path, images: Any, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("train_images", data=images, **options)
        file["test_images"] = np.zeros((3, *images.shape[1:]), np.uint8)
        file["train_labels"], file["test_labels"] = np.arange(len(images)) % 3, np.arange(3)
        file["classes"] = np.array(["a", "b", "c"], h5py.string_dtype())
    return path


def _rows(path: Path) -> np.ndarray:
    data = load_data(path, memory_limit=10)
    return data.train.pixels(data.train.class_indices(0)).numpy()


@pytest.mark.parametrize("compression", ["gzip", "lzf", None])
@pytest.mark.parametrize("checked", [True, False])
def test_compressed_arrays_of_others_are_read_piece_by_piece(
    tmp_path: Path, compression: str | None, checked: bool
) -> None:
    options = {"chunks": (7, 4, 3), "compression": compression, "fletcher32": checked, "shuffle": checked}
    path = save_others(tmp_path / "a.h5", IMAGES, **options)
    assert np.array_equal(_rows(path)[:, 0], IMAGES[::3])


def _short_chunk(dataset: h5py.Dataset) -> None:
    dataset.id.write_direct_chunk((0, 0, 0), zlib.compress(b"\1" * 10), 0)


def _long_chunk(dataset: h5py.Dataset) -> None:
    dataset.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(10**8)), 0)


def _short_and_not_compressed(dataset: h5py.Dataset) -> None:
    dataset.id.write_direct_chunk((0, 0, 0), b"\1" * 10, 1)


@pytest.mark.parametrize("alter", [_short_chunk, _long_chunk, _short_and_not_compressed])
def test_chunks_that_are_too_short_or_too_long_are_refused(tmp_path: Path, alter: Callable[..., None]) -> None:
    """HDF5 gives out memory that nobody wrote where a chunk is too short, and unpacks to any length."""
    path = save_others(tmp_path / "a.h5", IMAGES, chunks=(10, 4, 5), compression="gzip")
    with h5py.File(path, "r+") as file:
        alter(file["train_images"])
    with pytest.raises(CondenseError, match="damaged or cut short"):
        load_data(path)


@pytest.mark.parametrize("alter", [_soft_link, _external_link, _external_storage, _virtual_of_itself])
def test_arrays_of_others_lead_nowhere_either(tmp_path: Path, alter: Alter) -> None:
    path = save_others(tmp_path / "a.h5", IMAGES)
    with h5py.File(path, "r+") as file:
        file["labels"] = file["train_labels"]
        del file["train_labels"]
        alter(file)
        file.move("labels", "train_labels")
    with pytest.raises(CondenseError, match=r"only hard links are followed|in other files or datasets"):
        load_data(path)


def test_texts_of_others_are_not_more_than_their_file(tmp_path: Path) -> None:
    """Each of a thousand names is the same megabyte of the file."""
    path = save_others(tmp_path / "a.h5", IMAGES)
    with h5py.File(path, "r+") as file:
        del file["classes"]
        dataset = file.create_dataset("classes", 1000, h5py.string_dtype())
        dataset[0] = "x" * 2**20
        place = dataset.id.get_offset()
    content = bytearray(path.read_bytes())
    content[place : place + 16_000] = content[place : place + 16] * 1000
    path.write_bytes(content)
    with pytest.raises(CondenseError, match="has more text in /classes than bytes"):
        load_data(path)


def test_a_heap_that_leads_on_to_itself_is_refused(tmp_path: Path) -> None:
    path = save_others(tmp_path / "a.h5", IMAGES)
    assert load_data(path).classes == ("a", "b", "c")
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL") + 16
    while int.from_bytes(content[place : place + 2], "little"):  # past the texts, to what is free
        place += 16 + (int.from_bytes(content[place + 8 : place + 16], "little") + 7) // 8 * 8
    content[place + 8 : place + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a heap of texts is damaged"):
        check_heaps(path, len(content))
    with pytest.raises(CondenseError, match="damaged or cut short"):
        load_data(path)


def test_heaps_within_one_another_are_refused_at_once(tmp_path: Path) -> None:
    """Each head would have all that follows looked at."""
    path, content = tmp_path / "heaps.h5", b"GCOL\x01\0\0\0" * 2**18
    path.write_bytes(content)
    with pytest.raises(ValueError, match="heap"):
        check_heaps(path, len(content))


@pytest.mark.parametrize("forged", ["texts", "scalar with checksums"])
def test_what_is_forged_to_be_of_another_type_is_refused(forged: str, tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    write_contents(path, Contents({}, {"/": {}}), kind="a test", schema=1)
    with h5py.File(path, "r+") as file:
        if forged == "texts":
            file.create_dataset("x", data=["a", "b"], dtype=h5py.string_dtype()).attrs["checksum"] = "0"
        else:
            file.create_dataset("x", data=np.uint8(3)).attrs["checksum"] = "0"
            file.create_dataset("checksums/x", data=np.zeros((1, 16), np.uint8))
        places = ["x"] if forged == "texts" else ["x", "checksums", "checksums/x"]
        attributes = {"/": {"format": "a test", "schema": 1}} | {name: {} for name in places}
        attributes["x"] = {"checksum": "0"}
        file.attrs["checksum"] = checksum_of_attributes(attributes)
    with pytest.raises(CondenseError) as caught:
        read_contents(path, kind="a test", schema=1)
    assert "its attributes do not fit" not in str(caught.value)
