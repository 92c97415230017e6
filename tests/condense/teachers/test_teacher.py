"""A teacher's file, and the classifier of pixels that it is to whoever asks it."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.data import RealData
from condense.networks import build_network
from condense.networks.layers import batch_norms
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.runtime.tensor_files import load_facts, load_tensors, save_tensors
from condense.teachers import Teacher
from condense.teachers.classifier import logits_of
from condense.teachers.description import describe_teacher, teacher_line
from condense.teachers.manifest import Manifest, Measured
from condense.teachers.teacher import batch_norm_of
from condense.training.prediction import answers, predict
from condense.training.sources import Tensors

HERE = torch.device("cpu")


def pixels(count: int = 7) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=generator(0, "pixels"))


# Files


def test_a_teacher_comes_back_as_it_was_and_equal_ones_are_equal_bytes(teacher: Teacher, tmp_path: Path) -> None:
    first, second = (teacher.save(tmp_path / f"{name}.safetensors") for name in ("first", "second"))
    assert first.path is not None
    assert second.path is not None
    assert first.path.read_bytes() == second.path.read_bytes()
    opened = Teacher.open(first.path)
    assert opened.manifest == teacher.manifest
    assert opened.hash == teacher.hash
    assert opened.state.keys() == teacher.state.keys()
    assert all(torch.equal(opened.state[name], value) for name, value in teacher.state.items())
    assert opened.save(first.path).hash == teacher.hash
    assert first.path.read_bytes() == second.path.read_bytes()
    assert (
        Teacher.open(tmp_path / "first.safetensors").bytes
        == teacher.bytes
        == 4 * sum(value.numel() for value in teacher.state.values() if value.is_floating_point())
    )


def test_the_hash_is_of_what_it_says_of_an_image(teacher: Teacher) -> None:
    def changed(**fields: Any) -> str:
        return Teacher(teacher.manifest.model_copy(update=fields), teacher.state).hash

    state = dict(teacher.state)
    state["classifier.bias"] = state["classifier.bias"] + 1e-6
    others = [Teacher(teacher.manifest, state).hash, changed(mean=(0.5,)), changed(classes=("a", "b", "c"))]
    assert len({teacher.hash, *others}) == 4
    assert changed(test=None, versions={}, seed=7) == teacher.hash


def test_a_folder_of_one_is_that_one_and_of_several_a_question(teacher: Teacher, tmp_path: Path) -> None:
    teacher.save(tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.partial.safetensors").write_bytes(b"half")
    assert Teacher.open(tmp_path).hash == teacher.hash
    teacher.save(tmp_path / "b.safetensors")
    with pytest.raises(CondenseError, match=r"has 2 teachers; give one of a\.safetensors, b\.safetensors"):
        Teacher.open(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CondenseError, match=r"has no teacher .*condense teachers makes one"):
        Teacher.open(tmp_path / "empty")
    with pytest.raises(CondenseError, match="there is no such file or folder"):
        Teacher.open(tmp_path / "missing.safetensors")


def forged(teacher: Teacher, path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
    """The file of a teacher with something else in it, and checksums that are right."""
    teacher.save(path)
    tensors, facts = load_tensors(path)
    manifest = json.loads(facts["condense"])
    change(manifest, tensors)
    save_tensors(path, tensors, {"condense": json.dumps(manifest)})
    return path


def _not_finite(manifest: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["classifier.weight"][0, 0] = torch.nan


def _other_shape(manifest: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["classifier.bias"] = torch.zeros(4)


def _other_type(manifest: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["classifier.bias"] = torch.zeros(3, dtype=torch.int64)


FORGERIES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = {
    "no mean": (lambda manifest, tensors: manifest.pop("mean"), "mean is missing"),
    "another number of channels": (
        lambda manifest, tensors: manifest.update(mean=[0.5] * 3),
        "1-channel images needs as many numbers for its normalisation, not 3 and 1",
    ),
    "a std of 0": (lambda manifest, tensors: manifest.update(std=[0.0]), "a positive std"),
    "a mean that is none": (lambda manifest, tensors: manifest.update(mean=[float("inf")]), "give finite numbers"),
    "values that are not finite": (_not_finite, "classifier.weight holds values that are not finite"),
    "another shape": (_other_shape, r"needs classifier.bias as float32 \[3\], there is float32 \[4\]"),
    "another type": (_other_type, r"there is int64 \[3\]"),
    "a tensor less": (lambda manifest, tensors: tensors.pop("classifier.bias"), "there is nothing"),
    "a tensor more": (lambda manifest, tensors: tensors.update(more=torch.ones(1)), "has no more"),
    "another network": (lambda manifest, tensors: manifest.update(network="convnet-d1-w4-bn"), "convnet-d1-w4-bn"),
    "no network": (lambda manifest, tensors: manifest.update(network="convnt"), "did you mean convnet"),
    "a huge image": (lambda manifest, tensors: manifest.update(image_shape=[1, 10**5, 10**5]), "needs classifier"),
    "no image": (lambda manifest, tensors: manifest.update(image_shape=[1, 0, 8]), "image_shape"),
    "other fields": (lambda manifest, tensors: manifest.update(format="condense set"), "format"),
    "a later schema": (lambda manifest, tensors: manifest.update(schema_version=9), "upgrade condense"),
    "what a later one has": (lambda manifest, tensors: manifest.update(schema_version=9, more=1), "upgrade condense"),
    "no object": (lambda manifest, tensors: manifest.clear(), "is missing"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_file_that_is_no_such_teacher_is_refused(teacher: Teacher, tmp_path: Path, name: str) -> None:
    change, message = FORGERIES[name]
    path = forged(teacher, tmp_path / "forged.safetensors", change)
    with pytest.raises(CondenseError, match=r"forged\.safetensors is no teacher of condense") as caught:
        Teacher.open(path)
    caught.match(message)


def test_damaged_and_foreign_files_are_refused(teacher: Teacher, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    teacher.save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CondenseError, match="is damaged"):
        Teacher.open(path)
    path.write_bytes(content[:100])
    with pytest.raises(CondenseError, match="is damaged"):
        Teacher.open(path)
    save_tensors(path, dict(teacher.state), {"epoch": "3"})
    with pytest.raises(CondenseError, match="is no teacher of condense"):
        Teacher.open(path)


def test_another_data_set_is_refused_and_other_images_of_it_are_noted(teacher: Teacher, data: RealData) -> None:
    info, change = data.info, dataclasses.replace
    assert teacher.check_matches(info) is None
    with pytest.raises(CondenseError, match="the classes in another order"):
        teacher.check_matches(change(info, classes=info.classes[::-1]))
    with pytest.raises(CondenseError, match="knows other classes: 3 classes"):
        teacher.check_matches(change(info, classes=("a", "b", "c")))
    with pytest.raises(CondenseError, match=r"is for images of shape \[1, 8, 8\] but noise has \[1, 8, 9\]"):
        teacher.check_matches(change(info, image_shape=(1, 8, 9)))
    note = teacher.check_matches(change(info, fingerprint="0" * 32))
    assert note is not None
    assert "was trained on noise with fingerprint" in note


# The classifier


def test_the_classifier_of_pixels_is_the_normalisation_and_the_network(teacher: Teacher, data: RealData) -> None:
    classifier = teacher.classifier(HERE)
    network = build_network(teacher.manifest.network, (1, 8, 8), 3, seed=5)
    network.load_state_dict(dict(teacher.state))
    network.eval()
    expected = network(data.preprocessing.apply(pixels()))
    assert torch.equal(logits_of(classifier, pixels()), expected)
    ids = torch.arange(len(data.test))
    raw = Tensors(data.test.pixels(ids) / 255)
    correct = (answers(predict(classifier, raw, HERE)) == data.test.labels).double().mean().item()
    assert teacher.manifest.test == Measured(accuracy=correct, images=9)


def test_a_classifier_is_frozen_and_a_copy(teacher: Teacher) -> None:
    classifier = teacher.classifier(HERE)
    assert not any(value.requires_grad for value in classifier.parameters())
    with torch.no_grad():
        for value in classifier.parameters():
            value.zero_()
    assert teacher.classifier(HERE)(pixels()).abs().sum() > 0
    leaf = pixels().requires_grad_()
    teacher.classifier(HERE)(leaf).sum().backward()
    assert leaf.grad is not None


def test_batch_statistics_are_those_of_a_training_forward_and_move_nothing(teacher: Teacher) -> None:
    classifier = teacher.classifier(HERE)
    before = copy.deepcopy(classifier.state_dict())
    network = build_network(teacher.manifest.network, (1, 8, 8), 3, seed=5)
    network.load_state_dict(dict(teacher.state))
    expected = network.train()(classifier.normalize(pixels()))
    assert torch.equal(logits_of(classifier, pixels(), batch_norm="batch"), expected)
    assert not torch.equal(logits_of(classifier, pixels()), expected)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert not any(module.training for module in classifier.modules())
    assert all(norm.track_running_stats for norm in batch_norms(classifier))


class Dropping(nn.Module):
    """BatchNorm and dropout, for images of any shape."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(image_shape[0], 4, 3, padding=1)
        self.norm, self.dropout = nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.linear = nn.Linear(4, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.dropout(F.relu(self.norm(self.convolution(images)))).mean((2, 3)))  # type: ignore[no-any-return]


def test_batch_statistics_leave_dropout_off() -> None:
    from condense.networks import network_name

    name = network_name(Dropping, (1, 8, 8), 3)
    state = build_network(name, (1, 8, 8), 3, seed=0).state_dict()
    manifest = Manifest(
        network=name,
        image_shape=(1, 8, 8),
        classes=("a", "b", "c"),
        mean=(0.5,),
        std=(0.5,),
        batch_norm=batch_norm_of(name, (1, 8, 8), 3),
        origin="trained",
    )
    classifier = Teacher(manifest, state).classifier(HERE)
    first, second = (logits_of(classifier, pixels(), batch_norm="batch") for _ in range(2))
    assert torch.equal(first, second)
    for module in classifier.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert torch.equal(logits_of(classifier, pixels(), batch_norm="batch"), first)


def test_a_network_without_a_linear_layer_is_asked_like_others() -> None:
    def averaging(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(image_shape[0], classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    from condense.networks import network_name

    name = network_name(averaging, (1, 8, 8), 3)
    manifest = Manifest(
        network=name,
        image_shape=(1, 8, 8),
        classes=("a", "b", "c"),
        mean=(0.0,),
        std=(1.0,),
        batch_norm="none",
        origin="trained",
    )
    network = build_network(name, (1, 8, 8), 3, seed=0)
    assert torch.equal(logits_of(Teacher(manifest, network.state_dict()).classifier(HERE), pixels()), network(pixels()))


# Words


def test_a_teacher_tells_its_accuracies_apart(teacher: Teacher, tmp_path: Path) -> None:
    rows = describe_teacher(teacher)
    held_out, test = teacher.manifest.held_out, teacher.manifest.test
    assert held_out is not None
    assert test is not None
    assert rows["held-out accuracy"] == f"{held_out.accuracy:.2%} of 9 training images that it was not trained on"
    assert rows["test accuracy"] == f"{test.accuracy:.2%} of 9 test images"
    assert rows["classes"] == "3: 0, 1, 2"
    assert rows["hash"] == teacher.hash
    kept = teacher.save(tmp_path / "a.safetensors")
    assert teacher_line(kept) == (
        f"{tmp_path / 'a.safetensors'}: held-out {held_out.accuracy:.2%} of 9, test {test.accuracy:.2%} of 9, "
        f"{teacher.bytes:,} bytes, hash {teacher.hash}"
    )
    unknown = teacher.manifest.model_copy(
        update={"held_out": None, "test": None, "data": None, "origin": "imported", "source": "old.pt"}
    )
    rows = describe_teacher(Teacher(unknown, teacher.state))
    assert {rows[name] for name in ("held-out accuracy", "test accuracy", "real data")} == {"unknown"}
    assert rows["training"] == "unknown: imported from old.pt"
    assert "accuracy unknown" in teacher_line(Teacher(unknown, teacher.state))


def test_the_file_names_no_path_and_no_time(teacher: Teacher, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    teacher.save(path)
    manifest = json.loads(load_facts(path)["condense"])
    assert str(tmp_path) not in json.dumps(manifest)
    assert not any("second" in name or "hardware" in name for name in manifest)
