"""Codecs: what comes back, how far from what went in, and how many bytes it takes."""

import numpy as np
import pytest
import torch

from condense.labels.codecs import Dense, Largest, WholeNumbers, codec_named
from condense.runtime.errors import CondenseError

NAMES = ["dense", "int8", "int4", "topk:1", "topk:3", "topk:7"]


def some_logits(rows: int = 50, classes: int = 7, scale: float = 5.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [7, 8, 300])
def test_rows_have_their_width_and_give_logits_of_every_class(name: str, classes: int):
    codec, logits = codec_named(name), some_logits(classes=classes)
    rows = codec.encode(logits)
    assert rows.shape == (50, codec.width(classes))
    assert rows.dtype == codec.dtype
    read = codec.decode(rows, classes)
    assert read.shape == logits.shape
    assert read.dtype == torch.float32
    assert torch.isfinite(read).all()
    assert torch.equal(read[3:5], codec.decode(rows[3:5], classes))
    assert codec.name == name


@pytest.mark.parametrize(
    ("name", "expected"), [("dense", 2000), ("int8", 1004), ("int4", 504), ("topk:5", 20), ("topk:10", 40)]
)
def test_bytes_of_an_image_of_a_thousand_classes(name: str, expected: int):
    codec = codec_named(name)
    assert codec.width(1000) * codec.dtype.itemsize == expected


def test_dense_is_within_half_precision():
    logits = torch.cat([some_logits(scale=scale) for scale in (1e-3, 1.0, 100.0)])
    read = Dense().decode(Dense().encode(logits), 7)
    assert ((read - logits).abs() <= (2**-10 * logits.abs()).clamp_min(1e-7)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_whole_numbers_are_within_half_a_step(bits: int):
    logits = torch.cat([some_logits(classes=9, scale=scale) for scale in (0.01, 1.0, 30.0)])
    read = WholeNumbers(bits).decode(WholeNumbers(bits).encode(logits), 9)
    step = (logits.amax(1) - logits.amin(1)) / (2**bits - 1)
    slack = step * 2e-3 + logits.abs().amax(1) * 2e-3  # of lowest and step in half precision
    assert ((read - logits).abs().amax(1) <= 0.5 * (step + slack) + 1e-6).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_equal_logits_stay_equal(bits: int):
    logits = torch.full((2, 5), 1.25)
    assert torch.equal(WholeNumbers(bits).decode(WholeNumbers(bits).encode(logits), 5), logits)


@pytest.mark.parametrize("count", [1, 3, 6, 7])
def test_the_largest_keep_their_probability_and_the_others_share_the_rest(count: int):
    logits = some_logits(scale=2.0)
    found = torch.softmax(Largest(count).decode(Largest(count).encode(logits), 7), 1)
    for row, probabilities in zip(found.tolist(), torch.softmax(logits, 1).tolist(), strict=True):
        ranked = sorted(range(7), key=lambda label: -probabilities[label])
        rest = sum(probabilities[label] for label in ranked[count:])
        for place, label in enumerate(ranked):
            expected = probabilities[label] if place < count else rest / (7 - count)
            assert row[label] == pytest.approx(expected, abs=2e-3)
        assert sum(row) == pytest.approx(1, abs=1e-6)
    assert Largest(count).temperature == 1


def test_classes_beyond_those_that_half_precision_can_count_stay_themselves():
    logits = torch.zeros(1, 5000)
    logits[0, 4097] = 50
    assert int(Largest(1).decode(Largest(1).encode(logits), 5000).argmax()) == 4097


@pytest.mark.parametrize("name", ["topk:0", "topk:", "topk:x", "int3", "desne", "topk:123456"])
def test_unknown_codecs_are_refused(name: str):
    with pytest.raises(CondenseError, match="unknown codec"):
        codec_named(name)


def test_what_cannot_be_held_is_refused():
    with pytest.raises(CondenseError, match=r"codec topk:8 keeps 8 of 7 classes; give at most 7"):
        Largest(8).encode(some_logits())
    for codec in (Dense(), WholeNumbers(4)):
        for wrong in (torch.tensor([[1e6, 0.0]]), torch.tensor([[torch.nan, 0.0]])):
            with pytest.raises(CondenseError, match="logits beyond 65,504, or none at all"):
                codec.encode(wrong)


def test_a_class_that_does_not_exist_is_refused():
    rows = Largest(1).encode(some_logits())
    rows[0, 0] = 7
    with pytest.raises(CondenseError, match="its labels name class 7 of 7"):
        Largest(1).decode(rows, 7)
    assert isinstance(rows, np.ndarray)
