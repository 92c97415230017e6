"""How far apart the images of a class are, and what stored and online labels cost."""

import itertools
import json

import pytest
import torch

import condense
from benchmarks.measure import diversity, labels
from condense.evaluation.protocols import PROTOCOLS
from condense.teachers import Committee


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Digits, a teacher of them, and a random set."""
    folder = tmp_path_factory.mktemp("measured")
    data = condense.load_data("digits")
    teacher = condense.train_teacher(data, "convnet-d2-w4-bn", folder / "teachers", epochs=1)
    synthetic = condense.distill("random", data, ipc=3, out=folder / "random.h5")
    return data, teacher, synthetic, folder


def test_the_distance_is_that_of_every_pair(made, capsys):
    _, teacher, synthetic, folder = made
    out = folder / "distance.json"
    words = [str(folder / "random.h5"), "--teacher", str(folder / "teachers"), "--out", str(out)]
    assert diversity.main(words) == 0
    found = json.loads(out.read_text())
    assert found["teacher"] == teacher.hash
    classifier = teacher.classifier(torch.device("cpu"))
    with torch.no_grad():
        features = classifier.network.embed(classifier.normalize(synthetic.plain_images))
    features = features / features.norm(dim=1, keepdim=True)
    means = []
    for label in range(10):
        own = features[synthetic.labels == label]
        means.append(sum((a - b).norm().item() for a, b in itertools.combinations(own, 2)) / 3)
    assert found["sets"][0]["distance"] == pytest.approx(sum(means) / 10, rel=1e-5)
    assert found["sets"][0]["method"] == "random"
    assert "random.h5" in capsys.readouterr().out


def test_stored_and_online_labels_train_the_same_networks(made):
    data, teacher, synthetic, _ = made
    short = PROTOCOLS.find("desk-soft")
    short = short.model_copy(update={"rule": short.rule.model_copy(update={"epochs": 3}), "network": "convnet-w4-bn"})
    stored, online = labels.measure(synthetic, data, Committee.of(teacher), networks=1, protocol=short)
    assert stored["labels"] == "views"
    assert online["labels"] == "online"
    assert stored["accuracies"] == pytest.approx(online["accuracies"], abs=0.02)
    assert online["bytes"] == synthetic.bytes + teacher.bytes
    assert stored["bytes"] > synthetic.bytes
