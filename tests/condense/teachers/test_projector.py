"""Projectors: what is adapted and what is not, against layers by hand; and sets that they label, from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector

import condense
from condense.augmentation.views import draw_views, see
from condense.cli.main import main
from condense.data import RealData
from condense.evaluation import PROTOCOLS, evaluate
from condense.labels import ProjectorLabels, labels_from_arrays
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Committee, Teacher
from condense.teachers.classifier import linear_head, logits_of
from condense.teachers.projector import AdaptedEncoder, Projector, fit_projector
from condense.training.rule import TrainingRule

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> RealData:
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def teacher(untrained_teacher, data: RealData) -> Teacher:
    return untrained_teacher(data.info)


@pytest.fixture(scope="module")
def encoder(untrained_teacher, data: RealData) -> Teacher:
    """A teacher of other classes."""
    return untrained_teacher(replace(data.info, classes=("a", "b", "c")), "convnet-d2-w8-bn", seed=7)


@pytest.fixture
def images(data: RealData) -> SyntheticSet:
    rows, about = torch.arange(12), {"configuration": {"method": "random"}, "command": "condense distill random"}
    stored, labels = data.train.pixels(rows), data.train.labels[rows]
    return SyntheticSet(stored=stored, stored_labels=labels, info=data.info, source_indices=rows, provenance=about)


def some_projector(encoder: Teacher, outputs: int = 10) -> Projector:
    size = parameters_to_vector(AdaptedEncoder(encoder, 2, outputs).trained).numel()
    return Projector(encoder, 2, outputs, torch.randn(size, generator=torch.Generator().manual_seed(0)) / 10)


def test_it_is_the_encoder_with_products_of_factors_added(encoder: Teacher) -> None:
    projector, pixels = some_projector(encoder), torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    (made,) = projector.classifiers(CPU).classifiers
    by_hand, left_over = encoder.classifier(CPU).double(), projector.values.double()
    for layer in by_hand.network.features.modules():
        if isinstance(layer, nn.Conv2d):
            outputs, inputs = layer.weight.shape[0], layer.weight[0].numel()
            left, right, left_over = left_over.split([outputs * 2, 2 * inputs, len(left_over) - 2 * (outputs + inputs)])
            layer.weight += (left.view(outputs, 2) @ right.view(2, inputs)).view_as(layer.weight)
    features = by_hand.embed(pixels.double())
    weight, bias = left_over.split([10 * features.shape[1], 10])
    expected = features @ weight.view(10, -1).T + bias
    torch.testing.assert_close(made(pixels).double(), expected, atol=1e-4, rtol=1e-4)
    assert not [value for value in made.parameters() if value.requires_grad]


def test_only_factors_and_head_are_trained(encoder: Teacher) -> None:
    adapted = AdaptedEncoder(encoder, 2, 10).train()
    assert not [module for module in adapted.modules() if module.training]
    pixels = torch.rand(6, 1, 8, 8)
    torch.testing.assert_close(adapted.embed(pixels), encoder.classifier(CPU).embed(pixels))  # it begins as the encoder
    before = {name: value.clone() for name, value in adapted.state_dict().items()}
    optimizer = torch.optim.SGD(adapted.parameters(), lr=0.1)
    for _ in range(2):  # the right factors move when the left ones are no longer zero
        optimizer.zero_grad()
        adapted(pixels).square().mean().backward()
        optimizer.step()
    moved = {name for name, value in adapted.state_dict().items() if not torch.equal(value, before[name])}
    factors = {
        f"network.features.{block}.convolution.parametrizations.weight.0.{side}"
        for block in (0, 1)
        for side in ("left", "right")
    }
    assert {name for name in moved if "features" in name} == factors
    assert {name for name in moved if "features" not in name} == {
        "network.classifier.weight",
        "network.classifier.bias",
    }


def test_it_learns_what_its_teachers_say(
    encoder: Teacher, teacher: Teacher, data: RealData, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))

    def fitted(epochs: int) -> Projector:
        return fit_projector(encoder, teacher, data.train, rank=2, epochs=epochs, seed=0, device=CPU)

    pixels = data.test.pixels(torch.arange(60)).float() / 255
    wanted = logits_of(teacher.classifier(CPU), pixels)
    once, longer = (F.mse_loss(fitted(epochs).classifiers(CPU).logits(pixels), wanted) for epochs in (1, 4))
    assert longer < 0.8 * once
    kept = list(tmp_path.rglob("*.safetensors"))
    assert torch.equal(fitted(4).values, fitted(4).values)
    assert kept
    assert list(tmp_path.rglob("*.safetensors")) == kept


def test_how_it_is_trained(encoder: Teacher, teacher: Teacher, data: RealData, monkeypatch) -> None:
    """On views as sets of this data have them, beside the class, from a head of mean features."""
    seen = {}

    def spy(network, source, rule, **more):
        seen.update(network=network, source=source, rule=rule, head=network.network.classifier.weight.detach().clone())

    monkeypatch.setattr("condense.teachers.projector.train_network", spy)
    fit_projector(encoder, teacher, data.train, rank=2, epochs=3, seed=0, device=CPU)
    source, fill = seen["source"], data.preprocessing.mean
    assert (source.showing.rule.flip, source.showing.rule.crop) == (data.mirror, "padded")
    assert source.showing.fill == pytest.approx(fill, abs=1e-6)
    assert source.objective.describe() == "mse + 0.1 cross-entropy of the class"
    assert torch.equal(source.classes, data.train.labels)
    assert (seen["rule"].optimizer, seen["rule"].epochs) == ("adam", 3)
    features = encoder.classifier(CPU).embed(data.train.pixels(torch.arange(len(data.train))).float() / 255)
    means = torch.stack([features[data.train.labels == label].mean(0) for label in range(10)])
    torch.testing.assert_close(seen["head"], F.normalize(means), atol=1e-4, rtol=1e-4)


def test_teachers_are_a_part_of_what_it_is_kept_by(encoder, teacher, untrained_teacher, data) -> None:
    few = data.train.subset(torch.arange(100))
    one, two = (
        fit_projector(encoder, each, few, rank=1, epochs=1, seed=0, device=CPU).values
        for each in (teacher, untrained_teacher(data.info, seed=3))
    )
    assert not torch.equal(one, two)


def labelled(images: SyntheticSet, teacher: Teacher, encoder: Teacher, data: RealData, **more) -> SyntheticSet:
    return condense.relabel(images, teacher, "projector", encoder=encoder, data=data, rank=2, epochs=1, **more)


def test_a_set_asks_the_encoder_in_training(
    images: SyntheticSet, teacher: Teacher, encoder: Teacher, data: RealData, tmp_path: Path
) -> None:
    out = tmp_path / "set.h5"
    labelled(images, teacher, encoder, data, out=out)
    labelled(images, teacher, encoder, data).save(tmp_path / "again.h5")
    assert out.read_bytes() == (tmp_path / "again.h5").read_bytes()
    made = SyntheticSet.load(out)
    labels = made.stored_labels
    assert isinstance(labels, ProjectorLabels)
    assert labels.bytes == 12 * 8 + 4 * labels.projector.numel() + encoder.bytes
    assert "projector of rank 2" in made.describe()["labels"]
    assert teacher.name in made.describe()["labels"]
    about = made.provenance["relabelled"]
    assert (about["encoder"]["hash"], about["learned_from"]) == (encoder.hash, data.fingerprint)
    assert " --encoder " in about["command"]
    assert " --data digits " in about["command"]
    rule, asked = TrainingRule(lr=0.1, batch_size=6, epochs=2), Committee.of(encoder)
    shown = made.training_labels.source(None, made.plain, made.info, advisers=asked).presented(rule, 0, CPU)
    batch = shown.batch(1, 0, torch.arange(6))
    projector = Projector(encoder, 2, 10, labels.projector)
    said = projector.classifiers(CPU).logits(made.info.preprocessing.invert(batch.images))
    torch.testing.assert_close(batch.targets.values, said, atol=1e-4, rtol=1e-4)
    protocol = PROTOCOLS.find("desk-soft")
    short = protocol.model_copy(update={"rule": protocol.rule.model_copy(update={"epochs": 2})})
    scored = evaluate(made, data, ["mlp"], 1, short, teacher=encoder)
    assert scored.results[0].label_source.startswith("own: given in training by a projector")
    assert scored.results[0].bytes == made.bytes


def test_another_encoder_is_refused(images, teacher, encoder, data, untrained_teacher) -> None:
    made = labelled(images, teacher, encoder, data)
    other = untrained_teacher(replace(data.info, classes=("a", "b", "c")), "convnet-d2-w8-bn", seed=8)
    for given, message in [(None, "give it as --teacher"), (teacher, "and not by --teacher"), (other, "other classes")]:
        with pytest.raises(CondenseError, match=message):
            evaluate(made, data, ["mlp"], 1, "desk-soft", teacher=given)
    with pytest.raises(CondenseError, match="other classes"):  # and the encoder does not label images by itself
        evaluate(made, data, ["mlp"], 1, "desk-soft-static", teacher=encoder)
    with pytest.raises(CondenseError, match=r"has \d+ numbers, not 7"):
        Projector(encoder, 2, 10, torch.zeros(7))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 2**60}, "whose rank is"),
        ({"rank": 0}, "whose rank is 0"),
        ({"outputs": 2.5}, "whose outputs is 2.5"),
        ({"taught_by": 3}, "taught_by 3, which is no text"),
        ({"loss": "distance", "temperature": 1.0}, "distances are stored, and not asked for"),
        ({"values": torch.full((9,), torch.nan)}, "not finite"),
        ({"values": torch.zeros(3, 3)}, "must be float32 of 1 dimension"),
    ],
)
def test_labels_of_a_file_that_are_none_are_refused(images, teacher, encoder, data, changes, message: str) -> None:
    labels = labelled(images, teacher, encoder, data).stored_labels
    arrays = {"projector": changes.pop("values")} if "values" in changes else labels.arrays
    with pytest.raises(CondenseError, match=message):
        labels_from_arrays("projector", arrays, labels.attributes | changes, labels.classes)


def test_images_move_towards_what_teachers_said_of_them(images, teacher, encoder, data) -> None:
    still, moved = (labelled(images, teacher, encoder, data, image_updates=updates) for updates in (0, 30))
    assert torch.equal(still.stored, images.stored)
    assert moved.stored.dtype == torch.uint8
    assert not torch.equal(moved.stored, images.stored)
    assert torch.equal(moved.labels, images.labels)
    assert torch.equal(moved.stored_labels.projector, still.stored_labels.projector)
    projector = Projector(encoder, 2, 10, still.stored_labels.projector).classifiers(CPU)
    said = logits_of(teacher.classifier(CPU), images.plain.read(torch.arange(12)))
    far, near = (F.mse_loss(projector.logits(each.plain.read(torch.arange(12))), said) for each in (still, moved))
    assert near < 0.9 * far
    assert moved.training_labels.source(None, moved.plain, moved.info, advisers=Committee.of(encoder))
    assert still.source_indices is not None
    assert moved.source_indices is None  # they are no copies any more
    floating = replace(images, stored=images.images, space="preprocessed")
    with pytest.raises(CondenseError, match="--image-updates changes pixels of 8 bits"):
        labelled(floating, teacher, encoder, data, image_updates=1)


def test_a_move_against_the_definition(images, teacher, encoder, data) -> None:
    moved = labelled(images, teacher, encoder, data, image_updates=3)
    labels, was = moved.stored_labels, images.plain.read(torch.arange(12))
    (projector,) = Projector(encoder, 2, 10, labels.projector).classifiers(CPU).classifiers
    now = was.clone().requires_grad_()
    optimizer = torch.optim.Adam([now], lr=0.01)
    for update in range(3):
        views = [
            see(
                pixels,
                draw_views(labels.showing.rule, (1, 8, 8), 0, update, torch.arange(12)),
                torch.tensor(labels.showing.fill),
            )
            for pixels in (now, was)
        ]
        optimizer.zero_grad()
        (projector(views[0]) - teacher.classifier(CPU)(views[1])).square().mean().backward()
        optimizer.step()
        now.data.clamp_(0, 1)
    assert (moved.stored.int() - (now.detach() * 255).round().int()).abs().max() <= 1


def test_what_cannot_be_is_told_before_anything_is_trained(images, teacher, encoder, data, monkeypatch) -> None:
    monkeypatch.setattr("condense.teachers.labelling.fit_projector", None)
    floating = replace(images, stored=images.images, space="preprocessed")
    for given, settings, message in [
        (floating, {"image_updates": 1}, "--image-updates changes pixels of 8 bits"),
        (images, {"loss": "mse", "temperature": 5.0}, "the loss mse has none"),
        (images, {"class_weight": 0.1}, "belongs to the loss mse"),
        (images, {"data": None}, "give it as --data"),
        (images, {"encoder": None}, "give --encoder"),
        (data, {}, "is real data itself"),
    ]:
        with pytest.raises(CondenseError, match=message):
            condense.relabel(given, teacher, "projector", **({"encoder": encoder, "data": data} | settings))
    with pytest.raises(CondenseError, match="--data has no meaning for --labels static"):
        condense.relabel(images, teacher, "static", data=data)
    blind = build_network("mlp", (1, 8, 8), 10, seed=0)
    blind.classifier = torch.nn.Identity()
    with pytest.raises(CondenseError, match="has no linear layer at its end"):
        linear_head(blind, "it")


def test_the_command(images, teacher, encoder, data, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    images.save("set.h5")
    teacher.save("t.safetensors")
    encoder.save("e.safetensors")
    Path("both").mkdir()
    teacher.save("both/a.safetensors")
    encoder.save("both/b.safetensors")
    words = ["--teacher", "t.safetensors", "--labels", "projector", "--epochs", "1", "--rank", "2"]
    full = ["relabel", "set.h5", *words, "--encoder", "e.safetensors", "--data", "digits", "--out", "out.h5"]
    assert main(full) == 0
    assert "projector and teacher take" in capsys.readouterr().err
    assert main(["show", "out.h5"]) == 0
    assert "projector of rank 2" in capsys.readouterr().out
    for wrong, message in [
        (["relabel", "set.h5", *words, "--data", "digits"], "give --encoder"),
        (["relabel", "set.h5", *words, "--encoder", "e.safetensors"], "give it as --data"),
        (["relabel", "set.h5", "--teacher", "t.safetensors", "--encoder", "e.safetensors"], "--encoder has no meaning"),
        (["relabel", "set.h5", "--teacher", "t.safetensors", "--data", "digits"], "--data has no meaning"),
        (["relabel", "set.h5", "--teacher", "t.safetensors", "--rank", "3"], "--rank has no meaning"),
        (["relabel", "set.h5", *words, "--encoder", "both", "--data", "digits"], "has 2 teachers; give one of"),
        (["relabel", "digits", *words, "--encoder", "e.safetensors", "--data", "digits"], "is real data itself"),
    ]:
        assert main([*wrong, "--out", "no.h5"]) == 2
        assert message in capsys.readouterr().err
        assert not Path("no.h5").exists()
    assert main(["pack", "digits", "--out", "pack.h5"]) == 0
    packed = Path("pack.h5").read_bytes()
    onto = [
        "relabel",
        "set.h5",
        *words,
        "--encoder",
        "e.safetensors",
        "--data",
        "pack.h5",
        "--out",
        "pack.h5",
        "--overwrite",
    ]
    assert main(onto) == 2
    assert "is pack.h5 itself, which is read" in capsys.readouterr().err
    assert Path("pack.h5").read_bytes() == packed
    for form in ("torch", "folder"):
        assert main(["export", "out.h5", "--to", form, "--out", f"exported-{form}"]) == 2
        assert "are not one row an image" in capsys.readouterr().err
