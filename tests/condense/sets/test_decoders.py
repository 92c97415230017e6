"""Decoders: tiles against a loop over them, and sets that store mosaics."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

import condense
from condense.data.info import DataInfo
from condense.data.preprocessing import Normalization
from condense.evaluation import PROTOCOLS
from condense.labels import LogitLabels, ProbabilityLabels
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, read_contents
from condense.runtime.hdf5.writer import write_contents
from condense.sets.decoders import decoder_from_parts
from condense.sets.description import describe_set
from condense.sets.file import KIND, SCHEMA
from condense.sets.synthetic_set import SyntheticSet
from condense.sets.tiles import Tiles

MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.25, 0.4)


def images_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def naive_decode(stored: Tensor, factor: int, fill: float) -> Tensor:
    """Pixel by pixel into tiles of the rounded-up side, each enlarged by itself; tile after tile, image after image."""
    count, channels, height, width = stored.shape
    rows, columns = -(-height // factor), -(-width // factor)
    decoded = []
    for down in range(factor):
        for right in range(factor):
            for image in range(count):
                tile = torch.full((1, channels, rows, columns), fill)
                for y in range(rows):
                    for x in range(columns):
                        if down * rows + y < height and right * columns + x < width:
                            tile[0, :, y, x] = stored[image, :, down * rows + y, right * columns + x]
                decoded.append(F.interpolate(tile, size=(height, width), mode="bilinear", align_corners=False))
    return torch.cat(decoded)


@pytest.mark.parametrize(
    ("shape", "factor", "tile"),
    [
        ((1, 28, 28), 2, (14, 14)),
        ((3, 32, 32), 2, (16, 16)),
        ((1, 28, 28), 3, (10, 10)),
        ((1, 8, 8), 3, (3, 3)),
        ((3, 12, 8), 2, (6, 4)),
        ((1, 7, 11), 2, (4, 6)),
        ((1, 8, 8), 8, (1, 1)),
    ],
)
def test_decoding_against_a_loop_over_tiles(shape: tuple[int, int, int], factor: int, tile: tuple[int, int]):
    stored = images_of(2, *shape)
    found = Tiles(factor).decode(stored, fill=0.5)
    assert found.shape == (2 * factor**2, *shape)
    assert Tiles(factor).tile_size(*shape[1:]) == tile
    torch.testing.assert_close(found, naive_decode(stored, factor, 0.5))


def test_bilinear_weights_by_hand():
    """A tile of (0, 1) becomes (0, 1/4, 3/4, 1): without aligned corners, borders repeated."""
    stored = torch.zeros(1, 1, 4, 4)
    stored[0, 0, :2, 1] = 1
    torch.testing.assert_close(Tiles(2).decode(stored, fill=0.0)[0, 0], torch.tensor([[0, 0.25, 0.75, 1]] * 4))


def test_what_the_last_tiles_lack_is_the_fill():
    first, other = (Tiles(3).decode(torch.zeros(1, 1, 8, 8), fill=fill)[:, 0] for fill in (0.5, 0.0))
    full = [0, 1, 3, 4]  # tiles that lie within the image
    assert not first[full].any()
    for tile in (2, 5, 6, 7, 8):
        assert first[tile].max() == 0.5
    assert not other.any()


def test_labels_follow_the_order_of_tiles():
    stored = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 6, 6)
    labels = torch.tensor([4, 7, 9])
    for factor in (2, 3):
        decoded, repeated = Tiles(factor).decode(stored, fill=0.5), labels[Tiles(factor).rows(len(labels))]
        assert repeated.tolist() == [4, 7, 9] * factor**2
        assert decoded[:, 0, 3, 3].tolist() == [0, 1, 2] * factor**2
    rows = torch.arange(6.0).view(3, 2)
    torch.testing.assert_close(rows[Tiles(2).rows(len(rows))], torch.cat([rows] * 4))


@pytest.mark.parametrize("sampling", ["nearest", "bilinear"])
@pytest.mark.parametrize(("shape", "factor"), [((1, 28, 28), 2), ((3, 12, 8), 2), ((1, 9, 6), 3)])
def test_arranged_constant_images_come_back(shape: tuple[int, int, int], factor: int, sampling: str):
    values = torch.rand(2 * factor**2, shape[0], 1, 1, generator=torch.Generator().manual_seed(1))
    images = values.expand(-1, *shape)
    mosaics = Tiles(factor).arrange(images, sampling)
    assert mosaics.shape == (2, *shape)
    torch.testing.assert_close(Tiles(factor).decode(mosaics, fill=0.5), images)


@pytest.mark.parametrize("sampling", ["nearest", "bilinear"])
@pytest.mark.parametrize(("shape", "factor"), [((1, 8, 8), 2), ((3, 12, 8), 2), ((1, 8, 8), 3), ((1, 7, 11), 2)])
def test_arranging_against_a_loop(shape: tuple[int, int, int], factor: int, sampling: str):
    """Each image by itself made smaller into its place; what sticks out at the bottom and the right is cut."""
    images = images_of(2 * factor**2, *shape)
    channels, height, width = shape
    rows, columns = -(-height // factor), -(-width // factor)
    expected = torch.zeros(2, channels, rows * factor, columns * factor)
    for number in range(len(images)):
        tile, image = divmod(number, 2)
        down, right = divmod(tile, factor)
        corners = {} if sampling == "nearest" else {"align_corners": False}
        small = F.interpolate(images[number : number + 1], size=(rows, columns), mode=sampling, **corners)[0]
        expected[image, :, down * rows : (down + 1) * rows, right * columns : (right + 1) * columns] = small
    torch.testing.assert_close(Tiles(factor).arrange(images, sampling), expected[:, :, :height, :width])


def test_multi_decoding_is_by_every_factor_up_to_the_largest():
    stored = images_of(2, 1, 8, 8)
    decoder = Tiles(3, "multi")
    expected = torch.cat([stored, naive_decode(stored, 2, 0.5), naive_decode(stored, 3, 0.5)])
    torch.testing.assert_close(decoder.decode(stored, fill=0.5), expected)
    assert decoder.rows(2).tolist() == [0, 1] * (1 + 4 + 9)
    assert decoder.images_in(2) == 2 * (1 + 4 + 9)


def naive_factors(largest: int, ipc: int, bound: int) -> list[int]:
    """As many images as possible by the largest factor, then by the next one, each of the others being one image."""
    factors: list[int] = []
    for factor in range(largest, 0, -1):
        while len(factors) < ipc and sum(f**2 for f in factors) + factor**2 + (ipc - len(factors) - 1) <= bound:
            factors.append(factor)
    return factors + [1] * (ipc - len(factors))


@pytest.mark.parametrize(
    ("factor", "ipc", "bound", "expected"),
    [
        (3, 50, 128, [3] * 8 + [2] * 3 + [1] * 39),  # by the released code of IDC
        (3, 20, 128, [3] * 12 + [2] * 3 + [1] * 5),
        (3, 10, 128, [3] * 10),
        (2, 40, 128, [2] * 22 + [1] * 18),
        (2, 3, 8, [2, 1, 1]),
        (2, 5, 4, [1] * 5),
    ],
)
def test_bound_decoding_has_as_many_mosaics_as_fit(factor: int, ipc: int, bound: int, expected: list[int]):
    decoder = Tiles.bounded(factor, ipc, bound)
    assert list(decoder.factors) == expected
    assert decoder.images_in(ipc) == sum(each**2 for each in expected) <= max(bound, ipc)


def test_the_place_in_its_class_decides_how_an_image_is_decoded():
    stored = images_of(6, 1, 8, 8)
    decoder = Tiles(3, "bound", (3, 2, 1))
    expected = torch.cat([stored[[2, 5]], naive_decode(stored[[1, 4]], 2, 0.5), naive_decode(stored[[0, 3]], 3, 0.5)])
    torch.testing.assert_close(decoder.decode(stored, fill=0.5), expected)
    labels = torch.tensor([4, 4, 4, 7, 7, 7])
    assert labels[decoder.rows(6)].tolist() == [4, 7] * (1 + 4 + 9)
    by_class = [decoder.decode(part, fill=0.5) for part in stored.split(3)]
    assert sorted(torch.cat(by_class).flatten(1).sum(1)) == sorted(expected.flatten(1).sum(1))
    with pytest.raises(CondenseError, match="4 stored images are not whole classes of 3"):
        decoder.decode(stored[:4], fill=0.5)


@pytest.mark.parametrize(
    ("kind", "attributes", "arrays", "message"),
    [
        ("tiles", {"factor": 2, "factors": [2]}, {}, "factors .* do not fit tiles decoded as uniform"),
        ("multi-tiles", {"factor": 2, "factors": [2]}, {}, "factors .* do not fit tiles decoded as multi"),
        ("tiles", {"factor": 2, "overlap": 1}, {}, "overlap"),
        ("tiles", {"factor": 2}, {"weights": np.zeros(3)}, "has the array weights, and such ones have none"),
    ],
)
def test_what_a_decoder_does_not_have_is_refused(kind: str, attributes: dict, arrays: dict, message: str):
    with pytest.raises(CondenseError, match=message):
        decoder_from_parts(kind, attributes, arrays)


@pytest.mark.parametrize(("decoding", "factors"), [("uniform", (2,)), ("multi", (2,)), ("bound", ()), ("bound", (3,))])
def test_factors_belong_to_bound_decoding(decoding: str, factors: tuple[int, ...]):
    with pytest.raises(CondenseError, match=f"do not fit tiles decoded as {decoding}"):
        Tiles(2, decoding, factors)


def test_every_factor_that_is_used_must_fit():
    assert Tiles(5).tile_size(9, 9) == (2, 2)
    with pytest.raises(CondenseError, match="cut into 4 x 4 tiles"):
        Tiles(5, "multi").tile_size(9, 9)


def test_gradients_flow_through_decoding():
    stored = images_of(2, 1, 5, 4).double().requires_grad_()
    for decoder in (Tiles(2), Tiles(2, "multi"), Tiles(2, "bound", (2, 1))):
        assert torch.autograd.gradcheck(lambda values, decoder=decoder: decoder.decode(values, fill=0.5), stored)


def test_factors_that_make_no_tiles_are_refused_in_one_line():
    for factor in (1, 0, -2):
        with pytest.raises(CondenseError, match="give a factor of at least 2"):
            Tiles(factor)
    with pytest.raises(CondenseError, match=r"images of 8x6 cannot be cut into 7 x 7 tiles; give a smaller") as error:
        Tiles(7).tile_size(8, 6)
    assert "\n" not in str(error.value)
    with pytest.raises(CondenseError, match="cannot be cut"):
        Tiles(9).decode(images_of(1, 1, 8, 8), fill=0.5)
    with pytest.raises(CondenseError, match=r"'wavelets', which this condense does not know; upgrade"):
        decoder_from_parts("wavelets", {"factor": 2}, {})


def info(shape: tuple[int, int, int] = (3, 12, 8)) -> DataInfo:
    return DataInfo("pets", ("cat", "dog"), shape, True, "ab" * 16, Normalization(MEAN, STD))


def mosaic_set(**changes: Any) -> SyntheticSet:
    arguments = {
        "stored": images_of(4, 3, 12, 8),
        "stored_labels": torch.tensor([0, 1, 0, 1]),
        "info": info(),
        "space": "unit",
        "decoder": Tiles(2),
    }
    return SyntheticSet(**arguments | changes)


def test_a_set_with_a_decoder_gives_the_decoded_images():
    made = mosaic_set()
    plain = naive_decode(made.stored, 2, 0.5)
    normalised = plain.clone()
    for channel in range(3):
        normalised[:, channel] = (plain[:, channel] - MEAN[channel]) / STD[channel]
    assert len(made) == len(made.images) == len(made.labels) == 16
    torch.testing.assert_close(made.images, normalised)
    torch.testing.assert_close(made.plain_images, plain)
    assert made.labels.tolist() == [0, 1, 0, 1] * 4
    assert made.targets is None
    assert made.ipc == 2
    assert made.class_counts == (2, 2)
    assert made.bytes == 4 * 3 * 12 * 8 * 4 + 4 * 8 + 8  # float32 pixels, int64 labels, the factor


def test_borders_are_grey_in_the_space_of_the_stored_images():
    """In [0, 1] 0.5, as published; in preprocessed space the mean colour."""
    for space, grey in (("unit", 0.5), ("preprocessed", 0.0)):
        stored = torch.full((1, 3, 5, 5), 0.25)
        made = SyntheticSet(
            stored=stored, stored_labels=torch.tensor([0]), info=info((3, 5, 5)), space=space, decoder=Tiles(2)
        )
        expected = naive_decode(stored, 2, grey)
        if space == "unit":
            expected = (expected - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        torch.testing.assert_close(made.images, expected)


def test_soft_labels_are_repeated_like_the_images():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0], [1.0, 1.5], [-2.0, 0.0]])
    made = mosaic_set(stored_labels=LogitLabels(logits, torch.tensor([0, 1, 0, 1]), 2.0))
    torch.testing.assert_close(made.targets, torch.cat([logits] * 4))
    torch.testing.assert_close(made.probabilities, torch.cat([(logits / 2).softmax(1)] * 4))
    assert made.bytes == mosaic_set().bytes + logits.numel() * 4
    image, target = made[6]
    assert torch.equal(image, made.images[6])
    torch.testing.assert_close(target, (logits[2] / 2).softmax(0))


@pytest.mark.parametrize("soft", [False, True])
def test_saved_and_loaded_it_is_the_same_set(tmp_path: Path, soft: bool):
    classes = torch.tensor([0, 1, 0, 1])
    made = mosaic_set(
        decoder=Tiles(3), stored_labels=ProbabilityLabels(torch.eye(2)[classes], classes) if soft else classes
    )
    made.save(tmp_path / "set.h5")
    made.save(tmp_path / "again.h5")
    read = SyntheticSet.load(tmp_path / "set.h5")
    assert read.decoder == Tiles(3)
    assert read.space == "unit"
    assert torch.equal(read.stored, made.stored)
    assert torch.equal(read.images, made.images)
    assert torch.equal(read.labels, made.labels)
    assert read.bytes == made.bytes
    assert len(read) == 36
    if soft:
        assert torch.equal(read.targets, made.targets)
    assert (tmp_path / "set.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()


@pytest.mark.parametrize("decoder", [Tiles(2, "multi"), Tiles(3, "bound", (3, 1))])
def test_other_decodings_are_stored(tmp_path: Path, decoder: Tiles):
    made = mosaic_set(decoder=decoder, stored_labels=torch.tensor([0, 0, 1, 1]))
    made.save(tmp_path / "set.h5")
    read = SyntheticSet.load(tmp_path / "set.h5")
    assert read.decoder == decoder
    assert len(read) == len(read.images) == len(read.labels) == 20
    assert torch.equal(read.images, made.images)
    assert read.class_counts == (2, 2)
    assert read.labels.bincount().tolist() == [10, 10]
    assert made.bytes == 4 * 3 * 12 * 8 * 4 + 4 * 8 + 8 * (1 + len(decoder.factors))
    assert "20 training images" in describe_set(made)["images"]


def test_parts_of_classes_have_no_bound_decoding():
    with pytest.raises(CondenseError, match="4 stored images are not whole classes of 3"):
        mosaic_set(decoder=Tiles(2, "bound", (2, 1, 1)))


def test_a_loader_gives_decoded_images_with_their_labels():
    made = mosaic_set()
    batches = list(DataLoader(made, batch_size=5))
    assert [len(images) for images, _ in batches] == [5, 5, 5, 1]
    assert torch.equal(torch.cat([images for images, _ in batches]), made.images)
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 0, 1] * 4


def test_a_decoder_of_another_version_is_refused_with_the_name_of_the_file(tmp_path: Path):
    path = tmp_path / "set.h5"
    mosaic_set().save(path)
    contents = read_contents(path, kind=KIND, schema=SCHEMA)
    attributes = dict(contents.attributes)
    attributes["decoder"] = attributes["decoder"] | {"kind": "wavelets"}
    write_contents(path, Contents(contents.arrays, attributes), kind=KIND, schema=SCHEMA)
    with pytest.raises(CondenseError, match=r"set\.h5: .*'wavelets', which this condense does not know") as error:
        SyntheticSet.load(path)
    assert "\n" not in str(error.value)


def test_sets_that_no_decoder_fits_are_refused():
    pixels = (images_of(4, 3, 12, 8) * 255).to(torch.uint8)
    with pytest.raises(CondenseError, match="images that are decoded as tiles are stored as float32"):
        mosaic_set(stored=pixels, space="pixels")
    with pytest.raises(CondenseError, match=r"unit are torch\.float32, not torch\.uint8"):
        mosaic_set(stored=pixels)
    with pytest.raises(CondenseError, match="cannot be cut into 9 x 9 tiles"):
        mosaic_set(decoder=Tiles(9))
    with pytest.raises(CondenseError, match="'wavelets', which this condense cannot decode"):
        mosaic_set(space="wavelets")


def test_evaluation_trains_on_the_decoded_images():
    """A mosaic has the accuracies of the set that stores its decoded images, at its own price."""
    digits = condense.load_data("digits")
    chosen = torch.cat([digits.train.class_indices(label)[:4] for label in range(10)])
    order = torch.arange(40).view(10, 4).T.flatten()  # first tiles of all classes, then second ones, ...
    mosaics = Tiles(2).arrange(digits.train.pixels(chosen[order]).float() / 255, "nearest")
    made = SyntheticSet(
        stored=mosaics, stored_labels=torch.arange(10), info=digits.info, space="unit", decoder=Tiles(2)
    )
    whole = dataclasses.replace(
        made, stored=naive_decode(mosaics, 2, 0.5), stored_labels=torch.arange(10).repeat(4), decoder=None
    )
    demo = PROTOCOLS.find("demo")
    quick = demo.model_copy(update={"rule": demo.rule.model_copy(update={"epochs": 20})})
    first, second = (
        condense.evaluate(each, digits, nets=["convnet-w8"], runs=2, protocol=quick).results[0]
        for each in (made, whole)
    )
    assert first.accuracies == second.accuracies
    assert len(set(first.accuracies)) == 2
    assert (first.images, second.images) == (40, 40)
    assert (first.stored_images, second.stored_images) == (10, 40)
    assert first.bytes == made.bytes < second.bytes
