"""Published numbers: the file holds together, and what nobody has looked up stays hidden."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.cells import FULL
from benchmarks.published import TAGS, Entry, published, read_published
from condense.data.catalogue import DATA_SETS
from condense.methods.registry import methods, training_time
from condense.runtime.errors import CondenseError

ENTRIES = read_published()

# What condense has no method or no reader for, under the names of papers and recipes.
OTHER_METHODS = {
    *("AT-BPTT", "AT-BPTT++", "BPTT", "CAFE", "DELT", "EDC", "FADRM, one network", "FADRM, several networks"),
    *("FTD without averages", "G-VBSM", "HALD", "HeLlO", "IDC-I", "INFER+Dyn", "KIP", "KIP (kernel)", "LPLD"),
    *("Label-Solve", "Label-Solve (kernel)", "M3D", "NCFM without the network of frequencies", "PAD", "RaT-BPTT"),
    *("SCDD", "SRe2L++"),
}
OTHER_DATA = {"tiny-imagenet", "imagenet-1k", "imagenet-21k", "imagenet-100"}


def letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")  # SRe2L++ is not SRe2L


def write(folder: Path, text: str) -> Path:
    path = folder / "published.yaml"
    path.write_text(text)
    return path


def test_no_number_stands_twice():
    counts = Counter((entry.data, entry.ipc or entry.fraction, entry.method, entry.source) for entry in ENTRIES)
    assert [key for key, count in counts.items() if count > 1] == []


def test_every_entry_is_in_percent_and_has_a_known_tag():
    assert all(0 < entry.accuracy < 100 for entry in ENTRIES)
    assert {entry.tag for entry in ENTRIES} == set(TAGS)
    assert all(entry.accuracy > 1 for entry in ENTRIES if entry.data in ("cifar10", "fashion-mnist", "mnist", "svhn"))
    assert all(0 < entry.deviation < 5 for entry in ENTRIES if entry.deviation is not None)


def test_methods_are_called_as_in_the_registry():
    known = [*methods(), *training_time()]
    assert {entry.method for entry in ENTRIES} - {method.name for method in known} == {FULL, *OTHER_METHODS}
    taken = {letters(name) for method in known for name in (method.name, *method.aliases)}
    assert [name for name in OTHER_METHODS if letters(name) in taken] == []


def test_data_sets_are_called_as_condense_calls_them():
    assert {entry.data for entry in ENTRIES} <= {*DATA_SETS.names(), *OTHER_DATA}


def test_sources_are_words_without_paths():
    words = [word for entry in ENTRIES for word in (entry.source, entry.protocol, entry.network) if word]
    assert [word for word in words if "/" in word or "\\" in word or word != word.strip()] == []


def test_all_images_are_a_fraction_of_one():
    assert {entry.fraction for entry in ENTRIES if entry.method == FULL} == {1.0}


def test_what_is_from_memory_is_never_returned():
    hidden = [entry for entry in ENTRIES if entry.tag == "memory"]
    assert hidden
    for entry in hidden:
        assert entry not in published(entry.data, entry.ipc, entry.method)
    shown = [found for entry in ENTRIES for found in published(entry.data, entry.ipc, entry.method)]
    assert all(found.tag != "memory" for found in shown)
    assert {*shown} == {*ENTRIES} - {*hidden}


def test_no_number_is_hidden_that_another_entry_shows():
    shown = {(entry.data, entry.ipc, entry.method, entry.accuracy) for entry in ENTRIES if entry.tag != "memory"}
    assert [entry for entry in ENTRIES if entry.tag == "memory" and (*key(entry), entry.accuracy) in shown] == []


def key(entry: Entry) -> tuple[str, int | None, str]:
    return entry.data, entry.ipc, entry.method


def test_the_strongest_evidence_comes_first():
    for entry in ENTRIES:
        tags = [TAGS.index(found.tag) for found in published(*key(entry))]
        assert tags == sorted(tags)
    assert [found.tag for found in published("cifar10", 1, "dc")] == ["authors", "board", "board", "board"]


@pytest.mark.parametrize(
    ("data", "ipc", "method"),
    [("CIFAR-10", 10, "Trajectory_Matching"), ("cifar10", 10, "MTT"), ("cifar-10", 10, "mtt")],
)
def test_any_name_of_data_and_method_finds_them(data: str, ipc: int, method: str):
    found = published(data, ipc, method)
    assert found == published("cifar10", 10, "mtt")
    assert 65.3 in [entry.accuracy for entry in found]


def test_papers_that_condense_has_no_method_of_are_found_by_their_name():
    assert [entry.accuracy for entry in published("fashion-mnist", 1, "idc-i")] == [70.7]
    assert 84.8 in [entry.accuracy for entry in published("cifar10", None, "full")]
    assert published("fashion-mnist", 1, "no such method") == []


def test_what_was_chosen_on_test_images_says_so():
    assert not any(entry.selected_on_test for entry in published("cifar10", 10, "dsa") if entry.tag == "authors")
    assert all(entry.selected_on_test for entry in published("cifar10", 10, "ncfm"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: dm\n", "0: every group needs a list of entries"),
        ("- {method: dm, entries: [3]}\n", "0: every group needs a list of entries"),
        ("- {method: dm, entries: [{method: dm}]}\n", "0.0: method is given twice"),
        (
            "- {method: dm, source: a, tag: board, entries: [{data: mnist, accuracy: 1.0}]}\n",
            "0.0: give either ipc or fraction",
        ),
        (
            "- {method: dm, source: a, tag: heard, entries: [{data: mnist, ipc: 1, accuracy: 1.0}]}\n",
            "0.0: tag 'heard'",
        ),
        (
            "- {method: dm, source: a, tag: board, entries: [{data: mnist, ipc: 1, accuracy: 101.0}]}\n",
            "0.0: accuracy 101.0",
        ),
        (
            "- {method: dm, source: a, tag: board, entries: [{data: mnist, ipc: 1, accurcy: 1.0, accuracy: 1.0}]}\n",
            "did you mean",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str):
    with pytest.raises(CondenseError, match=message):
        read_published(write(tmp_path, text))


def test_it_is_read_without_torch():
    code = "import sys, benchmarks.published as p; p.published('mnist', 1, 'dc'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
