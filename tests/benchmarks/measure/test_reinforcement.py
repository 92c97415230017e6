"""What labels of all data do: every way is measured once, and what is there is not measured again."""

import json
from pathlib import Path

import pytest

import condense
from benchmarks.measure import reinforcement
from benchmarks.measure.reinforcement import WAYS, main, protocol_of


def test_ways_are_measured_once(tmp_path: Path, digits_file: Path, untrained_teacher, monkeypatch, capsys):
    data = condense.load_data(digits_file)
    untrained_teacher(data.info, "convnet-d1-w4-bn").save(tmp_path / "teacher.safetensors")
    few = {name: WAYS[name] for name in ("class indices", "5 records, discarded")}
    monkeypatch.setattr(reinforcement, "WAYS", few)
    words = ["--data", str(digits_file), "--teacher", str(tmp_path / "teacher.safetensors"), "--network", "mlp"]
    words += ["--networks", "1", "--epochs", "1", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    table = capsys.readouterr().out
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert sorted(found) == ["0-class-indices.json", "1-5-records-discarded.json"]
    plain, records = (found[name] for name in sorted(found))
    assert plain["labelling_seconds"] == 0 < records["labelling_seconds"]
    assert plain["seconds_per_epoch"] > 0
    assert records["bytes"] > plain["bytes"]
    assert records["label_source"].startswith("own: 5 views per image in topk:5")
    assert len(plain["corrupted"]) == 10
    assert plain["codec"] == "topk:5"
    assert "| 5 records, discarded |" in table
    before = (tmp_path / "out" / "0-class-indices.json").read_bytes()
    (tmp_path / "out" / "1-5-records-discarded.json").unlink()
    assert main(words) == 0
    assert (tmp_path / "out" / "0-class-indices.json").read_bytes() == before
    assert (tmp_path / "out" / "1-5-records-discarded.json").exists()


@pytest.mark.parametrize("labelled", [False, True])
def test_both_are_trained_alike(labelled: bool):
    rule = protocol_of("mlp", 10, labelled=labelled).rule
    assert (rule.epochs, rule.batch_size, rule.augmentation) == (10, 128, "crop-flip")
    assert protocol_of("mlp", 10, labelled=True).hash != protocol_of("mlp", 10, labelled=False).hash
