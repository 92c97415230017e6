"""Images of more than 8 bits a channel, in every format and colour that Pillow would cut to 8 bits."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from condense.data import load_data
from condense.data.images.depth import is_deep
from condense.runtime.errors import CondenseError

Tree = Callable[..., Path]  # the fixture `tree`

SIZE = 4
CHANNELS = {"gray": 1, "gray and alpha": 2, "RGB": 3, "RGBA": 4}
PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # the colour type in the header


def png(channels: int, bits: int) -> bytes:
    """A PNG of SIZE x SIZE pixels, all with the value 300 or 30."""
    row = b"\0" + (300).to_bytes(2, "big") * channels * SIZE if bits == 16 else b"\0" + bytes([30]) * channels * SIZE
    header = struct.pack(">IIBBBBB", SIZE, SIZE, bits, PNG_COLOURS[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * SIZE)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(bits: int) -> bytes:
    """An uncompressed RGB TIFF."""
    pixels = (b"\x2c\x01" if bits == 16 else b"\x1e") * 3 * SIZE * SIZE
    tags = [
        (256, 3, 1, SIZE), (257, 3, 1, SIZE), (258, 3, 3, 8 + 2 + 9 * 12 + 4), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 8 + 2 + 9 * 12 + 4 + 6), (277, 3, 1, 3), (278, 3, 1, SIZE), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    directory = (
        struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    )
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<3H", bits, bits, bits) + pixels


def ppm(largest: int, *, plain: bool) -> bytes:
    if plain:
        return f"P3 {SIZE} {SIZE} {largest}\n".encode() + b"9 " * 3 * SIZE * SIZE
    return f"P6 {SIZE} {SIZE} {largest}\n".encode() + bytes(3 * SIZE * SIZE * (2 if largest > 255 else 1))


def saved(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (30, 40, 50)).save(file, form, **options)
    return file.getvalue()


def jpeg2000(bits: int, *, bare: bool = False) -> bytes:
    """Its header alone tells the depth, so the pixels of an 8-bit file do."""
    content = bytearray(saved("JPEG2000", no_jp2=bare))
    first = content.index(b"\xff\x4f\xff\x51") + 42
    content[first : first + 9 : 3] = bytes([bits - 1]) * 3
    return bytes(content)


DEEP = {
    **{f"PNG {name}": png(channels, 16) for name, channels in CHANNELS.items()},
    "TIFF": tiff(16),
    "PPM": ppm(4095, plain=False),
    "PPM of 16 bits": ppm(65535, plain=False),
    "plain PPM": ppm(1023, plain=True),
    "SGI": saved("SGI", bpc=2),
    "JPEG 2000": jpeg2000(12),
    "bare JPEG 2000": jpeg2000(16, bare=True),
}
SHALLOW = {
    **{f"PNG {name}": png(channels, 8) for name, channels in CHANNELS.items()},
    "TIFF": tiff(8),
    "PPM": ppm(255, plain=False),
    "PPM of few values": ppm(100, plain=False),
    "plain PPM": ppm(255, plain=True),
    "SGI": saved("SGI"),
    "JPEG 2000": jpeg2000(8),
    "BMP": saved("BMP"),
    "TGA": saved("TGA"),
    "GIF": saved("GIF"),
    "WebP": saved("WEBP"),
    "JPEG": saved("JPEG"),
}


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_deep_files_are_told_by_their_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with Image.open(path) as image:
        assert is_deep(image)
    with Image.open(io.BytesIO(content)) as image:
        assert is_deep(image)


@pytest.mark.parametrize("content", SHALLOW.values(), ids=SHALLOW)
def test_files_of_8_bits_are_not(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with Image.open(path) as image:
        assert not is_deep(image)
        image.load()
        assert not is_deep(image)
        assert not is_deep(image.convert("RGB"))


@pytest.mark.parametrize("content", [DEEP["PNG RGB"], DEEP["PNG RGBA"], DEEP["TIFF"], DEEP["PPM"]])
def test_an_image_that_was_decoded_already_is_looked_up_in_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with Image.open(path) as image:
        image.load()
        assert is_deep(image)


@pytest.mark.parametrize("name", ["PNG RGB", "PNG gray and alpha", "TIFF", "PPM", "JPEG 2000"])
def test_a_tree_with_a_deep_file_is_refused(tree: Tree, name: str) -> None:
    root = tree({"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1}, size=(SIZE, SIZE))
    (root / "train/dog/001.png").write_bytes(DEEP[name])
    message = r"1 image file\(s\) have more than 8 bits a channel, for example train/dog/001.png; give --window"
    with pytest.raises(CondenseError, match=message):
        load_data(root)


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("name", ["PNG RGB", "TIFF"])
def test_a_deep_pillow_image_in_a_dataset_is_refused(tmp_path: Path, name: str, *, decoded: bool) -> None:
    (tmp_path / "image").write_bytes(DEEP[name])
    image = Image.open(tmp_path / "image")
    if decoded:
        image.load()
    items = [(Image.new("RGB", (SIZE, SIZE)), 0), (image, 1)]
    with pytest.raises(CondenseError, match="image 1 has more than 8 bits a channel; give --window LOW HIGH"):
        load_data((items, items))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_a_deep_array_in_a_dataset_is_refused(kind: str) -> None:
    image = np.full((SIZE, SIZE, 3), 4095, np.uint16)
    item = image if kind == "array" else torch.from_numpy(image.transpose(2, 0, 1).copy())
    items = [(item, 0), (item, 1)]
    message = r"image 0 is uint16 from 4095 to 4095; give uint8: .* if no value is above 255, else give --window LOW"
    with pytest.raises(CondenseError, match=message):
        load_data((items, items))  # type: ignore[arg-type]


def test_deep_arrays_are_refused_with_a_way_out(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "deep.npz", **arrays | {"test_images": arrays["test_images"].astype(np.uint16)})
    message = (
        r"test_images of .* is uint16; images must be uint8, 0 to 255 \(images.astype\('uint8'\) if no value is above"
    )
    with pytest.raises(CondenseError, match=message):
        load_data(tmp_path / "deep.npz")


def test_a_tensor_of_bfloat16_is_read() -> None:
    """numpy has no such type."""
    images = torch.rand(4, 3, 5, 6).to(torch.bfloat16)
    dataset = TensorDataset(images, torch.arange(4) % 2)
    data = load_data((dataset, dataset))
    assert torch.equal(data.train.pixels(torch.arange(4)), (images.float() * 255).round().to(torch.uint8))
