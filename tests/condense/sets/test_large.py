"""Images that stay in files: read as a tensor would be, never all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from condense.data import DataInfo
from condense.data.preprocessing import Normalization
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, Rows, read_contents
from condense.runtime.hdf5.writer import Pieces, write_contents
from condense.sets import file
from condense.sets.large import StoredRows, gathered, in_memory
from condense.sets.synthetic_set import SyntheticSet

SHAPE = (3, 4, 2)
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (10, *SHAPE), dtype=np.uint8))


def written(path: Path, pixels: torch.Tensor) -> Rows:
    array = pixels.numpy()
    rows = {"images": Pieces(array.shape, array.dtype, [array])}
    write_contents(path, Contents({}, {"/": {}}), kind="a test", schema=1, rows=rows)
    return read_contents(path, kind="a test", schema=1).rows["images"]


@pytest.fixture
def stored(tmp_path: Path) -> StoredRows:
    """All of them, but from three files in another order."""
    files = [written(tmp_path / f"{number}.h5", PIXELS[number::3].flip(0)) for number in range(3)]
    lengths = [len(each) for each in files]
    return gathered(files, [(row % 3, lengths[row % 3] - 1 - row // 3) for row in range(10)])


@pytest.mark.parametrize(
    "index",
    [
        3,
        -1,
        slice(2, 7),
        slice(None),
        slice(5, 5),
        torch.tensor([9, 0, 0, 4]),
        torch.arange(10) % 2 == 0,
        torch.tensor([], dtype=torch.int64),
    ],
    ids=str,
)
def test_rows_are_those_of_a_tensor(stored: StoredRows, index):
    assert torch.equal(stored[index], PIXELS[index])
    assert stored[index].dtype == torch.uint8


def test_all_that_is_asked_of_a_tensor(stored: StoredRows):
    assert (len(stored), stored.shape, stored.dtype) == (10, PIXELS.shape, torch.uint8)
    assert (stored.numel(), stored.element_size(), stored.is_floating_point()) == (240, 1, False)
    assert torch.equal(stored.whole(), PIXELS)
    assert torch.equal(in_memory(stored), PIXELS)
    assert in_memory(PIXELS) is PIXELS
    with pytest.raises(IndexError):
        stored[10]


def test_pieces_are_all_rows_in_order(stored: StoredRows, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("condense.sets.large._PIECE_BYTES", 3 * 24)
    pieces = [*stored.pieces()]
    assert [len(piece) for piece in pieces] == [3, 3, 3, 1]
    assert (np.concatenate(pieces) == PIXELS.numpy()).all()


def test_damage_is_told_when_a_row_is_read(tmp_path: Path):
    path = tmp_path / "own.h5"
    rows = StoredRows.of(written(path, PIXELS))
    content = path.read_bytes()
    place = content.rfind(PIXELS[7].numpy().tobytes())
    with path.open("r+b") as changed:
        changed.seek(place)
        changed.write(bytes([content[place] ^ 1]))
    with pytest.raises(CondenseError, match=r"own\.h5 (was altered|has changed)"):
        rows[7]


def test_a_large_set_stays_in_its_file_and_is_written_from_others(stored: StoredRows, tmp_path: Path, monkeypatch):
    info = DataInfo("own", ("a", "b"), SHAPE, False, "0" * 32, Normalization((0.5,) * 3, (0.25,) * 3))
    labels = torch.arange(2).repeat_interleave(5)
    plain = SyntheticSet(stored=PIXELS, stored_labels=labels, info=info)
    large = SyntheticSet(stored=stored, stored_labels=labels, info=info)
    assert large.bytes == plain.bytes
    assert torch.equal(large.images, plain.images)
    assert torch.equal(large.pixels_at(torch.tensor([8, 1])), plain.pixels_at(torch.tensor([8, 1])))
    large.save(tmp_path / "set.h5")
    in_tensor = SyntheticSet.load(tmp_path / "set.h5")
    assert isinstance(in_tensor.stored, torch.Tensor)
    monkeypatch.setattr(file, "LARGE", 100)
    in_file = SyntheticSet.load(tmp_path / "set.h5")
    assert isinstance(in_file.stored, StoredRows)
    for read in (in_tensor, in_file):
        assert torch.equal(read.images, plain.images)
        assert torch.equal(read.first(2).images, plain.first(2).images)
    in_file.save(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "set.h5").read_bytes()


@pytest.mark.parametrize("space", ["pixels", "unit"])
def test_large_sets_are_trained_on_by_the_images_that_are_asked_for(tmp_path: Path, space: str):
    """Preprocessed, and as pixels for views and teachers: never all of them at once."""
    info = DataInfo("d", ("a", "b"), SHAPE, False, "", Normalization((0.4,) * 3, (0.2,) * 3))
    pixels = PIXELS if space == "pixels" else PIXELS.float() / 200 - 0.1
    labels = torch.arange(10) % 2
    rows = StoredRows.of(written(tmp_path / "rows.h5", pixels))
    large, small = (SyntheticSet(stored=each, stored_labels=labels, info=info, space=space) for each in (rows, pixels))
    chosen = torch.tensor([7, 0, 3])
    assert torch.equal(large.images_at(chosen), small.images[chosen])
    assert torch.equal(large.pixels_at(chosen), small.pixels_at(chosen))
    assert large.plain.digest == small.plain.digest
    assert not large.__dict__.keys() & {"images", "_clipped"}


def test_images_of_texts_are_refused(tmp_path: Path):
    rows = written(tmp_path / "rows.h5", PIXELS)
    with pytest.raises(CondenseError, match="its images are"):
        StoredRows.of(replace(rows, dtype=np.dtype("S3")))
