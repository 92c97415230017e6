"""Pictures are read as viewers show them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from condense.data import load_data
from condense.data.decoding import decode_file, quiet_pillow, read_header

ORIENTATION = 0x0112
FORMATS = {"png": {}, "webp": {"lossless": True}, "jpg": {"quality": 95}, "tiff": {}}


def picture() -> Image.Image:
    """Two rows of three squares, each of its own colour: no turn leaves it as it is."""
    squares = np.array([[0, 50, 100], [150, 200, 250]], np.uint8).repeat(8, 0).repeat(8, 1)
    return Image.fromarray(np.stack([squares, squares // 2, 255 - squares], axis=2))


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data


def as_shown(path: Path) -> np.ndarray:
    """(C, H, W), by Pillow's own function."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    picture().save(path, exif=exif(orientation), **FORMATS[suffix])
    header = read_header(path)
    assert not isinstance(header, str)
    expected = (24, 16) if orientation >= 5 else (16, 24)
    assert (header.height, header.width) == expected
    pixels = decode_file(path, (3, *expected))
    assert np.array_equal(pixels, as_shown(path))
    brightest_corner = {1: (1, 2), 2: (1, 0), 3: (0, 0), 4: (0, 2), 5: (2, 1), 6: (2, 0), 7: (0, 0), 8: (0, 1)}
    row, column = brightest_corner[orientation]
    assert pixels[0, 8 * row + 4, 8 * column + 4] > 240


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
    assert np.array_equal(decode_file(tmp_path / "a.png", (3, 24, 16)), as_shown(tmp_path / "a.png"))


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


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("change", [lambda image: image, lambda image: image.convert("RGB"), ImageOps.exif_transpose])
def test_pillow_images_in_a_dataset_are_turned_once(
    tmp_path: Path, suffix: str, change: Callable[[Image.Image], Image.Image]
) -> None:
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        picture().save(path, exif=exif(8), **FORMATS[suffix])
    pictures = Pictures(paths, change)
    data = load_data((pictures, pictures))
    assert data.image_shape == (3, 24, 16)
    assert np.array_equal(data.train.pixels(torch.tensor([1]))[0], as_shown(paths[1]))
