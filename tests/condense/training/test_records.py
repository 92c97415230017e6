"""Records of trainings: what they tell, against a training watched by hand, and that one serves all who ask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import condense
from condense.compute.engine import Engine
from condense.compute.plan import Plan
from condense.labels import classified
from condense.networks import build_network
from condense.training.loop import train_network
from condense.training.records import Training, TrainingRecord, record_training, trained_features
from condense.training.rule import TrainingRule

CPU = torch.device("cpu")
RULE = TrainingRule(lr=0.05, batch_size=32, epochs=3, schedule="cosine", augmentation="dsa")
TRAINING = Training("convnet-d1-w4-bn", RULE, network_seed=3, training_seed=5)


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture
def source(digits):
    return classified(digits.train.subset(torch.arange(100)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def record(source, training: Training = TRAINING, **options) -> TrainingRecord:
    def engine(network) -> Engine:
        assert network.training
        asked.append(network)
        return Engine(network, Plan())

    asked: list = []
    made = record_training(source, training, device=CPU, engine=engine, **options)
    assert (made.seconds_saved > 0) == (not asked)
    return made


def naive(source, epochs: int):
    """A network trained for so many of the epochs, which depend on those before only."""
    network = build_network(TRAINING.network, (1, 8, 8), 10, 3)
    seen = []

    def look(epoch: int) -> None:
        network.eval()
        with torch.no_grad():
            seen.append(network(source.base.images(torch.arange(100))))
        network.train()

    train_network(network, source, RULE, seed=5, device=CPU, after_epoch=look)
    return network, torch.stack(seen[:epochs])


def test_a_record_is_what_the_training_leaves_behind(source):
    expected, logits = naive(source, 3)
    made = record(source, every_epoch=True)
    for name, value in expected.state_dict().items():
        assert torch.equal(made.network.state_dict()[name], value)
    for name, value in build_network(TRAINING.network, (1, 8, 8), 10, 3).state_dict().items():
        assert torch.equal(made.initial[name], value)
    assert not made.network.training
    torch.testing.assert_close(made.logits, logits, rtol=1e-5, atol=1e-5)
    labels = source.base.labels
    assert made.correct(labels).tolist() == [
        [row.argmax() == label for row, label in zip(epoch, labels)] for epoch in logits
    ]
    assert made.correct(labels)[-1].float().mean() > 0.3


def test_looking_on_changes_nothing(source):
    watched, blind = record(source, every_epoch=True), record(source)
    assert blind.logits.shape == (0, 100, 10)
    for left, right in zip(watched.network.state_dict().values(), blind.network.state_dict().values()):
        assert torch.equal(left, right)


def test_it_is_made_once(source, cache: Path):
    first = record(source, every_epoch=True)
    again = record(source, every_epoch=True)
    assert again.seconds_saved > 0
    assert torch.equal(first.logits, again.logits)
    for left, right in zip(first.network.state_dict().values(), again.network.state_dict().values()):
        assert torch.equal(left, right)
    for name, value in first.initial.items():
        assert torch.equal(value, again.initial[name])
    assert len(list((cache / "networks").iterdir())) == 1


def test_another_part_of_the_data_rule_network_or_seed_is_another_record(digits, source, cache: Path):
    record(source)
    others = [
        (classified(digits.train.subset(torch.arange(1, 101))), TRAINING),
        (source, Training("convnet-d1-w5-bn", RULE, 3, 5)),
        (source, Training(TRAINING.network, RULE.model_copy(update={"lr": 0.06}), 3, 5)),
        (source, Training(TRAINING.network, RULE, 4, 5)),
        (source, Training(TRAINING.network, RULE, 3, 6)),
    ]
    for number, (other, training) in enumerate(others):
        assert record(other, training).seconds_saved == 0
        assert len(list((cache / "networks").iterdir())) == number + 2


def test_features_are_those_of_the_recorded_network(source, cache: Path):
    features, saved = trained_features(source, TRAINING, device=CPU, engine=lambda network: Engine(network, Plan()))
    assert saved == 0
    network = record(source).network
    with torch.no_grad():
        torch.testing.assert_close(features, network.embed(source.base.images(torch.arange(100))))
    again, saved = trained_features(source, TRAINING, device=CPU, engine=lambda network: pytest.fail("it is there"))
    assert torch.equal(again, features)
    assert saved > record(source).seconds_saved  # the training and the looking


def test_what_cannot_be_kept_is_not_lost(source, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    expected = record(source, every_epoch=True)
    monkeypatch.setenv("CONDENSE_CACHE", "/proc/no folder")
    made = record(source, every_epoch=True)
    assert torch.equal(made.logits, expected.logits)
    assert "networks trained on the real data are not kept for later runs" in capsys.readouterr().err
