from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from condense.data import RealData, TestData, TrainingData, load_data, pack
from condense.data.info import DataInfo
from condense.data.preprocessing import None_
from condense.data.sources import TensorPixels
from condense.runtime.errors import CondenseError


def rows(split: TrainingData | TestData) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.pixels(torch.arange(len(split)))]


def test_the_splits_are_of_different_types() -> None:
    data = load_data("digits")
    assert type(data.train) is TrainingData
    assert type(data.test) is TestData
    assert not isinstance(data.train, TestData)
    assert not isinstance(data.test, TrainingData)
    assert data.train.info is data.info
    assert data.test.info is data.info


def test_images_are_preprocessed_pixels() -> None:
    data = load_data("digits")
    indices = torch.tensor([5, 3, 5])
    expected = data.preprocessing.apply(data.train.pixels(indices) / 255)
    assert torch.equal(data.train.images(indices), expected)


def test_class_indices() -> None:
    data = load_data("digits")
    for label in range(10):
        assert torch.equal(data.train.class_indices(label), (data.train.labels == label).nonzero().flatten())
        assert data.test.class_counts()[label] == (data.test.labels == label).sum()


def test_reading_does_not_expose_the_data() -> None:
    data = load_data("digits")
    before = data.train.pixels(torch.tensor([0]))
    data.train.pixels(torch.tensor([0])).zero_()
    data.train.images(torch.tensor([0])).zero_()
    assert torch.equal(data.train.pixels(torch.tensor([0])), before)


def test_subset_keeps_the_type_and_the_order() -> None:
    data = load_data("digits")
    part = data.train.subset(torch.tensor([9, 2, 7])).subset(torch.tensor([2, 0]))
    assert type(part) is TrainingData
    assert len(part) == 2
    assert torch.equal(part.pixels(torch.arange(2)), data.train.pixels(torch.tensor([7, 9])))
    assert torch.equal(part.labels, data.train.labels[torch.tensor([7, 9])])


def test_a_subset_is_other_data_than_the_whole_and_than_other_subsets() -> None:
    data = load_data("digits")
    some, others = data.train.subset(torch.arange(100)), data.train.subset(torch.arange(100, 200))
    infos = [
        data.info,
        some.info,
        others.info,
        some.subset(torch.arange(50)).info,
        data.test.subset(torch.arange(9)).info,
    ]
    for name in ("fingerprint", "identity"):
        assert len({getattr(info, name) for info in infos}) == len(infos)
    assert data.train.subset(torch.arange(100)).info == some.info
    assert some.subset(torch.arange(9)).part_of == data.fingerprint


def test_data_with_a_subset_as_a_split_is_other_data() -> None:
    data = load_data("digits")
    fewer = dataclasses.replace(data, train=data.train.subset(torch.arange(500)))
    tested = dataclasses.replace(data, test=data.test.subset(torch.arange(100)))
    both = dataclasses.replace(fewer, test=tested.test)
    assert len({data.fingerprint, fewer.fingerprint, tested.fingerprint, both.fingerprint}) == 4
    assert dataclasses.replace(fewer, notes=("a note",)).info == fewer.info
    kept = fewer.holdout(0.5)
    assert kept.train.part_of == kept.fingerprint == kept.train.info.fingerprint
    assert kept.fingerprint not in (data.holdout(0.5).fingerprint, fewer.fingerprint)


def test_images_and_labels_must_agree_in_number() -> None:
    info = DataInfo("tiny", ("a", "b"), (1, 2, 2), False, "0", None_())
    with pytest.raises(CondenseError, match="2 images but 3 labels"):
        TrainingData(TensorPixels(torch.zeros(2, 1, 2, 2, dtype=torch.uint8)), torch.zeros(3, dtype=torch.int64), info)


class TestHoldout:
    def test_both_parts_come_from_the_training_split(self) -> None:
        data = load_data("digits")
        tuning = data.holdout(0.25, seed=1)
        assert type(tuning.train) is TrainingData
        assert type(tuning.test) is TestData
        assert sorted(rows(tuning.train) + rows(tuning.test)) == sorted(rows(data.train))
        for whole, held_out in zip(data.train.class_counts(), tuning.test.class_counts()):
            assert held_out == round(0.25 * whole)

    def test_it_depends_on_the_seed_only(self) -> None:
        data = load_data("digits")
        assert rows(data.holdout(seed=3).test) == rows(data.holdout(seed=3).test)
        assert rows(data.holdout(seed=3).test) != rows(data.holdout(seed=4).test)

    def test_the_fingerprint_is_that_of_the_parts(self, tmp_path: Path) -> None:
        data = load_data("digits")
        tuning = data.holdout()
        assert tuning.fingerprint not in (data.fingerprint, data.holdout(seed=1).fingerprint)
        assert tuning.test.info.fingerprint == tuning.fingerprint
        assert tuning.preprocessing is data.preprocessing
        assert load_data(pack(tuning, tmp_path / "tuning.h5")).info == tuning.info

    def test_global_random_state_stays(self) -> None:
        data = load_data("digits")
        before = torch.random.get_rng_state()
        data.holdout()
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
    def test_wrong_fractions(self, fraction: float) -> None:
        with pytest.raises(CondenseError, match="between 0 and 1"):
            load_data("digits").holdout(fraction)


def test_fingerprint_sees_every_part(tmp_path: Path) -> None:
    data = load_data("digits")

    def changed(**parts: object) -> str:
        values = {"pixels": data.train.pixels(torch.arange(1438)), "labels": data.train.labels, "classes": data.classes}
        values |= parts
        info = DataInfo(data.name, values["classes"], data.image_shape, False, "", data.preprocessing)  # type: ignore[arg-type]
        train = TrainingData(TensorPixels(values["pixels"]), values["labels"], info)  # type: ignore[arg-type]
        whole = RealData(info, train, TestData(data.test.source, data.test.labels, info))
        return load_data(pack(whole, tmp_path / "changed.h5")).fingerprint

    assert changed() == data.fingerprint
    one_pixel = data.train.pixels(torch.arange(1438))
    one_pixel[1000, 0, 4, 4] ^= 1
    one_label = data.train.labels.clone()
    one_label[1000] = (one_label[1000] + 1) % 10
    other = {changed(pixels=one_pixel), changed(labels=one_label), changed(classes=("zero", *data.classes[1:]))}
    assert len(other) == 3
    assert data.fingerprint not in other


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    load_data("digits", normalization="zca")
    assert torch.equal(torch.random.get_rng_state(), before)
