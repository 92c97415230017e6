"""Labels of views: where they lie, that they are those of what is shown, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from condense.augmentation.views import ViewRule
from condense.data.info import DataInfo
from condense.data.preprocessing import Normalization, Whitening
from condense.labels import OnlineLabels, SmoothedLabels, ViewLabels, labels_from_arrays
from condense.labels.advisers import TeacherFacts
from condense.labels.codecs import codec_named
from condense.labels.objectives import Objective
from condense.labels.plain import PlainImages
from condense.labels.rows import HeldRows
from condense.labels.showing import Place, Showing
from condense.labels.views import row_shape
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers.asking import ViewAsking
from condense.training.loop import Step, descend, train_network
from condense.training.rule import TrainingRule
from condense.training.sources import Batch

CPU = torch.device("cpu")
COUNT, CLASSES = 11, 3
INFO = DataInfo("noise", ("a", "b", "c"), (1, 8, 8), True, "f" * 32, Normalization((0.25,), (0.5,)))
PIXELS = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0))
INDICES = torch.arange(COUNT) % CLASSES
PLAIN = PlainImages(COUNT, lambda ids: PIXELS[ids])
RULE = TrainingRule(lr=0.01, batch_size=4, epochs=7)


class Advisers:
    """A linear teacher, whose BatchNorm takes statistics of a batch or its own."""

    name, hash, bytes = "linear 0123abcd", "0123abcd" * 2, 1_000

    def __init__(self, factor: float = 1.0) -> None:
        self.weights = factor * torch.randn(64, CLASSES, generator=torch.Generator().manual_seed(1))

    def classifiers(self, device: torch.device) -> Advisers:
        return self

    def logits(self, pixels: Tensor, *, batch_norm: str = "running") -> Tensor:
        flat = pixels.flatten(1)
        mean = flat.mean(0) if batch_norm == "batch" else 0.5
        return (flat - mean) @ self.weights


MODES: dict[str, dict[str, Any]] = {
    "alone": {},
    "cutmix": {"mix": "cutmix", "batch_size": 4},
    "mixup": {"mix": "mixup", "batch_size": 4},
    "batch statistics": {"batch_norm": "batch", "batch_size": 4},
    "halves": {"batch_norm": "batch", "mix": "cutmix", "batch_size": 7, "bn_groups": 2},
}


def showing(**changes: Any) -> Showing:
    return Showing(**{"seed": 5, "views": 3, "rule": ViewRule(), "fill": (0.25,)} | changes)


def stored(mode: Showing, objective: Objective | None = None, **changes: Any) -> ViewLabels:
    advisers = Advisers()
    rows = ViewAsking(mode, PLAIN, advisers, CLASSES, CPU).rows().held()
    about: dict[str, Any] = {
        "showing": mode,
        "objective": objective or Objective("kl", 4.0),
        "teacher": TeacherFacts.of(advisers),
        "images": PLAIN.digest,
        "count": COUNT,
        "classes": INDICES,
    }
    return ViewLabels(rows, **about | changes)


def online(mode: Showing, objective: Objective | None = None) -> OnlineLabels:
    facts = TeacherFacts.of(Advisers())
    return OnlineLabels(mode, objective or Objective("kl", 4.0), facts, PLAIN.digest, COUNT, INDICES)


def trained_on(source, rule: TrainingRule, seed: int = 0) -> list[Batch]:
    """The batches that a training sees."""
    seen: list[Batch] = []
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, CLASSES))

    def update(step: Step) -> Tensor:
        seen.append(step.batch)
        return descend(step)

    train_network(network, source, rule, seed=seed, device=CPU, update=update)
    return seen


@pytest.mark.parametrize("name", MODES)
def test_a_training_sees_what_was_labelled(name: str) -> None:
    """Over more epochs than there are views: each batch's targets are what the teacher says of its pixels."""
    mode, advisers = showing(**MODES[name]), Advisers()
    rule = RULE.model_copy(update={"batch_size": mode.batch_size or 4})
    batches = trained_on(stored(mode).source(None, PLAIN, INFO), rule)
    assert {batch.epoch for batch in batches} == set(range(7))
    for batch in batches:
        pixels = INFO.preprocessing.invert(batch.images)
        said = mode.ask(advisers, pixels)
        torch.testing.assert_close(batch.targets.values, said, rtol=2**-10, atol=2e-3)
    if mode.batch_size:
        for epoch in range(7):
            order = [batch.ids.tolist() for batch in batches if batch.epoch == epoch]
            assert order == [ids.tolist() for ids in mode.batches(COUNT, epoch % 3)]


@pytest.mark.parametrize("name", MODES)
def test_what_is_seen_is_what_the_teacher_was_shown_bit_for_bit(name: str) -> None:
    mode, shown = showing(**MODES[name]), []

    class Watching(Advisers):
        def logits(self, pixels: Tensor, *, batch_norm: str = "running") -> Tensor:
            shown.append(pixels)
            return super().logits(pixels, batch_norm=batch_norm)

    ViewAsking(mode, PLAIN, Watching(), CLASSES, CPU).rows().held()
    rule = RULE.model_copy(update={"batch_size": mode.batch_size or 4})
    batches = trained_on(stored(mode).source(None, PLAIN, INFO), rule)
    for epoch in range(7):
        pixels = torch.cat(shown)[epoch % 3 * COUNT :][:COUNT]  # image by image, or batch by batch
        order = torch.cat(mode.batches(COUNT, epoch) or [torch.arange(COUNT)])
        seen = {int(row): image for b in batches if b.epoch == epoch for row, image in zip(b.ids, b.images)}
        assert torch.equal(torch.stack([seen[row] for row in order.tolist()]), INFO.preprocessing.apply(pixels))


@pytest.mark.parametrize("name", MODES)
def test_stored_and_online_labels_of_one_rule_agree(name: str) -> None:
    mode = showing(**MODES[name])
    rule = RULE.model_copy(update={"batch_size": mode.batch_size or 4})
    first, second = (
        trained_on(labels.source(None, PLAIN, INFO, advisers=advisers), rule)
        for labels, advisers in ((stored(mode), None), (online(mode), Advisers()))
    )
    for kept, asked in zip(first, second, strict=True):
        assert torch.equal(kept.images, asked.images)
        assert torch.equal(kept.ids, asked.ids)
        torch.testing.assert_close(kept.targets.values, asked.targets.values, rtol=2**-10, atol=1e-5)


def test_the_batch_of_a_training_makes_no_difference_to_views() -> None:
    source = stored(showing()).source(None, PLAIN, INFO)
    by_image: list[dict[tuple[int, int], tuple[Tensor, Tensor]]] = []
    for size, seed in ((4, 0), (11, 1)):
        batches = trained_on(source, RULE.model_copy(update={"batch_size": size}), seed)
        every = ((batch, row) for batch in batches for row in range(len(batch.ids)))
        found = {(b.epoch, int(b.ids[row])): (b.images[row], b.targets.values[row]) for b, row in every}
        by_image.append(found)
    assert len(by_image[0]) == 7 * COUNT
    for key, (image, target) in by_image[0].items():
        assert torch.equal(image, by_image[1][key][0])
        assert torch.equal(target, by_image[1][key][1])


def test_logits_lie_where_the_file_says() -> None:
    """Rows of about 4 KiB; image by image and view by view against what the teacher says."""
    mode, advisers = showing(), Advisers()
    labels = stored(mode)
    assert labels.arrays["logits"].shape == (3, COUNT, CLASSES)
    rows = labels.arrays["logits"].values
    for view in range(3):
        said = advisers.logits(mode.shown(PIXELS, Place.of(view, 0, torch.arange(COUNT)), torch.arange(COUNT)))
        assert np.array_equal(rows[view], said.half().numpy())


@pytest.mark.parametrize(("images", "classes"), [(11, 3), (100, 10), (5000, 100), (10, 3000), (1001, 7), (500, 200)])
def test_rows_are_small_and_waste_little(images: int, classes: int) -> None:
    rows, group = row_shape(images, 2 * classes)
    assert images <= rows * group < images + rows
    assert group == 1 or group * classes * 2 <= 4096


def test_labels_in_several_rows() -> None:
    """Of 1,000 classes, so that a row has two images, in any order and twice."""
    classes, mode = 1000, showing(views=2)

    class Wide(Advisers):
        def logits(self, pixels: Tensor, *, batch_norm: str = "running") -> Tensor:
            return pixels.flatten(1).sum(1, keepdim=True) + torch.arange(classes)

    rows = ViewAsking(mode, PLAIN, Wide(), classes, CPU).rows().held()
    assert rows.shape == (2 * 6, 2, classes)
    facts = TeacherFacts.of(Advisers())
    labels = ViewLabels(rows, mode, Objective("kl"), facts, PLAIN.digest, COUNT)
    ids = torch.tensor([10, 0, 3, 3])
    said = Wide().logits(mode.shown(PIXELS[ids], Place.of(1, 0, ids), ids))
    torch.testing.assert_close(labels.logits(1, ids), said, rtol=2**-10, atol=0)


CODED = {"int8": 4.0, "int4": 4.0, "topk:2": 1.0}


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("mode", [{}, {"mix": "cutmix", "batch_size": 4}], ids=["alone", "cutmix"])
def test_coded_labels_are_what_the_codec_makes_of_the_logits_and_come_back(tmp_path: Path, name: str, mode) -> None:
    codec, advisers = codec_named(name), Advisers()
    what, facts = showing(**mode), TeacherFacts.of(advisers)
    rows = ViewAsking(what, PLAIN, advisers, CLASSES, CPU, codec).rows()
    about = what, Objective("kl", CODED[name]), facts, PLAIN.digest, COUNT, INDICES, codec, CLASSES
    made = SyntheticSet(stored=PIXELS, stored_labels=ViewLabels(rows, *about), info=INFO, space="unit")
    made.save(tmp_path / "set.h5")
    read = SyntheticSet.load(tmp_path / "set.h5")
    labels = read.stored_labels
    dense = ViewLabels(ViewAsking(what, PLAIN, advisers, CLASSES, CPU).rows().held(), *about[:-2])
    for view in range(3):
        expected = codec.decode(codec.encode(dense.logits(view, torch.arange(COUNT))), CLASSES)
        found = labels.logits(view, torch.arange(COUNT))
        shares = (torch.softmax(logits / CODED[name], 1) for logits in (found, expected))  # the one rounded before
        torch.testing.assert_close(*shares, atol=0.005, rtol=0)
    assert labels.describe().startswith(f"3 views per image in {name} (kl")
    assert labels.bytes == 3 * COUNT * codec.width(CLASSES) * codec.dtype.itemsize + 8 * COUNT
    assert labels.attributes["codec"] == name
    assert "codec" not in dense.attributes


def test_probabilities_of_one_temperature_are_refused_at_another() -> None:
    codec, what, advisers = codec_named("topk:2"), showing(), Advisers()
    rows = ViewAsking(what, PLAIN, advisers, CLASSES, CPU, codec).rows().held()
    about = TeacherFacts.of(advisers), PLAIN.digest, COUNT, INDICES, codec, CLASSES
    for objective in (Objective("kl", 4.0), Objective("mse")):
        with pytest.raises(CondenseError, match="codec topk:2 keeps probabilities at temperature 1: they are trained"):
            ViewLabels(rows, what, objective, *about)
    with pytest.raises(CondenseError, match="int8 labels of 3 classes have 7 numbers for an image, not 4"):
        ViewLabels(
            HeldRows(rows.values.view(np.uint8)[:, :, :4]), what, Objective("kl"), *about[:4], codec_named("int8"), 3
        )


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("kind", ["views", "online"])
def test_they_come_back_from_a_file(tmp_path: Path, kind: str, name: str) -> None:
    mode = showing(**MODES[name])
    labels = stored(mode) if kind == "views" else online(mode.model_copy(update={"views": None}))
    made = SyntheticSet(stored=PIXELS, stored_labels=labels, info=INFO, space="unit")
    made.save(tmp_path / "set.h5")
    made.save(tmp_path / "again.h5")
    read = SyntheticSet.load(tmp_path / "set.h5")
    assert (tmp_path / "set.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()
    assert read.label_kind == kind
    assert read.stored_labels.attributes == labels.attributes
    assert (read.stored_labels.showing, read.stored_labels.objective) == (labels.showing, labels.objective)
    assert read.bytes == made.bytes
    assert read.describe()["labels"] == labels.describe()
    assert torch.equal(read.labels, INDICES)
    if kind == "views":
        for view in range(3):
            ids = torch.tensor([4, 10, 0])
            assert torch.equal(read.stored_labels.logits(view, ids), labels.logits(view, ids))


def test_damage_is_noticed_when_a_row_is_read(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    labels = stored(showing())
    SyntheticSet(stored=PIXELS, stored_labels=labels, info=INFO, space="unit").save(path)
    content = path.read_bytes()
    place = content.index(labels.arrays["logits"].values[1].tobytes())
    path.write_bytes(content[:place] + b"\x01\x02\x03" + content[place + 3 :])
    damaged = SyntheticSet.load(path).stored_labels
    damaged.logits(0, torch.arange(COUNT))
    with pytest.raises(CondenseError, match="rows of targets/logits do not fit their checksums"):
        damaged.logits(1, torch.tensor([3]))


def test_their_bytes_are_counted() -> None:
    assert stored(showing()).bytes == 3 * COUNT * CLASSES * 2 + COUNT * 8
    assert online(showing()).bytes == 1_000 + COUNT * 8


def test_the_class_of_mse_is_that_of_the_base_image() -> None:
    mode = showing(mix="cutmix", batch_size=4)
    (batch, *_) = trained_on(stored(mode, Objective("mse", class_weight=0.1)).source(None, PLAIN, INFO), RULE)
    assert batch.targets.values.shape == (4, 2 * CLASSES)
    assert torch.equal(batch.targets.values[:, CLASSES:].argmax(1), INDICES[batch.ids])


def test_a_mixed_image_counts_as_its_parts_do() -> None:
    """By the share of mixup, and by the area of the window of CutMix; an unmixed one as it is."""
    weights = torch.arange(1.0, COUNT + 1)
    (plain, *_) = trained_on(stored(showing()).source(None, PLAIN, INFO, weights=weights), RULE)
    assert torch.equal(plain.targets.weights, weights[plain.ids])
    for mix in ("mixup", "cutmix"):
        mode = showing(mix=mix, batch_size=4, rule=ViewRule(crop="none", flip=False))
        whole = torch.ones(COUNT, 1, 8, 8) * (weights / 20)[:, None, None, None]  # pixels that tell the weight
        tell = PlainImages(COUNT, lambda ids, whole=whole: whole[ids])
        labels = stored(mode, images=tell.digest)
        for batch in trained_on(labels.source(None, tell, INFO, weights=weights), RULE):
            pixels = INFO.preprocessing.invert(batch.images)
            torch.testing.assert_close(batch.targets.weights, 20 * pixels.mean((1, 2, 3)))


def test_whitened_images_are_seen_whitened() -> None:
    whitened = replace(INFO, preprocessing=Whitening(torch.full((64,), 0.5), torch.eye(64) + 0.01))
    (batch, *_) = trained_on(stored(showing()).source(None, PLAIN, whitened), RULE)
    shown = showing().shown(PIXELS[batch.ids], Place.of(0, 0, batch.ids), batch.ids)
    torch.testing.assert_close(batch.images, whitened.preprocessing.apply(shown))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: trained_on(stored(showing(mix="mixup", batch_size=8)).source(None, PLAIN, INFO), RULE), "of 8 images"),
        (lambda: online(showing()).source(None, PLAIN, INFO), "linear 0123abcd, hash 0123abcd.*give it as --teacher"),
        (lambda: stored(showing()).source(None, PlainImages(10, PLAIN.read), INFO), "made for other images"),
        (lambda: stored(showing(), images="0" * 32).source(None, PLAIN, INFO), r"other images \(digest 000000000000\)"),
        (lambda: stored(showing()).for_batch(0, torch.tensor([0])), "belong to views and not to images as they are"),
        (lambda: stored(showing()).at(torch.tensor([0])), "all images of a set together; relabel a part"),
        (lambda: stored(showing(mix="mixup", batch_size=5)), "for 11 images leaves a batch of 1"),
        (lambda: stored(showing(), classes=INDICES[:4]), "views of 11 images but 4 class indices"),
        (lambda: stored(showing(), count=30, classes=None), "3 views of 30 images are not those in rows"),
        (lambda: stored(showing(), Objective("mse", class_weight=0.1), classes=None), "needs the class of each image"),
        (lambda: stored(showing()).check(11, 4), "have 3 numbers, for 4 classes"),
        (lambda: stored(showing()).check(12, 3), "12 images need as many labels, not 11"),
    ],
)
def test_what_does_not_fit_is_refused(make, message: str) -> None:
    with pytest.raises(CondenseError, match=message):
        make()


def test_another_teacher_is_refused() -> None:
    other = Advisers()
    other.hash = "f" * 16
    with pytest.raises(CondenseError, match=r"not by --teacher linear 0123abcd, hash f+; give that one"):
        online(showing()).source(None, PLAIN, INFO, advisers=other)


@pytest.mark.parametrize("factor", [1e7, float("nan")])
def test_logits_that_half_precision_cannot_hold_are_refused(factor: float) -> None:
    with pytest.raises(CondenseError, match="logits beyond 65,504"):
        ViewAsking(showing(), PLAIN, Advisers(factor), CLASSES, CPU).rows().held()


@pytest.mark.parametrize("name", ["count", "teacher_hash", "crop", "fill", "views", "loss"])
def test_files_that_lack_a_part_are_refused(name: str) -> None:
    labels = stored(showing())
    facts = {key: value for key, value in labels.attributes.items() if key != name}
    with pytest.raises(CondenseError):
        ViewLabels.from_arrays(labels.arrays, facts, INDICES)
    with pytest.raises(CondenseError):
        ViewLabels.from_arrays(labels.arrays, labels.attributes | {name: object()}, INDICES)


def test_rows_of_another_kind_are_refused() -> None:
    labels = stored(showing())
    with pytest.raises(CondenseError, match="lack logits in rows"):
        ViewLabels.from_arrays({"logits": torch.zeros(3, COUNT, CLASSES)}, labels.attributes, INDICES)
    with pytest.raises(CondenseError, match="float16 of 3 dimensions"):
        ViewLabels.from_arrays({"logits": HeldRows(np.zeros((3, COUNT)))}, labels.attributes, INDICES)


@pytest.mark.parametrize("changes", [{"count": -5}, {"count": 0}, {"teacher_bytes": -1}, {"distance_weight": "x"}])
def test_numbers_that_cannot_be_are_refused(changes: dict) -> None:
    attributes = {**online(showing()).attributes, **changes}
    attributes |= {"loss": "distance", "temperature": 1.0} if "distance_weight" in changes else {}
    with pytest.raises(CondenseError):
        labels_from_arrays("online", {}, attributes, None)


def test_what_lies_beyond_an_image_has_its_channels() -> None:
    labels = stored(showing())
    labels.showing = labels.showing.model_copy(update={"fill": (*labels.showing.fill, 0.5)})
    with pytest.raises(CondenseError, match="numbers for what lies beyond an image of"):
        labels.source(None, PLAIN, INFO)


def test_no_labels_are_those_of_no_images() -> None:
    SmoothedLabels(torch.zeros(0, dtype=torch.int64), 0.1, 3).check(0, 3)
