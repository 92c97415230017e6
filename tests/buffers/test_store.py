"""Buffers: what is read and no more, what is refused, what survives storage."""

from __future__ import annotations

import json
import re
import resource
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import condense
from buffers import ExpertBuffer, record_experts
from buffers.index import read_description, write_description
from buffers.store import Trajectory, write_expert
from condense.data import RealData, TestData, TrainingData
from condense.networks import build_network
from condense.networks.layout import Layout
from condense.runtime.errors import CondenseError


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("buffers") / "experts"
        record_experts(digits, "convnet-d2-w4-bn", experts=2, epochs=3, out=out)
    return out


def test_pairs_are_drawn_by_seed_and_iteration_from_the_window(folder: Path):
    buffer = ExpertBuffer.open(folder)
    drawn = [buffer.draw(0, iteration, max_start=2, min_start=1) for iteration in range(40)]
    assert {epoch for _, epoch in drawn} == {1}
    assert {expert for expert, _ in drawn} == {0, 1}
    epochs = {buffer.draw(0, iteration, max_start=2)[1] for iteration in range(40)}
    assert epochs == {0, 1}
    start, target = buffer.sample(seed=0, iteration=3, max_start=2, span=2)
    expert, epoch = buffer.draw(0, 3, 2)
    assert torch.equal(start, buffer.snapshot(expert, epoch))
    assert torch.equal(target, buffer.snapshot(expert, epoch + 2))
    assert torch.equal(torch.stack(buffer.snapshots(expert, epoch, epoch + 2)), torch.stack([start, target]))
    assert start.dtype == torch.float32
    with pytest.raises(CondenseError, match="need experts of 4 epochs, these have 3"):
        buffer.sample(0, 0, max_start=3, span=2)
    with pytest.raises(CondenseError, match="make no window"):
        buffer.sample(0, 0, max_start=1, span=1, min_start=1)


def test_snapshots_are_the_parameters_and_statistics_of_a_network(folder: Path, digits):
    buffer = ExpertBuffer.open(folder)
    network = build_network("convnet-d2-w4-bn", (1, 8, 8), 10, seed=1)
    state = buffer.layout.unflatten(buffer.snapshot(0, 3)) | buffer.statistics(0, 3)
    network.load_state_dict(state, strict=False)
    network.eval()
    logits = network(digits.test.images(torch.arange(len(digits.test))))
    accuracy = (logits.argmax(1) == digits.test.labels).double().mean().item()
    assert accuracy == pytest.approx(buffer.accuracies(0)[3], abs=1e-6)
    assert any((value != 0).any() for name, value in buffer.statistics(0, 3).items() if "mean" in name)


SIZE, EPOCHS = 300_000, 20  # of the experts below, of which each has 25 MB


@pytest.fixture
def large(tmp_path: Path, folder: Path) -> ExpertBuffer:
    """Three experts of random numbers."""
    description = read_description(folder).model_copy(
        update={"parameters": (("weight", (SIZE,)),), "statistics": (), "epochs": EPOCHS}
    )
    write_description(tmp_path, description)
    for number in range(3):
        rows = torch.randn(EPOCHS + 1, SIZE, generator=torch.Generator().manual_seed(number))
        write_expert(
            tmp_path / f"expert-{number:04d}.h5", Trajectory(rows, torch.zeros(EPOCHS + 1, 0), (), 0.0), "float32"
        )
    return ExpertBuffer.open(tmp_path)


def bytes_read() -> int:
    """What this process has read from files so far, by whatever means, as Linux counts it."""
    text = Path("/proc/self/io").read_text()
    return int(re.search(r"^rchar: (\d+)", text, re.MULTILINE)[1])


def test_a_pair_reads_two_chunks_and_no_more(large: ExpertBuffer):
    chunk, around = 4 * SIZE, 100_000  # bytes of a snapshot, and of what says where it is
    for iteration in range(20):
        before = bytes_read()
        large.sample(0, iteration, max_start=10, span=2)
        assert 2 * chunk <= bytes_read() - before < 2 * chunk + around
    before = bytes_read()
    with h5py.File(large.files[0], "r") as file:
        file["snapshots"][:]
    assert bytes_read() - before >= (EPOCHS + 1) * chunk, "a whole expert would be noticed"


def peak(call: Callable[[], object]) -> int:
    """The most bytes that arrays of a call have at once; resident memory would miss what fits what others freed."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_pairs_take_little_memory(large: ExpertBuffer):
    def pairs() -> None:
        for iteration in range(50):
            large.sample(0, iteration, max_start=10, span=2)

    def expert() -> None:
        with h5py.File(large.files[0], "r") as file:
            file["snapshots"][:]

    assert peak(expert) > 20e6, "a whole expert would be noticed"
    assert peak(pairs) < 10e6


def trajectory(size: int) -> Trajectory:
    rows = torch.randn(4, size, generator=torch.Generator().manual_seed(0))
    return Trajectory(rows, rows[:, :3].contiguous(), (0.1, 0.2, 0.3, 0.4), 1.0, {"commit": "abc"})


def test_an_expert_is_the_same_bytes_again_and_a_disk_without_room_is_an_error(tmp_path: Path):
    path = tmp_path / "expert-0000.h5"
    write_expert(path, trajectory(1000), "float32")
    before, size = path.read_bytes(), path.stat().st_size
    write_expert(path, trajectory(1000), "float32")
    assert path.read_bytes() == before
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1000, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(CondenseError, match=r"cannot write .*expert-0000\.h5: File too large"):
                write_expert(path, trajectory(1001), "float32")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def write_as_before(path: Path, expert: Trajectory) -> None:
    """The form of earlier versions: chunks with a checksum of HDF5."""
    with h5py.File(path, "w") as file:
        for name, values in (("snapshots", expert.snapshots), ("statistics", expert.statistics)):
            chunks = (1, values.shape[1]) if values.shape[1] else None
            file.create_dataset(name, data=values.numpy(), chunks=chunks, fletcher32=bool(chunks), track_times=False)
        file.attrs["digest"], file.attrs["seconds"] = expert.digest, expert.seconds
        file.create_dataset("accuracies", data=np.array(expert.accuracies))
        file.attrs["made_with"] = json.dumps(expert.made_with)


@pytest.mark.parametrize("write", [write_as_before, lambda path, expert: write_expert(path, expert, "float32")])
def test_experts_of_earlier_versions_are_read(folder: Path, tmp_path: Path, write: Callable[..., None]):
    expert = trajectory(1000)
    changes = {"parameters": (("weight", (1000,)),), "statistics": (("mean", (3,)),)}
    write_description(tmp_path, read_description(folder).model_copy(update=changes))
    path = tmp_path / "expert-0000.h5"
    write(path, expert)
    buffer = ExpertBuffer.open(tmp_path)
    assert torch.equal(torch.stack(buffer.snapshots(0, 2, 0, 3)), expert.snapshots[[2, 0, 3]])
    assert torch.equal(buffer.statistics(0, 1)["mean"], expert.statistics[1])
    assert buffer.accuracies(0) == list(expert.accuracies)
    assert (buffer.digest(0), buffer.seconds(0), buffer.made_with(0)) == (expert.digest, 1.0, {"commit": "abc"})
    content = path.read_bytes()
    place = content.index(expert.snapshots[2].numpy().tobytes()) + 40
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert torch.equal(buffer.snapshot(0, 1), expert.snapshots[1])
    with pytest.raises(CondenseError, match="damaged at epoch 2; remove it"):
        buffer.snapshot(0, 2)


def _no_snapshots(file: h5py.File) -> None:
    del file["snapshots"]


def _no_accuracies(file: h5py.File) -> None:
    del file["accuracies"]


def _other_shape(file: h5py.File) -> None:
    del file["snapshots"]
    file["snapshots"] = np.zeros((4, 999), np.float32)


def _integers(file: h5py.File) -> None:
    del file["snapshots"]
    file["snapshots"] = np.zeros((4, 1000), np.int32)


def _no_digest(file: h5py.File) -> None:
    del file.attrs["digest"]


def _seconds_in_words(file: h5py.File) -> None:
    file.attrs["seconds"] = "many"


def _made_with_nothing(file: h5py.File) -> None:
    file.attrs["made_with"] = "[" * 3000


def _a_link(file: h5py.File) -> None:
    del file["accuracies"]
    file["accuracies"] = h5py.ExternalLink("other.h5", "/accuracies")


@pytest.mark.parametrize(
    "alter",
    [
        *(_no_snapshots, _no_accuracies, _other_shape, _integers),
        *(_no_digest, _seconds_in_words, _made_with_nothing, _a_link),
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_a_damaged_structure_is_refused_in_one_line(
    folder: Path, tmp_path: Path, alter: Callable[[h5py.File], None], before: bool
):
    changes = {"parameters": (("weight", (1000,)),), "statistics": (("mean", (3,)),)}
    write_description(tmp_path, read_description(folder).model_copy(update=changes))
    path = tmp_path / "expert-0000.h5"
    if before:
        write_as_before(path, trajectory(1000))
    else:
        write_expert(path, trajectory(1000), "float32")
    with h5py.File(path, "r+") as file:
        alter(file)
    with pytest.raises(CondenseError, match=r"expert-0000\.h5") as caught:
        ExpertBuffer.open(tmp_path).snapshot(0, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "1"},
        {"schema_version": [2]},
        {"epochs": "three"},
        {"parameters": {"a": 1}},
        {"parameters": [["weight", [-3]]]},
        {"parameters": [["weight", "x"]]},
        {"classes": 3},
        {"experts": {"first": {}}},
        {"rule": None},
    ],
)
def test_an_index_of_other_types_is_refused_in_one_line(folder: Path, tmp_path: Path, changes: dict[str, object]):
    content = json.loads((folder / "buffer.json").read_text()) | changes
    (tmp_path / "buffer.json").write_text(json.dumps(content))
    (tmp_path / "expert-0000.h5").write_bytes((folder / "expert-0000.h5").read_bytes())
    with pytest.raises(CondenseError) as caught:
        ExpertBuffer.open(tmp_path).sample(0, 0, 1, 1)
    assert "\n" not in str(caught.value)


def test_files_of_other_names_are_no_experts(folder: Path, tmp_path: Path):
    for path in folder.glob("*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "expert-last.h5").write_bytes(b"nothing")
    assert ExpertBuffer.open(tmp_path).experts == 2


def test_half_precision_is_half_as_large_and_rounds(tmp_path: Path):
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    for dtype in ("float32", "float16"):
        write_expert(tmp_path / f"{dtype}.h5", Trajectory(rows, torch.zeros(3, 0), (0.1, 0.2, 0.3), 1.0), dtype)
        with h5py.File(tmp_path / f"{dtype}.h5") as file:
            assert file["snapshots"].dtype == dtype
            np.testing.assert_allclose(file["snapshots"][:].astype(np.float32), rows.numpy(), rtol=1e-3, atol=1e-6)


def test_statistics_beyond_the_range_of_half_precision_stay_as_they_are(tmp_path: Path):
    """A running variance of BatchNorm may be 100,000 or 1e-9."""
    statistics = torch.tensor([[1e5, 1e-9]])
    write_expert(tmp_path / "expert.h5", Trajectory(torch.zeros(1, 3), statistics, (0.1,), 1.0), "float16")
    with h5py.File(tmp_path / "expert.h5") as file:
        assert np.array_equal(file["statistics"][:], statistics.numpy())


def test_another_network_data_or_preprocessing_is_refused_with_the_field(folder: Path, digits):
    buffer = ExpertBuffer.open(folder)
    name = "convnet-d2-w4-bn"
    buffer.check_matches(name, digits.info)
    with pytest.raises(CondenseError, match="another network"):
        buffer.check_matches("convnet-d2-w8-bn", digits.info)
    with pytest.raises(CondenseError, match="another fingerprint"):
        buffer.check_matches(name, replace(digits.info, fingerprint="0" * 32))
    with pytest.raises(CondenseError, match="another preprocessing"):
        buffer.check_matches(name, condense.load_data("digits", normalization="none").info)
    with pytest.raises(CondenseError, match="another mirror"):
        buffer.check_matches(name, replace(digits.info, mirror=True))


def refitted(data: RealData, factor: float) -> RealData:
    """The data with a whitening whose matrix is a little different, as another processor would fit it."""
    whitening = data.preprocessing
    info = replace(data.info, preprocessing=replace(whitening, matrix=factor * whitening.matrix))
    return RealData(
        info,
        TrainingData(data.train.source, data.train.labels, info),
        TestData(data.test.source, data.test.labels, info),
    )


def test_a_whitening_that_another_processor_fitted_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    here = condense.load_data("digits", normalization="zca")
    there, other = refitted(here, 1 + 1e-6), refitted(here, 1.01)
    assert there.info.identity != here.info.identity
    name, out = "convnet-d1-w4-in", tmp_path / "experts"
    record_experts(here, name, experts=1, epochs=1, out=out)
    buffer = ExpertBuffer.open(out)
    buffer.check_matches(name, here.info)
    buffer.check_matches(name, there.info)
    record_experts(there, name, experts=2, epochs=1, out=out)
    for refusal in (
        lambda: buffer.check_matches(name, other.info),
        lambda: buffer.check_matches(name, condense.load_data("digits", normalization="none").info),
        lambda: record_experts(other, name, experts=3, epochs=1, out=out),
    ):
        with pytest.raises(CondenseError, match="another preprocessing"):
            refusal()
    (out / "preprocessing.safetensors").write_bytes(b"nothing")
    with pytest.raises(CondenseError, match="safetensors is damaged"):
        buffer.check_matches(name, there.info)
    (out / "preprocessing.safetensors").unlink()  # a buffer of an earlier version
    buffer.check_matches(name, here.info)
    with pytest.raises(CondenseError, match="another preprocessing"):
        buffer.check_matches(name, there.info)


def test_folders_that_are_no_buffer_or_are_damaged_are_refused(tmp_path: Path, folder: Path):
    with pytest.raises(CondenseError, match="is no expert buffer"):
        ExpertBuffer.open(tmp_path)
    (tmp_path / "buffer.json").write_bytes((folder / "buffer.json").read_bytes())
    with pytest.raises(CondenseError, match="no finished expert"):
        ExpertBuffer.open(tmp_path)
    (tmp_path / "expert-0000.h5").write_bytes((folder / "expert-0000.h5").read_bytes())
    buffer = ExpertBuffer.open(tmp_path)
    content = (tmp_path / "expert-0000.h5").read_bytes()
    place = content.index(buffer.snapshot(0, 1).numpy().tobytes()) + 20
    (tmp_path / "expert-0000.h5").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    buffer.snapshot(0, 0)
    with pytest.raises(CondenseError, match="damaged at epoch 1"):
        buffer.snapshot(0, 1)
    (tmp_path / "expert-0000.h5").write_bytes(b"nothing")
    with pytest.raises(CondenseError, match="damaged"):
        ExpertBuffer.open(tmp_path).snapshot(0, 0)
    text = (folder / "buffer.json").read_text()
    (tmp_path / "buffer.json").write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(CondenseError, match="newer than 1"):
        ExpertBuffer.open(tmp_path)


def test_a_layout_is_that_of_parameters_in_order():
    network = build_network("convnet-d2-w4-bn", (1, 8, 8), 10, seed=0)
    layout = Layout.of_parameters(network)
    vector = layout.flatten(dict(network.named_parameters()))
    assert torch.equal(vector, torch.nn.utils.parameters_to_vector(network.parameters()).detach())
    vector += 1  # shares nothing with the network
    for name, value in layout.unflatten(vector).items():
        torch.testing.assert_close(value, dict(network.named_parameters())[name].detach() + 1)
