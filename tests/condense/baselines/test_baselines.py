"""Trainings that make no set: which images they see, what they count, and what they are trained by."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import condense
from condense.baselines.random_rounds import Rounds
from condense.compute.losses import DivergenceAndClass
from condense.evaluation.protocols import PROTOCOLS
from condense.runtime.errors import CondenseError
from condense.training.rule import TrainingRule

CPU = torch.device("cpu")
QUICK = PROTOCOLS.find("fraction").lasting(3)
SMALL = {"choice_options": {"network": "convnet-d1-w4", "epochs": 1, "trainings": 1}}


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def rounds(data, variant: str, size: int, seed: int = 0) -> Rounds:
    return Rounds(data.train, size, variant, seed)


@pytest.mark.parametrize("variant", ["with-replacement", "stratified", "without-replacement"])
def test_a_round_is_a_function_of_seed_and_number(digits, variant: str):
    given = rounds(digits, variant, 40)
    assert torch.equal(given.at(5), rounds(digits, variant, 40).at(5))
    assert not torch.equal(given.at(5), given.at(6))
    assert not torch.equal(given.at(5), rounds(digits, variant, 40, seed=1).at(5))
    for number in range(3):
        assert len(given.at(number).unique()) == 40


def test_stratified_rounds_have_the_share_of_each_class(digits):
    given, sizes = rounds(digits, "stratified", 25), torch.tensor(digits.train.class_counts())
    shares, total = 25 * sizes / sizes.sum(), torch.zeros(10)
    for number in range(300):
        drawn = given.at(number)
        counts = torch.bincount(digits.train.labels[drawn], minlength=10)
        assert counts.sum() == 25
        assert ((counts >= shares.floor()) & (counts <= shares.floor() + 1)).all()
        assert digits.train.labels[drawn].tolist() != sorted(digits.train.labels[drawn].tolist())
        total += counts
    assert (total / 300 - shares).abs().max() < 0.15


def test_few_images_are_of_other_classes_in_every_round(digits):
    """Three images of ten classes: none of them is left out for ever."""
    given = rounds(digits, "stratified", 3)
    seen = {int(label) for number in range(60) for label in digits.train.labels[given.at(number)]}
    assert seen == set(range(10))


def test_without_replacement_every_image_comes_once_before_any_comes_again(digits):
    images = len(digits.train)
    given = rounds(digits, "without-replacement", 400)  # which does not divide the number of images
    every = torch.cat([given.at(number) for number in range(20)])
    for order in range(len(every) // images):
        assert every[order * images : (order + 1) * images].sort().values.tolist() == list(range(images))
    assert not torch.equal(every[:images], every[images : 2 * images])


@pytest.mark.parametrize("variant", ["with-replacement", "stratified", "without-replacement"])
def test_unique_images_are_counted(digits, variant: str):
    given = rounds(digits, variant, 400)
    seen: set[int] = set()
    for number in range(5):
        seen |= set(given.at(number).tolist())
        assert given.unique(4 * (number + 1), 100) == len(seen)
    assert given.unique(1, 100) == 100
    if variant == "without-replacement":
        assert given.unique(12, 100) == 1200
        assert given.unique(50, 400) == len(digits.train)


@pytest.mark.parametrize("variant", ["with-replacement", "stratified", "without-replacement"])
def test_networks_are_trained_on_the_images_of_the_rounds(digits, variant: str):
    made = condense.baseline("rs2", digits, fraction=0.1, seed=4, variant=variant)
    rule = TrainingRule(lr=0.1, batch_size=47, updates=9)  # 144 images in batches of 47, 47, 47 and 3
    shown = made.source().presented(rule, 0, CPU)
    assert len(made.source()) == 144
    seen: list[int] = []
    for epoch in range(2):
        batches = shown.batches(epoch)
        assert [len(batch) for batch in batches] == [47, 47, 47, 3]
        assert torch.equal(torch.cat(batches), made.rounds.at(epoch))
        batch = shown.batch(epoch, 0, batches[0])
        assert torch.equal(batch.images, digits.train.images(batches[0]))
        assert torch.equal(batch.targets.values, digits.train.labels[batches[0]])
        seen += torch.cat(batches).tolist()
    seen += made.rounds.at(2)[:47].tolist()  # the ninth update
    assert made.unique_images(rule) == len(set(seen))


@pytest.mark.parametrize("size", [129, 257, 100])
def test_under_rules_of_epochs_whole_rounds_are_counted(digits, size: int):
    made = condense.baseline("rs2", digits, fraction=size / len(digits.train), variant="without-replacement")
    rule = TrainingRule(lr=0.1, batch_size=128, epochs=4)
    assert made.rounds.size == size
    assert made.unique_images(rule) == 4 * size


def test_a_single_image_that_is_left_over_joins_the_batch_before(digits):
    made = condense.baseline("rs2", digits, ipc=2)
    shown = made.source().presented(TrainingRule(lr=0.1, batch_size=19, updates=9), 0, CPU)
    assert [len(batch) for batch in shown.batches(0)] == [20]


def test_rounds_are_scored_and_count_what_they_have_seen(digits):
    made = condense.baseline("rs2", digits, fraction=0.1)
    result = condense.evaluate(made, digits, nets=["mlp"], runs=2, protocol=QUICK).results[0]
    assert result.images == 144
    assert result.stored_images == made.rounds.unique(3, 128)  # three batches of 128 of 144 images
    assert result.bytes == result.stored_images * (64 + 8)
    again = condense.evaluate(condense.baseline("rs2", digits, fraction=0.1), digits, ["mlp"], 2, QUICK).results[0]
    assert again.accuracies == result.accuracies


def test_what_was_chosen_once_is_trained_on_as_a_set_of_it(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    made = condense.baseline("pruned", digits, ipc=3, seed=5, choice="el2n-easy", **SMALL)
    chosen = condense.distill("el2n-easy", digits, ipc=3, seed=5, **SMALL["choice_options"])
    assert torch.equal(made.chosen.source_indices, chosen.source_indices)
    assert made.choosing_seconds > 0
    ours, theirs = (condense.evaluate(each, digits, ["mlp"], 1, QUICK).results[0] for each in (made, chosen))
    assert ours.accuracies == theirs.accuracies
    assert ours.stored_images == 30
    assert ours.bytes == theirs.bytes


def test_weights_of_a_choice_count_under_a_rule_that_says_so(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    options = {"network": "convnet-d1-w4", "epochs": 1}
    made = condense.baseline("pruned", digits, ipc=4, choice="craig", choice_options=options)
    chosen = condense.distill("craig", digits, ipc=4, **options)
    weighted = QUICK.model_copy(update={"weighted": True})
    for protocol, counts in ((QUICK, False), (weighted, True)):
        ours, theirs = (condense.evaluate(each, digits, ["mlp"], 1, protocol).results[0] for each in (made, chosen))
        assert ours.accuracies == theirs.accuracies
        assert ours.weighted is theirs.weighted is counts
        assert ("unweighted" in str(ours)) is not counts


def test_what_is_chosen_of_any_class_is_trained_on(digits):
    made = condense.baseline("pruned", digits, fraction=0.05, balanced=False, choice="random", seed=3)
    assert torch.equal(
        made.chosen.source_indices,
        condense.distill("random", digits, fraction=0.05, balanced=False, seed=3).source_indices,
    )


def test_a_teacher_sees_what_the_student_sees(digits, untrained_teacher):
    teacher = untrained_teacher(digits.info, "convnet-d1-w4-bn")
    made = condense.baseline("kd-pruned", digits, fraction=0.2, teacher=teacher)
    rule = TrainingRule(lr=0.1, batch_size=16, updates=4, augmentation="dsa")
    ids = torch.arange(16)
    batch = made.source().presented(rule, 7, CPU).batch(0, 0, ids)
    plain = condense.baseline("pruned", digits, fraction=0.2).source().presented(rule, 7, CPU).batch(0, 0, ids)
    assert torch.equal(batch.images, plain.images)
    assert not torch.equal(batch.images, batch.plain)
    logits = made.teacher.classifiers(CPU).logits(digits.preprocessing.invert(batch.images))
    torch.testing.assert_close(batch.targets.values[:, :10], logits)
    assert torch.equal(batch.targets.values[:, 10:].argmax(1), plain.targets.values)
    assert batch.targets.loss == DivergenceAndClass(4.0, made.soft_share)


def test_the_less_is_kept_the_more_the_teacher_counts(digits, untrained_teacher):
    teacher = untrained_teacher(digits.info, "convnet-d1-w4-bn")
    shares = [
        condense.baseline("kd-pruned", digits, fraction=part, teacher=teacher).soft_share for part in (0.1, 0.5, 1.0)
    ]
    assert shares == pytest.approx([0.95, 0.75, 0.5], abs=1e-3)
    assert condense.baseline("kd-pruned", digits, fraction=0.5, teacher=teacher, soft_share=0.2).soft_share == 0.2


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_distillation_against_its_definition(share: float, weighted: bool):
    draws = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 4, generator=draws, dtype=torch.float64)
    classes, weights = torch.tensor([3, 0, 1, 1, 2]), torch.rand(5, generator=draws, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for row in range(5):
        q, p = (torch.softmax(logits[row] / 4, 0) for logits in (teacher, student))
        soft = 16 * sum(q[k] * (q[k] / p[k]).log() for k in range(4))
        hard = -torch.log_softmax(student[row], 0)[classes[row]]
        total += (share * soft + (1 - share) * hard) * (weights[row] if weighted else 1)
    expected = total / (weights.sum() if weighted else 5)
    targets = torch.cat([teacher, F.one_hot(classes, 4).double()], 1)
    found = DivergenceAndClass(4.0, share)(student, targets, weights if weighted else None)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("rs2", {"fraction": 0.1, "variant": "often"}, "rs2: --variant 'often': should be 'with-replacement'"),
        ("rs2", {"ipc": 10**6}, "are more than the 1438 training images"),
        ("rs2", {}, "a set needs a size"),
        ("rs3", {"ipc": 1}, "unknown training-time baseline 'rs3'.* did you mean rs2"),
        ("pruned", {"ipc": 1, "choice": "dm"}, "--choice dm: it makes images; give a method that chooses real ones"),
        ("pruned", {"ipc": 1, "choice": "pca"}, "--choice pca: what it stores are no whole images"),
        (
            "pruned",
            {"ipc": 1, "choice": "dq", "choice_options": {"dropped": 0.2}},
            "--choice dq: what it stores are no whole images",
        ),
        ("pruned", {"ipc": 1, "choice": "rs2"}, "rs2 trains without making a set"),
        ("pruned", {"ipc": 1, "choice_options": {"netwrok": "mlp"}}, "random: unknown option --netwrok"),
        ("kd-pruned", {"ipc": 1}, "kd-pruned asks a teacher: give one"),
    ],
)
def test_wrong_baselines_are_refused(digits, name: str, given: dict, message: str):
    with pytest.raises(CondenseError, match=message):
        condense.baseline(name, digits, **given)


def test_a_baseline_is_no_set_and_says_what_to_do(digits):
    for name in ("rs2", "kd_pruned", "repeated-random-sampling"):
        with pytest.raises(CondenseError, match=r"trains without making a set: .*in a grid .*condense\.baseline"):
            condense.distill(name, digits, ipc=1)


def test_baselines_train_on_class_indices_of_their_own_data(digits):
    made = condense.baseline("rs2", digits, ipc=1)
    with pytest.raises(CondenseError, match="desk-static has labels of its own, and baselines train on class indices"):
        condense.evaluate(made, digits, ["mlp"], 1, "desk-static")
    other = replace(digits, train=digits.train, test=digits.test)
    foreign = condense.load_data("digits", image_size=12)
    assert condense.evaluate(made, other, ["mlp"], 1, QUICK).results[0].images == 10
    with pytest.raises(CondenseError, match="the training images are of another data set or split"):
        condense.evaluate(made, foreign, ["mlp"], 1, QUICK)


def test_rounds_take_more_than_the_smallest_class_has(digits):
    """No variant takes as many images of each class."""
    smallest = min(digits.train.class_counts())
    baseline = condense.baseline("rs2", digits, smallest + 1)
    assert baseline.rounds.size == 10 * (smallest + 1)
