"""Tensors in a file that tells whether it is whole, and the cache that costs no result."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import condense
from condense.evaluation.label_networks import static_logits
from condense.evaluation.protocols import StaticLabels
from condense.runtime.errors import CondenseError
from condense.runtime.tensor_files import load_facts, load_if_whole, load_tensors, save_tensors
from condense.training.rule import TrainingRule

TENSORS = {
    "float": torch.linspace(0, 1, 20),
    "half": torch.ones(2, 3, dtype=torch.bfloat16),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 4),
    "bool": torch.tensor([True, False]),
    "transposed": torch.arange(6).reshape(2, 3).T,
}
FACTS = {"seconds": "1.5", "words": "ä\n"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_tensors(tmp_path / "a.safetensors", TENSORS, FACTS)
    return tmp_path / "a.safetensors"


def test_tensors_and_facts_are_read_back(path: Path) -> None:
    tensors, facts = load_tensors(path)
    assert facts == load_facts(path) == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_no_bit_of_tensors_or_facts_can_change(path: Path) -> None:
    content = path.read_bytes()
    for place in range(8, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
        try:
            tensors, facts = load_tensors(path)
        except CondenseError:
            continue
        assert facts == FACTS, place
        assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in tensors.items()), place


def test_facts_are_verified_without_the_tensors(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"1.5"', b'"1.6"'))
    for read in (load_facts, load_tensors):
        with pytest.raises(CondenseError, match="fit its checksum"):
            read(path)
    assert load_if_whole(path) is None


def test_a_tensor_less_is_noticed(path: Path, tmp_path: Path) -> None:
    tensors, _ = load_tensors(path)
    metadata = FACTS | {"tensors": "0" * 32, "checksum": "0" * 32}
    save_file({"float": tensors["float"]}, tmp_path / "b.safetensors", metadata=metadata)
    with pytest.raises(CondenseError, match="does not fit its checksum"):
        load_tensors(tmp_path / "b.safetensors")


def test_files_without_a_checksum_are_read_where_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "before.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(CondenseError, match=r"is damaged \(it has no checksum\)"):
        load_tensors(path)
    tensors, facts = load_tensors(path, verified=False)
    assert torch.equal(tensors["a"], torch.ones(2))
    assert facts == {}


@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff" * 100, b"\x02" + bytes(7) + b"{}", b"\x10" + bytes(40)])
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for read in (load_facts, load_tensors):
        with pytest.raises(CondenseError, match=r"a\.safetensors is damaged") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(CondenseError, match="No such file"):
        load_tensors(tmp_path / "missing.safetensors")
    assert load_if_whole(tmp_path / "missing.safetensors") is None


def test_a_full_disk_is_what_it_is_for_every_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CondenseError, match=r"cannot write .*a\.safetensors: File too large; choose another place"):
            save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(1000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


# The cache


@pytest.fixture
def unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be made; permissions would not stop an administrator."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "file" / "cache"))


@pytest.mark.usefixtures("unwritable")
def test_torch_gets_no_folder_that_it_cannot_make() -> None:
    """It makes it as soon as anything asks for the shapes of a network, and fails where that is impossible."""
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    code = (
        "import os, pathlib, condense; from condense.runtime.places import can_be_written;"
        "assert can_be_written(pathlib.Path(os.environ['TORCHINDUCTOR_CACHE_DIR']));"
        "condense.distill('herding', condense.load_data('digits'), 1, features='random', network='convnet-d1-w4')"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.usefixtures("unwritable")
def test_features_that_cannot_be_kept_choose_images_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    data = condense.load_data("digits")
    made = condense.distill("herding", data, 1, network="convnet-d1-w4", precision="float32", compile="off")
    assert len(made) == 10
    assert "note: features are not kept for later runs: cannot write" in capsys.readouterr().err


@pytest.mark.usefixtures("unwritable")
def test_pretrained_networks_that_cannot_be_kept_serve_their_run(capsys: pytest.CaptureFixture[str]) -> None:
    data = condense.load_data("digits")
    small = {"network": "convnet-d1-w4", "real_batch": 8, "networks": 1, "network_epochs": 1, "frequencies": 16}
    made = condense.distill("ncfm", data, 1, iterations=1, precision="float32", compile="off", **small)
    assert len(made.stored) == 10
    assert "networks trained on the real data are not kept for later runs" in capsys.readouterr().err


@pytest.mark.usefixtures("unwritable")
def test_label_networks_that_cannot_be_kept_label_images(capsys: pytest.CaptureFixture[str]) -> None:
    data = condense.load_data("digits")
    labels = StaticLabels(networks=1, training=TrainingRule(lr=0.01, batch_size=64, epochs=1))
    logits = static_logits(data.test, data.train, "convnet-d1-w4", labels, device=torch.device("cpu"))
    assert logits.shape == (359, 10)
    assert "networks trained on the real data are not kept for later runs" in capsys.readouterr().err


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    """In files of several processes too: safetensors writes its facts in an order of the day."""
    code = (
        "import sys, torch; from pathlib import Path; from condense.runtime.tensor_files import save_tensors\n"
        "facts = {name: name * 3 for name in ('b', 'a', '\u00e9', 'line\\nbreak \\x01 \\\"', 'configuration', 'z')}\n"
        "save_tensors(Path(sys.argv[1]), {'mean': torch.arange(3.0), 'std': torch.zeros(2, 2)}, facts)"
    )
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for file in files:
        subprocess.run([sys.executable, "-c", code, str(file)], check=True)
    assert len({file.read_bytes() for file in files}) == 1
    tensors, facts = load_tensors(files[0])
    assert torch.equal(tensors["mean"], torch.arange(3.0))
    assert facts['line\nbreak \x01 "'] == 'line\nbreak \x01 "' * 3
