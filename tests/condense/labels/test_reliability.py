"""Labels that are not believed: which they are, and that they are replaced or do not count."""

from dataclasses import replace

import pytest
import torch

import condense
from condense.labels.codecs import codec_named
from condense.labels.reliability import Calibration, softened, unreliable
from condense.runtime.errors import CondenseError
from condense.training.rule import TrainingRule

CPU = torch.device("cpu")


def test_those_whose_class_is_improbable_are_not_believed():
    draws = torch.Generator().manual_seed(0)
    logits, classes = 3 * torch.randn(50, 4, generator=draws), torch.randint(4, (50,), generator=draws)
    expected = [float(torch.softmax(row, 0)[label]) < 0.15 for row, label in zip(logits, classes)]
    assert unreliable(logits, classes, 0.15).tolist() == expected
    assert 0 < sum(expected) < 50


def test_a_calibration_counts_and_softens_or_discards():
    logits, classes = torch.tensor([[0.0, 9.0], [9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0, 1])
    ids = torch.tensor([1, 0, 2])
    soft = Calibration(0.2, "softened", classes)
    kept, known = soft.applied(logits, ids)
    assert known.all()
    torch.testing.assert_close(torch.softmax(kept[0], 0), torch.tensor([0.95, 0.05]))
    assert torch.equal(kept[1:], logits[1:])
    assert soft.describe() == "1 of 3 labels of views (33.3%) were softened"
    kept, known = Calibration(0.2, "discarded", classes).applied(logits, ids)
    assert torch.equal(kept, logits)
    assert known.tolist() == [False, True, True]
    torch.testing.assert_close(torch.softmax(softened(classes, 2), 1).sum(1), torch.ones(3))


@pytest.mark.parametrize("name", ["dense", "int8", "int4", "topk:2"])
def test_every_codec_has_a_row_for_nothing(name: str):
    codec, logits = codec_named(name), torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([True, False, True, False])
    read = codec.decode(codec.encode_some(logits, known), 5)
    assert torch.equal(read[known], codec.decode(codec.encode(logits[known]), 5))
    assert read[~known].isnan().all()


@pytest.fixture(scope="module")
def labelled(untrained_teacher):
    """A set of the digits, and an untrained teacher, who is wrong of most images."""
    data = condense.load_data("digits")
    return condense.distill("random", data, 2), untrained_teacher(data.info, "convnet-d2-w8-bn")


def test_discarded_labels_do_not_count(labelled, capsys):
    images, teacher = labelled
    settings = {"views": 3, "temperature": 1.0}
    plain, less = (condense.relabel(images, teacher, "views", **settings, **more).stored_labels for more in ({}, WEAK))
    assert "labels of views" in capsys.readouterr().err
    rule, ids = TrainingRule(lr=0.1, batch_size=20, epochs=3), torch.arange(20)
    every, some = (
        labels.source(None, images.plain, images.info).presented(rule, 0, CPU).batch(1, 0, ids)
        for labels in (plain, less)
    )
    weak = unreliable(every.targets.values, images.labels, 0.1)
    assert 0 < weak.sum() < 20
    assert every.targets.weights is None
    assert some.targets.weights.tolist() == (~weak).float().tolist()
    outputs = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    whole = some.targets.loss(outputs, some.targets.values, some.targets.weights)
    believed = replace(every.targets, values=every.targets.values[~weak])
    torch.testing.assert_close(whole, believed.loss(outputs[~weak], believed.values))


WEAK = {"calibrate": 0.1, "unreliable": "discarded"}


def test_softened_labels_are_of_the_class(labelled):
    images, teacher = labelled
    made = condense.relabel(images, teacher, "records:3", calibrate=0.1).stored_labels
    said = condense.relabel(images, teacher, "records:3").stored_labels
    ids = torch.arange(20)
    for view in range(3):
        weak = unreliable(said.logits(view, ids), images.labels, 0.1)
        found = torch.softmax(made.logits(view, ids), 1)
        torch.testing.assert_close(found[weak], torch.softmax(softened(images.labels[weak], 10), 1), atol=1e-3, rtol=0)
        assert torch.equal(made.logits(view, ids)[~weak], said.logits(view, ids)[~weak])


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ("views", {"calibrate": 0.1}, "--calibrate is for labels at temperature 1"),
        ("static", {"calibrate": 0.1, "temperature": 1.0}, "--calibrate has no meaning for --labels static"),
        ("records:2", {"calibrate": 1.5}, "--calibrate 1.5: should be less than 1"),
        ("online", {"unreliable": "discarded"}, "--unreliable has no meaning for --labels online"),
    ],
)
def test_calibrations_that_cannot_be_are_refused(labelled, labels: str, settings: dict, message: str):
    with pytest.raises(CondenseError, match=message):
        condense.relabel(*labelled, labels, **settings)
