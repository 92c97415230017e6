"""Compensators: what they add to which image, in memory and in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from condense.data import DataInfo
from condense.data.preprocessing import Normalization
from condense.runtime.errors import CondenseError
from condense.sets.compensators import Compensators
from condense.sets.synthetic_set import SyntheticSet

SHAPE = (3, 4, 2)


def info(classes: int = 2) -> DataInfo:
    normalization = Normalization((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
    return DataInfo("own", tuple(map(str, range(classes))), SHAPE, True, "0" * 32, normalization)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def compensated(places: int = 3, count: int = 2, classes: int = 2) -> SyntheticSet:
    stored = torch.from_numpy(numbers(classes * places, *SHAPE))
    return SyntheticSet(
        stored=stored,
        stored_labels=torch.arange(classes).repeat_interleave(places),
        info=info(classes),
        decoder=Compensators(numbers(places, count, *SHAPE)),
    )


def test_every_image_is_there_as_it_is_and_with_each_compensator_of_its_place():
    made = compensated()
    decoded = made.decoder.decode(made.stored, fill=0.0)
    assert decoded.shape == (18, *SHAPE)
    assert torch.equal(decoded[:6], made.stored.float())
    for number in range(2):
        for row in range(6):
            for index in np.ndindex(*SHAPE):
                added = (int(made.decoder.levels[row % 3, number][index]) - 127.5) * 2
                expected = min(255.0, max(0.0, int(made.stored[row][index]) + added))
                assert decoded[6 + 6 * number + row][index].item() == pytest.approx(expected, abs=1e-3)
    assert made.labels.tolist() == [0, 0, 0, 1, 1, 1] * 3
    assert len(made) == 18
    assert made.ipc == 3


def test_pixels_as_bytes_and_as_floats_are_decoded_alike():
    made = compensated()
    whole = made.decoder.decode(made.stored, fill=0.0) / 255
    torch.testing.assert_close(made.decoder.decode(made.stored.float() / 255, fill=0.0), whole, atol=1e-6, rtol=0)


def test_levels_are_the_nearest_ones_and_beyond_one_all_is_the_same():
    additions = torch.linspace(-1.5, 1.5, 48).view(1, 2, *SHAPE)
    made = Compensators.of(additions)
    stored = (torch.from_numpy(made.levels).float() - 127.5) * 2 / 255
    assert (stored - additions.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
    assert (stored.min(), stored.max()) == (-1, 1)
    again = Compensators.of(stored)
    assert (again.levels == made.levels).all()


def test_a_file_gives_back_what_was_stored(tmp_path: Path):
    made = compensated()
    made.save(tmp_path / "set.h5")
    read = SyntheticSet.load(tmp_path / "set.h5")
    assert (read.decoder.levels == made.decoder.levels).all()
    assert read.stored.dtype == torch.uint8
    assert torch.equal(read.images, made.images)
    assert read.bytes == made.bytes == 6 * 24 + 3 * 2 * 24 + 6 * 8
    read.save(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "set.h5").read_bytes()


def test_a_part_of_a_class_has_no_compensators():
    with pytest.raises(CondenseError, match="decoded by their place in a class"):
        compensated().first(1)


@pytest.mark.parametrize(
    "levels",
    [np.zeros((1, 2, 3, 4), np.uint8), np.zeros((1, 2, *SHAPE), np.float32), np.zeros((0, 2, *SHAPE), np.uint8)],
)
def test_other_arrays_are_none(levels: np.ndarray):
    with pytest.raises(CondenseError, match="compensators are uint8"):
        Compensators(levels)


def test_they_must_fit_the_images():
    with pytest.raises(CondenseError, match="do not fit images of"):
        Compensators(numbers(3, 2, 3, 2, 4)).check(SHAPE, 6)
    with pytest.raises(CondenseError, match="5 images are no whole classes of 3"):
        Compensators(numbers(3, 2, *SHAPE)).check(SHAPE, 5)
    with pytest.raises(CondenseError, match="has not just the array levels"):
        Compensators.from_parts("compensators", {"more": 1}, {"levels": numbers(3, 2, *SHAPE)})
