"""Kept patches: what is stored of images and what they are decoded to, in memory and in files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import condense
from condense.data import DataInfo
from condense.data.preprocessing import None_, Normalization
from condense.evaluation import PROTOCOLS
from condense.labels import LogitLabels
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, read_contents
from condense.runtime.hdf5.writer import write_contents
from condense.sets.file import KIND, SCHEMA
from condense.sets.importing import import_synthetic
from condense.sets.kept_patches import KeptPatches, joined_patches, patches_of
from condense.sets.synthetic_set import SyntheticSet

COLOUR = (0.4, 0.5, 0.6)
SIZES = [(8, 8, 2), (12, 8, 4), (7, 11, 3), (5, 9, 4), (6, 6, 6), (3, 4, 1)]  # height, width, side of patches


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def drawn(images: int, patches: int, count: int, seed: int = 0) -> Tensor:
    """Which `count` patches of each image are kept."""
    order = torch.rand(images, patches, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return torch.zeros(images, patches, dtype=torch.bool).scatter_(1, order[:, :count], True)


def naive_decode(images: Tensor, kept: Tensor, side: int, colour: tuple[float, ...]) -> Tensor:
    """Pixel by pixel: what it was where its patch is kept, else 255 times the colour."""
    count, channels, height, width = images.shape
    across = -(-width // side)
    decoded = torch.zeros(images.shape)
    for image in range(count):
        for y in range(height):
            for x in range(width):
                patch = (y // side) * across + x // side
                for channel in range(channels):
                    value = images[image, channel, y, x] if kept[image, patch] else 255 * colour[channel]
                    decoded[image, channel, y, x] = value
    return decoded


@pytest.mark.parametrize(("height", "width", "side"), SIZES)
def test_kept_patches_come_back_exactly_and_the_rest_is_one_colour(height: int, width: int, side: int):
    images = pixels(3, 3, height, width)
    patches = -(-height // side) * -(-width // side)
    for count in {1, max(1, patches // 2), patches}:
        kept = drawn(3, patches, count)
        decoder, stored = KeptPatches.of(images, kept, side, COLOUR)
        assert stored.shape == (3, count, 3, side, side)
        assert stored.dtype == torch.uint8
        assert torch.equal(decoder.kept, kept)
        found = decoder.decode(stored, fill=9.0)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, naive_decode(images, kept, side, COLOUR), rtol=1e-6, atol=0)
        if count == patches:
            assert torch.equal(found, images.float())


@pytest.mark.parametrize(("height", "width", "side"), SIZES)
def test_cutting_against_a_loop_and_back(height: int, width: int, side: int):
    images = pixels(2, 3, height, width).float() + 1
    across = -(-width // side)
    found = patches_of(images, side)
    assert found.shape == (2, -(-height // side) * across, 3, side, side)
    for place in np.ndindex(*found.shape):
        image, patch, channel, down, right = place
        y, x = patch // across * side + down, patch % across * side + right
        inside = y < height and x < width
        assert found[place] == (images[image, channel, y, x] if inside else 0)
    assert torch.equal(joined_patches(found, height, width), images)


def info(shape: tuple[int, int, int] = (3, 7, 11), classes: int = 2) -> DataInfo:
    normalization = Normalization(COLOUR, (0.2, 0.25, 0.4))
    return DataInfo("own", tuple(map(str, range(classes))), shape, True, "0" * 32, normalization)


IMAGES, KEPT = pixels(6, 3, 7, 11), drawn(6, 12, 7)


def patched(**changes: Any) -> SyntheticSet:
    decoder, stored = KeptPatches.of(IMAGES, KEPT, 3, COLOUR)
    arguments = {
        "stored": stored,
        "stored_labels": torch.tensor([0, 1, 0, 1, 0, 1]),
        "info": info(),
        "decoder": decoder,
        "source_indices": torch.arange(6) * 3,
    }
    return SyntheticSet(**arguments | changes)


def test_networks_see_whole_images_with_zeros_where_nothing_is_known():
    """In preprocessed space the mean colour is zero."""
    made = patched()
    plain = naive_decode(IMAGES, KEPT, 3, COLOUR) / 255
    assert made.images.shape == (6, 3, 7, 11)
    torch.testing.assert_close(made.plain_images, plain)
    torch.testing.assert_close(made.images, info().preprocessing.apply(plain), atol=1e-5, rtol=1e-5)
    lost = joined_patches((~KEPT)[:, :, None, None, None].expand(-1, -1, 3, 3, 3), 7, 11)
    assert made.images[lost].abs().max() < 1e-5
    assert lost.float().mean() > 0.3
    image, label = made[3]
    assert torch.equal(image, made.images[3])
    assert label == 1
    assert len(made) == 6
    assert (made.ipc, made.space) == (3, "pixels")


def test_an_image_is_the_same_bits_in_whatever_batch():
    made = patched()
    every = made.pixels_at(torch.arange(6))
    assert torch.equal(every, made.plain_images)
    assert torch.equal(made.pixels_at(torch.tensor([5, 2, 2])), every[[5, 2, 2]])


def test_bytes_are_those_of_the_file_and_fewer_than_of_whole_images(tmp_path: Path):
    whole = SyntheticSet(
        stored=pixels(60, 3, 8, 8), stored_labels=torch.zeros(60, dtype=torch.int64), info=info((3, 8, 8))
    )
    kept = drawn(60, 16, 12)
    decoder, stored = KeptPatches.of(whole.stored, kept, 2, COLOUR)
    made = SyntheticSet(stored=stored, stored_labels=whole.stored_labels, info=whole.info, decoder=decoder)
    made.save(tmp_path / "set.h5")
    with h5py.File(tmp_path / "set.h5") as file:
        arrays = [file[name][()].nbytes for name in ("images", "labels", "decoder/bitmap")]
        numbers = [np.asarray(file["decoder"].attrs[name]).nbytes for name in ("patch", "size", "colour")]
        assert file.attrs["bytes"] == made.bytes == sum(arrays) + sum(numbers)
    assert arrays == [60 * 12 * 3 * 4, 60 * 8, 60 * 2]
    assert made.bytes == whole.bytes - 60 * (4 * 3 * 4 - 2) + 8 * (1 + 2 + 3)


def test_a_file_gives_back_what_was_stored(tmp_path: Path):
    made = patched()
    made.save(tmp_path / "set.h5")
    read = SyntheticSet.load(tmp_path / "set.h5")
    assert (read.decoder.bitmap == made.decoder.bitmap).all()
    assert read.decoder.attributes == made.decoder.attributes == {"patch": 3, "size": [7, 11], "colour": [*COLOUR]}
    assert torch.equal(read.stored, made.stored)
    assert torch.equal(read.images, made.images)
    assert read.bytes == made.bytes
    read.save(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "set.h5").read_bytes()


def test_the_form_can_be_read_as_it_is_documented(tmp_path: Path):
    """With h5py and numpy alone, by docs/format.md."""
    made = patched()
    made.save(tmp_path / "set.h5")
    with h5py.File(tmp_path / "set.h5") as file:
        stored, bits = file["images"][:], np.unpackbits(file["decoder/bitmap"][:], axis=1)
        side, (height, width) = file["decoder"].attrs["patch"], file["decoder"].attrs["size"]
        colour = file["decoder"].attrs["colour"]
    across = -(-width // side)
    images = np.empty((len(stored), stored.shape[2], height, width))
    images[:] = 255 * colour[:, None, None]
    for image, patches in enumerate(stored):
        for place, patch in zip(bits[image].nonzero()[0], patches, strict=True):
            top, left = place // across * side, place % across * side
            part = images[image, :, top : top + side, left : left + side]
            part[:] = patch[:, : part.shape[1], : part.shape[2]]
    np.testing.assert_allclose(images / 255, made.plain_images.numpy(), rtol=1e-6)


def test_the_first_images_of_each_class_keep_their_own_patches(tmp_path: Path):
    made = patched()
    made.first(2).save(tmp_path / "small.h5")
    small = SyntheticSet.load(tmp_path / "small.h5")
    assert torch.equal(small.images, made.images[:4])
    assert small.labels.tolist() == [0, 1, 0, 1]
    assert small.source_indices.tolist() == [0, 3, 6, 9]
    assert small.bytes < made.bytes


def test_soft_labels_are_of_stored_images_too():
    logits = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 0, 1, 0, 1])
    made = patched(stored_labels=LogitLabels(logits, classes, 2.0))
    assert torch.equal(made.targets, logits)
    assert torch.equal(made.first(1).targets, logits[:2])


def test_a_picture_shows_what_networks_see():
    made, whole = patched(), SyntheticSet(stored=IMAGES, stored_labels=torch.tensor([0, 1] * 3), info=info())
    grid, of_whole = (np.asarray(each.grid()).astype(int) for each in (made, whole))
    assert grid.shape == of_whole.shape
    assert (grid != of_whole).any()
    filled = SyntheticSet(stored=made.plain_images, stored_labels=torch.tensor([0, 1] * 3), info=info(), space="unit")
    assert (grid == np.asarray(filled.grid())).all()
    labels = torch.tensor([0, 2, 0, 2, 0, 2])  # and nothing of a class without images
    assert patched(stored_labels=labels, info=info(classes=3)).grid().size[1] > made.grid().size[1]


@pytest.mark.parametrize("form", ["folder", "torch"])
def test_an_export_has_the_decoded_images(tmp_path: Path, form: str):
    made = patched()
    made.export(tmp_path / "export", form)
    back = import_synthetic(tmp_path / "export", made.info)
    assert torch.equal(back.labels, made.labels)
    assert torch.equal(back.source_indices, made.source_indices)
    torch.testing.assert_close(
        back.plain_images, made.plain_images, atol=0 if form == "torch" else 0.5 / 255, rtol=1e-4
    )
    if form == "folder":
        facts = json.loads((tmp_path / "export" / "metadata.json").read_text())
        assert facts["decoder"] == {"kind": "patches", **made.decoder.attributes}


def test_it_says_what_it_is_and_what_it_is_not():
    text = patched().describe()["images"]
    assert "6 of 3x7x11, 3 per class, stored as uint8 (pixels); of each 7 of 12 patches of 3x3 with a bitmap" in text
    assert "not by the paper's masked autoencoder" in text


def test_networks_learn_as_from_the_same_images_stored_whole():
    digits = condense.load_data("digits")
    rows = torch.cat([digits.train.class_indices(label)[:3] for label in range(10)])
    images, labels = digits.train.pixels(rows), digits.train.labels[rows]
    decoder, stored = KeptPatches.of(images, drawn(30, 16, 12), 2, (0.3,))
    made = SyntheticSet(stored=stored, stored_labels=labels, info=digits.info, decoder=decoder)
    filled = SyntheticSet(stored=made.plain_images, stored_labels=labels, info=digits.info, space="unit")
    whole = SyntheticSet(stored=images, stored_labels=labels, info=digits.info)
    demo = PROTOCOLS.find("demo")
    quick = demo.model_copy(update={"rule": demo.rule.model_copy(update={"epochs": 20})})
    first, second, third = (
        condense.evaluate(each, digits, nets=["mlp"], runs=1, protocol=quick).results[0]
        for each in (made, filled, whole)
    )
    assert first.accuracies == second.accuracies != third.accuracies
    assert first.bytes == made.bytes < third.bytes


WHOLE = np.array([[0b11111110, 0b00000000], [0b00011111, 0b11000000]], np.uint8)  # 7 of 12 patches of two images


@pytest.mark.parametrize(
    ("bitmap", "message"),
    [
        (WHOLE.astype(np.int16), r"uint8 \[images, 2\], not int16"),
        (WHOLE.astype(bool), "not bool"),
        (WHOLE[:, :1], r"not uint8 of shape \[2, 1\]"),
        (np.zeros((2, 3), np.uint8), r"not uint8 of shape \[2, 3\]"),
        (WHOLE[0], r"of shape \[2\]"),
        (WHOLE | np.uint8(1), "more patches than the 12 of an image"),
        (np.array([[254, 0], [255, 0]], np.uint8), "keeps 7 to 8 of 12 patches"),
        (np.zeros((2, 2), np.uint8), "keeps 0 to 0 of 12 patches"),
    ],
)
def test_bitmaps_that_do_not_fit_are_refused(bitmap: np.ndarray, message: str):
    KeptPatches(WHOLE, 3, (7, 11), COLOUR)
    with pytest.raises(CondenseError, match=message):
        KeptPatches(bitmap, 3, (7, 11), COLOUR)


@pytest.mark.parametrize(
    ("patch", "size", "colour"),
    [
        (0, (7, 11), COLOUR),
        (12, (7, 11), COLOUR),
        (3, (7, 11), (0.4, 1.5, 0.6)),
        (3, (7, 11), (0.4, float("nan"), 0.6)),
    ],
)
def test_patches_and_colours_that_are_none_are_refused(patch: int, size: tuple[int, int], colour: tuple[float, ...]):
    with pytest.raises(CondenseError, match="give a side within the image, and colours from 0 to 1"):
        KeptPatches(WHOLE, patch, size, colour)


def test_a_small_file_does_not_become_a_large_memory():
    bits = np.zeros((1, 1001 // 8 + 1), np.uint8)
    bits[0, 0] = 128
    KeptPatches(bits[:, :125], 1, (1, 1000), (0.5,))
    with pytest.raises(CondenseError, match=r"keeps 1 to 1 of 1001 patches; .* at least one of 1000"):
        KeptPatches(bits, 1, (1, 1001), (0.5,))
    with pytest.raises(CondenseError, match=r"uint8 \[images, 125000000000000000\], not uint8 of shape \[2, 2\]"):
        KeptPatches(WHOLE, 1, (10**9, 10**9), (0.5,))


def test_they_must_fit_the_images():
    made = patched()
    with pytest.raises(CondenseError, match=r"patches of images of \[3, 7, 11\] do not fit images of \[3, 11, 7\]"):
        patched(info=info((3, 11, 7)))
    with pytest.raises(CondenseError, match=r"patches of images of \[1, 7, 11\]"):
        patched(decoder=KeptPatches(made.decoder.bitmap, 3, (7, 11), (0.5,)))
    with pytest.raises(CondenseError, match="the bitmap is of 6 images, and 4 are stored"):
        patched(stored=made.stored[:4])
    for wrong in (made.stored[:, :6], made.stored[..., :2], IMAGES):
        with pytest.raises(CondenseError, match=r"needs N > 0 images of \[7, 3, 3, 3\]"):
            patched(stored=wrong)
    with pytest.raises(CondenseError, match="images that are decoded as patches are stored as uint8; convert them"):
        patched(stored=made.stored.float(), space="unit")


def test_preprocessing_that_knows_no_mean_fills_with_the_stored_colour():
    plain = DataInfo("own", ("0", "1"), (3, 7, 11), True, "0" * 32, None_())
    torch.testing.assert_close(patched(info=plain).images, naive_decode(IMAGES, KEPT, 3, COLOUR) / 255)


Change = Callable[[dict[str, np.ndarray], dict[str, Any]], None]
HOSTILE: dict[str, tuple[Change, str]] = {
    "no bitmap": (lambda arrays, facts: arrays.pop("decoder/bitmap"), "not just the array bitmap"),
    "another array": (lambda arrays, facts: arrays.update({"decoder/more": WHOLE}), "not just the array bitmap"),
    "another type": (
        lambda arrays, facts: arrays.update({"decoder/bitmap": arrays["decoder/bitmap"].astype(np.int64)}),
        "not int64",
    ),
    "fewer rows": (
        lambda arrays, facts: arrays.update({"decoder/bitmap": arrays["decoder/bitmap"][:5]}),
        "the bitmap is of 5 images",
    ),
    "images of floats": (
        lambda arrays, facts: arrays.update({"images": arrays["images"].astype(np.float32)}),
        "float32",
    ),
    "whole images": (lambda arrays, facts: arrays.update({"images": IMAGES.numpy()}), "needs N > 0 images"),
    "a side of 0": (lambda arrays, facts: facts.update({"patch": 0}), "give a side within the image"),
    "a side below 0": (lambda arrays, facts: facts.update({"patch": -3}), "give a side within the image"),
    "a side that is no number": (lambda arrays, facts: facts.update({"patch": "3"}), "patch"),
    "no side": (lambda arrays, facts: facts.pop("patch"), "patch is missing"),
    "huge images": (lambda arrays, facts: facts.update({"size": [2**40, 2**40]}), "the bitmap of"),
    "three sides": (lambda arrays, facts: facts.update({"size": [7, 11, 3]}), "size"),
    "no colour": (lambda arrays, facts: facts.update({"colour": [0.5]}), "do not fit images"),
    "a colour beyond": (lambda arrays, facts: facts.update({"colour": [0.5, 0.5, 255.0]}), "colours from 0 to 1"),
    "something more": (lambda arrays, facts: facts.update({"network": "mae"}), "network"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_of_parts_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, name: str):
    change, message = HOSTILE[name]
    path = tmp_path / "set.h5"
    patched().save(path)
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    arrays, attributes = dict(contents.arrays), {key: dict(value) for key, value in contents.attributes.items()}
    change(arrays, attributes["decoder"])
    write_contents(path, Contents(arrays, attributes), kind=KIND, schema=SCHEMA)
    with pytest.raises(CondenseError, match=rf"set\.h5: .*{message}") as error:
        SyntheticSet.load(path)
    assert "\n" not in str(error.value)
