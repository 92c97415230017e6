"""The tables of README and `docs/results.md` say what the committed records say."""

import csv
import re
from pathlib import Path

import pytest

from benchmarks.report import percent
from condense.synthesizers.registry import methods

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SIZES = re.findall(r"^### (.+), (\d+) images? per class$", PAGE, re.MULTILINE)
NAMES = {"Fashion-MNIST": "fashion-mnist", "CIFAR-10": "cifar10"}
MOSAICS = "idm"  # which method the mosaics that nobody learned come from


def table(text: str) -> list[list[str]]:
    """The first Markdown table of a text: its heading, then its rows."""
    lines = re.search(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    assert lines is not None
    rows = [[field.strip() for field in line.strip("|").split("|")] for line in lines[0].strip().splitlines()]
    return [rows[0], *rows[2:]]


def measured(data: str, ipc: str) -> list[dict[str, str]]:
    """What the matching family reached on one data set at one size."""
    with (ROOT / "benchmarks" / "results" / "matching-desk" / "results.csv").open(encoding="utf-8") as file:
        return [line for line in csv.DictReader(file) if (line["data"], line["ipc"]) == (NAMES[data], ipc)]


def accuracy(line: dict[str, str]) -> str:
    return percent(float(line["mean"]), float(line["std"]))


def page_row(line: dict[str, str]) -> list[str]:
    """A line of the results as the page shows it, with the method for its name."""
    stored = line["stored_images"]
    images = stored if stored == line["images"] else f"{line['images']} from {stored}"
    iterations = f"{int(line['iterations']):,}" if line["iterations"] else ""
    return [
        line["method"].split()[0],
        accuracy(line),
        iterations,
        images,
        f"{int(line['bytes']):,}",
        f"{float(line['making_seconds']):.0f}",
    ]


def learned(line: dict[str, str]) -> bool:
    """Whether a line is more than the mosaics that a method starts from."""
    return line["iterations"] != "1"


def method_of(name: str) -> str:
    word = name.split(",")[0].split()[0]
    return MOSAICS if word == "mosaics" else word


@pytest.mark.parametrize(("data", "ipc"), SIZES)
def test_each_size_on_the_page_has_the_rows_that_were_measured(data: str, ipc: str):
    section = PAGE.split(f"### {data}, {ipc} image", 1)[1]
    shown = [[method_of(name), *rest] for name, *rest in table(section)[1:]]
    assert sorted(shown) == sorted(page_row(line) for line in measured(data, ipc))
    accuracies = [float(row[1].split()[0]) for row in shown]
    assert accuracies == sorted(accuracies, reverse=True)


def test_the_readme_shows_every_size_and_what_was_measured():
    heading, *rows = table(README.split("## Results", 1)[1])
    assert heading == ["method", *(f"{data}, {ipc}" for data, ipc in SIZES)]
    for name, *shown in rows:
        assert method_of(name) in methods().names()
        for (data, ipc), text in zip(SIZES, shown, strict=True):
            lines = [
                line
                for line in measured(data, ipc)
                if line["method"].split()[0] == method_of(name) and learned(line) != name.startswith("mosaics")
            ]
            found = {accuracy(line) for line in lines} or {""}  # nothing is shown for what is not measured yet
            assert text in found, f"{name}, {data}, {ipc}"
