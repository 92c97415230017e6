"""Labels of every kind, and what else there is of each image, in files of this schema and of the first one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from condense.compute.losses import cross_entropy
from condense.data.info import DataInfo
from condense.data.preprocessing import None_, Normalization
from condense.labels import (
    HardLabels,
    InterpolatedLabels,
    Labels,
    LogitLabels,
    ProbabilityLabels,
    RegressionLabels,
)
from condense.labels.labels import Stored, read_number
from condense.labels.registry import KINDS
from condense.runtime.errors import CondenseError
from condense.runtime.hdf5.reader import Contents, Rows, read_contents
from condense.runtime.hdf5.writer import Pieces, write_contents
from condense.runtime.seeds import generator
from condense.sets.file import KIND, SCHEMA
from condense.sets.synthetic_set import SyntheticSet
from condense.sets.tiles import Tiles
from condense.training.sources import Targets

FILES = Path(__file__).parents[2] / "files"
CLASSES = torch.tensor([0, 0, 1, 1, 2, 2])
INFO = DataInfo("shapes", ("disc", "square", "ring"), (1, 4, 4), False, "f" * 32, Normalization((0.4,), (0.3,)))


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def make_set(**changes: Any) -> SyntheticSet:
    arguments = {"stored": torch.randn(6, 1, 4, 4, generator=draws()), "stored_labels": CLASSES, "info": INFO}
    return SyntheticSet(**arguments | changes)


def saved(tmp_path: Path, **changes: Any) -> SyntheticSet:
    make_set(**changes).save(tmp_path / "set.h5")
    return SyntheticSet.load(tmp_path / "set.h5")


LABELS: dict[str, Labels] = {
    "hard": HardLabels(CLASSES),
    "probabilities": ProbabilityLabels(torch.rand(6, 3, generator=draws()).softmax(1), CLASSES, 2.0),
    "logits without classes": LogitLabels(torch.randn(6, 3, generator=draws()), None, 20.0),
    "logits by kl": LogitLabels(torch.randn(6, 3, generator=draws()), CLASSES, 20.0, "kl", teacher="net 0123abcd"),
    "logits by mse": LogitLabels(torch.randn(6, 3, generator=draws()), CLASSES, 1.0, "mse", 0.1),
    "interpolated": InterpolatedLabels(torch.randn(6, 3, generator=draws()), CLASSES),
    "regression": RegressionLabels(torch.randn(6, 5, generator=draws()), CLASSES),
    "regression without classes": RegressionLabels(torch.randn(6, 1, generator=draws())),
}


@pytest.mark.parametrize("name", LABELS)
def test_every_kind_comes_back(tmp_path: Path, name: str) -> None:
    labels = LABELS[name]
    made, read = make_set(stored_labels=labels), saved(tmp_path, stored_labels=labels)
    everything = torch.arange(6)
    assert type(read.stored_labels) is type(labels)
    assert read.stored_labels.attributes == labels.attributes
    assert torch.equal(read.stored_labels.for_batch(0, everything).values, labels.for_batch(0, everything).values)
    assert (read.stored_labels.classes is None) == (labels.classes is None)
    assert read.bytes == made.bytes == 6 * 16 * 4 + labels.bytes
    assert read.describe()["labels"] == labels.describe()
    image, label = read[4]
    assert torch.equal(image, made.images[4])
    assert torch.equal(label, labels.for_batch(0, torch.tensor([4])).values[0])


def test_files_say_of_a_loss_only_what_is_not_usual() -> None:
    """So that sets of earlier versions, whose logits have the cross-entropy, are the same bytes as ever."""
    assert LABELS["logits without classes"].attributes == {"temperature": 20.0}
    assert LABELS["interpolated"].attributes == {"temperature": 30.0}
    assert LABELS["logits by kl"].attributes == {"temperature": 20.0, "loss": "kl", "teacher": "net 0123abcd"}
    assert LABELS["logits by mse"].attributes == {"temperature": 1.0, "loss": "mse", "class_weight": 0.1}


def test_images_without_class_have_no_class_counts(tmp_path: Path) -> None:
    read = saved(tmp_path, stored_labels=LABELS["regression without classes"])
    assert read.class_counts == ()
    assert read.ipc is None
    with pytest.raises(CondenseError, match="no class index, only labels of the kind regression"):
        _ = read.labels
    assert "per class" not in read.describe()["images"]
    assert read.grid(per_class=4).height == 2 * (4 * 16 + 2) + 2  # two rows of images that are shown 16 times as large
    read.export(tmp_path / "set.pt", "torch")
    content = torch.load(tmp_path / "set.pt")
    assert content["labels"] is None
    assert torch.equal(content["targets"], read.targets)


def test_data_without_classes_needs_no_names(tmp_path: Path) -> None:
    info = DataInfo("scans", (), (1, 4, 4), False, "e" * 32, None_())
    read = saved(tmp_path, info=info, stored_labels=LABELS["regression without classes"])
    assert read.info.classes == ()
    with pytest.raises(CondenseError, match="0 classes"):
        make_set(info=info)


OF_IMAGES = {
    "weights": torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 1.0]),
    "source_indices": torch.tensor([40, 3, 2**40, 7, 8, 9]),
    "scores": torch.tensor([0.5, -1.0, 0.0, 3.0, 1e-300, 2.0], dtype=torch.float64),
}


def test_what_there_is_of_each_image_comes_back(tmp_path: Path) -> None:
    read = saved(tmp_path, **OF_IMAGES)
    for name, value in OF_IMAGES.items():
        assert torch.equal(getattr(read, name), value)
    assert read.bytes == make_set().bytes + 6 * 4  # weights only: no training needs the rest
    assert {"weights", "source indices", "scores"} <= read.describe().keys()
    assert saved(tmp_path).weights is None


def test_weights_follow_their_images_through_a_decoder(tmp_path: Path) -> None:
    changes = {"space": "unit", "stored": torch.rand(6, 1, 4, 4, generator=draws()), "decoder": Tiles(2)}
    read = saved(tmp_path, **changes, **OF_IMAGES)
    assert torch.equal(read.training_weights, torch.cat([OF_IMAGES["weights"]] * 4))
    assert torch.equal(read.training_labels.classes, torch.cat([CLASSES] * 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": torch.ones(5)}, r"weights of 6 images must be torch.float32 of shape \[6\]"),
        ({"weights": torch.ones(6).double()}, "weights of 6 images must be torch.float32"),
        ({"weights": -torch.ones(6)}, "weights are negative for some images"),
        ({"weights": torch.zeros(6)}, "every weight is zero"),
        ({"weights": torch.full((6,), torch.nan)}, "weights hold values that are not finite"),
        ({"source_indices": torch.arange(-1, 5)}, "source_indices are negative"),
        ({"source_indices": torch.arange(6).float()}, "source_indices of 6 images must be torch.int64"),
        ({"scores": torch.full((6,), torch.inf, dtype=torch.float64)}, "scores hold values that are not finite"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CondenseError, match=message):
        make_set(**changes)


# A part of a set


@pytest.mark.parametrize("name", [name for name in LABELS if "without" not in name])
def test_the_first_images_of_each_class(name: str) -> None:
    """In any order of the classes; with all that there is of each image."""
    order = torch.tensor([4, 0, 2, 5, 1, 3])
    mixed = make_set(stored=make_set().stored[order], stored_labels=LABELS[name].at(order), **OF_IMAGES)
    part = mixed.first(1)
    assert part.class_counts == (1, 1, 1)
    rows = torch.tensor([0, 1, 2])  # of classes 2, 0 and 1
    assert torch.equal(part.stored, mixed.stored[rows])
    expected = mixed.stored_labels.for_batch(0, rows).values
    assert torch.equal(part.stored_labels.for_batch(0, torch.arange(3)).values, expected)
    for of_images in OF_IMAGES:
        assert torch.equal(getattr(part, of_images), getattr(mixed, of_images)[rows])
    assert part.provenance["first of each class"] == 1
    assert torch.equal(mixed.first(2).stored, mixed.stored)


def test_parts_that_there_are_not_are_refused() -> None:
    with pytest.raises(CondenseError, match="--first 3: the smallest class has 2 stored images; give 1 to 2"):
        make_set().first(3)
    with pytest.raises(CondenseError, match="no first ones of a class"):
        make_set(stored_labels=LABELS["regression without classes"]).first(1)
    tiles = {"space": "unit", "stored": torch.rand(6, 1, 4, 4, generator=draws())}
    assert len(make_set(**tiles, decoder=Tiles(2)).first(1)) == 12
    with pytest.raises(CondenseError, match=r"--first 1: images are decoded by their place in a class \(bound-tiles\)"):
        make_set(**tiles, decoder=Tiles(2, "bound", (2, 1))).first(1)


def test_a_part_whose_number_happens_to_fit_the_decoder_is_refused_too() -> None:
    """Two of four images of two classes are as many as one whole class."""
    two = replace(INFO, classes=("disc", "square"))
    stored, labels = torch.rand(8, 1, 4, 4, generator=draws()), torch.arange(2).repeat_interleave(4)
    made = SyntheticSet(stored=stored, stored_labels=labels, info=two, decoder=Tiles(2, "bound", (2, 2, 1, 1)))
    with pytest.raises(CondenseError, match="decoded by their place in a class"):
        made.first(2)


# Files of schema 1, as they were written; the numbers are what that version gave


def test_class_indices_of_the_first_schema_are_read() -> None:
    read = SyntheticSet.load(FILES / "schema-1-hard.h5")
    assert read.label_kind == "hard"
    assert torch.equal(read.labels, CLASSES)
    assert read.images.double().sum().item() == pytest.approx(21.660131260752678)
    assert read.bytes == 144
    assert read.provenance == {"imported from": "nothing"}
    assert read.weights is read.scores is read.source_indices is None


def test_logits_and_mosaics_of_the_first_schema_are_read() -> None:
    read = SyntheticSet.load(FILES / "schema-1-logits.h5")
    assert isinstance(read.stored_labels, LogitLabels)
    assert read.stored_labels.temperature == 2.5
    assert read.decoder == Tiles(2, "bound", (2, 1))
    assert read.labels.tolist() == [0, 1, 2] * 5
    assert read.images.double().sum().item() == pytest.approx(89.81059355463367)
    first = [0.16933876, 0.29689395, 0.48382896, *[0.45212248, 0.28955001, 0.23723757] * 4]
    assert read.probabilities[:, 0].tolist() == pytest.approx(first)
    assert read.bytes == 528
    assert (read.learned_lr, read.augmentation, read.protocol) == (0.02, {"name": "dsa"}, "mtt-soft")
    assert len(read.metrics["loss"]) == 3


def test_probabilities_of_the_first_schema_are_read() -> None:
    read = SyntheticSet.load(FILES / "schema-1-probabilities.h5")
    assert isinstance(read.stored_labels, ProbabilityLabels)
    assert read.probabilities[:, 0].tolist() == pytest.approx([0.41430315, 0.51420397, 0.49847627])
    assert read.bytes == 252


def test_a_set_of_the_first_schema_is_written_as_one_of_this(tmp_path: Path) -> None:
    old = SyntheticSet.load(FILES / "schema-1-logits.h5")
    old.save(tmp_path / "set.h5")
    new = SyntheticSet.load(tmp_path / "set.h5")
    assert torch.equal(new.probabilities, old.probabilities)
    assert torch.equal(new.images, old.images)
    assert read_contents(tmp_path / "set.h5", kind=KIND, schema=SCHEMA).attributes["/"]["schema"] == SCHEMA


# Labels that are too large to be read at once: a kind made here, with a row for each view of an image


class ViewLabels(Labels):
    """Logits for each of V views of N images, float16 [N, V, K], read when they are wanted."""

    kind = "views of this test"
    classes = None

    def __init__(self, values: Stored, temperature: float) -> None:
        self.stored, self.temperature = values, temperature

    def __len__(self) -> int:
        return self.stored.shape[0]

    def for_batch(self, epoch: int, ids: Tensor) -> Targets:
        view = epoch % self.stored.shape[1]
        if isinstance(self.stored, Tensor):
            rows = self.stored[ids, view]
        else:
            rows = torch.stack([torch.from_numpy(row[view].copy()) for row in self.stored.each(*ids.tolist())])
        return Targets((rows.float() / self.temperature).softmax(1), cross_entropy)

    def at(self, rows: Tensor) -> ViewLabels:
        raise NotImplementedError

    @property
    def arrays(self) -> dict[str, Stored]:
        return {"logits": self.stored}

    @property
    def attributes(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def describe(self) -> str:
        return f"{self.stored.shape[1]} labels per image"

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, Stored], attributes: Mapping[str, Any], classes: Tensor | None
    ) -> ViewLabels:
        return cls(arrays["logits"], read_number(attributes, "temperature"))


def test_a_kind_of_labels_can_stay_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written whole the first time, copied row by row the second time; damage is seen when a row is read."""
    monkeypatch.setitem(KINDS, ViewLabels.kind, ViewLabels)
    logits = torch.randn(6, 9, 3, generator=generator(0, "views")).half()
    first = saved(tmp_path, stored_labels=ViewLabels(logits, 20.0))
    path = tmp_path / "rows.h5"
    in_rows = make_set(stored_labels=ViewLabels(_rows_of(tmp_path, logits), 20.0))
    in_rows.save(path)
    second = SyntheticSet.load(path)
    assert isinstance(second.stored_labels.arrays["logits"], Rows)
    assert first.bytes == second.bytes == in_rows.bytes
    for epoch in (0, 4, 11):
        expected = (logits[[5, 1], epoch % 9].float() / 20).softmax(1)
        for read in (first, second):
            found = read.stored_labels.for_batch(epoch, torch.tensor([5, 1])).values
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    whole = path.read_bytes()
    place = whole.index(logits[5].numpy().tobytes())
    path.write_bytes(whole[:place] + b"\x01\x02" + whole[place + 2 :])
    damaged = SyntheticSet.load(path)
    damaged.stored_labels.for_batch(0, torch.tensor([1]))
    with pytest.raises(CondenseError, match="was altered"):
        damaged.stored_labels.for_batch(0, torch.tensor([5]))


def _rows_of(folder: Path, values: Tensor) -> Rows:
    pieces = Pieces(tuple(values.shape), np.dtype(np.float16), [part.numpy() for part in values.split(2)])
    write_contents(folder / "values.h5", Contents({}, {}), kind="values", schema=1, rows={"values": pieces})
    return read_contents(folder / "values.h5", kind="values", schema=1).rows["values"]
