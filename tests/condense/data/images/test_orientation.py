"""Pictures are read as viewers show them."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from condense.data import load_data
from condense.data.images.decoding import decode_file, quiet_pillow, read_header

ORIENTATION = 0x0112
FORMATS: dict[str, dict[str, Any]] = {".png": {}, ".webp": {"lossless": True}, ".jpg": {"quality": 95}, ".tiff": {}}


def picture() -> Image.Image:
    """Two rows of three squares, each of its own colour: no turn leaves it as it is."""
    squares = np.array([[0, 50, 100], [150, 200, 250]], np.uint8).repeat(8, 0).repeat(8, 1)
    return Image.fromarray(np.stack([squares, squares // 2, 255 - squares], axis=2))


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


def save(path: Path, orientation: int) -> np.ndarray:
    """Write the picture with this orientation; how viewers show it, (C, H, W)."""
    options = FORMATS[path.suffix]
    picture().save(path, **options)
    with Image.open(path) as plain:
        shown = TURNS[orientation](np.asarray(plain.convert("RGB")))
    picture().save(path, exif=exif(orientation), **options)
    return shown.transpose(2, 0, 1)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a{suffix}"
    shown = save(path, orientation)
    header = read_header(path)
    assert not isinstance(header, str)
    assert (header.height, header.width) == shown.shape[1:] == ((24, 16) if orientation >= 5 else (16, 24))
    assert np.array_equal(decode_file(path, shown.shape), shown)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_metadata_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    file = io.BytesIO()
    picture().save(file, "PNG")
    end = chunk(b"IEND", b"")
    content = file.getvalue().removesuffix(end) + chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")) + end
    (tmp_path / "a.png").write_bytes(content)
    header = read_header(tmp_path / "a.png")
    assert not isinstance(header, str)
    assert (header.height, header.width) == (24, 16)
    shown = TURNS[6](np.asarray(picture())).transpose(2, 0, 1)
    assert np.array_equal(decode_file(tmp_path / "a.png", (3, 24, 16)), shown)


@pytest.mark.parametrize(
    "data", [b"Exif\0\0nonsense", exif(9).tobytes(), exif(0).tobytes(), b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
def test_invalid_metadata_turn_nothing(tmp_path: Path, data: bytes) -> None:
    picture().save(tmp_path / "a.png", exif=data)
    picture().save(tmp_path / "b.png")
    with quiet_pillow():
        headers = [read_header(tmp_path / name) for name in ("a.png", "b.png")]
        pixels = [decode_file(tmp_path / name, (3, 16, 24)) for name in ("a.png", "b.png")]
    assert headers[0] == headers[1]
    assert np.array_equal(pixels[0], pixels[1])


def test_the_photos_of_one_camera_have_one_size_and_lie_right(tmp_path: Path) -> None:
    upright = np.asarray(picture())
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            picture().save(folder / "0.png")
            turned = picture().transpose(Image.Transpose.ROTATE_90)  # as the sensor had it
            turned.save(folder / "1.png", exif=exif(6))
    data = load_data(tmp_path)
    assert data.image_shape == (3, 16, 24)
    for image in data.train.pixels(torch.arange(4)):
        assert np.array_equal(image.permute(1, 2, 0), upright)


class Pictures(Dataset):
    """Pillow images that were opened from files, or converted from such as torchvision's loader does."""

    def __init__(self, paths: list[Path], change: Callable[[Image.Image], Image.Image]) -> None:
        self.paths, self.change = paths, change

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.change(Image.open(self.paths[index])), index


CHANGES: dict[str, Callable[[Image.Image], Any]] = {
    "opened": lambda image: image,
    "converted": lambda image: image.convert("RGB"),
    "turned": ImageOps.exif_transpose,
}


# Without a TIFF that its user turns: Pillow before 11 turns it twice then.
@pytest.mark.parametrize(
    ("suffix", "change"), [pair for pair in itertools.product(FORMATS, CHANGES) if pair != (".tiff", "turned")]
)
def test_pillow_images_in_a_dataset_are_turned_once(tmp_path: Path, suffix: str, change: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    shown = [save(path, 8) for path in paths]
    pictures = Pictures(paths, CHANGES[change])
    data = load_data((pictures, pictures))
    assert data.image_shape == (3, 24, 16)
    assert np.array_equal(data.train.pixels(torch.tensor([1]))[0], shown[1])
