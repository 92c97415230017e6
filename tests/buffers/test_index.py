"""The JSON of a buffer: it tells of every finished expert, and what it tells decides nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import condense
from buffers import ExpertBuffer, record_experts
from buffers.importing import import_replay_buffer
from buffers.index import read_description, write_description
from condense.networks import build_network

NET = "convnet-d1-w4-in"


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture
def folder(digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    record_experts(digits, NET, experts=2, epochs=2, out=tmp_path / "experts")
    return tmp_path / "experts"


def listed(folder: Path) -> dict[str, dict[str, object]]:
    return json.loads((folder / "buffer.json").read_text())["experts"]


def test_every_finished_expert_is_listed_with_its_accuracy_by_epoch(digits, folder: Path):
    record_experts(digits, NET, experts=3, epochs=2, out=folder)
    buffer = ExpertBuffer.open(folder)
    assert list(listed(folder)) == ["0", "1", "2"]
    for expert, facts in enumerate(listed(folder).values()):
        assert facts["accuracies"] == buffer.accuracies(expert)
        assert len(buffer.accuracies(expert)) == 3
        assert facts["seconds"] == buffer.seconds(expert) > 0
        assert facts["digest"] == buffer.digest(expert)


def test_what_a_kill_left_out_of_the_index_is_listed_by_the_next_call(digits, folder: Path):
    whole, identity = listed(folder), ExpertBuffer.open(folder).identity
    write_description(folder, read_description(folder).model_copy(update={"experts": {}}))
    assert listed(folder) == {}
    assert ExpertBuffer.open(folder).identity == identity
    record_experts(digits, NET, experts=2, epochs=2, out=folder)
    assert listed(folder) == whole


def test_what_is_unknown_of_imported_experts_is_null(digits, tmp_path: Path):
    for count in (1, 2):
        parameters = [value.detach() for value in build_network(NET, (1, 8, 8), 10, seed=count).parameters()]
        torch.save([[parameters, [2 * value for value in parameters]]], tmp_path / "replay_buffer_0.pt")
        import_replay_buffer(tmp_path / "replay_buffer_0.pt", digits, NET, tmp_path / "experts")
        facts = listed(tmp_path / "experts")
        assert len(facts) == count
        assert {(fact["accuracies"], fact["seconds"]) for fact in facts.values()} == {(None, None)}


def test_experts_that_are_removed_are_recorded_and_listed_again(digits, folder: Path):
    before = listed(folder)
    (folder / "expert-0000.h5").unlink()
    record_experts(digits, NET, experts=2, epochs=2, out=folder)
    after = listed(folder)
    assert {number: facts["digest"] for number, facts in after.items()} == {
        number: facts["digest"] for number, facts in before.items()
    }
