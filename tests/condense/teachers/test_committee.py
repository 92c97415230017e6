"""Several teachers that vote: who they are, what they weigh and what they say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

import condense
from condense.data import RealData
from condense.methods.registry import methods
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.teachers import Committee, Teacher
from condense.teachers.committee import vote_weights
from condense.teachers.teacher import batch_norm_of

HERE = torch.device("cpu")


def other(teacher: Teacher, network: str, seed: int = 1) -> Teacher:
    """An untrained one of the same data."""
    about = {"network": network, "batch_norm": batch_norm_of(network, (1, 8, 8), 3), "seed": seed}
    state = build_network(network, (1, 8, 8), 3, seed).state_dict()
    return Teacher(teacher.manifest.model_copy(update=about), state)


def pixels(count: int = 6) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=generator(0, "pixels"))


@pytest.fixture
def second(teacher: Teacher) -> Teacher:
    return other(teacher, "convnet-d1-w4-bn")


@pytest.fixture
def folder(teacher: Teacher, second: Teacher, tmp_path: Path) -> Path:
    teacher.save(tmp_path / "teachers" / "a.safetensors")
    second.save(tmp_path / "teachers" / "b.safetensors")
    return tmp_path / "teachers"


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_a_committee_says_the_weighted_mean_of_the_logits(teacher: Teacher, second: Teacher, batch_norm: str) -> None:
    voters = Committee((teacher, second), (3.0, 1.0)).classifiers(HERE)
    alone = [
        Committee.of(member).classifiers(HERE).logits(pixels(), batch_norm=batch_norm) for member in (teacher, second)
    ]
    torch.testing.assert_close(voters.logits(pixels(), batch_norm=batch_norm), 0.75 * alone[0] + 0.25 * alone[1])
    assert not alone[0].requires_grad


def test_one_teacher_is_a_committee_with_its_hash_and_its_logits(teacher: Teacher) -> None:
    alone = Committee.of(teacher)
    assert (len(alone), alone.hash, alone.bytes) == (1, teacher.hash, teacher.bytes)
    assert Committee.of(alone) is alone
    assert torch.equal(alone.classifiers(HERE).logits(pixels()), teacher.classifier(HERE)(pixels()))


def test_members_are_named_by_files_and_folders_with_weights_or_without(folder: Path, teacher: Teacher) -> None:
    first, second = folder / "a.safetensors", folder / "b.safetensors"
    assert Committee.open(f"{first}:0.8,{second}:0.2").weights == pytest.approx((0.8, 0.2))
    assert Committee.open(f"{first}, {second}").weights == (0.5, 0.5)
    assert Committee.open([first, second]).hash == Committee.open(folder).hash == Committee.of(str(folder)).hash
    assert Committee.open(f"{folder}:1,{first}:3").weights == pytest.approx((0.125, 0.125, 0.75))
    assert Committee.of(first).hash == teacher.hash
    with pytest.raises(CondenseError, match=r"has weights for some only; give all or none, as in A:0\.8,B:0\.2"):
        Committee.open(f"{first}:0.8,{second}")


def test_the_hash_is_of_members_and_weights(teacher: Teacher, second: Teacher) -> None:
    both = Committee((teacher, second))
    assert both.hash == Committee((teacher, second), (2.0, 2.0)).hash
    different = [both, Committee((second, teacher)), Committee((teacher, second), (0.6, 0.4)), Committee.of(teacher)]
    assert len({committee.hash for committee in different}) == 4
    assert both.recorded[1] == {"network": "convnet-d1-w4-bn", "hash": second.hash, "weight": 0.5}
    assert both.bytes == teacher.bytes + second.bytes


def test_a_part_has_the_weights_in_their_ratio(teacher: Teacher, second: Teacher) -> None:
    third = other(teacher, "convnet-d1-w8-bn")
    part = Committee((teacher, second, third), (0.5, 0.2, 0.3)).part([1, 2])
    assert part.members == (second, third)
    assert part.weights == pytest.approx((0.4, 0.6))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, -1.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_weights_that_are_none_are_refused(teacher: Teacher, second: Teacher, weights: tuple[float, ...]) -> None:
    with pytest.raises(CondenseError, match="give"):
        Committee((teacher, second), weights)
    with pytest.raises(CondenseError, match="0 teachers"):
        Committee(())


def test_members_of_other_classes_or_shapes_are_refused(teacher: Teacher) -> None:
    renamed = Teacher(teacher.manifest.model_copy(update={"classes": ("a", "b", "c")}), teacher.state)
    with pytest.raises(CondenseError, match="other classes or image shapes"):
        Committee((teacher, renamed))


def test_the_data_of_every_member_is_compared(teacher: Teacher, second: Teacher, data: RealData) -> None:
    elsewhere = Teacher(second.manifest.model_copy(update={"fingerprint": "0" * 32}), second.state)
    assert Committee((teacher, second)).check_matches(data.info) == ()
    (note,) = Committee((teacher, elsewhere)).check_matches(data.info)
    assert "not on this" in note
    with pytest.raises(CondenseError, match="in another order"):
        Committee((teacher, elsewhere)).check_matches(dataclasses.replace(data.info, classes=data.classes[::-1]))


def test_recovery_needs_statistics_of_every_member(teacher: Teacher) -> None:
    Committee.of(teacher).check_statistics("sre2l")
    plain = other(teacher, "convnet-d1-w4-in")
    assert not plain.has_statistics
    with pytest.raises(CondenseError, match=r"sre2l needs the running statistics .* convnet-d1-w4-in has none"):
        Committee((teacher, plain)).check_statistics("sre2l")


@pytest.mark.parametrize("name", [method.name for method in methods() if not method.teacher])
def test_methods_that_ask_no_teacher_refuse_one(teacher: Teacher, data: RealData, name: str) -> None:
    if methods().find(name).experts:
        pytest.skip("experts are missed first")
    if name == "noise":
        pytest.skip("begins by the normalisation of a teacher, where it is given one")
    with pytest.raises(CondenseError, match=f"{name} asks no teacher: leave --teacher out"):
        condense.distill(name, data, 1, teacher=teacher)


def test_votes_by_the_accuracies_of_students() -> None:
    """CV-DD's table for CIFAR-100: ResNet-18 and ShuffleNetV2 at temperature 5, by hand."""
    found = vote_weights([64.0, 51.6])
    odds = 2.718281828459045 ** ((64.0 - 51.6) / 5)
    assert found == pytest.approx((odds / (1 + odds), 1 / (1 + odds)))
    assert vote_weights([50.0] * 4, temperature=10) == pytest.approx((0.25,) * 4)
