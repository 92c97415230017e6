"""The tables of README and `docs/results.md`, written from the reports of the committed grids.

A page says where a table stands and which one it is, and the table follows:

    <!-- table: cost matching-desk fashion-mnist 10 -->     one data set and size: accuracy and what it costs
    <!-- table: sizes matching-desk -->                     every method at every size: accuracy
    <!-- table: columns recovery-desk cifar10 10 -->        one data set and size: accuracy in every column of the grid
    <!-- table: labels labels-codecs cifar10 10 -->         one data set and size: the labels of every column, and bytes
    <!-- table: fractions fraction-screen cifar10 -->       one data set: accuracy at every part of it
    <!-- table: trainings time-to-accuracy -->              trainings without a set: accuracy at every length, seconds

    python -m benchmarks.pages
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.markdown import markdown_table, percent
from benchmarks.scores import difference
from condense.evaluation.protocols import PROTOCOLS
from condense.runtime.errors import CondenseError
from condense.runtime.files import write_text

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")

Line = dict[str, str]  # of a results.csv: one row of a report in one column

TITLES = {"fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
WORDS = {  # for what a grid gives, where its own words say little to a reader
    "augmentation dsa-flip-first": "flip first",
    "flip_closure True": "flip closure",
    "gradient adjoint": "adjoint",
    "gradient frozen": "frozen",
    "image_average_left None": "raw images",
    "radius 0": "weights not moved",
    "recipe plusplus": "SRe2L++",
}
NOT_LEARNED = "mosaics of real images, not learned"  # idm after one update at a rate of nearly nothing
SAME_FOR_ALL = re.compile(
    r"recipe (?!plusplus)\w+|layout mixed|teacher .+|revision \d+|[\d.]+ minutes|\d+ \w+ experts of \d+ epochs"
)
ITERATIONS = re.compile(r"\d+ iterations")
MARK = re.compile(r"(<!-- table: (?P<words>[^>]+) -->\n)(?:\|.*\n)*")


def write_pages(pages: Sequence[Path] = PAGES, results: Path = ROOT / "benchmarks" / "results") -> None:
    """Put the tables that pages ask for into them, from the reports below a folder.

    Raises `CondenseError` for a table that nobody can make.
    """
    for page in pages:
        text = with_tables(page.read_text(encoding="utf-8"), results)
        write_text(page, text)


def with_tables(text: str, results: Path) -> str:
    """A page with the tables that it asks for, whatever stood in their places."""

    def filled(match: re.Match[str]) -> str:
        kind, grid, *place = match["words"].split()
        if kind not in KINDS:
            raise CondenseError(f"a page asks for a table {kind!r}; there are {', '.join(KINDS)}")
        return match[1] + KINDS[kind](results / grid, *place) + "\n"

    return MARK.sub(filled, text)


def lines_of(folder: Path) -> list[Line]:
    """What a grid measured, a line for each row in each column."""
    try:
        with (folder / "results.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise CondenseError(f"a page asks for a table of {folder.name}, which has no results.csv") from error


def _lines_at(folder: Path, data: str, ipc: str) -> list[Line]:
    return [line for line in lines_of(folder) if (line["data"], line["ipc"]) == (data, ipc)]


def cost_table(folder: Path, data: str, ipc: str) -> str:
    """Accuracies of one data set at one size, best first, beside iterations, images, bytes and seconds."""
    here = _lines_at(folder, data, ipc)
    protocols = list(dict.fromkeys(line["protocol"] for line in here))
    rows: dict[str, dict[str, Line]] = {}
    for line in here:
        rows.setdefault(name_of(line), {})[line["protocol"]] = line
    best_first = sorted(rows.items(), key=lambda row: -max(float(line["mean"]) for line in row[1].values()))
    headings = ["accuracy, %"] if len(protocols) == 1 else [f"{protocol}, %" for protocol in protocols]
    columns = ["method", *headings, "iterations", "images", "bytes", "seconds to make"]
    matched = ["experts, seconds"] if any(line["expert_seconds"] for line in here) else []
    machines = {line["made_on"] for line in here if "minutes" in line["details"]}
    told = ["on"] if len(machines) > 1 else []  # the same minutes, but not the same work
    table = []
    for name, scores in best_first:
        line = next(iter(scores.values()))  # what a set costs is the same in every column
        experts = [_seconds(line["expert_seconds"]) for _ in matched]
        table.append([name, *_accuracies(scores, protocols), *_costs(line), *experts, *[line["made_on"] for _ in told]])
    return markdown_table([*columns, *matched, *told], table)


def sizes_table(folder: Path) -> str:
    """Accuracies of every method at every size, worst first; rows with options of their own are left out."""
    lines = lines_of(folder)
    found, order = {(line["data"], line["ipc"]) for line in lines}, list(TITLES)
    sizes = sorted(found, key=lambda size: (order.index(size[0]), int(size[1])))
    rows: dict[str, dict[tuple[str, str], Line]] = {}
    for line in lines:
        name = name_of(line)
        if name == NOT_LEARNED or "," not in name:
            rows.setdefault(name, {})[line["data"], line["ipc"]] = line
    worst_first = sorted(rows.items(), key=lambda row: mean(float(line["mean"]) for line in row[1].values()))
    return markdown_table(
        ["method", *[f"{TITLES[data]}, {ipc}" for data, ipc in sizes]],
        [[name, *_accuracies(scores, sizes)] for name, scores in worst_first],
    )


def columns_table(folder: Path, data: str, ipc: str) -> str:
    """Accuracies of one data set at one size in every column, in the order of the grid: columns are never compared.

    A column is a protocol and the labels that sets were given for it; bytes are those of the set itself, where it is
    scored without such labels.
    """
    here = _lines_at(folder, data, ipc)
    columns = list(dict.fromkeys((line["protocol"], line.get("labels", "")) for line in here))
    rows: dict[str, dict[tuple[str, str], Line]] = {}
    for line in here:
        rows.setdefault(name_of(line), {})[line["protocol"], line.get("labels", "")] = line
    headings = [f"{protocol} ({labels})" if labels else protocol for protocol, labels in columns]
    table = []
    for name, scores in rows.items():
        own = next((line for (_, labels), line in scores.items() if not labels), None)
        line = own or {**next(iter(scores.values())), "bytes": ""}
        table.append([name, *_accuracies(scores, columns), *_costs(line)])
    return markdown_table(["method", *headings, "iterations", "images", "bytes", "seconds to make"], table)


def labels_table(folder: Path, data: str, ipc: str) -> str:
    """The columns of a grid that differ in labels, a row each in its order, with the bytes of all that is kept."""
    rows = [
        [line.get("labels") or "class indices", line["protocol"], _accuracy(line), f"{int(line['bytes']):,}"]
        for line in _lines_at(folder, data, ipc)
    ]
    return markdown_table(["labels", "protocol", "accuracy, %", "bytes"], rows)


def fractions_table(folder: Path, data: str) -> str:
    """Accuracies of every method at every part of the data, best first under the grid's first protocol.

    "Best" is in the mean over the parts at which all were scored.

    Where both have several networks, ▲ and ▼ stand beside what is better and worse than `random` with 95 % confidence,
    by Welch's interval over all networks on all sets.
    """
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    scores = [score for score in content["scores"] if score["data"] == data]
    usual = scores[0]["protocol"]
    found = {(score["protocol"], score["fraction"]) for score in scores}
    columns = sorted(found, key=lambda column: (column[0] != usual, *column))
    rows: dict[str, dict[tuple[str, float], dict[str, Any]]] = {}
    for score in scores:
        rows.setdefault(score["method"], {})[score["protocol"], score["fraction"]] = score
    leading = [column for column in columns if column[0] == usual and all(column in row for row in rows.values())]
    best_first = sorted(rows.items(), key=lambda row: -mean(row[1][column]["mean"] for column in leading))
    chance = rows.get("random", {})
    cells = [
        [name, *[_beside(scored.get(column), chance.get(column)) for column in columns]] for name, scored in best_first
    ]
    return markdown_table(["method", *[_part(column, usual) for column in columns]], cells)


def trainings_table(folder: Path) -> str:
    """Training-time baselines and all data: accuracy at every length, seconds of choosing, how many images are seen."""
    with (folder / "training.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    protocols = list(dict.fromkeys(line["protocol"] for line in lines))
    usual = min(protocols, key=len)
    rows: dict[str, dict[str, Line]] = {}
    for line in lines:
        rows.setdefault(line["method"], {})[line["protocol"]] = line
    table = []
    for name, scores in rows.items():
        seen = [int(line["unique_images"]) for line in scores.values()]
        images = f"{min(seen):,}" + (f" to {max(seen):,}" if min(seen) < max(seen) else "")
        choosing = mean(float(line["choosing_seconds"] or 0.0) for line in scores.values())
        table.append([name, *_accuracies(scores, protocols), f"{choosing:.0f}", images])
    lengths = {usual: f"{PROTOCOLS.find(usual).rule.updates:,} updates"}
    headings = [lengths.get(protocol, protocol.removeprefix(f"{usual}, ")) for protocol in protocols]
    return markdown_table(["training", *headings, "choosing, s", "different images"], table)


def _part(column: tuple[str, float], usual: str) -> str:
    protocol, fraction = column
    return f"{100 * fraction:g} %" + ("" if protocol == usual else f", {protocol}")


def _beside(score: dict[str, Any] | None, chance: dict[str, Any] | None) -> str:
    """An accuracy, and whether it clearly differs from that of random images."""
    if score is None:
        return ""
    shown = percent(score["mean"], score["std"])
    if chance is None or score is chance:
        return shown
    found = difference(*([value for each in given["accuracies"] for value in each] for given in (score, chance)))
    return f"{shown} {'▲' if found.mean > 0 else '▼'}" if found.is_clear else shown


def name_of(line: Line) -> str:
    """The method and what is particular about a row.

    >>> details = "revision 2, recipe desk, flip_closure True, 8 minutes"
    >>> name_of({"method": "dm (flip_closure True)", "details": details, "iterations": "20"})
    'dm, flip closure'
    """
    if line["iterations"] == "1":
        return NOT_LEARNED
    told = "iterations" in line["method"]  # otherwise data and size tell them
    details = [
        part
        for part in line["details"].split(", ")
        if part and not SAME_FOR_ALL.fullmatch(part) and (told or not ITERATIONS.fullmatch(part))
    ]
    return ", ".join([line["method"].split()[0], *[WORDS.get(part, part) for part in details]])


def _accuracies(scores: Mapping[Any, Line], keys: Sequence[Any]) -> list[str]:
    return [_accuracy(scores[key]) if key in scores else "" for key in keys]


def _accuracy(line: Line) -> str:
    return percent(float(line["mean"]), float(line["std"]) if line["std"] else None)


def _seconds(told: str) -> str:
    return f"{float(told):,.0f}" if told else ""


def _costs(line: Line) -> list[str]:
    stored = line["stored_images"]
    return [
        f"{int(line['iterations']):,}" if line["iterations"].isdigit() else line["iterations"],
        stored if stored == line["images"] else f"{line['images']} from {stored}",
        f"{int(line['bytes']):,}" if line["bytes"] else "",
        f"{float(line['making_seconds']):.0f}",
    ]


KINDS: dict[str, Callable[..., str]] = {
    "cost": cost_table,
    "sizes": sizes_table,
    "columns": columns_table,
    "labels": labels_table,
    "fractions": fractions_table,
    "trainings": trainings_table,
}


if __name__ == "__main__":
    write_pages()
