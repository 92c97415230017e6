"""The command line as users call it: real processes, exit codes, one line per error, nothing lost."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condense.cli.main import COMMANDS, main
from condense.data import load_data
from condense.runtime.registry import load_object
from condense.sets.synthetic_set import SyntheticSet
from condense.sets.tiles import Tiles

COMMAND = "import sys; from condense.cli.main import main; sys.exit(main(sys.argv[1:]))"
QUICK = ["--iterations", "3", "--network", "convnet-d1-w8", "--real-batch", "8"]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """`condense WORDS` in a process of its own."""
    command = [sys.executable, "-m", "condense", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(capsys: pytest.CaptureFixture, *words: object) -> str:
    """The one line with which `condense WORDS` is refused, in this process."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, lines
    assert "Traceback" not in captured.err
    return lines[0]


def exit_code(*words: str) -> object:
    """That of `condense WORDS` in this process, even where argparse ends it itself."""
    try:
        return main(words)
    except SystemExit as end:
        return end.code


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set.h5"
    assert main(["distill", "dm", "--data", "digits", "--ipc", "1", "--out", str(out), *QUICK]) == 0
    return out


def test_the_main_job_in_two_commands(tmp_path: Path):
    out, results = tmp_path / "set.h5", tmp_path / "result.json"
    made = run("distill", "distribution-matching", "--data", "digits", "--ipc", 2, "--out", out, *QUICK)
    assert made.returncode == 0, made.stderr
    assert "20 images (2 per class)" in made.stdout
    scored = run("evaluate", out, "--protocol", "demo", "--runs", 2, "--nets", "convnet-d1-w8,mlp", "--json", results)
    assert scored.returncode == 0, scored.stderr
    records = json.loads(results.read_text())
    assert [record["network"] for record in records] == ["convnet-d1-w8-in", "mlp"]
    for record in records:
        assert {"mean", "std", "accuracies", "protocol", "protocol_hash", "network", "seconds"} <= record.keys()
        assert 0 <= record["mean"] <= 1
        assert len(record["accuracies"]) == 2


def test_nets_may_have_blanks_between_them_but_no_empty_name(capsys, made: Path):
    words = ["evaluate", str(made), "--protocol", "demo", "--runs", "1", "--nets"]
    assert main([*words, " mlp , convnet-w8"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["mlp", "convnet-d2-w8-in"]
    for nets in ("mlp,,convnet", "mlp,", " "):
        assert f"--nets {nets!r} has an empty name in it" in refused(capsys, *words, nets)


def test_a_set_is_scored_at_the_size_of_its_images(capsys, tmp_path: Path):
    """Which nobody has to know; another size that is asked for is another one."""
    out = tmp_path / "set.h5"
    assert (
        main(["distill", "random", "--data", "digits", "--image-size", "12x10", "--ipc", "1", "--out", str(out)]) == 0
    )
    words = ["evaluate", out, "--protocol", "demo", "--nets", "mlp", "--runs", 1]
    assert main([str(word) for word in words]) == 0
    assert "fingerprint" not in capsys.readouterr().err
    assert "--image-size" in refused(capsys, *words, "--image-size", 12)


def test_every_command_has_help_that_names_its_options(capsys):
    for command in COMMANDS:
        assert exit_code(command.name, "--help") == 0
        assert "usage: condense" in capsys.readouterr().out
    assert "--image-lr" in run("distill", "dm", "--help").stdout
    assert run("--version").stdout.startswith("condense 0.")


def test_every_command_line_target_exists():
    for command in COMMANDS:
        assert callable(load_object(command.target))


def test_lists_name_what_exists():
    assert "fashion-mnist" in run("data").stdout
    assert "distribution-matching" in run("methods").stdout
    assert "resnet18" in run("networks").stdout
    assert "desk-static" in run("protocols").stdout
    assert "dm-desk" in run("recipes").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["distil"], "unknown command 'distil'"),
        (["distill", "dmm", "--data", "digits"], "did you mean dm"),
        (["distill", "dm", "--data", "digitz", "--ipc", "1", "--out", "OUT"], "did you mean digits"),
        (["distill", "dm", "--data", "/no/such/folder", "--ipc", "1", "--out", "OUT"], "/no/such/folder"),
        (["distill", "dm", "--data", "digits", "--ipc", "0", "--out", "OUT"], "--ipc"),
        (["distill", "dm", "--data", "digits", "--ipc", "-3", "--out", "OUT"], "--ipc"),
        (["distill", "dm", "--data", "digits", "--ipc", "many", "--out", "OUT"], "--ipc 'many'"),
        (["distill", "random", "--data", "digits", "--ipc", "9999", "--out", "OUT"], "--ipc 9999 is more than"),
        (["distill", "random", "--data", "digits", "--ipc", "1", "--iterations", "5", "--out", "OUT"], "--iterations"),
        (["distill", "random", "--data", "digits", "--ipc", "1", "--minutes", "5", "--out", "OUT"], "--minutes"),
        (["distill", "dm", "--data", "digits", "--ipc", "1"], "--out"),
        (
            ["distill", "dm", "--data", "digits", "--ipc", "1", "--out", "OUT", "--imge-lr", "1"],
            "did you mean --image-lr",
        ),
        (["distill", "dm", "--data", "digits", "--ipc", "1", "--out", "OUT", "--image-lr", "-1"], "--image-lr"),
        (["distill", "dm", "--data", "digits", "--ipc", "1", "--out", "OUT", "--recipe", "dsk"], "did you mean desk"),
        (
            ["distill", "dm", "--data", "digits", "--ipc", "1", "--out", "OUT", "--network", "convnt"],
            "did you mean convnet",
        ),
        (["distill", "dm", "--data", "digits", "--ipc", "1", "--out", "OUT", "--device", "tpu"], "cpu"),
        (["distill", "dm", "--data", "digits", "--ipc", "1", "--out", "OUT", "--image-size", "big"], "--image-size"),
        (["evaluate", "missing.h5"], "missing.h5"),
        (["show", "README.md"], "README.md"),
        (["show"], "SET"),
        (["export", "x.h5", "--to", "zip", "--out", "y"], "--to"),
        (["import", "none.pt", "--data", "nowhere", "--out", "OUT"], "none.pt is no file"),
        (
            ["import", "README.md", "--data", "nowhere", "--optimizer", "flat", "--out", "OUT"],
            "--optimizer is of experts",
        ),
        (
            ["import", "README.md", "--data", "nowhere", "--net", "mlp", "--overwrite", "--out", "OUT"],
            "leave --overwrite out",
        ),
        (
            ["distill", "mtt", "--data", "nowhere", "--ipc", "1", "--buffer", "no-experts", "--out", "OUT"],
            "no-experts",
        ),
        (["benchmark", "missing.yaml", "--out", "OUT"], "missing.yaml"),
        (["benchmark", "g.yaml", "--out", "OUT", "--workers", "2", "--ray", "x"], "give one of them"),
        (["benchmark", "g.yaml", "--out", "OUT", "--threads", "2"], "--threads are those of workers"),
    ],
)
def test_wrong_requests_get_one_line_and_exit_code_2(capsys, tmp_path: Path, words: list[str], message: str):
    out = tmp_path / "set.h5"
    assert message.lower() in refused(capsys, *(out if word == "OUT" else word for word in words)).lower()
    assert list(tmp_path.iterdir()) == []


def test_a_finished_set_is_not_overwritten_by_accident(capsys, made: Path):
    before = made.read_bytes()
    words = ["distill", "dm", "--data", "digits", "--ipc", "1", "--out", made, "--seed", "1", *QUICK]
    assert "--overwrite" in refused(capsys, *words)
    assert made.read_bytes() == before
    assert main([str(word) for word in [*words, "--overwrite"]]) == 0
    changed = made.read_bytes()
    assert changed != before
    assert main([str(word) for word in [*words, "--overwrite", "--seed", "0"]]) == 0
    assert made.read_bytes() == before


def test_outputs_that_are_folders_or_cannot_be_written(capsys, made: Path, tmp_path: Path):
    words = ["distill", "random", "--data", "digits", "--ipc", "1", "--out"]
    assert "is a folder" in refused(capsys, *words, tmp_path)
    assert "cannot write" in refused(capsys, *words, made / "below" / "a-file.h5")


LATIN = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("length", [201, 233, 241, 252, 300])
@pytest.mark.parametrize("character", ["x", "é"])
def test_names_without_room_for_the_files_beside_them_are_refused_before_the_work(
    capsys, made: Path, tmp_path: Path, length: int, character: str
):
    name = character * (length // 2 if character == "é" else length - 1) + "yy"
    out = tmp_path / f"{name}.h5"
    for words in (
        ("distill", "dm", "--data", "absent.npz", "--ipc", 1, "--out", out),
        ("pack", "absent.npz", "--out", out),
        ("import", made, "--data", "absent.npz", "--out", out),
        ("evaluate", made, "--json", out.with_suffix(".json")),
        ("show", made, "--png", out.with_suffix(".png")),
        ("experts", "--data", "absent.npz", "--experts", 1, "--epochs", 1, "--out", tmp_path / name),
    ):
        assert (
            "bytes, and those of the files beside it are longer still; give one of at most 200, its suffix aside"
            in refused(capsys, *words)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_the_full_length_lasts_to_the_end_of_a_run(capsys, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("condense.methods.checkpoints.MOST_SECONDS_LOST", 0.0)  # a checkpoint after every update
    out = tmp_path / f"{'x' * 200}.h5"
    assert main(["distill", "dm", "--data", "digits", "--ipc", "1", "--out", str(out), *QUICK]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, out.with_suffix(".json").name]


@pytest.mark.parametrize(
    "words", [["show"], ["evaluate"], ["import", "--data", "digits", "--out", "a.h5"], ["pack", "--out", "a.h5"]]
)
def test_names_of_inputs_that_no_file_can_have(capsys, tmp_path: Path, monkeypatch, words: list[str]):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, words[0], "x" * 300, *words[1:])
    assert "xxx" in message


@pytest.mark.parametrize("place", [f"{LATIN}.h5", f"{LATIN}/a.h5"], ids=["name", "folder"])
def test_outputs_whose_path_is_no_text_are_refused_before_the_work(capsys, tmp_path: Path, place: str):
    """safetensors, which keeps checkpoints and experts, cannot open them."""
    out = tmp_path / place
    for words in (
        ("distill", "dm", "--data", "absent.npz", "--ipc", 1, "--out", out),
        ("pack", "absent.npz", "--out", out),
        ("experts", "--data", "absent.npz", "--experts", 1, "--epochs", 1, "--out", out.with_suffix("")),
    ):
        assert "is not UTF-8 text; give another one" in refused(capsys, *words)


def test_inputs_whose_path_is_no_text_are_read(made: Path, tmp_path: Path):
    copied = tmp_path / f"{LATIN}.h5"
    copied.write_bytes(made.read_bytes())
    shown = run("show", copied)
    assert (shown.returncode, shown.stderr) == (0, "")
    exported = run("export", copied, "--to", "folder", "--out", tmp_path / f"{LATIN} images")
    assert exported.returncode == 0, exported.stderr
    assert "caf\\udce9 images: written" in exported.stdout


def test_class_folders_whose_names_are_no_text_are_refused_before_the_work(capsys, tmp_path: Path):
    for part in ("train", "test"):
        for name in ("cat", LATIN):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / part / name / "0.png")
    for words in (
        ("distill", "random", "--ipc", 1, "--out", tmp_path / "a.h5", "--data"),
        ("distill", "dm", "--ipc", 1, "--out", tmp_path / "a.h5", "--dry-run", "--data"),
        ("pack", "--out", tmp_path / "a.h5"),
    ):
        message = refused(capsys, *words, tmp_path / "pets")
        assert r"the name 'caf\xe9' of a class is not UTF-8 text" in message
    assert not (tmp_path / "a.h5").exists()


def test_outputs_beside_the_set_replace_nothing(capsys, made: Path):
    account = made.with_suffix(".json")
    before = made.read_bytes(), account.read_bytes()
    assert "must end in .png" in refused(capsys, "show", made, "--png", made)
    assert "give another name" in refused(capsys, "evaluate", made, "--protocol", "demo", "--json", account)
    assert (made.read_bytes(), account.read_bytes()) == before


def test_who_stops_reading_ends_a_run_as_failed_and_a_list_as_done(tmp_path: Path):
    """Without a test split there is a note, which nobody reads."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(3):
            image = np.full((8, 8, 3), 40 * number + label, np.uint8)
            Image.fromarray(image).save(tmp_path / "pets" / name / f"{number}.png")
    out = tmp_path / "set.h5"

    def unread(*words: object) -> int:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as nobody:
            command = [sys.executable, "-m", "condense", *map(str, words)]
            return subprocess.run(command, stdout=nobody, stderr=nobody, check=False).returncode

    assert unread("methods") == 0
    assert unread("distill", "random", "--data", tmp_path / "pets", "--ipc", 1, "--out", out) == 1
    assert not out.exists()


def test_an_unfinished_run_of_another_configuration_names_the_difference(
    capsys, digits_file: Path, tmp_path: Path, forked
):
    out = tmp_path / "set.h5"
    made_as = ["--data", str(digits_file), "--ipc", "1", "--network", "convnet-d1-w8"]
    words = ["distill", "dm", *made_as, "--out", str(out)]
    begun = forked(COMMAND, *words)
    unfinished = tmp_path / "set.h5.checkpoint.safetensors"
    for _ in range(600):
        if unfinished.exists():
            break
        time.sleep(0.1)
    time.sleep(0.2)
    begun.signal(signal.SIGINT)
    assert begun.ended() == 130, begun.errors
    assert "interrupted" in begun.errors
    assert "settings.image_lr" in refused(capsys, *words, "--image-lr", "0.5")
    assert unfinished.exists()
    assert not out.exists()
    assert main([*words, "--image-lr", "0.5", "--no-resume", "--iterations", "2"]) == 0
    assert not unfinished.exists()


def test_show_tells_how_a_set_was_made_and_draws_it(capsys, made: Path, tmp_path: Path):
    picture = tmp_path / "grid.png"
    assert main(["show", str(made), "--png", str(picture)]) == 0
    printed = capsys.readouterr().out
    for word in ("dm", "digits", "hard", "seed"):
        assert word in printed
    with Image.open(picture) as image:
        assert np.asarray(image).std() > 10


def test_show_writes_a_page_of_a_set_and_of_nothing_else(capsys, made: Path, tmp_path: Path):
    page, account = tmp_path / "set.html", made.with_suffix(".json")
    assert main(["show", str(made), "--html", str(page), "--png", str(tmp_path / "grid.png")]) == 0
    text = page.read_text(encoding="utf-8")
    assert "condense distill dm --data digits" in text
    assert "http-equiv" in text
    assert "must end in .html" in refused(capsys, "show", made, "--html", account)
    (tmp_path / "experts").mkdir()
    (tmp_path / "experts" / "buffer.json").write_text("{}")
    assert "leave it out for teachers and experts" in refused(
        capsys, "show", tmp_path / "experts", "--html", tmp_path / "experts.html"
    )
    assert not (tmp_path / "experts.html").exists()


def test_several_sets_are_scored_one_after_the_other(capsys, made: Path, tmp_path: Path):
    """A list with the name of each file; a single one is written as ever."""
    other, results = tmp_path / "other.h5", tmp_path / "results.json"
    assert main(["distill", "random", "--data", "digits", "--ipc", "1", "--out", str(other)]) == 0
    capsys.readouterr()
    words = ["--protocol", "demo", "--runs", "1", "--nets", "mlp", "--json", str(results)]
    assert main(["evaluate", str(made), str(other), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [made.name, other.name]
    both = json.loads(results.read_text(encoding="utf-8"))
    assert [result["file"] for result in both] == [made.name, other.name]
    for path, result in zip((made, other), both):
        assert main(["evaluate", str(path), *words]) == 0
        alone = json.loads(results.read_text(encoding="utf-8"))
        assert "file" not in alone
        times = {"seconds": 0, "training_seconds": 0}
        assert alone | times == {name: value for name, value in result.items() if name != "file"} | times
        assert capsys.readouterr().out.startswith("mlp: ")
    assert main(["evaluate", str(made), str(other), *words, "--nets", "mlp,convnet-d1-w8"]) == 0
    four = json.loads(results.read_text(encoding="utf-8"))
    assert [(result["file"], result["network"]) for result in four] == [
        (path.name, network) for path in (made, other) for network in ("mlp", "convnet-d1-w8-in")
    ]


@pytest.mark.parametrize("configuration", ["text", None, {"classes": 5}, {"classes": [["a"]]}, {"classes": "0,1"}])
def test_a_set_whose_provenance_is_of_others_is_scored_or_refused(capsys, made: Path, tmp_path: Path, configuration):
    """Provenance is whatever who made a file wrote into it."""
    synthetic = replace(SyntheticSet.load(made), provenance={"configuration": configuration})
    synthetic.save(tmp_path / "other.h5")
    words = ["evaluate", tmp_path / "other.h5", "--protocol", "demo", "--runs", "1", "--nets", "mlp"]
    if configuration == {"classes": "0,1"}:  # which the set does not have
        assert "10 classes" in refused(capsys, *words)
    else:
        assert main([str(word) for word in words]) == 0


def test_every_set_is_looked_at_before_the_first_is_scored(capsys, made: Path, tmp_path: Path):
    results = tmp_path / "results.json"
    words = ["--protocol", "demo", "--json", results]
    assert "missing.h5" in refused(capsys, "evaluate", made, tmp_path / "missing.h5", *words)
    labels = np.arange(40) % 4
    np.savez(
        tmp_path / "four.npz",
        train_images=np.zeros((40, 8, 8), np.uint8),
        train_labels=labels,
        test_images=np.zeros((4, 8, 8), np.uint8),
        test_labels=np.arange(4),
    )
    assert (
        main(
            [
                "distill",
                "random",
                "--data",
                str(tmp_path / "four.npz"),
                "--ipc",
                "1",
                "--out",
                str(tmp_path / "four.h5"),
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert "'four', which is not built in" in refused(capsys, "evaluate", made, tmp_path / "four.h5", *words)
    assert "4 classes" in refused(capsys, "evaluate", made, tmp_path / "four.h5", "--data", "digits", *words)
    account = tmp_path / "four.json"
    assert "give another name" in refused(
        capsys, "evaluate", made, tmp_path / "four.h5", "--data", "digits", "--json", account
    )
    assert not results.exists()


def test_export_and_import_round_trip(capsys, made: Path, tmp_path: Path):
    plain = tmp_path / "set.pt"
    assert main(["export", str(made), "--to", "torch", "--out", str(plain)]) == 0
    assert "images" in torch.load(plain, weights_only=True)
    assert main(["export", str(made), "--to", "folder", "--out", str(tmp_path / "folder")]) == 0
    assert len(list((tmp_path / "folder").rglob("*.png"))) == 10
    tensors = torch.load(plain, weights_only=True)
    lineage = tmp_path / "lineage"
    lineage.mkdir()
    torch.save(tensors["images"], lineage / "images_best.pt")
    torch.save(tensors["labels"], lineage / "labels_best.pt")
    words = ["import", lineage / "images_best.pt", "--data", "digits", "--out", tmp_path / "imported.h5"]
    assert main([str(word) for word in words]) == 0
    assert main(["evaluate", str(tmp_path / "imported.h5"), "--protocol", "demo", "--runs", "1"]) == 0
    assert "--overwrite" in refused(capsys, *words)
    assert main([str(word) for word in [*words, "--learned-lr", 0.03, "--overwrite"]]) == 0
    assert SyntheticSet.load(tmp_path / "imported.h5").learned_lr == 0.03
    assert "--learned-lr" in refused(capsys, *words, "--learned-lr", 0, "--overwrite")


@pytest.mark.parametrize("to", ["torch", "folder"])
def test_an_export_comes_in_again(capsys, made: Path, tmp_path: Path, to: str):
    path, out = tmp_path / "export", tmp_path / "again.h5"
    assert main(["export", str(made), "--to", to, "--out", str(path)]) == 0
    capsys.readouterr()
    words = ["import", path, "--data", "digits", "--out", out]
    assert main(list(map(str, words))) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: 10 images, {SyntheticSet.load(out).bytes:,} bytes\n"
    assert "--normalization" not in said.err  # it says itself
    read, written = SyntheticSet.load(out), SyntheticSet.load(made)
    assert read.info.identity == written.info.identity
    assert to == "folder" or torch.equal(read.images, written.images)
    assert read.provenance["configuration"] == written.provenance["configuration"]
    words.append("--overwrite")
    assert "leave it out" in refused(capsys, *words, "--normalization", "zca")
    assert "leave --space and --factor out" in refused(capsys, *words, "--factor", 2)
    assert main(list(map(str, [*words, "--learned-lr", 0.5, "--normalization", "computed"]))) == 0
    assert SyntheticSet.load(out).learned_lr == 0.5


def test_mosaics_of_pictures_come_in(capsys, tmp_path: Path):
    """As IDC's and NCFM's code stores them."""
    torch.save([torch.rand(10, 1, 8, 8), torch.arange(10)], tmp_path / "data.pt")
    out = tmp_path / "set.h5"
    words = ["import", tmp_path / "data.pt", "--data", "digits", "--out", out]
    assert main(list(map(str, [*words, "--space", "unit", "--factor", 2]))) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: 10 images, decoded to 40, ")
    assert said.err == ""
    assert SyntheticSet.load(out).decoder == Tiles(2)
    assert main(list(map(str, [*words, "--overwrite"]))) == 0
    assert "--space unit" in (notes := capsys.readouterr().err)
    assert "--normalization" in notes
    assert "--space" in refused(capsys, *words, "--space", "pixels", "--overwrite")
    assert "--factor" in refused(capsys, *words, "--factor", 1, "--overwrite")
    assert "--factor is of a set" in refused(capsys, *words, "--factor", 2, "--net", "mlp")
    torch.save({"state_dict": {}}, tmp_path / "data.pt")
    assert "a dict of state_dict is not in a form that can be imported" in refused(capsys, *words, "--overwrite")
    assert "is a directory without metadata.json" in refused(capsys, "import", tmp_path, *words[2:], "--overwrite")
    assert "is no file" in refused(capsys, "import", tmp_path, *words[2:], "--net", "mlp")


def test_pack_makes_a_file_that_loads_as_the_same_data(capsys, tmp_path: Path, made: Path):
    packed = tmp_path / "digits.h5"
    assert main(["pack", "digits", "--out", str(packed)]) == 0
    assert main(["evaluate", str(made), "--data", str(packed), "--protocol", "demo", "--runs", "1"]) == 0
    assert "fingerprint" not in capsys.readouterr().err


def test_a_set_on_data_with_other_classes_is_refused(capsys, made: Path, tmp_path: Path):
    labels = np.arange(40) % 4
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "other.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    assert "class" in refused(capsys, "evaluate", made, "--data", tmp_path / "other.npz", "--protocol", "demo")


def test_the_command_in_a_file_makes_the_same_file(tmp_path: Path, forked, monkeypatch):
    folder = tmp_path / "shapes"
    draws = np.random.default_rng(0)
    for name in ("one class", "zwölf"):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            image = Image.fromarray(draws.integers(0, 256, (9, 7, 3), dtype=np.uint8))
            image.save(folder / name / f"{number}.png")
    made = tmp_path / "made.h5"
    data = ["--data", folder, "--image-size", "8x6", "--normalization", "zca", "--mirror"]
    words = ["distill", "dm", *data, "--ipc", 1, "--threads", 1, "--out", made, *QUICK]
    assert main([str(word) for word in words]) == 0
    command = shlex.split(SyntheticSet.load(made).provenance["command"])
    monkeypatch.chdir(tmp_path)
    again = forked(COMMAND, *command[1:])
    assert again.ended() == 0, again.errors
    assert (tmp_path / "set.h5").read_bytes() == made.read_bytes()
    assert str(tmp_path).encode() not in made.read_bytes()


def test_nothing_of_the_users_is_replaced(capsys, tmp_path: Path):
    data, account = tmp_path / "data.h5", tmp_path / "set.json"
    assert main(["pack", "digits", "--out", str(data)]) == 0
    account.write_text("mine")
    before = data.read_bytes()
    words = ["distill", "random", "--data", data, "--ipc", "1", "--out"]
    assert "no readable synthetic set" in refused(capsys, *words, data, "--overwrite")
    assert "is the data itself" in refused(capsys, "pack", data, "--out", data, "--overwrite")
    assert str(account) in refused(capsys, *words, tmp_path / "set.h5")
    assert data.read_bytes() == before
    assert account.read_text() == "mine"


def test_the_first_images_of_a_greedy_choice_are_scored_as_the_smaller_choice(tmp_path: Path):
    """And a fraction of the images is chosen by a word."""
    words = ["--data", "digits", "--features", "pixels"]
    for ipc in (1, 3):
        assert main(["distill", "herding", *words, "--ipc", str(ipc), "--out", str(tmp_path / f"{ipc}.h5")]) == 0
    scored = ["--protocol", "demo", "--runs", "1", "--nets", "mlp", "--json"]
    assert main(["evaluate", str(tmp_path / "3.h5"), "--first", "1", *scored, str(tmp_path / "part.json")]) == 0
    assert main(["evaluate", str(tmp_path / "1.h5"), *scored, str(tmp_path / "small.json")]) == 0
    part, small = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("part", "small"))
    assert part["accuracies"] == small["accuracies"]
    assert (part["images"], part["bytes"]) == (10, small["bytes"])


def test_a_fraction_from_the_command_line_is_chosen_told_and_made_again(tmp_path: Path, capsys):
    out = tmp_path / "kept.h5"
    words = ["--data", "digits", "--fraction", "0.02", "--no-balanced", "--out"]
    assert main(["distill", "random", *words, str(out)]) == 0
    total = len(load_data("digits").train)
    assert f"{round(0.02 * total)} images (2 % of the training images, of any class)" in capsys.readouterr().out
    made = SyntheticSet.load(out)
    command = made.provenance["command"]
    assert "--fraction 0.02 --no-balanced" in command
    assert main([word if word != "set.h5" else str(tmp_path / "again.h5") for word in shlex.split(command)[1:]]) == 0
    assert (tmp_path / "again.h5").read_bytes() == out.read_bytes()
    assert "instead of --fraction 0.5" in refused(
        capsys, "distill", "dm", "--data", "digits", "--fraction", "0.5", "--out", tmp_path / "dm.h5"
    )
    assert "two sizes" in refused(capsys, "distill", "random", *words, tmp_path / "x.h5", "--ipc", "3")
    assert "give --ipc N" in refused(capsys, "distill", "random", "--data", "digits", "--out", tmp_path / "x.h5")
