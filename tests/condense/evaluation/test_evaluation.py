"""Evaluation on the digits with tiny networks: what it measures, what it must not depend on, what it refuses."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch

import condense
from condense.data import RealData, TestData, TrainingData
from condense.data.sampling import random_indices
from condense.data.sources import SubsetPixels
from condense.evaluation import PROTOCOLS, Protocol, evaluate, full
from condense.evaluation.label_networks import static_logits
from condense.evaluation.protocols import StaticLabels
from condense.evaluation.training_set import training_set
from condense.labels import LogitLabels, ProbabilityLabels, RegressionLabels, centred_one_hot
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.sets.synthetic_set import SyntheticSet
from condense.training.loop import Step, descend, train_network
from condense.training.rule import TrainingRule
from condense.training.sources import Tensors

RULE = TrainingRule(lr=0.05, weight_decay=5e-4, batch_size=64, epochs=15, schedule="cosine", augmentation="dsa")
QUICK = Protocol(name="quick", network="convnet-w8-in", rule=RULE, networks=2)
WEIGHTED = QUICK.model_copy(update={"name": "quick-weighted", "weighted": True})
STATIC = QUICK.model_copy(
    update={
        "name": "quick-static",
        "labels": StaticLabels(networks=2, training=RULE.model_copy(update={"epochs": 2})),
    }
)
FROZEN = QUICK.model_copy(update={"rule": RULE.model_copy(update={"lr": 1e-12, "epochs": 1})})  # learns nothing


@pytest.fixture(scope="module")
def digits() -> RealData:
    return condense.load_data("digits")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks of this size only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    return tmp_path


def random_set(data: RealData, ipc: int = 10, seed: int = 0, **changes) -> SyntheticSet:
    """A set of real images."""
    indices = random_indices(data.train, [ipc] * len(data.classes), seed, "test")
    values = {"stored": data.train.pixels(indices), "stored_labels": data.train.labels[indices], "info": data.info}
    return SyntheticSet(**values | changes)


@pytest.fixture(scope="module")
def small(digits) -> SyntheticSet:
    return random_set(digits)


@pytest.fixture(scope="module")
def plain(digits, small):
    return evaluate(small, digits, protocol=QUICK)


def test_a_set_teaches_and_shuffled_labels_do_not(digits, small, plain):
    assert plain.mean > 0.5
    shuffled = small.labels[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    chance = evaluate(random_set(digits, stored_labels=shuffled), digits, protocol=QUICK, runs=4)
    assert chance.mean < 0.2


def test_the_result_says_everything(small, plain):
    assert plain.results[0].accuracies == plain.accuracies
    assert plain.mean == sum(plain.accuracies) / 2
    written = json.loads(json.dumps(plain.as_dict()))
    assert written["mean"] == plain.mean
    assert written["std"] == plain.std > 0
    assert written["accuracies"] == list(plain.accuracies)
    expected = {
        "protocol": "quick",
        "protocol_hash": QUICK.hash,
        "network": "convnet-d2-w8-in",
        "images": 100,
        "bytes": 100 * (64 + 8),
        "seed": 0,
        "diverged": [],
        "label_source": "class index",
        "in_class": None,
        "preprocessing": "normalize",
    }
    assert {name: written[name] for name in expected} == expected
    assert written["seconds"] > 0
    assert "torch" in written["versions"]
    assert str(plain.results[0]).startswith(f"convnet-d2-w8-in: {100 * plain.mean:.1f} ± {100 * plain.std:.1f} % (2 ne")


def test_accuracies_of_classes_make_up_that_of_all_images(digits, plain):
    (result,) = plain.results
    counts = dict(zip(digits.classes, digits.test.class_counts()))
    right = sum(counts[name] * value for name, value in result.class_accuracies.items())
    assert right / len(digits.test) == pytest.approx(result.mean)
    assert result.balanced == pytest.approx(sum(result.class_accuracies.values()) / 10)
    assert plain.as_dict()["class_accuracies"] == result.class_accuracies
    assert plain.as_dict()["balanced"] == result.balanced


def test_classes_count_alike_in_the_balanced_accuracy(digits):
    """A network that knows one class only, on test images that are mostly of it; one class has none."""
    test = digits.test.subset(
        torch.cat([digits.test.class_indices(3), *(digits.test.class_indices(k)[:2] for k in range(9))])
    )
    uneven = condense.RealData(digits.info, digits.train, test)
    threes = random_set(digits, stored_labels=torch.full((100,), 3))
    (result,) = evaluate(threes, uneven, protocol=QUICK).results
    assert result.class_accuracies == {name: float(name == "3") for name in digits.classes[:9]}
    assert result.balanced == pytest.approx(1 / 9)
    assert result.mean == pytest.approx((test.labels == 3).double().mean().item())
    assert "11.1 % balanced over classes" in str(result)


def test_one_network_has_no_deviation(digits, small):
    single = evaluate(small, digits, protocol=FROZEN, runs=1)
    assert single.std is None
    assert single.as_dict()["std"] is None


def test_the_same_call_gives_the_same_accuracies_and_touches_no_global_state(digits, small, plain):
    before = torch.random.get_rng_state()
    assert evaluate(small, digits, protocol=QUICK).accuracies == plain.accuracies
    assert torch.equal(before, torch.random.get_rng_state())
    assert evaluate(small, digits, protocol=QUICK, seed=1).accuracies != plain.accuracies


def test_network_k_does_not_depend_on_how_many_there_are(digits, small, plain):
    assert evaluate(small, digits, protocol=QUICK, runs=1).accuracies == plain.accuracies[:1]


def test_networks_are_paired_across_sets_and_methods(digits, small):
    """Networks that learn nothing show how they started: alike on every set, and each in its own way."""
    other = random_set(digits, ipc=3, seed=5, provenance={"method": "another"})
    first, second = (evaluate(images, digits, protocol=FROZEN, runs=4).accuracies for images in (small, other))
    assert first == second
    assert len(set(first)) == 4


def test_full_data_goes_the_same_way_as_a_set(digits):
    everything = torch.arange(len(digits.train))
    as_set = SyntheticSet(stored=digits.train.pixels(everything), stored_labels=digits.train.labels, info=digits.info)
    short = QUICK.model_copy(update={"rule": RULE.model_copy(update={"epochs": 2})})
    direct = evaluate(digits.train, digits, protocol=short, runs=1)
    through_a_set = evaluate(as_set, digits, protocol=short, runs=1)
    assert direct.accuracies == through_a_set.accuracies
    assert direct.results[0].bytes == through_a_set.results[0].bytes == as_set.bytes
    assert direct.mean > 0.7


def test_the_reference_line(digits, small):
    result = evaluate(digits.train, digits, nets=["mlp"], protocol=full("demo"))
    assert result.mean > 0.9
    assert len(result.accuracies) == 1
    assert result.results[0].images == 1438
    with pytest.raises(CondenseError, match=r"protocol full is for all real training images.*demo, desk"):
        evaluate(small, digits, protocol="full")


def test_test_images_get_the_preprocessing_of_the_set(digits):
    raw = condense.load_data("digits", normalization="none")
    own = evaluate(random_set(raw), digits, protocol=QUICK, runs=1)
    assert own.results[0].preprocessing == "none"
    assert own.accuracies == evaluate(random_set(raw), raw, protocol=QUICK, runs=1).accuracies
    assert own.accuracies != evaluate(random_set(digits), digits, protocol=QUICK, runs=1).accuracies


def test_flips_follow_the_data(digits, small, plain):
    mirrored = condense.load_data("digits", mirror=True)
    found = evaluate(random_set(mirrored), digits, protocol=QUICK)
    assert found.accuracies == plain.accuracies
    assert plain.notes == ()
    assert found.notes == (
        "the set was made with mirror images; networks are trained without mirror images of it, as this data says; "
        "--mirror or --no-mirror decides",
    )
    assert evaluate(small, mirrored, protocol=QUICK).accuracies != plain.accuracies


def test_the_protocol_fills_in_what_network_names_leave_open(digits, small):
    result = evaluate(small, digits, nets=["convnet", "convnet-w4", "mlp"], protocol=FROZEN, runs=1)
    assert [one.network for one in result.results] == ["convnet-d2-w8-in", "convnet-d2-w4-in", "mlp"]
    assert [one["network"] for one in result.as_dict()] == ["convnet-d2-w8-in", "convnet-d2-w4-in", "mlp"]
    assert result.protocol == "quick"
    for name in ("mean", "std", "accuracies"):
        with pytest.raises(CondenseError, match="3 kinds of network"):
            getattr(result, name)


def test_a_pool_gives_one_result_for_each_of_its_networks(digits, small):
    result = evaluate(small, digits, nets=["pool-p", "mlp"], protocol=FROZEN, runs=1)
    names = ["convnet-d2-w8-in-nopool", "convnet-d2-w8-in-maxpool", "convnet-d2-w8-in", "mlp"]
    assert [each.network for each in result.results] == names


def test_runs_default_to_the_number_of_the_protocol(digits, small):
    protocol = FROZEN.model_copy(update={"networks": 3})
    assert len(evaluate(small, digits, protocol=protocol).accuracies) == 3


def test_diverged_networks_are_listed_and_counted(digits, small):
    wild = QUICK.model_copy(update={"rule": RULE.model_copy(update={"lr": 1e30})})
    result = evaluate(small, digits, protocol=wild)
    assert result.results[0].diverged == (0, 1)
    assert result.accuracies == (0.0, 0.0)
    assert "2 of them near chance" in str(result.results[0])


def test_networks_near_chance_are_listed(digits, small):
    result = evaluate(small, digits, protocol=FROZEN, runs=4)
    near = tuple(index for index, value in enumerate(result.accuracies) if value < 0.15)  # of 359 images, by chance
    assert near
    assert result.results[0].diverged == near


def test_two_classes_that_are_told_apart_in_part_are_learned(digits):
    """Right for fewer than 1.5 times as many images as by chance, and certainly not by chance."""
    pair = [three_or_eight(split) for split in (digits.train, digits.test)]
    info = replace(digits.info, classes=("3", "8"), fingerprint="3 or 8")
    data = RealData(info, *(kind(*part, info) for kind, part in zip((TrainingData, TestData), pair)))
    few = condense.distill("random", data, ipc=1, seed=4)
    (result,) = evaluate(few, data, nets=["mlp"], protocol=QUICK, runs=6).results
    for index, value in enumerate(result.accuracies):
        assert (index in result.diverged) == (value < 0.69)  # the chance of 50 of 72 is 0.0006, of 49 it is 0.0015
    assert any(0.69 < value < 0.75 for value in result.accuracies)


def three_or_eight(split):
    rows = ((split.labels == 3) | (split.labels == 8)).nonzero().flatten()
    return SubsetPixels(split.source, rows), (split.labels[rows] == 8).long()


# Static labels


def wrong_targets(small: SyntheticSet) -> torch.Tensor:
    """Every image belongs to the next class."""
    return torch.nn.functional.one_hot((small.labels + 1) % 10, 10).float()


def test_hard_protocols_use_the_class_index_whatever_soft_labels_say(digits, small, plain):
    soft = random_set(digits, stored_labels=ProbabilityLabels(wrong_targets(small), small.labels))
    assert evaluate(soft, digits, protocol=QUICK).accuracies == plain.accuracies


def test_static_protocols_use_the_labels_of_the_set(digits, small, plain, cache):
    right = torch.nn.functional.one_hot(small.labels, 10).float()
    own = evaluate(random_set(digits, stored_labels=ProbabilityLabels(right, small.labels)), digits, protocol=STATIC)
    assert own.accuracies == pytest.approx(plain.accuracies, abs=0.02)
    assert own.results[0].label_source == "own probabilities"
    assert own.results[0].bytes == 100 * (64 + 8 + 40)
    assert own.results[0].in_class == 1
    wrong = random_set(digits, stored_labels=ProbabilityLabels(wrong_targets(small), small.labels))
    contradicted = evaluate(wrong, digits, protocol=STATIC)
    assert contradicted.mean < 0.1
    assert contradicted.results[0].in_class == 0
    assert "0% of labels are of the image's class" in str(contradicted.results[0])
    assert not list(cache.iterdir())  # nobody had to be asked


def test_own_logits_are_divided_by_their_temperature(digits, small):
    logits = 5 * torch.randn(100, 10, generator=torch.Generator().manual_seed(0))
    of_logits = random_set(digits, stored_labels=LogitLabels(logits, small.labels, temperature=4.0))
    of_probabilities = random_set(digits, stored_labels=ProbabilityLabels(torch.softmax(logits / 4, 1), small.labels))
    first, second = (evaluate(images, digits, protocol=STATIC, runs=1) for images in (of_logits, of_probabilities))
    assert first.accuracies == second.accuracies
    assert first.results[0].label_source == "own logits"


def test_sets_without_labels_share_networks_trained_on_the_real_data(digits, small, cache):
    first = evaluate(small, digits, protocol=STATIC)
    kept = sorted((cache / "networks").iterdir())
    written = [path.stat().st_mtime_ns for path in kept]
    assert first.results[0].label_source == "2 x convnet-d2-w8-in, 2 epochs on the real data"
    assert first.results[0].bytes == 100 * (64 + 8 + 40)
    assert evaluate(small, digits, protocol=STATIC).accuracies == first.accuracies
    evaluate(random_set(digits, ipc=1, seed=3), digits, protocol=STATIC, nets=["mlp"], seed=9, runs=1)
    assert [path.stat().st_mtime_ns for path in sorted((cache / "networks").iterdir())] == written
    assert len(written) == 2


def test_label_networks_depend_on_data_preprocessing_and_rule(digits, small, cache):
    raw = condense.load_data("digits", normalization="none")
    evaluate(small, digits, protocol=STATIC, nets=["mlp"], runs=1)
    evaluate(random_set(raw), digits, protocol=STATIC, nets=["mlp"], runs=1)
    evaluate(small, digits.holdout(), protocol=STATIC, nets=["mlp"], runs=1)
    labels = STATIC.labels.model_copy(update={"networks": 1})
    evaluate(small, digits, protocol=STATIC.model_copy(update={"labels": labels}), nets=["mlp"], runs=1)
    assert len(list((cache / "networks").iterdir())) == 2 * 3  # one network is the first of two


def test_label_networks_serve_where_they_cannot_be_kept(digits, small, cache, monkeypatch, capsys):
    kept = evaluate(small, digits, protocol=STATIC, runs=1)
    monkeypatch.setenv("CONDENSE_CACHE", "/proc/no folder")
    assert evaluate(small, digits, protocol=STATIC, runs=1).accuracies == kept.accuracies
    assert "$CONDENSE_CACHE" in capsys.readouterr().err


def test_a_damaged_cache_is_made_again(digits, small, cache):
    first = evaluate(small, digits, protocol=STATIC, runs=1)
    kept, other = (cache / "networks").iterdir()
    whole = other.read_bytes()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert evaluate(small, digits, protocol=STATIC, runs=1).accuracies == first.accuracies
    assert kept.stat().st_size > 1000
    assert other.read_bytes() == whole


def test_labels_come_from_networks_that_know_the_data(digits, small):
    images = Tensors(small.images)
    logits = static_logits(images, digits.train, "convnet-w8-in", STATIC.labels, device=torch.device("cpu"))
    assert logits.shape == (100, 10)
    assert (logits.argmax(1) == small.labels).float().mean() > 0.7


def test_labels_of_a_teacher_that_errs_are_corrected(digits, small):
    """As NCFM does it: where the teacher is wrong, its logits become 1 for the image's class and 0 for the others."""
    rule = RULE.model_copy(update={"epochs": 1, "lr": 0.001})  # a teacher that errs now and then
    labels = StaticLabels(networks=1, training=rule, corrected=True)
    protocol = STATIC.model_copy(update={"labels": labels})
    made = training_set(small, digits.train, protocol, device=torch.device("cpu"))
    images = Tensors(small.images)
    logits = static_logits(images, digits.train, "convnet-w8-in", labels, device=torch.device("cpu"))
    right = logits.argmax(1) == small.labels
    assert 0 < right.sum() < len(right)
    rows = made.source.labels.probabilities
    torch.testing.assert_close(rows[right], logits[right].softmax(1))
    for row, label in zip(rows[~right], small.labels[~right].tolist()):
        expected = [math.e / (math.e + 9) if index == label else 1 / (math.e + 9) for index in range(10)]
        assert row.tolist() == pytest.approx(expected)
    assert made.in_class == 1
    assert made.label_source.endswith("on the real data, corrected")


def test_the_last_epochs_can_have_hard_labels(digits, small):
    labels = STATIC.labels.model_copy(update={"hard_epochs": 2})
    protocol = STATIC.model_copy(update={"labels": labels})
    made = training_set(small, digits.train, protocol, device=torch.device("cpu"))
    seen = []

    def noted(step: Step) -> torch.Tensor:
        seen.append(step.batch.targets.values)
        return descend(step)

    rule = RULE.model_copy(update={"batch_size": 100})  # a step an epoch
    network = build_network("mlp", (1, 8, 8), 10, 0)
    train_network(network, made.source, rule, seed=0, device=torch.device("cpu"), update=noted)
    for epoch, found in enumerate(seen):
        order = torch.randperm(100, generator=generator(0, "order", epoch))
        expected = made.source.labels.first.probabilities if epoch < 13 else small.labels
        assert torch.equal(found, expected[order])
    assert len(seen) == 15
    soft = evaluate(small, digits, protocol=STATIC, runs=1)
    earlier = protocol.model_copy(update={"labels": labels.model_copy(update={"hard_epochs": 12})})
    assert evaluate(small, digits, protocol=earlier, runs=1).accuracies != soft.accuracies


def test_label_networks_may_be_trained_for_updates(digits, small):
    rule = TrainingRule(lr=0.05, batch_size=64, updates=3)
    labels = STATIC.labels.model_copy(update={"networks": 1, "training": rule})
    result = evaluate(small, digits, protocol=STATIC.model_copy(update={"labels": labels}), runs=1).results[0]
    assert re.fullmatch(r"1 x convnet-\S+, 3 updates on the real data", result.label_source)


def test_full_data_can_be_labelled_too(digits):
    few = digits.train.subset(torch.arange(50))
    result = evaluate(few, digits, protocol=STATIC, nets=["mlp"], runs=1)
    assert result.results[0].bytes == 50 * (64 + 8 + 40)


def test_a_subset_has_label_networks_of_its_own(digits, small):
    """Not those of the whole data, which were trained before."""
    fewer = replace(digits, train=digits.train.subset(torch.arange(300)))
    images = Tensors(small.images)
    device = torch.device("cpu")
    of_all, of_some = (
        static_logits(images, data.train, "convnet-w8-in", STATIC.labels, device=device) for data in (digits, fewer)
    )
    assert not torch.equal(of_all, of_some)
    few = digits.train.subset(torch.arange(50))
    assert evaluate(few, fewer, protocol=STATIC, nets=["mlp"], runs=1).results[0].images == 50


# Refusals


def test_sets_that_do_not_match_are_refused(digits, small):
    renamed = replace(digits.info, classes=tuple(reversed(digits.classes)))
    with pytest.raises(CondenseError, match="another order of classes"):
        evaluate(small, RealData(renamed, digits.train, digits.test), protocol=QUICK)
    larger = condense.load_data("digits", image_size=16)
    with pytest.raises(CondenseError, match="--image-size"):
        evaluate(small, larger, protocol=QUICK)


def test_another_split_of_the_same_data_is_noted(digits, small, plain):
    assert plain.notes == ()
    (note,) = evaluate(small, digits.holdout(), protocol=FROZEN, runs=1).notes
    assert "other images or another split" in note


def test_training_images_of_another_split_are_refused(digits):
    with pytest.raises(CondenseError, match="another data set or split"):
        evaluate(digits.train, digits.holdout(), protocol=QUICK)


def test_test_images_are_never_trained_on(digits):
    assert not isinstance(digits.test, TrainingData)
    with pytest.raises(TypeError, match="not on TestData"):
        evaluate(digits.test, digits, protocol=QUICK)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"runs": 0}, "--runs 0"),
        ({"nets": []}, "at least one"),
        ({"nets": ["mlp", "convnt"]}, "unknown network 'convnt'"),
        ({"nets": ["mlp", "convnet-d9"]}, "larger images"),
        ({"protocol": "dsk"}, "unknown protocol 'dsk'"),
        ({"device": "cuda:99"}, "device 'cuda:99'"),
    ],
)
def test_wrong_requests_are_refused_before_any_training(digits, small, wrong, message: str):
    with pytest.raises(CondenseError, match=message):
        evaluate(small, digits, **{"protocol": PROTOCOLS.find("dsa")} | wrong)


def test_networks_train_at_the_learned_rate_where_the_protocol_says_so(digits):
    """The rule of the result is what was trained with: a learned rate of zero effect leaves networks near chance."""
    tiny = random_set(digits, learned_lr=1e-9)
    learned = QUICK.model_copy(update={"learned_lr": True})
    usual, slow = (evaluate(tiny, digits, protocol=protocol, runs=1) for protocol in (QUICK, learned))
    assert usual.results[0].lr == QUICK.rule.lr
    assert slow.results[0].lr == 1e-9
    assert slow.mean < 0.25 < usual.mean
    assert evaluate(random_set(digits), digits, protocol=learned, runs=1).results[0].lr == QUICK.rule.lr


@pytest.mark.parametrize("labels", ["hard", "regression"])
def test_mirror_images_are_trained_on_where_protocol_and_set_say_so(digits, labels: str):
    """As if they were stored behind the others, but that they cost nothing."""
    plain = random_set(digits)
    flipped = torch.cat([plain.stored, plain.stored.flip(3)])
    stored = random_set(digits, stored=flipped, stored_labels=plain.labels.repeat(2))
    rule = QUICK.model_copy(update={"labels": labels, "mirrored": True})
    found = evaluate(random_set(digits, mirrored=True), digits, protocol=rule, runs=2).results[0]
    expected = evaluate(stored, digits, protocol=rule, runs=2).results[0]
    assert found.accuracies == expected.accuracies
    assert found.bytes == plain.bytes
    assert found.stored_images == len(plain)
    assert found.images == expected.images == 2 * len(plain)
    without = evaluate(plain, digits, protocol=rule, runs=2).results[0]
    assert without.accuracies != found.accuracies
    assert rule.hash != rule.model_copy(update={"mirrored": False}).hash
    other = rule.model_copy(update={"mirrored": False})
    assert evaluate(random_set(digits, mirrored=True), digits, protocol=other, runs=2).results[0].accuracies == (
        without.accuracies
    )


# Values to be predicted

REGRESSION = PROTOCOLS.find("desk-regression").model_copy(
    update={
        "network": "convnet-w8-nonorm",
        "rule": PROTOCOLS.find("desk-regression").rule.model_copy(
            update={"lr": 0.003, "updates": 120, "more_updates": None, "warmup": 10, "augmentation": None}
        ),
    }
)


def test_sets_without_values_are_trained_on_centred_one_hot_ones(digits, small):
    by_class = evaluate(small, digits, protocol=REGRESSION, runs=2)
    assert by_class.mean > 0.5
    assert by_class.results[0].label_source == "centred one-hot"
    values = centred_one_hot(small.labels, 10)
    own = evaluate(random_set(digits, stored_labels=values), digits, protocol=REGRESSION, runs=2)
    assert own.accuracies == by_class.accuracies
    assert own.results[0].label_source == "own regression"
    assert own.results[0].bytes == by_class.results[0].bytes + 100 * 40
    assert own.results[0].in_class is None
    assert own.notes == ()


def test_learned_values_are_never_softmaxed(digits, small):
    """Scaled and moved they say the same to a squared error's argmax, and something else to a softmax."""
    values = RegressionLabels(2 * centred_one_hot(small.labels, 10).values - 0.5, small.labels)
    result = evaluate(random_set(digits, stored_labels=values), digits, protocol=REGRESSION, runs=2)
    assert result.mean > 0.4  # chance is 0.1


def test_values_are_not_what_other_protocols_train_on(digits, small, plain, cache):
    wrong = centred_one_hot((small.labels + 1) % 10, 10).values
    set_of_values = random_set(digits, stored_labels=RegressionLabels(wrong, small.labels))
    hard = evaluate(set_of_values, digits, protocol=QUICK)
    assert hard.accuracies == plain.accuracies
    assert hard.notes == (f"protocol {QUICK.name} does not train on the regression labels of the set",)
    static = evaluate(set_of_values, digits, protocol=STATIC, runs=1)
    assert static.accuracies == evaluate(small, digits, protocol=STATIC, runs=1).accuracies


def test_images_without_class_are_refused_where_a_protocol_needs_one(digits, small):
    values = RegressionLabels(centred_one_hot(small.labels, 10).values)
    unlabelled = random_set(digits, stored_labels=values)
    with pytest.raises(CondenseError, match="no class index, only labels of the kind regression; choose a protocol"):
        evaluate(unlabelled, digits, protocol=QUICK, runs=1)
    assert evaluate(unlabelled, digits, protocol=REGRESSION, runs=1).mean > 0.4


@pytest.mark.parametrize("width", [1, 7])
def test_values_are_as_many_as_networks_have_outputs(digits, width: int):
    """A single one would be compared with every output without a complaint."""
    values = RegressionLabels(torch.zeros(100, width), torch.arange(10).repeat_interleave(10))
    with pytest.raises(CondenseError, match=f"width {width}, but networks have 10 outputs"):
        evaluate(random_set(digits, stored_labels=values), digits, protocol=REGRESSION, runs=1)


@pytest.mark.parametrize("scale", [3e38, 1e-40])
def test_only_the_ratios_of_weights_count(digits, small, scale: float):
    """Sums of these are infinite, or next to nothing."""
    weights = torch.ones(100)
    alike, scaled = (
        evaluate(random_set(digits, weights=each), digits, protocol=WEIGHTED, runs=1)
        for each in (weights, scale * weights)
    )
    assert scaled.accuracies == alike.accuracies
    assert alike.mean > 0.3


def test_weights_of_a_set_count(digits, small, plain):
    alike = evaluate(random_set(digits, weights=torch.full((100,), 3.0)), digits, protocol=WEIGHTED)
    assert alike.accuracies == pytest.approx(plain.accuracies, abs=0.02)
    without_threes = (small.labels != 3).float()
    fewer = evaluate(random_set(digits, weights=without_threes), digits, protocol=WEIGHTED)
    assert max(fewer.results[0].class_accuracies["3"], 0.05) == 0.05
    assert fewer.results[0].weighted is True


def test_weights_count_only_under_a_rule_that_says_so(digits, small, plain):
    weights = (small.labels != 3).float()
    found = evaluate(random_set(digits, weights=weights), digits, protocol=QUICK)
    assert found.accuracies == plain.accuracies
    assert found.results[0].weighted is False
    assert plain.results[0].weighted is None
    assert "protocol quick leaves out the weights of the set: all of its images count alike" in found.notes
