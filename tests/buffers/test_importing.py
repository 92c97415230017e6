"""Experts of reference projects: read without running anything, checked against the network, added to a folder."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

import condense
from buffers import ExpertBuffer, record_experts
from buffers.importing import import_replay_buffer
from condense.cli.main import main
from condense.networks import build_network
from condense.runtime.errors import CondenseError

NET = "convnet-d2-w4"


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def replay_buffer(path: Path, experts: int = 2, epochs: int = 3, first: int = 0) -> list[list[list[torch.Tensor]]]:
    """As the published code writes it: experts, epochs, parameters."""
    content = [
        [
            [value.detach() for value in build_network(NET, (1, 8, 8), 10, seed=10 * expert + epoch).parameters()]
            for epoch in range(epochs + 1)
        ]
        for expert in range(first, first + experts)
    ]
    torch.save(content, path)
    return content


def test_every_vector_arrives_and_further_files_add_experts(digits, tmp_path: Path):
    content = []
    for number in range(2):
        path = tmp_path / f"replay_buffer_{number}.pt"
        content += replay_buffer(path, first=2 * number)
        for _ in range(2):  # experts that are there already are not added again
            assert import_replay_buffer(path, digits, NET, tmp_path / "experts") == 2 * (number + 1)
    buffer = ExpertBuffer.open(tmp_path / "experts")
    assert (buffer.experts, buffer.epochs) == (4, 3)
    for expert in range(4):
        for epoch in range(4):
            expected = torch.cat([value.flatten() for value in content[expert][epoch]])
            assert torch.equal(buffer.snapshot(expert, epoch), expected)
    start, target = buffer.sample(0, 0, max_start=2, span=2)
    assert not torch.equal(start, target)


def test_the_command_imports_and_show_says_what_is_unknown(tmp_path: Path, capsys):
    replay_buffer(tmp_path / "replay_buffer_0.pt")
    out = tmp_path / "experts"
    words = ["import", str(tmp_path / "replay_buffer_0.pt"), "--data", "digits", "--net", NET, "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "2 experts" in said.out
    assert "taken for --normalization computed" in said.err
    assert main(["show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("unknown: imported") == 3
    assert "learning rate" not in shown
    assert "trained on" not in shown
    assert "seed " not in shown


def test_an_import_goes_on_and_takes_no_number_that_is_taken(digits, tmp_path: Path):
    """Also where an expert is missing between others, as after a kill or a removal."""
    replay_buffer(tmp_path / "replay_buffer_0.pt", experts=3)
    out = tmp_path / "experts"
    import_replay_buffer(tmp_path / "replay_buffer_0.pt", digits, NET, out)
    missing = (out / "expert-0001.h5").read_bytes()
    (out / "expert-0001.h5").unlink()
    kept = (out / "expert-0002.h5").read_bytes()
    assert import_replay_buffer(tmp_path / "replay_buffer_0.pt", digits, NET, out) == 3
    assert [path.name for path in sorted(out.glob("*.h5"))] == [f"expert-000{number}.h5" for number in (0, 2, 3)]
    assert [(out / f"expert-000{number}.h5").read_bytes() for number in (2, 3)] == [kept, missing]


def test_experts_without_their_network_are_refused_with_the_way_out(tmp_path: Path, capsys):
    replay_buffer(tmp_path / "replay_buffer_0.pt")
    words = ["import", str(tmp_path / "replay_buffer_0.pt"), "--data", "digits", "--out", str(tmp_path / "experts")]
    assert main(words) == 2
    assert "name their network as --net, and a folder as --out" in capsys.readouterr().err


def test_recorded_and_imported_experts_do_not_mix(digits, tmp_path: Path):
    replay_buffer(tmp_path / "replay_buffer_0.pt")
    out = tmp_path / "experts"
    import_replay_buffer(tmp_path / "replay_buffer_0.pt", digits, NET, out)
    with pytest.raises(CondenseError, match=r"another origin .imported, not recorded"):
        record_experts(digits, NET, 3, 3, out)


def test_files_that_do_not_fit_or_could_run_code_are_refused(digits, tmp_path: Path):
    path, out = tmp_path / "replay_buffer_0.pt", tmp_path / "experts"
    replay_buffer(path)
    with pytest.raises(CondenseError, match="but the network has"):
        import_replay_buffer(path, digits, "convnet-d2-w8", out)
    with pytest.raises(CondenseError, match="no statistics of BatchNorm"):
        import_replay_buffer(path, digits, NET + "-bn", out)
    torch.save([[1.0]], path)
    with pytest.raises(CondenseError, match="no list of experts"):
        import_replay_buffer(path, digits, NET, out)
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(CondenseError, match=r"replay_buffer_\*\.pt"):
        import_replay_buffer(path, digits, NET, out)
    assert not out.exists()


def test_experts_that_do_not_move_are_refused(digits, tmp_path: Path):
    """The reference code stores live weights when it runs on a processor."""
    path = tmp_path / "replay_buffer_0.pt"
    content = replay_buffer(path)
    torch.save([content[0], [content[1][-1]] * len(content[1])], path)
    with pytest.raises(CondenseError, match=r"equal parameters before and after epoch 1 .* live weights"):
        import_replay_buffer(path, digits, NET, tmp_path / "experts")
    assert not (tmp_path / "experts").exists()


def test_experts_of_another_length_do_not_come_into_the_same_folder(digits, tmp_path: Path):
    for number, epochs in enumerate((3, 4)):
        replay_buffer(tmp_path / f"replay_buffer_{number}.pt", epochs=epochs)
    import_replay_buffer(tmp_path / "replay_buffer_0.pt", digits, NET, tmp_path / "experts")
    with pytest.raises(CondenseError, match="another epochs"):
        import_replay_buffer(tmp_path / "replay_buffer_1.pt", digits, NET, tmp_path / "experts")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda value: value.to_sparse(), "a parameter that is a sparse tensor"),
        (lambda value: value[:1].clone().expand(value.shape), "numbers of which the file has"),
        (lambda value: value.to("meta"), "meta device"),
        (lambda value: torch.complex(value, value), "complex64"),
        (lambda value: value / 0, "not finite after epoch 2"),
        (lambda value: 3, "a parameter that is no tensor"),
    ],
)
def test_parameters_that_are_no_plain_numbers_are_refused(digits, tmp_path: Path, spoil, message: str):
    path = tmp_path / "replay_buffer_0.pt"
    content = replay_buffer(path)
    values = content[1][2]
    content[1][2] = [values[0], spoil(values[1].clone()), *values[2:]]
    torch.save(content, path)
    with pytest.raises(CondenseError, match=message):
        import_replay_buffer(path, digits, NET, tmp_path / "experts")
    content[1][2] = 7
    torch.save(content, path)
    with pytest.raises(CondenseError, match="no list of parameters"):
        import_replay_buffer(path, digits, NET, tmp_path / "experts")
    assert not (tmp_path / "experts").exists()


def test_a_learned_rate_is_not_of_experts(tmp_path: Path, capsys):
    replay_buffer(tmp_path / "replay_buffer_0.pt")
    words = ["import", tmp_path / "replay_buffer_0.pt", "--data", "digits", "--net", NET, "--learned-lr", 0.1]
    assert main([str(word) for word in [*words, "--out", tmp_path / "experts"]]) == 2
    assert "--learned-lr is of a set" in capsys.readouterr().err
