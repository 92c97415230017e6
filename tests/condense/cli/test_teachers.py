"""`condense teachers` and what `condense show` says of them: exit codes, one line per error, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from condense.cli.main import main
from condense.networks import build_network
from condense.teachers import Committee, Teacher

NET = "convnet-d1-w4-bn"
FILE = f"{NET}-s0.safetensors"
QUICK = ["--epochs", "1", "--lr", "0.05", "--net", NET]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line with which `condense WORDS` is refused."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [line for line in captured.err.splitlines() if not line.startswith("note: ")]
    return line


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def trained(digits_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teachers")
    assert run("teachers", "--data", digits_file, "--out", out, *QUICK) == 0
    return out / FILE


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """The state of a network for digits, in a file of `torch.save`."""
    path = tmp_path / "trained.pth"
    torch.save({"state_dict": build_network(NET, (1, 8, 8), 10, seed=3).state_dict()}, path)
    return path


def test_teachers_are_trained_once_and_told_in_a_line_each(capsys, digits_file: Path, tmp_path: Path) -> None:
    words = ["teachers", "--data", digits_file, "--out", tmp_path / "t", *QUICK[:-1], f"{NET}, mlp", "--count", 2]
    assert run(*words) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(tmp_path / "t" / f"{net}-s{seed}.safetensors") for net in (NET, "mlp") for seed in (0, 1)
    ]
    teacher = Teacher.open(tmp_path / "t" / FILE)
    held_out, test = teacher.manifest.held_out, teacher.manifest.test
    assert held_out is not None
    assert test is not None
    assert lines[0].endswith(
        f": held-out {held_out.accuracy:.2%} of {held_out.images}, test {test.accuracy:.2%} of {test.images}, "
        f"{teacher.bytes:,} bytes, hash {teacher.hash}"
    )
    notes = [line for line in printed.err.splitlines() if line.startswith("note: ")]
    assert notes == ["note: mlp has no BatchNorm: it can label images, but none can be recovered from it"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    assert run(*words) == 0
    again = capsys.readouterr()
    assert again.out == printed.out
    assert again.err.count("is finished and was not trained again; --overwrite trains it anew") == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()} == before
    assert len(Committee.open(tmp_path / "t")) == 4


def test_another_training_into_the_same_file_is_refused(capsys, trained: Path, digits_file: Path) -> None:
    words = ["teachers", "--data", digits_file, "--out", trained.parent, *QUICK]
    before = trained.read_bytes()
    assert "another lr (0.05, not 0.01); give the same, --overwrite" in refused(capsys, *words, "--lr", 0.01)
    assert trained.read_bytes() == before


def test_one_that_fails_ends_the_command_with_1(capsys, digits_file: Path, tmp_path: Path, monkeypatch) -> None:
    import condense.teachers.training as module

    usual = module.train

    def unlucky(data, job):
        if job.seed == 0:
            raise ValueError("no luck")
        return usual(data, job)

    monkeypatch.setattr(module, "train", unlucky)
    assert run("teachers", "--data", digits_file, "--out", tmp_path / "t", *QUICK, "--count", 2) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == f"{tmp_path / 't' / FILE} failed: ValueError: no luck"
    assert len(printed.out.splitlines()) == 1


def test_a_network_that_was_trained_elsewhere_comes_in(
    capsys, foreign: Path, digits_file: Path, tmp_path: Path
) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("".join(f"digit {number}\n" for number in range(10)))
    words = ["teachers", "--from", foreign, "--net", NET, "--normalization", "mnist", "--out", tmp_path / "t"]
    assert run(*words, "--classes", names, "--image-size", 8) == 0
    target = tmp_path / "t" / f"{NET}-trained.safetensors"
    assert capsys.readouterr().out.startswith(f"{target}: accuracy unknown, ")
    assert Teacher.open(target).manifest.classes[3] == "digit 3"
    assert "--overwrite" in refused(capsys, *words, "--classes", names, "--image-size", 8)
    assert run(*words, "--data", digits_file, "--overwrite") == 0
    assert ": test " in capsys.readouterr().out
    manifest = Teacher.open(target).manifest
    assert (manifest.classes[3], manifest.data) == ("3", "digits")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--net", "mlp"], "--data is missing; give the real data to train on, or --from"),
        (["--data", "digits"], "--net"),
        (["--data", "digits", "--net", "convnt"], "did you mean convnet"),
        (["--data", "digits", "--net", "mlp,"], "unknown network ''"),
        (["--data", "digits", "--net", "mlp", "--normalization", "zca"], "give --normalization computed"),
        (["--data", "digits", "--net", "mlp", "--normalization", "none"], "give --normalization computed"),
        (["--data", "digits", "--net", "mlp", "--labels", "none"], "--labels none"),
        (["--data", "digits", "--net", "mlp", "--holdout", "1.5"], "--holdout"),
        (["--data", "digits", "--net", "mlp", "--epochs", "0"], "--epochs"),
        (["--data", "digits", "--net", "mlp", "--augmentation", "dsa"], "--augmentation"),
        (["--data", "digits", "--net", "mlp", "--count", "0"], "--count"),
        (["--data", "digits", "--net", "mlp", "--workers", "2", "--ray", "x"], "give one of them"),
        (["--data", "digits", "--net", "mlp", "--workers", "2", "--device", "cuda"], "workers train on processors"),
        (["--data", "nowhere", "--net", "mlp"], "nowhere"),
        (["--from", "none.pt", "--net", "mlp"], "--from none.pt is no file"),
        (["--from", "FOREIGN", "--net", NET, "--data", "nowhere"], "whose normalisation is not stated is of no use"),
        (["--from", "FOREIGN", "--net", NET, "--normalization", "mnist"], "does not tell its classes"),
        (
            ["--from", "FOREIGN", "--net", NET, "--normalization", "mnist", "--classes", "a,b"],
            "does not tell the size of its images",
        ),
        (
            ["--from", "FOREIGN", "--net", NET, "--normalization", "none", "--classes", "a,b", "--image-size", "8"],
            "does not tell the channels",
        ),
        (
            ["--from", "FOREIGN", "--net", NET, "--normalization", "mnist", "--classes", "a,b", "--image-size", "8"],
            "where convnet-d1-w4-bn has",
        ),
        (["--from", "FOREIGN", "--net", NET, "--epochs", "3"], "--epochs is of a training"),
        (["--from", "FOREIGN", "--net", NET, "--seed", "3"], "--seed is of a training"),
    ],
)
def test_wrong_requests_get_one_line_and_leave_nothing(
    capsys, foreign: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    words = [str(foreign) if word == "FOREIGN" else word for word in words]
    assert message in refused(capsys, "teachers", *words, "--out", tmp_path / "t")
    assert not list((tmp_path / "t").glob("*"))


def test_show_tells_what_a_teacher_is_and_of_all_in_a_folder(capsys, trained: Path, tmp_path: Path) -> None:
    teacher = Teacher.open(trained)
    for place in (trained, trained.parent):
        assert run("show", place) == 0
        rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
        assert rows["network"].strip() == NET
        assert rows["images"].strip() == "1x8x8"
        assert rows["hash"].strip() == teacher.hash
        assert "held-out accuracy" in rows
        assert "test accuracy" in rows
    for name in ("a", "b"):
        teacher.save(tmp_path / "two" / f"{name}.safetensors")
    assert run("show", tmp_path / "two") == 0
    printed = capsys.readouterr().out
    assert printed.count(teacher.hash) == 2
    assert printed.index("a.safetensors") < printed.index("b.safetensors")
    assert "leave it out for teachers" in refused(capsys, "show", trained, "--png", tmp_path / "a.png")
    (tmp_path / "two" / "b.safetensors").write_bytes(b"no")
    assert "b.safetensors is damaged" in refused(capsys, "show", tmp_path / "two")
    assert not (tmp_path / "a.png").exists()


def test_the_account_has_what_the_teacher_does_not(trained: Path) -> None:
    account = json.loads(trained.with_suffix(".json").read_text())
    assert account["seconds"] > 0
    assert str(trained.parent).encode() not in trained.read_bytes()
