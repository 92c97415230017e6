"""Protocols with labels of a teacher: a set's own, else those of the teacher given; tiny networks, few epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import condense
from condense.cli.main import main
from condense.compute.losses import Divergence, SquaredErrorAndClass, cross_entropy
from condense.data import RealData
from condense.evaluation import PROTOCOLS, Protocol, evaluate
from condense.evaluation.protocols import TeacherLabels
from condense.evaluation.training_set import training_set
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Committee, Teacher

CPU = torch.device("cpu")
NEW = ("desk-soft-hard", "desk-soft-static", "desk-soft", "desk-soft-16")
PUBLISHED = ("sre2l-soft", "rded-soft", "rethink-hard", "rethink-soft")


def quick(name: str, epochs: int = 2, **changes: Any) -> Protocol:
    """The protocol in a tiny network and a few epochs."""
    protocol = PROTOCOLS.find(name)
    rule = protocol.rule.model_copy(update={"epochs": epochs})
    return protocol.model_copy(update={"rule": rule, "network": "convnet-w4-bn", "networks": 1} | changes)


@pytest.fixture(scope="module")
def digits() -> RealData:
    return condense.load_data("digits", mirror=True)


@pytest.fixture(scope="module")
def images(digits: RealData) -> SyntheticSet:
    rows = torch.arange(40)
    return SyntheticSet(stored=digits.train.pixels(rows), stored_labels=digits.train.labels[rows], info=digits.info)


@pytest.fixture(scope="module")
def teacher(untrained_teacher, digits: RealData) -> Teacher:
    return untrained_teacher(digits.info)


@pytest.mark.parametrize("name", [*NEW, *PUBLISHED])
def test_every_protocol_takes_a_set_without_soft_labels(
    images: SyntheticSet, digits: RealData, teacher: Teacher, name: str
) -> None:
    protocol = quick(name)
    (result,) = evaluate(images, digits, protocol=protocol, teacher=teacher).results
    assert result.network == "convnet-d2-w4-bn"
    asked = protocol.labels
    if asked == "hard":
        assert result.label_source == "class index"
        assert result.bytes == images.bytes
        return
    assert isinstance(asked, TeacherLabels)
    about = f"kl, temperature {asked.temperature:g}, teacher {teacher.name}"
    if asked.per == "image":
        assert result.label_source == f"of the teacher given: one soft label per image (logits, {about})"
        assert result.bytes == images.bytes + 40 * 10 * 4
        assert 0 <= result.in_class <= 1
        return
    assert result.label_source.startswith(f"of the teacher given: online, a view per epoch ({about}; ")
    assert result.bytes == images.bytes + teacher.bytes
    with pytest.raises(CondenseError, match=f"protocol {name} trains on a soft label for each view.*give --teacher"):
        evaluate(images, digits, protocol=protocol)


def test_a_teacher_that_nobody_asks_is_told(images: SyntheticSet, digits: RealData, teacher: Teacher) -> None:
    own = condense.relabel(images, teacher, "static")
    rounds = condense.baseline("rs2", digits, fraction=0.1)
    for given, name, told in [
        (images, "desk", True),
        (own, "desk-soft-static", True),
        (images, "desk-soft-static", False),
        (condense.relabel(images, teacher, "online"), "desk-soft", False),
        (rounds, "desk", True),
    ]:
        notes = evaluate(given, digits, protocol=quick(name), teacher=teacher).notes
        said = [note for note in notes if f"asks no teacher about these images: {teacher.name} is not used" in note]
        assert len(said) == told, (name, notes)


@pytest.mark.parametrize("changes", [{"augmentation": "dsa"}, {"cutmix": 0.5}, {"mixup": 0.2}])
def test_rules_whose_images_are_no_views_are_refused(images, digits: RealData, teacher: Teacher, changes: dict) -> None:
    protocol = quick("desk-soft")
    other = protocol.model_copy(update={"rule": protocol.rule.model_copy(update=changes)})
    with pytest.raises(CondenseError, match="labels of views"):
        evaluate(images, digits, protocol=other, teacher=teacher)


def test_results_say_what_is_seen(images: SyntheticSet, digits: RealData, teacher: Teacher) -> None:
    seen = {
        "desk-soft": "padded crops, flips",
        "desk-soft-16": "padded crops, flips, batches of 16, batch statistics of 2 groups",
        "sre2l-soft": "padded crops, flips, mixup, batches of 128",
        "rded-soft": "whole images, flips, cutmix, batches of 50",
        "rethink-soft": "crops of 0.08 to 1, flips, cutmix, batches of 128",
    }
    for name, words in seen.items():
        protocol = quick(name)
        made = training_set(images, digits.train, protocol, teacher=Committee.of(teacher), device=CPU)
        assert made.label_source.endswith(f"; {words})")


def test_online_labels_of_a_set_are_those_of_the_teacher_given(
    images: SyntheticSet, digits: RealData, teacher: Teacher
) -> None:
    """And stored ones of the same views differ by their rounding only: the same training to a few test images."""
    protocol = quick("desk-soft", epochs=4)
    own, stored = (condense.relabel(images, teacher, name) for name in ("online", "views"))
    given, asked, kept = (evaluate(one, digits, protocol=protocol, teacher=teacher) for one in (images, own, stored))
    assert asked.accuracies == given.accuracies
    assert kept.mean == pytest.approx(given.mean, abs=0.02)
    assert asked.results[0].bytes == given.results[0].bytes == images.bytes + teacher.bytes
    about = f"(kl, temperature 20, teacher {teacher.name}; padded crops, flips)"
    assert asked.results[0].label_source == f"own: online, a view per epoch {about}"
    assert kept.results[0].label_source == f"own: 300 views per image {about}"
    with pytest.raises(CondenseError, match="labels are given in training by teacher convnet"):
        evaluate(own, digits, protocol=protocol)


def test_columns_of_one_rule_differ_by_their_labels_only() -> None:
    """So that what labels are worth can be read off a row."""
    rules = {PROTOCOLS.find(name).rule for name in NEW[:3]}
    assert len(rules) == 1
    assert len({PROTOCOLS.find(name).hash for name in NEW}) == 4
    batches = PROTOCOLS.find("desk-soft-16").rule
    assert batches == PROTOCOLS.find("desk-soft").rule.model_copy(update={"batch_size": 16})


def test_own_labels_are_trained_on_by_their_own_loss(images: SyntheticSet, digits: RealData, teacher: Teacher) -> None:
    protocol, losses = quick("desk-soft-static"), set()
    for name, settings in (
        ("static", {}),
        ("static", {"temperature": 1.0, "loss": "cross-entropy"}),
        ("static", {"loss": "mse"}),
        ("interpolated", {}),
    ):
        made = condense.relabel(images, teacher, name, **settings)
        trained_on = training_set(made, digits.train, protocol, device=CPU)
        losses.add(trained_on.source.presented(protocol.rule, 0, CPU).batch(0, 0, torch.arange(9)).targets.loss)
        (result,) = evaluate(made, digits, protocol=protocol).results
        assert result.label_source == trained_on.label_source == f"own: {made.stored_labels.describe()}"
        assert result.in_class == pytest.approx((made.stored_labels.likeliest == made.labels).double().mean().item())
    assert losses == {Divergence(20.0), cross_entropy, SquaredErrorAndClass(0.0), Divergence(30.0)}


def test_labels_of_images_and_of_views_do_not_stand_for_each_other(
    images: SyntheticSet, digits: RealData, teacher: Teacher
) -> None:
    views, static = (condense.relabel(images, teacher, name) for name in ("views", "static"))
    with pytest.raises(CondenseError, match="soft label for each image, and the images have labels of the kind views"):
        evaluate(views, digits, protocol=quick("desk-soft-static"))
    found = evaluate(static, digits, protocol=quick("desk-soft"), teacher=teacher)
    assert found.results[0].label_source.startswith("of the teacher given: online")
    assert "protocol desk-soft does not train on the logits labels of the set" in found.notes
    hard = evaluate(views, digits, protocol=quick("desk-soft-hard"))
    assert hard.accuracies == evaluate(images, digits, protocol=quick("desk-soft-hard")).accuracies


def test_logits_that_are_no_probabilities_are_no_labels_of_desk_static(
    images: SyntheticSet, digits: RealData, teacher: Teacher, tmp_path: Path, monkeypatch
) -> None:
    """Their cross-entropy at a temperature of 20 for the teacher only would be that of nearly equal classes."""
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    static = PROTOCOLS.find("desk-static").labels
    short = static.training.model_copy(update={"epochs": 1})
    protocol = quick("desk-static", labels=static.model_copy(update={"training": short, "networks": 1}))
    made = condense.relabel(images, teacher, "static")
    found = evaluate(made, digits, protocol=protocol)
    assert "on the real data" in found.results[0].label_source
    assert "does not train on the logits labels of the set" in found.notes[0]
    entropy = condense.relabel(images, teacher, "static", loss="cross-entropy", temperature=1.0)
    assert evaluate(entropy, digits, protocol=protocol).results[0].label_source == "own logits"


def test_labels_of_batches_want_batches_of_their_size(images: SyntheticSet, digits: RealData, teacher: Teacher) -> None:
    made = condense.relabel(images, teacher, "views", views=2, mix="cutmix", batch_size=16, teacher_bn="batch")
    assert evaluate(made, digits, protocol=quick("desk-soft-16")).accuracies
    with pytest.raises(CondenseError, match="made for batches of 16 images, and the training has batches of 50"):
        evaluate(made, digits, protocol=quick("desk-soft"))


def test_labels_that_outweigh_images_are_told(images: SyntheticSet, digits: RealData, teacher: Teacher) -> None:
    made = condense.relabel(images, teacher, "views")
    notes = evaluate(made, digits, protocol=quick("desk-soft", epochs=1)).notes
    assert notes == (f"the labels take 94 times the bytes of the images ({40 * 300 * 20 + 320:,} and {40 * 64:,})",)


def test_teachers_of_other_data_are_told_or_refused(images: SyntheticSet, digits: RealData, untrained_teacher) -> None:
    other = untrained_teacher(digits.info, fingerprint="0" * 32, data="others")
    foreign = untrained_teacher(digits.info, classes=tuple("abcdefghij"))
    found = evaluate(images, digits, protocol=quick("desk-soft", epochs=1), teacher=other)
    assert any("was trained on others with fingerprint 000000000000, not on this" in note for note in found.notes)
    with pytest.raises(CondenseError, match="other classes"):
        evaluate(images, digits, protocol=quick("desk-soft"), teacher=foreign)
    instance = untrained_teacher(digits.info, "convnet-w8-in")
    with pytest.raises(CondenseError, match="statistics of batches needs"):
        evaluate(images, digits, protocol=quick("desk-soft-16"), teacher=instance)


def test_real_images_are_labelled_too(digits: RealData, teacher: Teacher) -> None:
    few = digits.train.subset(torch.arange(30))
    for name in ("desk-soft", "desk-soft-static"):
        (result,) = evaluate(few, digits, protocol=quick(name), teacher=teacher).results
        assert result.label_source.startswith("of the teacher given: ")


def test_weights_of_images_count(images: SyntheticSet, digits: RealData, teacher: Teacher) -> None:
    """Images of weight zero are as good as none: the loss of a batch is that of the others."""
    weights = torch.zeros(40)
    weights[:10] = 3.0
    weighted = SyntheticSet(stored=images.stored, stored_labels=images.stored_labels, info=images.info, weights=weights)
    made = training_set(
        weighted,
        digits.train,
        quick("desk-soft").model_copy(update={"weighted": True}),
        teacher=Committee.of(teacher),
        device=CPU,
    )
    batch = made.source.presented(quick("desk-soft").rule, 0, CPU).batch(0, 0, torch.arange(40))
    outputs, targets = torch.randn(40, 10), batch.targets
    whole = targets.loss(outputs, targets.values, targets.weights)
    torch.testing.assert_close(whole, targets.loss(outputs[:10], targets.values[:10]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rules(name: str) -> None:
    protocol = PROTOCOLS.find(name)
    rule = protocol.rule
    assert (protocol.network, protocol.networks) == ("resnet18-bn", 3)
    assert (rule.optimizer, rule.lr, rule.weight_decay, rule.schedule) == ("adamw", 1e-3, 0.01, "cosine")
    expected = {
        "sre2l-soft": (128, 400, "all", "crop-flip", 0.8, 0.0, 0.0),
        "rded-soft": (50, 300, "weights", "mosaic-crop-flip", 0.0, 1.0, 0.5),
        "rethink-hard": (128, 300, "weights", "resized-crop-flip", 0.0, 0.0, 0.0),
        "rethink-soft": (128, 300, "weights", "resized-crop-flip", 0.0, 1.0, 0.0),
    }[name]
    end = round(rule.learning_rate(rule.epochs) / rule.lr, 6)
    about = (rule.batch_size, rule.epochs, rule.decayed, rule.augmentation, rule.mixup, rule.cutmix, end)
    assert about == expected
    temperature = {"sre2l-soft": 30.0, "rethink-hard": None}.get(name, 20.0)
    assert (None if protocol.labels == "hard" else protocol.labels.temperature) == temperature


def test_desk_rules() -> None:
    for name in NEW:
        protocol = PROTOCOLS.find(name)
        rule = protocol.rule
        assert (protocol.network, protocol.networks, rule.epochs) == ("convnet-w64-bn", 3, 300)
        assert (rule.optimizer, rule.lr, rule.weight_decay, rule.decayed) == ("adamw", 1e-3, 0.01, "all")
        assert (rule.augmentation, rule.cutmix, rule.mixup, rule.schedule) == ("crop-flip", 0.0, 0.0, "cosine")
        assert rule.learning_rate(300) == 0


def test_the_command(images: SyntheticSet, teacher: Teacher, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    images.save("set.h5")
    teacher.save("a.safetensors")
    monkeypatch.setattr("condense.evaluation.scoring.PROTOCOLS", {"desk-soft": None})

    class Short:
        def find(self, name: str) -> Protocol:
            return quick(name)

    monkeypatch.setattr("condense.evaluation.scoring.PROTOCOLS", Short())
    words = ["evaluate", "set.h5", "--mirror", "--protocol", "desk-soft", "--nets", "mlp", "--json", "found.json"]
    assert main(words) == 2
    assert "give --teacher, or relabel them" in capsys.readouterr().err
    assert main([*words, "--teacher", "a.safetensors"]) == 0
    assert "teacher convnet-d2-w8-bn" in Path("found.json").read_text()
