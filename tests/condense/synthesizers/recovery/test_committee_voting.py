"""Who votes, and with what weight."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from condense.methods.slices.layouts import slices_of
from condense.synthesizers.recovery.committee_voting import CommitteeSettings, CommitteeVoting, voters_of_turn
from condense.teachers import Committee
from condense.teachers.committee import vote_weights

POOL = ["convnet-d1-w3-bn", "convnet-d1-w4-bn", "convnet-d1-w5-bn", "convnet-d1-w6-bn", "convnet-d1-w7-bn"]


@pytest.fixture
def committee(data_of, untrained_teacher) -> Committee:
    members = tuple(untrained_teacher(data_of().info, name) for name in POOL)
    return Committee(members, vote_weights([63, 65.3, 68.5, 67.6, 67.4]))


def test_at_one_image_the_two_best_vote_and_at_ten_every_pair_once_in_order(committee: Committee):
    assert voters_of_turn(committee, 2, 0, 1, seed=0) == (2, 3)
    pairs = [voters_of_turn(committee, 2, turn, 10, seed=0) for turn in range(10)]
    assert pairs == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]


def test_beyond_that_pairs_are_drawn(committee: Committee):
    drawn = [voters_of_turn(committee, 2, turn, 200, seed=0) for turn in range(200)]
    assert set(drawn) == set(itertools.combinations(range(5), 2))
    assert drawn == [voters_of_turn(committee, 2, turn, 200, seed=0) for turn in range(200)]
    assert drawn != [voters_of_turn(committee, 2, turn, 200, seed=1) for turn in range(200)]


@pytest.mark.parametrize("count", [5, 7])
def test_all_vote_where_there_are_no_more(count: int, committee: Committee):
    assert voters_of_turn(committee, count, 3, 10, seed=0) == (0, 1, 2, 3, 4)


def test_weights_of_a_pair_sum_to_one_and_are_the_softmax_of_its_accuracies(committee: Committee):
    for rows in itertools.combinations(range(5), 2):
        weights = committee.part(rows).weights
        assert sum(weights) == pytest.approx(1)
        accuracies = torch.tensor([63, 65.3, 68.5, 67.6, 67.4])[list(rows)]
        assert weights == pytest.approx(torch.softmax(accuracies / 5, 0).tolist(), rel=1e-5)


def test_each_place_has_voters_of_its_own_in_all_slices_of_it(data_of, job_of):
    job = job_of(data_of(), *POOL, ipc=10)
    settings = CommitteeSettings(iterations=1, slice_size=2, initialization="noise")
    for part in slices_of("ipc-index", 3, 10, 2)[:6]:
        method = CommitteeVoting(job, settings, part)
        expected = voters_of_turn(job.teacher, 2, int(part.places[0]), 10, seed=0)
        assert method.committee.members == tuple(job.teacher.members[row] for row in expected)
        assert len(method.objectives) == 2


@pytest.mark.parametrize(("size", "slices"), [(100, 1), (10, 3)])
def test_slices_of_several_places_have_a_turn_each(data_of, job_of, size: int, slices: int):
    """One slice has the two of the largest weights, not the first two of the pool."""
    job = job_of(data_of(), *POOL, ipc=10)
    job = replace(job, teacher=Committee(job.teacher.members, (0.1, 0.1, 0.2, 0.5, 0.1)))
    settings = CommitteeSettings(iterations=1, slice_size=size, initialization="noise", layout="mixed")
    parts = CommitteeVoting.slices(job, settings)
    assert len(parts) == slices
    for number, part in enumerate(parts):
        rows = (2, 3) if slices == 1 else voters_of_turn(job.teacher, 2, number, slices, seed=0)
        expected = tuple(job.teacher.members[row] for row in rows)
        assert CommitteeVoting(job, settings, part).committee.members == expected


def test_the_loss_is_the_sum_by_weights(data_of, job_of):
    job = job_of(data_of(), *POOL[:2], weights=(3.0, 1.0))
    part = slices_of("ipc-index", 3, 1, 3)[0]
    settings = CommitteeSettings(iterations=1, initialization="noise", statistics_weight=0.5)
    method = CommitteeVoting(job, settings, part)
    pixels = torch.rand(3, 3, 12, 8)
    terms = [objective(pixels, torch.arange(3)) for objective in method.objectives]
    expected = sum(weight * (classes + 0.5 * far) for weight, (classes, far) in zip((0.75, 0.25), terms))
    assert method.loss(pixels)[0].item() == pytest.approx(expected.item(), rel=1e-6)
