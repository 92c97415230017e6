"""What comes from outside: ordinary files, and texts of bounded size and depth."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.records import read_record
from buffers import ExpertBuffer
from condense.compute.rates import Rate, Rates
from condense.data import load_data
from condense.methods.checkpoints import read_header
from condense.recipes.yaml12 import load_yaml
from condense.runtime import inputs
from condense.runtime.errors import CondenseError
from condense.runtime.inputs import check_bounds, parse_json, read_json, read_text
from condense.runtime.tensor_files import load_facts, load_if_whole, load_tensors
from condense.sets.importing import import_synthetic
from condense.sets.synthetic_set import SyntheticSet

READERS: dict[str, Callable[[Path], object]] = {
    "set": SyntheticSet.load,
    "data.h5": load_data,
    "data.npz": load_data,
    "record": read_record,
    "yaml": load_yaml,
    "json": lambda path: read_json(path, "a file"),
    "tensors": load_tensors,
    "facts": load_facts,
    "checkpoint": read_header,
    "reference.pt": lambda path: import_synthetic(path, load_data("digits").info),
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(CondenseError) as caught:
        READERS[name](path)
    assert "\n" not in str(caught.value)


def test_a_pipe_among_pictures_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "train" / label).mkdir(parents=True)
        os.mkfifo(tmp_path / "train" / label / "a.png")
    with pytest.raises(CondenseError, match=r"2 of 2 image files in .* cannot be read: train/cat/a\.png"):
        load_data(tmp_path)


def test_a_pipe_in_a_buffer_or_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "buffer.json")
    with pytest.raises(CondenseError, match="no regular file"):
        ExpertBuffer.open(tmp_path)
    os.mkfifo(tmp_path / "kept.safetensors")
    assert load_if_whole(tmp_path / "kept.safetensors") is None
    os.mkfifo(tmp_path / "rates.json")
    rate = Rate(per_image=1.0, preparation=0.0)
    assert Rates(tmp_path / "rates.json").find("work", lambda: rate) == rate


def test_texts_are_not_read_beyond_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("ä" * 50)
    assert read_text(path, "a text", most=100) == "ä" * 50
    with pytest.raises(CondenseError, match="has 100 bytes, and at most 99 are read; give a text"):
        read_text(path, "a text", most=99)
    path.write_bytes(b"\xff")
    with pytest.raises(CondenseError, match="it is not a text file; give a text"):
        read_text(path, "a text")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested more than 64 levels deep"),
        ('{"a": ' * 65 + "1" + "}" * 65, "nested more than 64 levels deep"),
        ("[" * 100_000, "nested more than 64 levels deep"),
        ("[1, 2", "line 1"),
        ("", "line 1"),
        ("9" * 5000, "Exceeds the limit"),
    ],
)
def test_json_that_is_none_or_too_deep_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CondenseError, match=said) as caught:
        read_json(tmp_path / "a.json", "another one")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"\S"):
        parse_json(text)


def test_64_levels_are_read_and_values_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_json("[" * 64 + "]" * 64) is not None
    check_bounds({"a": [1, 2]}, most=4)
    with pytest.raises(ValueError, match="more than 3 values"):
        check_bounds({"a": [1, 2]}, most=3)
    shared: list[object] = [0] * 10
    for _ in range(30):  # 10^30 values in a few lists
        shared = [shared] * 10
    with pytest.raises(ValueError, match=f"more than {inputs.MOST_VALUES:,} values"):
        check_bounds(shared)
    within: list[object] = []
    within.append(within)
    with pytest.raises(ValueError, match="64 levels"):
        check_bounds(within)


@pytest.mark.parametrize("content", ["[1]", "{}", '{"a": 1}', "null", '"x"', '{"KEY": {"per_image": "fast"}}', "{"])
def test_measured_rates_that_are_damaged_are_measured_again(tmp_path: Path, content: str) -> None:
    rates, asked = Rates(tmp_path / "rates.json"), []

    def measure() -> Rate:
        asked.append(1)
        return Rate(per_image=1.0, preparation=0.5)

    assert rates.find("work", measure) == Rate(per_image=1.0, preparation=0.5)
    key = next(iter(read_json(tmp_path / "rates.json", "rates")))
    (tmp_path / "rates.json").write_text(content.replace("KEY", key.replace('"', "'")))
    assert rates.find("work", measure) == rates.find("work", measure) == Rate(per_image=1.0, preparation=0.5)
    assert len(asked) == 2
    assert torch.__version__ in key
