"""Image files that cannot be read, are too large, or make Pillow talk."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense.data import load_data
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`

TWO_SPLITS = {"train/cat": 4, "train/dog": 5, "test/cat": 2, "test/dog": 3}


@pytest.fixture
def locked_out(tree: Tree) -> Iterator[Callable[[str], Path]]:
    """Takes away the rights on something in a tree, also from root, and gives the tree."""
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    user = os.geteuid()

    def lock(name: str) -> Path:
        root = Path(shutil.copytree(tree(TWO_SPLITS), place / "pets"))
        np.savez(root / "train/a.npz", images=np.zeros(3))
        place.chmod(0o755)
        (root / name).chmod(0)
        if user == 0:
            os.seteuid(65534)
        return root

    yield lock
    os.seteuid(user)
    for path in (place / "pets").rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(place)


def test_a_locked_file_is_not_called_damaged(locked_out: Callable[[str], Path]) -> None:
    root = locked_out("train/dog/003.png")
    message = r"1 of 14 image files in .* may not be read \(permission denied\): train/dog/003.png; allow yourself"
    with pytest.raises(CondenseError, match=message):
        load_data(root)


@pytest.mark.parametrize("name", ["train/dog", "train"])
def test_a_locked_folder_is_not_empty(locked_out: Callable[[str], Path], name: str) -> None:
    root = locked_out(name)
    with pytest.raises(CondenseError, match=rf"cannot list the folder .*{name}: Permission denied; allow yourself to"):
        load_data(root)


def test_a_locked_folder_that_is_not_used_is_left_alone(locked_out: Callable[[str], Path], tree: Tree) -> None:
    tree({"backup": 1})
    data = load_data(locked_out("backup"))
    assert "backup/ in pets is not used" in data.notes


@pytest.mark.parametrize("name", ["train/dog", "a.npz"])
def test_a_place_that_may_not_be_entered_is_not_called_absent(locked_out: Callable[[str], Path], name: str) -> None:
    root = locked_out("train")
    with pytest.raises(
        CondenseError, match=rf"cannot look at .*{name}: Permission denied; allow yourself to enter the"
    ):
        load_data(root / "train" / Path(name).name)


def test_locked_arrays(locked_out: Callable[[str], Path]) -> None:
    root = locked_out("train/a.npz")
    with pytest.raises(CondenseError, match=r"cannot read .*a.npz: Permission denied; allow yourself to read it"):
        load_data(root / "train/a.npz")


def test_pipes_are_no_files(tree: Tree, tmp_path: Path) -> None:
    """To open one would wait for ever."""
    root = tree(TWO_SPLITS)
    os.mkfifo(root / "train/cat/pipe.png")
    with pytest.raises(
        CondenseError, match=r"1 of 15 image files in .* cannot be read: train/cat/pipe.png; replace or"
    ):
        load_data(root)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(CondenseError, match=r"pipe.npz is neither a folder nor an .npz or .h5 file"):
        load_data(tmp_path / "pipe.npz")


def huge_png(height: int, width: int) -> bytes:
    """A gray PNG of zeros, some kilobytes of file."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + (width + 7) // 8) * height))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_a_scan_above_the_limit_of_pillow_is_not_called_damaged(tree: Tree) -> None:
    root = tree(TWO_SPLITS)
    (root / "test/cat/001.png").write_bytes(huge_png(14_000, 14_000))
    message = (
        r"1 of 14 image files in .* have more than 179 megapixels, the most that Pillow decodes: test/cat/001.png; "
        r"make them smaller first \(or, in Python, raise PIL.Image.MAX_IMAGE_PIXELS\)"
    )
    with pytest.raises(CondenseError, match=message):
        load_data(root, image_size=4)


def test_a_large_scan_is_read_and_noted(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # the same with small images
    root = tree(TWO_SPLITS)
    (root / "test/cat/001.png").write_bytes(huge_png(1_000, 1_100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_data(root, image_size=4)
    note = (
        "1 of 14 image files have more than 1 megapixels, for example test/cat/001.png; they take long to decode, so "
        "better make them smaller first"
    )
    assert note in data.notes


def test_warnings_of_pillow_do_not_get_out(tree: Tree) -> None:
    """Of palettes, of metadata, of sizes, in one thread and in several; not even raw errors of its log."""
    root = tree(TWO_SPLITS, size=(140, 130))
    for path in (root / "train/cat").iterdir():
        image = Image.open(path).convert("P")
        image.info["transparency"] = bytes(range(256))
        image.save(path, transparency=bytes(range(256)))
    for path in (root / "train/dog").iterdir():
        Image.open(path).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    Image.open(root / "test/dog/000.png").save(root / "test/dog/a.tiff")
    content = bytearray((root / "test/dog/a.tiff").read_bytes())
    samples = content.index(struct.pack("<HHIH", 277, 3, 1, 3))
    content[samples + 8] = 200  # more samples than can be decoded
    (root / "test/dog/a.tiff").write_bytes(content)
    code = (
        "import sys, torch; torch.set_num_threads(2); from condense import load_data\n"
        "for limit in (10**9, 10):\n"
        "    try: load_data(sys.argv[1], memory_limit=limit)\n"
        "    except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("1 of 15 image files in") == 2
    (root / "test/dog/a.tiff").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_data(root, memory_limit=10)
    assert "4 of 14 images have a transparency channel, which is left out" in data.notes


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_of_animations_the_first_frame_is_read(tree: Tree, suffix: str) -> None:
    root = tree(TWO_SPLITS)
    before = load_data(root).fingerprint
    path = root / "train/cat/001.png"
    first = Image.open(path).convert("RGB")
    path.unlink()
    others = [Image.new("RGB", (5, 6))]
    first.save(path.with_suffix(suffix), save_all=True, append_images=others, lossless=True)
    data = load_data(root)
    assert data.fingerprint == before
    note = f"1 of 14 image files have several frames, for example train/cat/001{suffix}; the first one is used"
    assert data.notes == (note,)
