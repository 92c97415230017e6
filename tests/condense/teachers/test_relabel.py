"""Relabelling: sets of any space and decoder, and real data; the same call, the same bytes; labels beyond memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import condense
from condense.cli.main import main
from condense.data import RealData
from condense.evaluation import PROTOCOLS, evaluate
from condense.labels import HardLabels, InterpolatedLabels, LogitLabels, OnlineLabels, ViewLabels
from condense.labels.showing import Place
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.sets.tiles import Tiles
from condense.teachers import Committee, Teacher
from condense.teachers.classifier import logits_of
from condense.training.rule import TrainingRule
from condense.training.sources import Tensors, TrainingSource

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def voter(untrained_teacher, data: RealData) -> Teacher:
    return untrained_teacher(data.info)


@pytest.fixture
def images(data: RealData) -> SyntheticSet:
    """Twelve real images."""
    rows, about = torch.arange(12), {"configuration": {"method": "random"}, "command": "condense distill random"}
    stored, labels = data.train.pixels(rows), data.train.labels[rows]
    return SyntheticSet(stored=stored, stored_labels=labels, info=data.info, source_indices=rows, provenance=about)


KINDS: list[tuple[str, type, dict[str, Any]]] = [
    ("hard", HardLabels, {}),
    ("static", LogitLabels, {}),
    ("static", LogitLabels, {"loss": "mse", "class_weight": 0.1}),
    ("interpolated", InterpolatedLabels, {}),
    ("views", ViewLabels, {"views": 4}),
    ("views", ViewLabels, {"views": 4, "mix": "cutmix", "batch_size": 5, "teacher_bn": "batch"}),
    ("online", OnlineLabels, {}),
]


@pytest.mark.parametrize(("name", "kind", "settings"), KINDS)
def test_the_same_call_gives_the_same_bytes(
    images: SyntheticSet, voter: Teacher, tmp_path: Path, name: str, kind: type, settings: dict[str, Any]
) -> None:
    """In memory and to a file; images, class indices and all that was known of the set stay."""
    teacher = None if name == "hard" else voter
    first = condense.relabel(images, teacher, name, out=tmp_path / "first.h5", **settings)
    condense.relabel(images, teacher, name, **settings).save(tmp_path / "second.h5")
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()
    assert isinstance(first.stored_labels, kind)
    for part in ("stored", "labels", "source_indices"):
        assert torch.equal(getattr(first, part), getattr(images, part))
    assert first.provenance.keys() == {"configuration", "command", "relabelled"}
    about = first.provenance["relabelled"]
    assert about["settings"]["labels"] == name
    assert about["command"].startswith("condense relabel set.h5 ")
    assert "private" not in str(about)
    if teacher is not None:
        assert about["teacher"] == [{"network": voter.manifest.network, "hash": voter.hash, "weight": 1.0}]
        assert voter.name in first.describe()["labels"]


def test_static_labels_are_the_logits_of_the_images_as_they_are(images: SyntheticSet, voter: Teacher) -> None:
    for name in ("static", "interpolated"):
        made = condense.relabel(images, voter, name)
        expected = logits_of(voter.classifier(CPU), images.stored.float() / 255)
        torch.testing.assert_close(made.stored_labels.rows, expected)
        assert made.stored_labels.temperature == {"static": 20, "interpolated": 30}[name]
        assert made.stored_labels.objective.loss == "kl"
    assert condense.relabel(made, None, "hard").stored_labels.kind == "hard"


@pytest.mark.parametrize("name", ["static", "interpolated", "views", "online"])
def test_labels_refuse_other_images(images: SyntheticSet, voter: Teacher, tmp_path: Path, name: str) -> None:
    """Put beside them in a program; a file with them is refused by its checksum."""
    made = condense.relabel(images, voter, name, out=tmp_path / "set.h5")
    other = replace(made, stored=made.stored.flip(0))

    def source(of: SyntheticSet) -> TrainingSource:
        return of.training_labels.source(Tensors(of.images), of.plain, of.info, advisers=Committee.of(voter))

    assert len(source(made)) == 12
    with pytest.raises(CondenseError, match=r"made for other images \(digest \w{12}\) than these \(\w{12}\)"):
        source(other)
    if name in ("static", "interpolated"):
        assert len(source(made.first(2))) == 6  # of a part no digest is known


def test_a_committee_gives_its_weighted_mean(images: SyntheticSet, voter: Teacher, untrained_teacher) -> None:
    other = untrained_teacher(images.info, seed=1)
    both = condense.relabel(images, Committee((voter, other), (3.0, 1.0)), "static").stored_labels.rows
    one, two = (condense.relabel(images, each, "static").stored_labels.rows for each in (voter, other))
    torch.testing.assert_close(both, 0.75 * one + 0.25 * two)


def test_batch_statistics_are_those_of_either_half(images: SyntheticSet, voter: Teacher) -> None:
    """By hand, for one view: order and crops from the labels, the teacher asked about 4 and 4, and 2 and 2 images."""
    settings = {"views": 2, "mix": "cutmix", "batch_size": 8, "teacher_bn": "batch", "bn_groups": 2}
    labels = condense.relabel(images, voter, "views", **settings).stored_labels
    classifier, showing = voter.classifier(CPU), labels.showing
    for number, ids in enumerate(showing.batches(12, 1)):
        shown = showing.shown(images.pixels_at(ids), Place.of(1, number, ids), ids)
        half = len(ids) // 2
        said = [logits_of(classifier, part, batch_norm="batch") for part in (shown[:half], shown[half:])]
        torch.testing.assert_close(labels.logits(1, ids), torch.cat(said), rtol=2**-10, atol=1e-4)


@pytest.mark.parametrize("space", ["unit", "preprocessed", "pixels"])
def test_teachers_see_pixels_whatever_a_set_stores(data: RealData, voter: Teacher, space: str) -> None:
    """Clipped to what pixels can be; students see them preprocessed."""
    plain = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    if space == "pixels":
        stored = (255 * plain.clamp(0, 1)).round().to(torch.uint8)
        plain = stored.float() / 255
    else:
        stored = data.preprocessing.apply(plain) if space == "preprocessed" else plain
    made = SyntheticSet(stored=stored, stored_labels=torch.arange(9) % 3, info=data.info, space=space)
    pixels = plain.clamp(0, 1)
    torch.testing.assert_close(made.pixels_at(torch.arange(9)), pixels)
    static = condense.relabel(made, voter, "static").stored_labels.rows
    torch.testing.assert_close(static, logits_of(voter.classifier(CPU), pixels), rtol=1e-4, atol=1e-4)
    views = condense.relabel(made, voter, "views", views=1, crop="none", flip=False)
    shown = views.stored_labels.source(None, views.plain, data.info).presented(PROTOCOLS.find("desk").rule, 0, CPU)
    batch = shown.batch(0, 0, torch.arange(9))
    torch.testing.assert_close(batch.images, data.preprocessing.apply(pixels), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(batch.targets.values, static, rtol=2**-9, atol=1e-3)


@pytest.mark.parametrize("name", ["static", "views", "online"])
def test_labels_are_of_the_images_that_a_decoder_makes(
    data: RealData, voter: Teacher, tmp_path: Path, name: str
) -> None:
    stored = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mosaics = SyntheticSet(
        stored=stored, stored_labels=torch.arange(6) % 3, info=data.info, space="unit", decoder=Tiles(2)
    )
    made = condense.relabel(mosaics, voter, name, out=tmp_path / "set.h5", **({"views": 3} if name == "views" else {}))
    assert (len(made), len(made.stored), len(made.stored_labels)) == (24, 6, 24)
    assert made.class_counts == (2, 2, 2)
    assert torch.equal(made.stored_classes, mosaics.labels[:6])
    assert torch.equal(made.labels, mosaics.labels)
    if name == "static":
        expected = logits_of(voter.classifier(CPU), mosaics.plain_images.clamp(0, 1))
        torch.testing.assert_close(made.training_labels.rows, expected)
    with pytest.raises(CondenseError, match="the labels are those of the decoded images"):
        made.first(1)
    assert condense.relabel(made, None, "hard").stored_labels.kind == "hard"
    assert made.grid().height > 0


@pytest.mark.parametrize("name", ["views", "online"])
def test_labels_of_views_are_in_no_other_form(images: SyntheticSet, voter: Teacher, tmp_path: Path, name: str) -> None:
    made = condense.relabel(images, voter, name)
    for to in ("torch", "folder"):
        with pytest.raises(CondenseError, match=rf"\({name}\) are not one row an image.*keep the .h5"):
            made.export(tmp_path / "out", to)


def test_real_data_becomes_a_set(data: RealData, voter: Teacher, tmp_path: Path, monkeypatch) -> None:
    """All training images, in memory or, where they are many, read from their file."""
    every = torch.arange(len(data.train))
    made = condense.relabel(data, voter, "views", views=2, out=tmp_path / "small.h5")
    monkeypatch.setattr("condense.sets.large.LARGE", 1000)
    large = condense.relabel(data, voter, "views", views=2, out=tmp_path / "large.h5")
    for found in (made, large):
        assert torch.equal(found.stored[every], data.train.pixels(every))
        assert torch.equal(found.labels, data.train.labels)
        assert torch.equal(found.source_indices, every)
    assert torch.equal(made.stored_labels.logits(1, every), large.stored_labels.logits(1, every))
    assert made.provenance["configuration"]["data"] == data.name
    assert made.provenance["relabelled"]["command"].startswith(f"condense relabel {data.name} ")


MEMORY = """
import sys, torch
from condense import relabel
from condense.data.info import DataInfo
from condense.data.preprocessing import None_
from condense.networks import build_network
from condense.runtime.provenance import peak_memory
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Teacher
from condense.teachers.manifest import Manifest
from condense.training.loop import train_network
from condense.training.rule import TrainingRule

views, out = int(sys.argv[1]), sys.argv[2]
classes = tuple(map(str, range(500)))
info = DataInfo("noise", classes, (1, 2, 2), False, "f" * 32, None_())
about = dict(network="mlp", image_shape=(1, 2, 2), classes=classes, mean=(0.5,), std=(0.5,))
state = build_network("mlp", (1, 2, 2), 500, 0).state_dict()
teacher = Teacher(Manifest(**about, batch_norm="none", origin="trained"), state)
pixels = torch.randint(256, (100, 1, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
given = SyntheticSet(stored=pixels, stored_labels=torch.arange(100), info=info)
made = relabel(given, teacher, "views", views=views, out=out)
labels = made.stored_labels
assert labels.bytes > views * 100 * 1000
network = build_network("mlp", (1, 2, 2), 500, 0)
source = labels.source(None, made.plain, info)
epochs = min(views, 30)
train_network(network, source, TrainingRule(lr=0.01, batch_size=50, epochs=epochs), seed=0, device=torch.device("cpu"))
for view in range(0, views, max(1, views // 30)):
    labels.logits(view, torch.arange(100))
print(peak_memory())
"""


def test_memory_does_not_grow_with_the_number_of_views(tmp_path: Path) -> None:
    """100 MB of labels are made, read and trained on in hardly more memory than 1 MB of them.

    What grows is the table of checksums, 16 bytes for each row of 4 KiB, of which the writer has a few copies.
    """
    peaks = {}
    for views in (10, 1000):
        words = [sys.executable, "-c", MEMORY, str(views), str(tmp_path / f"{views}.h5")]
        peaks[views] = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert (tmp_path / "1000.h5").stat().st_size > 100e6
    assert peaks[1000] - peaks[10] < 8 * 2**20


def test_too_little_room_is_told_before_a_teacher_is_asked(
    images: SyntheticSet, voter: Teacher, tmp_path: Path, monkeypatch
) -> None:
    room = 2**20 + images.bytes + 40 * (12 * 3 * 2 + 16) + 12 * 8
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=room))
    monkeypatch.setattr("condense.teachers.asking.ViewAsking._asked", None)
    with pytest.raises(CondenseError, match=r"300 views of 12 images take 1,0\d\d,\d+ bytes, and 1,05.* 4[01] views"):
        condense.relabel(images, voter, "views", out=tmp_path / "set.h5")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(CondenseError, match="not one would fit: give another --out"):
        condense.relabel(images, voter, "views", out=tmp_path / "set.h5")
    monkeypatch.setattr("condense.teachers.labelling.available_memory", lambda device: 1000)
    with pytest.raises(CondenseError, match=r"1,000 are free in memory; 13 views .* --views 13, or an out"):
        condense.relabel(images, voter, "views")
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("static", {"views": 3}, "--views has no meaning for --labels static; leave it out"),
        ("hard", {"temperature": 3.0}, "--temperature has no meaning for --labels hard"),
        ("interpolated", {"mix": "cutmix"}, "--mix has no meaning for --labels interpolated"),
        ("interpolated", {"loss": "cross-entropy"}, "interpolated labels are mixed as logits"),
        ("smoothed", {}, "--labels 'smoothed'"),
        ("views", {"view": 3}, "unknown option --view .*did you mean --views"),
        ("views", {"views": 0}, "--views 0: should be greater than or equal to 1"),
        ("views", {"mix": "mixup"}, "give --batch-size N"),
        ("views", {"batch_size": 4}, "neither are images mixed"),
        ("views", {"mix": "mixup", "batch_size": 11}, "for 12 images leaves a batch of 1"),
        ("online", {"teacher_bn": "batch", "batch_size": 5, "bn_groups": 2}, "leaves a batch of 2 in 2 groups"),
        ("views", {"loss": "mse", "temperature": 4.0}, "the loss mse has none"),
        ("views", {"class_weight": 0.1}, "belongs to the loss mse"),
        ("views", {"least": 0.5}, "--least has no meaning without --crop resized"),
        ("views", {"unreliable": "discarded"}, "--unreliable has no meaning without --calibrate"),
        ("views", {"distance_weight": 2.0}, "--distance-weight has no meaning without --codec distance"),
        ("hard", {}, "follow from classes, and no teacher is asked; leave --teacher out"),
        ("smoothed:0.1", {}, "follow from classes, and no teacher is asked"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    images: SyntheticSet, voter: Teacher, name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(CondenseError, match=message):
        condense.relabel(images, voter, name, **settings)


def test_teachers_that_do_not_fit_are_refused(images: SyntheticSet, voter: Teacher, untrained_teacher) -> None:
    with pytest.raises(CondenseError, match="--labels static are given by a teacher; give --teacher"):
        condense.relabel(images, None, "static")
    with pytest.raises(CondenseError, match="other classes"):
        condense.relabel(images, untrained_teacher(images.info, classes=("x", "y", "z")), "static")
    instance = untrained_teacher(images.info, "convnet-w8-in")
    with pytest.raises(CondenseError, match="--teacher-bn batch needs"):
        condense.relabel(images, instance, "views", teacher_bn="batch", batch_size=4)


# The command


def test_the_command(images: SyntheticSet, voter: Teacher, data: RealData, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    images.save("set.h5")
    voter.save("a.safetensors")
    words = ["relabel", "set.h5", "--teacher", "a.safetensors"]
    assert main([*words, "--labels", "views", "--views", "40", "--out", "views.h5"]) == 0
    shown = capsys.readouterr()
    assert "views.h5: 12 images, 40 views per image (kl, temperature 20" in shown.out
    assert "note: the labels take" not in shown.err
    assert condense.relabel(images, voter, "views", views=40).bytes == SyntheticSet.load("views.h5").bytes
    assert main([*words, "--labels", "views", "--views", "40", "--out", "views.h5"]) == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    assert main([*words, "--labels", "views", "--views", "900", "--out", "views.h5", "--overwrite"]) == 0
    assert "note: the labels take 84 times the bytes of the images" in capsys.readouterr().err
    assert main(["show", "views.h5"]) == 0
    shown = capsys.readouterr().out
    assert "900 views per image (kl, temperature 20, teacher convnet-d2-w8-bn" in shown
    assert "; the labels take 84 times the bytes of the images" in shown
    command = SyntheticSet.load("views.h5").provenance["relabelled"]["command"].split()
    before = Path("views.h5").read_bytes()
    assert main([*command[1:], "--teacher", "a.safetensors"]) == 0  # in memory it had no file
    assert Path("relabelled.h5").read_bytes() == before
    assert main(["relabel", "set.h5", "--labels", "hard", "--image-size", "8", "--out", "x.h5"]) == 2
    assert "--image-size is for real data, and set.h5 is a set; leave it out" in capsys.readouterr().err
    assert main([*words, "--out", "set.h5", "--overwrite"]) == 2
    assert "--out set.h5 is set.h5 itself, which is read" in capsys.readouterr().err
    assert main(["relabel", "sett.h5", *words[2:], "--out", "x.h5"]) == 2
    assert "sett.h5 does not exist; give the file of a set, or real data" in capsys.readouterr().err


def test_the_command_makes_a_set_of_packed_data(voter: Teacher, data: RealData, tmp_path: Path, monkeypatch) -> None:
    from condense.data import pack

    monkeypatch.chdir(tmp_path)
    pack(data, "packed.h5")
    voter.save("a.safetensors")
    words = ["relabel", "packed.h5", "--teacher", "a.safetensors", "--labels", "online", "--out", "set.h5"]
    assert main(words) == 0
    made = SyntheticSet.load("set.h5")
    assert (len(made), made.label_kind) == (90, "online")
    rule = PROTOCOLS.find("desk-soft").rule.model_copy(update={"epochs": 1})
    quick = PROTOCOLS.find("desk-soft").model_copy(update={"rule": rule})
    assert evaluate(made, data, ["mlp"], 1, quick, teacher="a.safetensors").accuracies


def test_a_pool_stores_a_part_of_the_views_and_draws_among_them(images: SyntheticSet, voter: Teacher) -> None:
    whole, part = (
        condense.relabel(images, voter, "views", views=20, **more).stored_labels for more in ({}, {"pool": 0.1})
    )
    assert (whole.showing.views, part.showing.views) == (20, 2)
    assert (whole.showing.drawn, part.showing.drawn) == (False, True)
    ids = torch.arange(len(images))
    for view in range(2):
        assert torch.equal(part.logits(view, ids), whole.logits(view, ids))
    batches = condense.relabel(images, voter, "views", views=4, pool=0.5, mix="cutmix", batch_size=8).stored_labels
    assert batches.showing.views == 2
    assert len(batches.showing.batches(len(images), 0)) == 2


def test_records_are_drawn_and_now_and_then_an_image_is_seen_as_it_is(
    images: SyntheticSet, voter: Teacher, tmp_path: Path
) -> None:
    out = tmp_path / "records.h5"
    condense.relabel(images, voter, "records:5", codec="topk:2", out=out)
    labels = SyntheticSet.load(out).stored_labels
    showing = labels.showing
    assert (showing.views, showing.drawn, showing.plain) == (5, True, 0.01)
    assert labels.objective.temperature == 1
    assert labels.describe().startswith("5 views per image in topk:2 (kl, temperature 1")
    source = labels.source(None, images.plain, images.info)
    shown, ids = source.presented(TrainingRule(lr=0.1, batch_size=12, epochs=400), 0, CPU), torch.arange(12)
    plain = 0
    for epoch in range(400):
        batch = shown.batch(epoch, 0, ids)
        for row in showing.seen_plain(epoch, ids).nonzero()[:, 0]:
            plain += 1
            assert torch.equal(batch.images[row], batch.plain[row])
            sure = torch.softmax(batch.targets.values[row], 0)
            assert sure[images.labels[row]] > 1 - 1e-6
    assert 20 < plain < 80  # of 4,800, one in a hundred
    again = SyntheticSet.load(out).stored_labels.source(None, images.plain, images.info)
    batch, other = (
        each.presented(TrainingRule(lr=0.1, batch_size=5, epochs=9), 3, CPU).batch(7, 2, ids[3:8])
        for each in (source, again)
    )
    assert torch.equal(batch.images, other.images)
    assert torch.equal(batch.targets.values, other.targets.values)


def test_smoothed_labels_need_no_teacher_and_no_bytes(images: SyntheticSet, tmp_path: Path) -> None:
    out = tmp_path / "smoothed.h5"
    condense.relabel(images, None, "smoothed:0.1", out=out)
    read = SyntheticSet.load(out)
    assert read.label_kind == "smoothed"
    assert read.bytes == images.bytes
    expected = 0.9 * torch.eye(3)[images.labels] + 0.1 / 3
    torch.testing.assert_close(read.probabilities, expected)
    assert "--labels smoothed:0.1" in read.provenance["relabelled"]["command"]


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ("smoothed", {}, "should be one of hard, smoothed:A, static"),
        ("smoothed:1.5", {}, "should be one of"),
        ("records", {}, "should be one of"),
        ("records:0", {}, "should be one of"),
        ("veiws", {}, "did you mean views"),
        ("records:3", {"views": 5}, "--views has no meaning for --labels records"),
        ("records:3", {"mix": "cutmix"}, "labels of mixed images, or by the statistics of a batch, are of batches"),
        ("records:3", {"mix": "cutmix", "batch_size": 4}, "--batch-size has no meaning for --labels records"),
        ("records:3", {"temperature": 4.0}, "labels at temperature 1"),
        ("online", {"pool": 0.5}, "--pool has no meaning for --labels online"),
        ("static", {"codec": "int8"}, "--codec has no meaning for --labels static"),
        ("views", {"codec": "int7"}, "--codec 'int7'"),
        ("views", {"pool": 0.0}, "--pool 0.0: should be greater than 0"),
        ("views", {"codec": "topk:2", "temperature": 4.0}, "codec topk:2 keeps probabilities at temperature 1"),
        ("records:3", {"codec": "distance"}, "--codec distance is for --labels views"),
        ("views", {"codec": "distance", "loss": "mse"}, "--codec distance has a loss of its own: leave --loss out"),
        ("views", {"codec": "distance", "calibrate": 0.1}, "leave --calibrate out"),
        ("views", {"codec": "distance", "temperature": 4.0}, "distances are those of probabilities at 1"),
        ("views", {"codec": "topk:9", "views": 2}, "codec topk:9 keeps 9 of 3 classes; give at most 3"),
    ],
)
def test_light_labels_that_cannot_be_are_refused(
    images: SyntheticSet, voter: Teacher, labels: str, settings: dict, message: str
) -> None:
    with pytest.raises(CondenseError, match=message):
        condense.relabel(images, voter, labels, **settings)
