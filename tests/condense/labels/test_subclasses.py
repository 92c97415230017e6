"""Subclasses: directions against scikit-learn's, logits against the definition, and a set with them from end to end."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import condense
from condense.augmentation.views import draw_views, see
from condense.cli.main import main
from condense.evaluation import PROTOCOLS, evaluate
from condense.labels import SubclassLabels, labels_from_arrays
from condense.labels.subclasses import OfClasses, find_subclasses, merged
from condense.runtime.errors import CondenseError
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Committee
from condense.teachers.classifier import logits_of
from condense.training.rule import TrainingRule

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def labelled(data, untrained_teacher):
    return condense.distill("random", data, 3), untrained_teacher(data.info, "convnet-d2-w8-bn")


def some_features() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of 200 images of 3 classes, 12 numbers each, and the weight of a classifier."""
    draws = torch.Generator().manual_seed(0)
    classes = torch.arange(200) % 3
    spread = torch.linspace(3, 0.1, 12)
    features = torch.randn(200, 12, generator=draws) * spread + torch.randn(3, 12, generator=draws)[classes]
    return features, classes, torch.randn(3, 12, generator=draws)


def test_directions_span_the_principal_components_of_what_logits_do_not_see() -> None:
    features, classes, weight = some_features()
    found = find_subclasses(features, classes, weight, 4, seed=1)
    assert found.directions.shape == (3, 4, 12)
    torch.testing.assert_close(
        torch.einsum("kd,csd->kcs", weight, found.directions), torch.zeros(3, 3, 4), atol=1e-5, rtol=0
    )
    _, _, rows = np.linalg.svd(weight.double().numpy())
    hidden = rows[3:]  # an orthonormal basis of the null space, by another way
    for label in range(3):
        own = features[classes == label].double().numpy()
        principal = PCA(4).fit(own @ hidden.T).components_ @ hidden  # [4, 12]
        ours = found.directions[label].double().numpy()
        np.testing.assert_allclose(ours @ principal.T @ principal, ours, atol=1e-5)
        placed = (own - own.mean(0)) @ ours.T
        assert placed.var(0).mean() == pytest.approx(1, abs=1e-5)
        assert placed.var(0).max() < 2.5  # unrotated, the first has more than all others together


def test_probabilities_of_parts_sum_to_those_of_the_class() -> None:
    features, classes, weight = some_features()
    found = find_subclasses(features, classes, weight, 5, seed=0)
    logits = features @ weight.T
    divided = found.divided(logits, features)
    assert divided.shape == (200, 15)
    torch.testing.assert_close(torch.softmax(divided, 1).view(200, 3, 5).sum(2), torch.softmax(logits, 1))
    torch.testing.assert_close(merged(divided, 3), logits, atol=1e-4, rtol=1e-5)
    for image, label in [(0, 0), (7, 2)]:
        away = features[image].double() - features[classes == label].double().mean(0)
        shares = torch.softmax(found.directions[label].double() @ away, 0)
        expected = torch.softmax(logits[image].double(), 0)[label] * shares
        torch.testing.assert_close(
            torch.softmax(divided[image].double(), 0).view(3, 5)[label], expected, atol=1e-5, rtol=1e-4
        )


def test_equal_arguments_give_equal_subclasses_and_classes_with_one_image_have_equal_parts() -> None:
    features, classes, weight = some_features()
    one, two, other = (find_subclasses(features, classes, weight, 4, seed) for seed in (3, 3, 4))
    assert torch.equal(one.directions, two.directions)
    assert not torch.equal(one.directions, other.directions)
    lonely = find_subclasses(features[:3], classes[:3], weight, 4, seed=0)
    shares = torch.softmax(lonely.divided(torch.zeros(2, 3), features[:2]), 1)
    torch.testing.assert_close(shares, torch.full((2, 12), 1 / 12))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("static", {}), ("views", {"views": 3}), ("views", {"views": 3, "codec": "int8"}), ("records:2", {})],
)
def test_a_set_with_them_is_stored_and_evaluated(data, labelled, name: str, settings: dict, tmp_path: Path) -> None:
    images, teacher = labelled
    out = tmp_path / "set.h5"
    made = condense.relabel(images, teacher, name, subclasses=3, out=out, **settings)
    labels = made.stored_labels
    assert (labels.parts, labels.kind) == (3, "subclasses" if name == "static" else "views")
    assert "each class in 3" in made.describe()["labels"]
    assert "--subclasses 3" in made.provenance["relabelled"]["command"]
    rows = labels.rows if name == "static" else labels.logits(0, torch.arange(30))
    assert rows.shape == (30, 30)
    if name == "static":
        said = logits_of(teacher.classifier(CPU), images.plain.read(torch.arange(30)))
        torch.testing.assert_close(merged(rows, 10), said, atol=1e-4, rtol=1e-4)
        assert torch.equal(labels.likeliest, said.argmax(1))
        assert len(made.first(1)) == 10
    protocol = PROTOCOLS.find("desk-soft-static" if name == "static" else "desk-soft")
    short = protocol.model_copy(update={"rule": protocol.rule.model_copy(update={"epochs": 2})})
    scored = evaluate(made, data, ["convnet-w8-bn"], 1, short)
    assert 0 <= scored.results[0].accuracies[0] <= 1
    assert "each class in 3" in scored.results[0].label_source


def test_networks_that_learn_parts_are_asked_about_classes(data) -> None:
    teacher = condense.train_teacher(data, "convnet-d2-w8-bn", epochs=3, lr=0.05)
    made = condense.relabel(condense.distill("random", data, 10), teacher, "static", subclasses=3, temperature=1)
    scored = evaluate(made, data, ["convnet-w16-bn"], 1, "desk-soft-static").results[0]
    assert scored.accuracies[0] > 0.3  # a tenth where the parts themselves are taken for classes


@pytest.mark.parametrize("name", ["static", "views"])
def test_they_are_found_in_what_is_labelled(labelled, name: str) -> None:
    """Images as they are, or each of their views; with the class of each."""
    images, teacher = labelled
    made = condense.relabel(images, teacher, name, subclasses=2, seed=5, **({"views": 3} if name == "views" else {}))
    labels, classifier, ids = made.stored_labels, teacher.classifier(CPU), torch.arange(30)
    shown = [images.plain.read(ids)]
    if name == "views":
        rule, fill = labels.showing.rule, torch.tensor(labels.showing.fill)
        shown = [see(shown[0], draw_views(rule, (1, 8, 8), 5, view, ids), fill) for view in range(3)]
    features = torch.cat([classifier.embed(pixels) for pixels in shown])
    found = find_subclasses(
        features, torch.cat([images.labels] * len(shown)), classifier.network.classifier.weight, 2, 5
    )
    expected = found.divided(classifier(shown[0]), classifier.embed(shown[0]))
    rows = labels.rows if name == "static" else labels.logits(0, ids)
    torch.testing.assert_close(rows, expected, atol=2e-2, rtol=2e-3)


def test_an_image_that_is_seen_as_it_is_may_be_any_part_of_its_class(labelled) -> None:
    images, teacher = labelled
    labels = condense.relabel(images, teacher, "records:2", subclasses=3).stored_labels
    labels.showing = labels.showing.model_copy(update={"plain": 0.9})
    rule, ids = TrainingRule(lr=0.1, batch_size=30, epochs=1), torch.arange(30)
    batch = labels.source(None, images.plain, images.info).presented(rule, 0, CPU).batch(0, 0, ids)
    plain = labels.showing.seen_plain(0, ids)
    assert plain.sum() > 20
    shares = torch.softmax(batch.targets.values[plain], 1).unflatten(1, (10, 3))
    expected = torch.nn.functional.one_hot(images.labels[plain], 10)[:, :, None].expand(-1, -1, 3) / 3
    torch.testing.assert_close(shares, expected)


def test_no_parts_are_found_in_rounding(data, labelled, untrained_teacher) -> None:
    features, classes, _ = some_features()
    weight = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    found = find_subclasses(features, classes, weight, 4, seed=0)
    assert torch.equal(found.directions, torch.zeros(12, 4, 12))
    few = untrained_teacher(data.info, "convnet-d2-w2-bn")  # 8 features for 10 classes
    with pytest.raises(CondenseError, match="see all of its 8 features"):
        condense.relabel(labelled[0], few, "static", subclasses=2)


@pytest.mark.parametrize("parts", [0, -3, 7, 2**60, 3.0, "3", None])
@pytest.mark.parametrize("name", ["static", "views"])
def test_labels_of_a_file_with_wrong_parts_are_refused(labelled, name: str, parts) -> None:
    images, teacher = labelled
    labels = condense.relabel(
        images, teacher, name, subclasses=3, **({"views": 2} if name == "views" else {})
    ).stored_labels
    attributes = {key: value for key, value in labels.attributes.items() if key != "parts"}
    attributes |= {} if parts is None else {"parts": parts}
    with pytest.raises(CondenseError):
        labels_from_arrays(labels.kind, labels.arrays, attributes, labels.classes).check(30, 10)


@pytest.mark.parametrize("form", ["torch", "folder"])
def test_exports_can_be_read_again(labelled, form: str, tmp_path: Path) -> None:
    images, teacher = labelled
    made = condense.relabel(images, teacher, "static", subclasses=2)
    out = tmp_path / ("set.pt" if form == "torch" else "set")
    made.export(out, form)
    assert main(["import", str(out), "--data", "digits", "--out", str(tmp_path / "again.h5")]) == 0
    again = SyntheticSet.load(tmp_path / "again.h5").stored_labels
    assert again.parts == 2
    torch.testing.assert_close(again.rows, made.stored_labels.rows)


def test_a_network_of_subclasses_is_right_where_the_sum_is() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.2, -5.0]])  # the largest is of class 1, the largest sum of class 0
    network = OfClasses(torch.nn.Identity(), 2)
    assert logits.argmax() == 2
    assert network(logits).argmax() == 0


def test_what_cannot_be_is_refused(labelled, untrained_teacher, tmp_path: Path, capsys, monkeypatch) -> None:
    images, teacher = labelled
    other = untrained_teacher(images.info, "convnet-d2-w8-bn", seed=1)
    for settings, message in [
        ({"labels": "online"}, "--subclasses has no meaning for --labels online"),
        ({"labels": "views", "calibrate": 0.1}, "--calibrate has no meaning for parts of classes"),
        ({"labels": "views", "codec": "distance"}, "--codec distance is for whole classes"),
        ({"labels": "static", "loss": "mse", "class_weight": 0.1}, "--class-weight has no meaning for parts"),
    ]:
        with pytest.raises(CondenseError, match=message):
            condense.relabel(images, teacher, subclasses=2, **settings)
    with pytest.raises(CondenseError, match="of one teacher, and there are 2"):
        condense.relabel(images, Committee((teacher, other)), "static", subclasses=2)
    with pytest.raises(CondenseError, match="20 logits are not those of classes in 3 parts"):
        SubclassLabels(torch.zeros(2, 20), None, 3)
    made = condense.relabel(images, teacher, "static", subclasses=2)
    made.save(tmp_path / "set.h5")
    monkeypatch.chdir(tmp_path)
    assert main(["show", "set.h5"]) == 0
    assert "each class in 2" in capsys.readouterr().out
    assert isinstance(SyntheticSet.load("set.h5").stored_labels, SubclassLabels)
