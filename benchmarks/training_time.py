"""Training-time baselines in a report: accuracy beside the seconds of choosing and training, never beside sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.markdown import markdown_table, percent
from benchmarks.panels import Panel
from benchmarks.plot import Series, draw_lines
from benchmarks.table import Table, as_dicts

CONTROL = "all data"


def lines_of_baselines(table: Table) -> list[dict[str, Any]]:
    """One flat dictionary for each baseline in each column, then one for all data as the control in each.

    Accuracies are fractions; seconds are those of one network: `choosing` once before it, `training` without its test.
    """
    lines = [_line_of(each) for each in as_dicts(table)]
    for (data, column), record in table.full.items():
        networks = len(record.accuracies)
        lines.append(
            {
                "data": data,
                "size": "",
                "method": CONTROL,
                "details": "",
                "protocol": column.protocol,
                "protocol_hash": record.protocol_hash,
                "network": record.network,
                "sets": 1,
                "networks": networks,
                "mean": record.mean,
                "std": record.std,
                "choosing_seconds": 0.0,
                "training_seconds": (record.seconds.training or record.seconds.evaluating or 0.0) / networks,
                "unique_images": record.images,
                "bytes": record.bytes,
            }
        )
    return lines


def _line_of(line: dict[str, Any]) -> dict[str, Any]:
    kept = ("protocol", "protocol_hash", "network", "sets", "networks", "mean", "std")
    size = f"{line['ipc']} per class" if line["ipc"] is not None else f"{100 * line['fraction']:g} %"
    return {
        "data": line["data"],
        "size": size,
        "method": line["method"],
        "details": line["details"],
        **{name: line[name] for name in kept},
        "choosing_seconds": line["making_seconds"],
        "training_seconds": line["training_seconds"] / line["networks"],
        "unique_images": line["stored_images"],
        "bytes": line["bytes"],
    }


def baselines_panel(table: Table) -> Panel:
    """The table of a report, with what it says."""
    rows = [
        [
            line["data"],
            line["size"],
            f"{line['method'].split()[0]} ({line['details']})" if line["details"] else line["method"],
            f"{line['protocol']} {line['protocol_hash']} {line['network']}",
            percent(line["mean"], line["std"]) + f" ({line['sets']} x {line['networks']})",
            f"{line['choosing_seconds'] or 0.0:.1f}",
            f"{line['training_seconds']:.1f}",
            f"{line['unique_images']:,}",
            f"{line['bytes']:,}",
        ]
        for line in lines_of_baselines(table)
    ]
    heads = ["data", "at a time", "training", "column", "accuracy", "choosing", "training, s", "unique images", "bytes"]
    text = (
        "Training-time baselines, for which no set is stored: test accuracy in percent, seconds of choosing images "
        "(evidence included) and of training one network, and how many different images that network has "
        "seen, which all have to be stored. The training of a teacher is not counted. Not comparable with sets of as "
        "many images; all data under the same rule is the control."
    )
    return Panel("Training-time baselines", heads, rows, text)


def baselines_section(table: Table) -> str:
    """The panel in Markdown; empty without baselines."""
    panel = baselines_panel(table)
    return f"{panel.text}\n\n" + markdown_table(panel.columns, panel.rows) if panel.rows else ""


def draw(lines: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against the seconds of choosing and training: a line for each baseline, a point for each length."""
    names = list(dict.fromkeys(map(_series, lines)))
    several = len({(network, rule) for *_, network, rule in names}) > 1
    panels: dict[str, list[Series]] = {}
    for data in dict.fromkeys(line["data"] for line in lines):
        for name in names:
            of_one = [line for line in lines if (line["data"], _series(line)) == (data, name)]
            points = [(_seconds(line), line["mean"], line["std"] or 0.0) for line in of_one]
            method, size, *rest = name
            label = ", ".join(filter(None, [method, size, *(rest if several else [])]))
            if points:
                panels.setdefault(data, []).append(Series(label, points, dashed=method == CONTROL))
    return draw_lines(panels, "seconds of choosing and training")


def _series(line: dict[str, Any]) -> tuple[str, str, str, str]:
    """What the points of one line have in common: all but how long they were trained."""
    return line["method"], line["size"], line["network"], line["protocol"].split(",")[0]


def _seconds(line: dict[str, Any]) -> float:
    return float((line["choosing_seconds"] or 0.0) + line["training_seconds"])
