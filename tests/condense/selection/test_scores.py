"""What images are chosen by, against loops that follow the definitions, and what every such choice must hold to."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import condense
from condense.data.budget import Budget
from condense.data.real import TestData, TrainingData
from condense.data.sources import SubsetPixels
from condense.methods.interface import Job
from condense.methods.registry import methods
from condense.runtime.registry import load_object
from condense.selection.area_under_margin import area_under_margin, mean_area_under_margin
from condense.selection.base import Group
from condense.selection.contrast import Contrast, ContrastSettings, contrast
from condense.selection.coverage import Coverage, CoverageSettings, stratified
from condense.selection.difficulty_and_diversity import DifficultyAndDiversity, GraphSettings, passed_messages
from condense.selection.error_norms import Easy, Hard
from condense.selection.evidence import AveragedEvidenceSettings, EarlyEvidenceSettings, Evidence, EvidenceSettings
from condense.selection.forgetting import Forgetting, forgetting_events
from condense.selection.gradient_norms import GradientNorms, gradient_norms
from condense.selection.herding import herd
from condense.selection.k_center import spread
from condense.selection.moderate import Moderate, closeness_to_the_median
from condense.selection.neighbours import nearest_neighbours
from condense.selection.picking import pick
from condense.selection.uncertainty import Entropy, LeastConfidence, Margin
from condense.training import prediction, records
from condense.training.records import TrainingRecord

SCORES = ["forgetting", "el2n-easy", "el2n-hard", "grand", "entropy", "margin", "least-confidence", "aum", "moderate"]
CHOICES = [*SCORES, "ccs", "d2", "cal", "facility-location", "graph-cut", "craig", "gradmatch", "glister"]
NESTED = [name for name in CHOICES if methods().find(name).nested]
WEIGHED = ["craig", "gradmatch"]


class Told(Evidence):
    """Evidence that is told what networks say: `logits` [R, E, N, K] and `features` [R, N, D] of R trainings."""

    def __init__(self, job: Job, logits: torch.Tensor, features: torch.Tensor) -> None:
        super().__init__(job, AveragedEvidenceSettings(trainings=len(logits)))
        self.embedded = features
        for index, each in enumerate(logits):
            self._records[index] = TrainingRecord(torch.nn.Identity(), {}, each, 0.0)

    def features(self, training: int = 0) -> torch.Tensor:
        return self.embedded[training]


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def job(digits) -> Job:
    """All classes, 12 images of each."""
    data = digits.train
    rows = torch.cat([data.class_indices(label)[:12] for label in range(10)])
    return Job(
        data.subset(rows[torch.randperm(120, generator=torch.Generator().manual_seed(0))]),
        Budget(ipc=3),
        0,
        torch.device("cpu"),
    )


@pytest.fixture(scope="module")
def told(job) -> Told:
    """Two trainings of four epochs, in which every image is right now and then."""
    draws = torch.Generator().manual_seed(0)
    own = 1.5 * F.one_hot(job.data.labels, 10)
    logits = own + torch.randn(2, 4, len(job.data), 10, generator=draws)
    return Told(job, logits, torch.randn(2, len(job.data), 6, generator=draws))


def probabilities_of(told: Told, training: int) -> list[list[float]]:
    """Of each image, by the definition of softmax in float64."""
    rows = [[math.exp(value) for value in row] for row in told.training(training).logits[-1].tolist()]
    return [[value / sum(row) for value in row] for row in rows]


def scores_of(kind: type, told: Told, settings: EvidenceSettings | None = None) -> torch.Tensor:
    return kind(told.job, settings or EvidenceSettings()).scores(told)


def same(ours: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(ours.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-5)


# --- each score by itself


def naive_forgetting(right: list[bool]) -> int:
    events = sum(before and not after for before, after in itertools.pairwise(right))
    return events if any(right) else len(right)


def test_forgetting_against_a_loop(told):
    labels = told.labels.tolist()
    expected = []
    for image, label in enumerate(labels):
        events = [
            naive_forgetting(
                [max(range(10), key=epoch[image].__getitem__) == label for epoch in record.logits.tolist()]
            )
            for record in map(told.training, range(2))
        ]
        expected.append(sum(events) / 2)
    same(scores_of(Forgetting, told), expected)
    assert len(set(expected)) > 3


def test_an_image_that_is_never_learned_counts_more_than_any_other():
    most = [[True, False] * 3, [False] * 6, [True] * 6]
    events = forgetting_events(torch.tensor(most).T)
    assert events.tolist() == [3, 6, 0]
    assert pick(events.double(), [Group(torch.arange(3), 1, "all")], seed=0).tolist() == [1]


def test_error_norms_against_a_loop(told):
    expected = []
    for image, label in enumerate(told.labels.tolist()):
        norms = [
            math.sqrt(sum((p - (k == label)) ** 2 for k, p in enumerate(probabilities_of(told, training)[image])))
            for training in range(2)
        ]
        expected.append(sum(norms) / 2)
    same(scores_of(Hard, told, EarlyEvidenceSettings()), expected)
    same(scores_of(Easy, told, EarlyEvidenceSettings()), [-value for value in expected])


def test_gradient_norms_against_automatic_differentiation(told):
    """One image after the other, in float64, for a classifier that gives just these logits."""
    expected = []
    for image, label in enumerate(told.labels):
        norms = []
        for training in range(2):
            features = told.features(training)[image].double()
            layer = torch.zeros(10, len(features) + 1, dtype=torch.float64)
            layer[:, -1] = told.training(training).logits[-1][image].double()
            layer.requires_grad_()
            logits = layer @ torch.cat([features, torch.ones(1, dtype=torch.float64)])
            norms.append(torch.autograd.grad(F.cross_entropy(logits[None], label[None]), layer)[0].norm().item())
        expected.append(sum(norms) / 2)
    same(scores_of(GradientNorms, told, EarlyEvidenceSettings()), expected)


@pytest.mark.parametrize(
    ("kind", "of_one"),
    [
        (Entropy, lambda row: -sum(p * math.log(p) for p in row)),
        (Margin, lambda row: sorted(row)[-2] - max(row)),
        (LeastConfidence, lambda row: 1 - max(row)),
    ],
)
def test_uncertainty_against_a_loop(told, kind, of_one):
    parts = [[of_one(row) for row in probabilities_of(told, training)] for training in range(2)]
    same(scores_of(kind, told), [sum(pair) / 2 for pair in zip(*parts)])


def test_the_area_under_the_margin_against_a_loop(told):
    expected = []
    for image, label in enumerate(told.labels.tolist()):
        margins = [
            epoch[label] - max(value for k, value in enumerate(epoch) if k != label)
            for training in range(2)
            for epoch in told.training(training).logits[:, image].tolist()
        ]
        expected.append(sum(margins) / len(margins))
    same(mean_area_under_margin(told), expected)


def test_moderate_against_a_loop(told):
    """In each class, ranks of the distance to the mean; the score falls with the places to the middle rank."""
    features, expected = told.features().double().numpy(), [0.0] * 120
    for label in range(10):
        members = [image for image in range(120) if told.labels[image] == label]
        mean = features[members].mean(0)
        ranked = sorted(members, key=lambda image: np.linalg.norm(features[image] - mean))
        for rank, image in enumerate(ranked):
            expected[image] = -abs(rank - 5.5) / 12
    same(scores_of(Moderate, told), expected)


def test_the_moderate_images_are_those_around_the_median():
    line = torch.tensor([[-1.0], [1.0], [-2.0], [2.5], [-6.0], [5.0], [0.5]])  # the mean is 0
    distances = line[:, 0].abs()
    chosen = closeness_to_the_median(line).argsort(descending=True)[:3]
    assert distances[chosen[0]] == distances.median() == 2.0
    assert sorted(distances[chosen].tolist()) == [1.0, 2.0, 2.5]


def naive_neighbours(features: torch.Tensor, count: int) -> list[list[int]]:
    apart = torch.cdist(features.double(), features.double()).fill_diagonal_(torch.inf)
    return [sorted(range(len(features)), key=row.__getitem__)[:count] for row in apart.tolist()]


@pytest.mark.parametrize("kept", ["highest", "lowest"])
def test_contrast_against_a_loop(told, kept: str):
    probabilities, expected = probabilities_of(told, 0), []
    for image, around in enumerate(naive_neighbours(told.features(), 10)):
        p = probabilities[image]
        each = [sum(q * math.log(q / p[k]) for k, q in enumerate(probabilities[other])) for other in around]
        expected.append(sum(each) / len(each) * (1 if kept == "highest" else -1))
    same(scores_of(Contrast, told, ContrastSettings(kept=kept)), expected)


def test_contrast_of_probabilities_that_are_zero_is_finite():
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    scores = contrast(sure, torch.tensor([[1], [0], [0]]))
    assert torch.isfinite(scores).all()
    assert scores[2] == 0 < scores[0]


def test_nearest_neighbours_against_all_distances(told):
    distances, rows = nearest_neighbours(told.features(), 4)
    assert rows.tolist() == naive_neighbours(told.features(), 4)
    expected = (told.features()[:, None] - told.features()[rows]).square().sum(2)
    torch.testing.assert_close(distances, expected)


def naive_messages(features, difficulty, count, neighbours, forward, reverse) -> list[int]:
    near = naive_neighbours(features, neighbours)
    apart = torch.cdist(features.double(), features.double()).tolist()
    mean = np.mean([apart[row][other] for row, around in enumerate(near) for other in around])
    joined = [
        [other for other in range(len(near)) if other in near[row] or row in near[other]] for row in range(len(near))
    ]
    scores = [
        x + sum(math.exp(-forward * apart[row][other] / mean) * difficulty[other] for other in joined[row])
        for row, x in enumerate(difficulty)
    ]
    chosen: list[int] = []
    for _ in range(count):
        best = max((row for row in range(len(near)) if row not in chosen), key=scores.__getitem__)
        for other in joined[best]:
            scores[other] -= math.exp(-reverse * apart[best][other] / mean) * scores[best]
        chosen.append(best)
    return chosen


@pytest.mark.parametrize(("forward", "reverse"), [(1.0, 1.0), (0.0, 3.0), (5.0, 0.2)])
def test_messages_against_a_loop(forward: float, reverse: float):
    draws = torch.Generator().manual_seed(1)
    features, difficulty = torch.randn(40, 3, generator=draws), torch.rand(40, generator=draws)
    chosen, worth = passed_messages(features, difficulty, 12, 4, forward, reverse)
    assert chosen.tolist() == naive_messages(features, difficulty.double().tolist(), 12, 4, forward, reverse)
    assert worth[0] == worth.max()


def test_messages_within_groups(told):
    job = replace(told.job, budget=Budget(ipc=12))
    chosen = DifficultyAndDiversity(job, GraphSettings()).choose_by(told)
    assert sorted(chosen.indices.tolist()) == list(range(120))
    assert told.labels[chosen.indices].tolist() == sorted(told.labels.tolist())


def naive_shares(sizes: list[int], count: int) -> list[int]:
    """How many images each stratum gives: from the smallest to the largest, what is left shared among those left."""
    shares, left = [0] * len(sizes), count
    for place, stratum in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[stratum] = min(sizes[stratum], left // (len(sizes) - place))
        left -= shares[stratum]
    return shares


@pytest.mark.parametrize("count", [1, 7, 25, 60])
def test_strata_give_their_shares(count: int):
    easiness = torch.randn(60, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    edges = torch.linspace(0, 1, 6, dtype=torch.float64) * (easiness.max() - easiness.min()) + easiness.min()
    places = [min(4, sum(value >= edge for edge in edges.tolist()) - 1) for value in easiness.tolist()]
    rows = stratified(easiness, count, 5, torch.Generator().manual_seed(0)).tolist()
    assert len(set(rows)) == count
    found = [sum(places[row] == stratum for row in rows) for stratum in range(5)]
    assert sorted(found) == sorted(naive_shares([places.count(stratum) for stratum in range(5)], count))
    other = stratified(easiness, count, 5, torch.Generator().manual_seed(1)).tolist()
    assert other != rows
    assert stratified(easiness, count, 5, torch.Generator().manual_seed(0)).tolist() == rows


def test_the_hardest_images_are_left_out_before_strata_are_made(told):
    """A quarter of each class, 3 of 12; and none of them where the set needs all the others."""
    easiness = mean_area_under_margin(told)
    for ipc in (4, 9, 11):
        job = replace(told.job, budget=Budget(ipc=ipc))
        chosen = Coverage(job, CoverageSettings(dropped=0.25, strata=3)).choose_by(told).indices
        assert len(chosen.unique()) == 10 * ipc
        for label in range(10):
            members = job.data.class_indices(label)
            hardest = members[easiness[members].argsort()[: 12 - max(9, ipc)]]
            assert not set(chosen.tolist()) & set(hardest.tolist())


# --- picking by scores


def test_the_highest_scores_are_picked_first_in_each_group():
    draws = torch.Generator().manual_seed(0)
    scores, order = torch.randn(50, generator=draws), torch.randperm(50, generator=draws)
    groups = [Group(order[:30].sort().values, 7, 0), Group(order[30:].sort().values, 20, 1)]
    expected = [
        image
        for group in groups
        for image in sorted(group.members.tolist(), key=lambda image: -scores[image])[: group.count]
    ]
    assert pick(scores, groups, seed=4).tolist() == expected


def test_equal_scores_come_in_an_order_of_the_seed_and_not_of_the_data():
    group = [Group(torch.arange(100), 10, "all")]
    first, again, other = (pick(torch.zeros(100), group, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first not in (list(range(10)), list(range(99, 89, -1)))
    assert len(set(first)) == 10
    assert pick(torch.zeros(100), [Group(torch.arange(100), 4, "all")], 0).tolist() == first[:4]


# --- orientation, on two Gaussians of which the boundary between the classes is known


@pytest.fixture(scope="module")
def gaussians():
    """200 points of two classes in the plane, their distances to the best boundary, and the logits of that."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    points = torch.randn(200, 2, generator=draws) + torch.tensor([[-1.5, 0.0], [1.5, 0.0]])[labels]
    logits = 3 * torch.stack([-points[:, 0], points[:, 0]], 1) / 2  # of the posterior of these two
    return points, labels, logits


def random_choices(size: int, count: int) -> list[torch.Tensor]:
    return [torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count] for seed in range(20)]


def test_herding_is_nearer_to_the_mean_and_k_center_to_every_point_than_random_choices(gaussians):
    points, labels, _ = gaussians
    points = points[labels == 0]

    def error(rows: torch.Tensor) -> float:
        return (points[rows].mean(0) - points.mean(0)).norm().item()

    def radius(rows: torch.Tensor) -> float:
        return torch.cdist(points, points[rows]).min(1).values.max().item()

    others = random_choices(100, 8)
    assert error(herd(points, 8)) < min(map(error, others))
    assert radius(spread(points, 8, first=0)) < min(map(radius, others))


def test_hard_and_uncertain_points_lie_at_the_boundary_and_easy_ones_do_not(gaussians):
    points, labels, logits = gaussians
    probabilities = torch.softmax(logits, 1)
    errors = probabilities - F.one_hot(labels)
    own = torch.where(labels == 1, points[:, 0], -points[:, 0])  # how far on the side of its class
    usual = own.mean()
    for hardness in (
        errors.norm(dim=1),
        gradient_norms(errors, points),
        -area_under_margin(logits[None], labels),
        contrast(probabilities, nearest_neighbours(points, 10)[1]),
    ):
        assert own[hardness.argsort(descending=True)[:20]].mean() < 0.3 * usual
    easy = errors.norm(dim=1).argsort()[:20]
    assert own[easy].mean() > 1.3 * usual
    uncertain = torch.special.entr(probabilities).sum(1).argsort(descending=True)[:20]
    assert points[uncertain, 0].abs().mean() < 0.3 * points[:, 0].abs().mean()


# --- through `condense.distill`, with small networks


@pytest.fixture(scope="module")
def chosen(digits, tmp_path_factory):
    """Sets of small networks that are trained once for all of these tests, in a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))

        def choose(method: str, data: condense.RealData = digits, **options) -> condense.SyntheticSet:
            small = {"network": "convnet-d1-w8", "epochs": 2}
            fields = load_object(methods().find(method).target).Settings.model_fields
            small |= {"trainings": 1} if "trainings" in fields else {}
            return condense.distill(method, data, **small | options)

        yield choose


@pytest.mark.parametrize("method", CHOICES)
def test_a_choice_is_balanced_without_duplicates_and_stored_with_what_it_was_made_by(
    method: str, chosen, digits, tmp_path
):
    out = tmp_path / "set.h5"
    made = chosen(method, ipc=4, out=out)
    assert made.labels.tolist() == [label for label in range(10) for _ in range(4)]
    read = condense.SyntheticSet.load(out)
    assert torch.equal(read.stored, digits.train.pixels(read.source_indices))
    assert torch.equal(read.labels, digits.train.labels[read.source_indices])
    assert len(read.source_indices.unique()) == 40
    assert read.scores.shape == (40,)
    assert torch.isfinite(read.scores).all()
    assert (read.weights is not None) == (method in WEIGHED)
    if method in WEIGHED:
        sums = torch.zeros(10).index_add_(0, read.labels, read.weights)
        torch.testing.assert_close(sums, torch.tensor(digits.train.class_counts(), dtype=torch.float32))
    if method in SCORES:
        by_class = read.scores.view(10, 4)
        assert torch.equal(by_class.sort(dim=1, descending=True).values, by_class)


@pytest.mark.parametrize("method", NESTED)
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(method: str, chosen):
    small, large = (chosen(method, ipc=ipc).source_indices.view(10, -1) for ipc in (3, 25))
    assert torch.equal(small, large[:, :3])


def test_two_methods_say_that_theirs_is_not(chosen):
    assert [name for name in (*CHOICES, "kmeans") if not methods().find(name).nested] == ["ccs", "kmeans"]
    small, large = (chosen("ccs", ipc=ipc).source_indices.view(10, -1) for ipc in (3, 25))
    assert not torch.equal(small, large[:, :3])


@pytest.mark.parametrize("method", CHOICES)
def test_a_choice_from_all_classes_at_once(method: str, chosen):
    made = chosen(method, fraction=0.05, balanced=False)
    assert len(made.source_indices.unique()) == len(made) == 72
    assert made.labels.tolist() != sorted(made.labels.tolist())
    if method in WEIGHED:
        assert made.weights.sum() == pytest.approx(1438)


def uneven(data: condense.RealData) -> condense.RealData:
    """27 images: 14 zeros, 12 ones (6, each twice) and a single two."""
    ones = data.train.class_indices(1)[:6]
    rows = torch.cat([data.train.class_indices(0)[:14], ones, ones, data.train.class_indices(2)[:1]])
    info = replace(data.info, classes=("0", "1", "2"), fingerprint="uneven")
    test = TestData(SubsetPixels(data.test.source, torch.arange(5)), torch.zeros(5, dtype=torch.int64), info)
    train = TrainingData(SubsetPixels(data.train.source, rows), data.train.labels[rows], info)
    return condense.RealData(info, train, test)


@pytest.mark.parametrize("method", CHOICES)
@pytest.mark.parametrize("balanced", [True, False])
def test_all_images_of_uneven_classes_with_duplicates_can_be_chosen(method: str, balanced: bool, chosen, digits):
    made = chosen(method, uneven(digits), fraction=1.0, balanced=balanced)
    assert sorted(made.source_indices.tolist()) == list(range(27))


@pytest.mark.parametrize("method", ["forgetting", "grand", "aum", "ccs", "gradmatch", "glister"])
def test_a_choice_depends_on_the_seed_and_on_nothing_else(method: str, chosen, digits):
    first, again, other = (chosen(method, ipc=5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.source_indices, again.source_indices)
    assert torch.equal(first.scores, again.scores)
    assert not torch.equal(first.source_indices, other.source_indices)


@pytest.mark.parametrize("method", ["grand", "entropy", "cal", "glister"])
def test_scores_do_not_depend_on_how_many_images_are_looked_at_at_once(method: str, chosen, monkeypatch, tmp_path):
    """The released code of GraNd divides by the size of the batch, and the last one is smaller."""
    usual = chosen(method, ipc=5)
    monkeypatch.setattr(prediction, "_MOST_AT_ONCE", 100)
    for at_once in (50, 2000):
        monkeypatch.setattr(records, "_EMBEDDED_AT_ONCE", at_once)
        monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / f"{at_once}"))  # nothing is found there
        other = chosen(method, ipc=5)
        assert torch.equal(other.source_indices, usual.source_indices)
        torch.testing.assert_close(other.scores, usual.scores, rtol=1e-3, atol=1e-6)


def test_no_choice_gets_test_data(digits):
    with pytest.raises(TypeError, match="only ever gets TrainingData, not TestData"):
        Job(digits.test, Budget(ipc=1), 0, torch.device("cpu"))


@pytest.mark.parametrize("method", ["forgetting", "glister"])
def test_other_test_images_change_nothing(method: str, chosen, digits):
    few = torch.arange(3)
    test = TestData(SubsetPixels(digits.test.source, few), digits.test.labels[few], digits.info)
    assert torch.equal(
        chosen(method, digits, ipc=2).source_indices, chosen(method, replace(digits, test=test), ipc=2).source_indices
    )
