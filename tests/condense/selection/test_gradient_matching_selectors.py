"""CRAIG, GradMatch and GLISTER against their definitions, written out with whole gradients."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import lsq_linear
from sklearn.linear_model import OrthogonalMatchingPursuit

import condense
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.runtime.seeds import generator
from condense.selection import gradmatch
from condense.selection.base import Choice
from condense.selection.craig import Craig, medoids, represented
from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.glister import Glister, GlisterSettings, Validation, descend, set_aside
from condense.selection.gradmatch import GradMatch, GradMatchSettings, positive_weights, pursue
from condense.selection.last_layer import LastLayerGradients, last_layer_gradients


def gradients_of(rows: int, seed: int = 0, classes: int = 4, width: int = 5) -> LastLayerGradients:
    draws = torch.Generator().manual_seed(seed)
    errors = torch.randn(rows, classes, generator=draws, dtype=torch.float64)
    return LastLayerGradients(errors, torch.randn(rows, width, generator=draws, dtype=torch.float64))


def in_full(gradients: LastLayerGradients) -> torch.Tensor:
    """One row for each gradient, [n, K (D + 1)]."""
    features = torch.cat([gradients.features, torch.ones(len(gradients), 1, dtype=torch.float64)], 1)
    return torch.einsum("nk,nd->nkd", gradients.errors, features).flatten(1)


class Told(Evidence):
    """Evidence that is told what a network says: `logits` [N, K] and `features` [N, D]."""

    def __init__(self, job: Job, logits: torch.Tensor, features: torch.Tensor) -> None:
        super().__init__(job, EvidenceSettings())
        self.told, self.embedded = logits, features

    def training(self, index: int = 0) -> SimpleNamespace:
        return SimpleNamespace(logits=self.told[None])

    def features(self, training: int = 0) -> torch.Tensor:
        return self.embedded


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits").train


def few_of(digits, counts: dict[int, int]):
    return digits.subset(torch.cat([digits.class_indices(label)[:count] for label, count in counts.items()]))


def told(job: Job) -> Told:
    draws = torch.Generator().manual_seed(0)
    own = 2.0 * F.one_hot(job.data.labels, 10)
    return Told(
        job,
        own + torch.randn(len(job.data), 10, generator=draws),
        torch.randn(len(job.data), 6, generator=draws).relu(),
    )


def job_of(data, **budget) -> Job:
    return Job(data, Budget(**budget), 0, torch.device("cpu"))


# --- CRAIG


def naive_medoids(gradients: LastLayerGradients, count: int) -> list[int]:
    """Each choice makes the sum of the distances to the nearest chosen row as small as it can be."""
    distances = torch.cdist(in_full(gradients), in_full(gradients), compute_mode="donot_use_mm_for_euclid_dist")
    chosen: list[int] = []
    for _ in range(count):
        sums = [
            torch.inf if row in chosen else float(distances[[*chosen, row]].min(0).values.sum())
            for row in range(len(gradients))
        ]
        chosen.append(sums.index(min(sums)))
    return chosen


@pytest.mark.parametrize("seed", range(3))
def test_medoids_against_their_definition(seed: int):
    gradients = gradients_of(30, seed)
    rows, gains = medoids(gradients, 8)
    assert rows.tolist() == naive_medoids(gradients, 8)
    distances = gradients.distances(torch.arange(30))
    for count in range(2, 9):
        falls = distances[rows[: count - 1]].min(0).values.sum() - distances[rows[:count]].min(0).values.sum()
        torch.testing.assert_close(gains[count - 1], falls, atol=1e-6, rtol=1e-6)


def test_rows_count_for_those_that_they_are_nearest_to():
    gradients, chosen = gradients_of(600, 1), torch.arange(0, 600, 3)
    apart = torch.cdist(in_full(gradients), in_full(gradients)[chosen])
    expected = [0] * len(chosen)
    for row in range(600):
        expected[int(apart[row].argmin())] += 1
    assert represented(gradients, chosen).tolist() == expected
    assert sum(expected) == 600


def test_weights_of_medoids_among_duplicates_are_at_least_one():
    twice = gradients_of(6).at(torch.arange(6).repeat(3))
    rows, _ = medoids(twice, 18)
    assert sorted(rows.tolist()) == list(range(18))
    assert represented(twice, rows).tolist() == [1] * 18
    assert represented(twice, torch.tensor([2, 8])).sum() == 18
    assert represented(twice, torch.tensor([2, 8])).min() >= 1


@pytest.mark.parametrize("budget", [{"ipc": 4}, {"fraction": 0.2}, {"fraction": 0.2, "balanced": False}])
def test_weights_of_craig_sum_to_the_images_of_each_group(digits, budget):
    data = few_of(digits, dict.fromkeys(range(10), 12))
    job = job_of(data, **budget)
    choice = Craig(job, EvidenceSettings()).choose_by(told(job))
    if job.budget.balanced:
        sums = torch.zeros(10).index_add_(0, data.labels[choice.indices], choice.weights)
        assert sums.tolist() == [12.0] * 10
    assert choice.weights.sum() == 120
    assert choice.weights.min() >= 1


# --- GradMatch


def naive_pursuit(gradients: LastLayerGradients, target: torch.Tensor, count: int, ridge: float) -> list[int]:
    """All weights are fitted anew after each choice, by least squares with one more equation for each weight."""
    full, left, chosen = in_full(gradients).numpy(), target.flatten().numpy(), []
    for _ in range(count):
        along = full @ left
        along[chosen] = -np.inf
        chosen.append(int(along.argmax()))
        rows = np.vstack([full[chosen].T, np.sqrt(ridge) * np.eye(len(chosen))])
        aims = np.concatenate([target.flatten().numpy(), np.zeros(len(chosen))])
        weights = np.linalg.lstsq(rows, aims, rcond=None)[0]
        left = target.flatten().numpy() - full[chosen].T @ weights
    return chosen


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("seed", range(2))
def test_the_pursuit_against_fits_from_the_beginning(seed: int, ridge: float):
    gradients = gradients_of(60, seed)
    rows, gains = pursue(gradients, gradients.mean, 25, ridge)
    assert rows.tolist() == naive_pursuit(gradients, gradients.mean, 25, ridge)
    assert gains[0] == pytest.approx(gradients.along(gradients.mean).max().item())


def test_the_pursuit_is_that_of_scikit_learn_where_signs_and_lengths_do_not_matter():
    """Unit vectors in 60 dimensions that are nearly orthogonal, and a sum of four of them with positive weights."""
    vectors = F.normalize(torch.randn(40, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    gradients = LastLayerGradients(vectors, torch.zeros(40, 0, dtype=torch.float64))
    target = gradients.total(
        F.one_hot(torch.tensor([3, 11, 29, 30]), 40).double().T @ torch.tensor([4.0, 3, 2, 1]).double()
    )
    rows, _ = pursue(gradients, target, 4, ridge=1e-10)
    theirs = OrthogonalMatchingPursuit(n_nonzero_coefs=4, fit_intercept=False).fit(vectors.T.numpy(), target[:, 0])
    assert set(rows.tolist()) == set(theirs.coef_.nonzero()[0].tolist()) == {3, 11, 29, 30}
    weights = positive_weights(gradients.at(rows), target, 1e-10)
    torch.testing.assert_close(weights, torch.from_numpy(theirs.coef_)[rows])


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_weights_are_the_best_that_are_not_negative(ridge: float):
    gradients = gradients_of(12, 5)
    target = gradients.mean - 0.5 * gradients.at(torch.tensor([4])).mean
    weights = positive_weights(gradients, target, ridge)
    rows = np.vstack([in_full(gradients).T.numpy(), np.sqrt(ridge) * np.eye(12)])
    best = lsq_linear(rows, np.concatenate([target.flatten().numpy(), np.zeros(12)]), (0, np.inf), tol=1e-14).x
    np.testing.assert_allclose(weights.numpy(), best, atol=1e-6)
    assert weights.min() == 0 < weights.max()


def test_rows_that_are_equal_can_all_be_chosen():
    same = gradients_of(3).at(torch.tensor([0, 0, 0, 1, 1, 2]))
    rows, gains = pursue(same, same.mean, 6, ridge=1e-12)
    assert sorted(rows.tolist()) == list(range(6))
    assert torch.isfinite(gains).all()
    assert torch.isfinite(positive_weights(same.at(rows), same.mean, 1e-6)).all()


def matched(data, job: Job, evidence: Evidence, **settings) -> Choice:
    return GradMatch(job, GradMatchSettings(**settings)).choose_by(evidence)


def test_weights_of_gradmatch_sum_to_the_images_of_each_class_and_match_their_mean(digits):
    data = few_of(digits, {0: 30, 1: 20, 2: 1})
    job = job_of(data, fraction=0.3)
    evidence = told(job)
    choice = matched(data, job, evidence, ridge=1e-4)
    sums = torch.zeros(10).index_add_(0, data.labels[choice.indices], choice.weights)
    torch.testing.assert_close(sums[:2], torch.tensor([30.0, 20.0]))
    assert torch.equal(data.labels[choice.indices].sort().values, data.labels[choice.indices])


def test_the_choice_of_gradmatch_does_not_depend_on_the_size_of_gradients(digits, monkeypatch):
    """Those of a network that was trained for long are small; a penalty of 1, as it is, would be all that counts."""
    job = job_of(few_of(digits, {0: 40}), fraction=0.2, balanced=False)
    usual = matched(job.data, job, told(job))

    def small(evidence: Evidence, members: torch.Tensor) -> LastLayerGradients:
        gradients = last_layer_gradients(evidence, members)
        return LastLayerGradients(gradients.errors / 1000, gradients.features)

    monkeypatch.setattr(gradmatch, "last_layer_gradients", small)
    other = matched(job.data, job, told(job))
    assert torch.equal(other.indices, usual.indices)
    torch.testing.assert_close(other.weights, usual.weights)


def test_images_that_get_no_weight_stay_and_are_said(digits, capsys):
    """Ten images pull one way and two the other: all are chosen, and the mean needs the ten alone."""
    data = few_of(digits, {0: 10, 1: 2})
    job = job_of(data, fraction=1.0, balanced=False)
    logits = torch.full((12, 10), -30.0)
    logits[:, :2] = 0
    choice = matched(data, job, Told(job, logits, torch.ones(12, 3)))
    assert sorted(choice.indices.tolist()) == list(range(12))
    weighty = choice.weights > 0
    assert data.labels[choice.indices[weighty]].tolist() == [0] * 10
    assert choice.weights.sum() == pytest.approx(12)
    assert "note: 2 of 12 chosen images have weight 0" in capsys.readouterr().err


def test_gradients_that_are_all_zero_count_alike(digits):
    job = job_of(few_of(digits, {0: 5}), fraction=0.6, balanced=False)
    logits = torch.full((5, 10), -1e4)
    logits[:, 0] = 1e4
    choice = matched(job.data, job, Told(job, logits, torch.zeros(5, 2)))
    assert choice.indices.tolist() == [0, 1, 2]
    torch.testing.assert_close(choice.weights, torch.full((3,), 5 / 3))


# --- GLISTER


def naive_descent(
    gradients: LastLayerGradients, validation: Validation, count: int, rate: float, refresh: int
) -> tuple[list[int], list[float]]:
    """By automatic differentiation of the validation loss in a layer that has moved along the chosen mean."""
    full, chosen, gains = in_full(gradients), [], []
    features = torch.cat([validation.features, torch.ones(len(validation.features), 1, dtype=torch.float64)], 1)
    for place in range(count):
        if place % refresh == 0:
            step = rate * full[chosen].mean(0) if chosen else torch.zeros(full.shape[1], dtype=torch.float64)
            move = (-step).view(-1, features.shape[1]).requires_grad_()
            loss = F.cross_entropy(validation.logits + features @ move.T, validation.labels)
            along = full @ torch.autograd.grad(loss, move)[0].flatten()
        chosen.append(max((row for row in range(len(full)) if row not in chosen), key=lambda row: float(along[row])))
        gains.append(float(along[chosen[-1]]))
    return chosen, gains


def validation_of(rows: int, seed: int) -> Validation:
    draws = torch.Generator().manual_seed(seed)
    logits, features = (torch.randn(rows, width, generator=draws, dtype=torch.float64) for width in (4, 5))
    return Validation(logits, features, torch.randint(4, (rows,), generator=draws))


@pytest.mark.parametrize(("rate", "refresh"), [(0.05, 1), (1.0, 1), (1.0, 4), (1.0, 100)])
def test_the_descent_against_automatic_differentiation(rate: float, refresh: int):
    gradients, validation = gradients_of(40, 2), validation_of(9, 3)
    rows, gains = descend(gradients, validation, 15, rate, refresh)
    expected, worth = naive_descent(gradients, validation, 15, rate, refresh)
    assert rows.tolist() == expected
    torch.testing.assert_close(gains, torch.tensor(worth, dtype=torch.float64))


def test_the_gradient_is_computed_again_along_the_way():
    """Without that, which released code leaves out by mistake, the choice is another."""
    gradients, validation = gradients_of(40, 2), validation_of(9, 3)
    ranking = gradients.along(validation.gradient(torch.zeros(4, 6, dtype=torch.float64))).argsort(descending=True)
    assert descend(gradients, validation, 15, 1.0, 100)[0].tolist() == ranking[:15].tolist()
    assert descend(gradients, validation, 15, 1.0, 1)[0].tolist() != ranking[:15].tolist()


def test_a_part_of_every_class_is_set_aside():
    labels = torch.tensor([0] * 40 + [1] * 12 + [2] * 2 + [3])
    first, again, other = (
        set_aside(labels, 0.1, 55, torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1)
    )
    assert first == again != other
    assert labels[first].bincount(minlength=4).tolist() == [4, 1, 1, 0]
    assert len(set(first)) == len(first)
    assert set_aside(labels, 0.1, 2, torch.Generator().manual_seed(0)).tolist() == first[:2]
    assert len(set_aside(labels, 0.1, 0, torch.Generator().manual_seed(0))) == 0


@pytest.mark.parametrize("balanced", [True, False])
def test_images_for_validation_are_never_chosen(digits, balanced: bool):
    data = few_of(digits, {0: 30, 1: 20})
    job = job_of(data, fraction=0.9, balanced=balanced)
    selector = Glister(job, GlisterSettings())
    choice = selector.choose_by(told(job))
    assert len(choice.indices.unique()) == len(choice.indices) == 45
    for group in selector.groups():
        draws = generator(0, "validation", group.name)
        aside = group.members[set_aside(data.labels[group.members], 0.1, len(data), draws)]
        assert len(aside) == len(group.members) // 10
        assert not set(aside.tolist()) & set(choice.indices.tolist())


@pytest.mark.parametrize("balanced", [True, False])
def test_where_nothing_is_left_to_validate_on_all_images_are_and_this_is_said(digits, balanced: bool, capsys):
    data = few_of(digits, {0: 12, 1: 8, 2: 1})
    job = job_of(data, fraction=1.0, balanced=balanced)
    Glister.check(data, job.budget, GlisterSettings())
    where = " in 3 of 10 classes" if balanced else ""
    assert f"too few images for validation on 10 %{where}: fewer are set aside" in capsys.readouterr().err
    choice = Glister(job, GlisterSettings()).choose_by(told(job))
    assert sorted(choice.indices.tolist()) == list(range(21))
    Glister.check(data, Budget(fraction=0.5), GlisterSettings())
    assert "validation" not in capsys.readouterr().err
