"""A buffer in words and as a picture: what `condense show DIR` gives."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from statistics import fmean

from buffers.index import BufferDescription
from buffers.store import ExpertBuffer
from condense.runtime.files import atomic_write
from condense.runtime.printing import for_plot


def describe_buffer(buffer: ExpertBuffer) -> dict[str, str]:
    """What the experts are and how they were trained; texts by row name, in reading order."""
    mine = buffer.description
    ends = [buffer.accuracies(expert)[-1] for expert in range(buffer.experts)]
    spent = fmean(buffer.seconds(expert) for expert in range(buffer.experts))
    shape = "x".join(map(str, mine.image_shape))
    return {
        "experts": f"{buffer.experts} of {mine.network}, {buffer.layout.size:,} parameters, stored as {mine.dtype}",
        "epochs": f"{buffer.epochs}; epoch 0 is the initialisation",
        "accuracy": "unknown: imported"
        if math.isnan(sum(ends))
        else f"{fmean(ends):.1%} after the last epoch ({min(ends):.1%} to {max(ends):.1%})",
        "real data": f"{mine.data} of {shape}, {len(mine.classes)} classes (fingerprint {mine.fingerprint[:12]})",
        "preprocessing": mine.preprocessing,
        "mirror images": "same class" if mine.mirror else "not the same class",
        **_training(mine),
        "seconds": "unknown: imported" if math.isnan(spent) else f"{spent:.0f} for each expert",
        **_machines(buffer),
        "bytes": f"{buffer.bytes:,}",
        "versions": ", ".join(f"{name} {value}" for name, value in mine.versions.items()),
    }


def _training(mine: BufferDescription) -> dict[str, str]:
    if mine.origin == "imported":
        return {"training": f"optimizer {mine.rule.optimizer}; everything else is unknown: imported"}
    return {
        "training": ", ".join(f"{name} {value}" for name, value in mine.rule.used.items()),
        "training step": ("compiled" if mine.compile == "on" else "not compiled") + f", on {mine.device}",
        "seed": str(mine.seed),
    }


def _machines(buffer: ExpertBuffer) -> dict[str, str]:
    """Where experts were trained; the last bits depend on the threads."""
    machines = [made.get("hardware") for made in map(buffer.made_with, range(buffer.experts))]
    texts = [
        f"{machine['processor']}, threads {machine['threads']}"
        for machine in machines
        if isinstance(machine, dict) and machine.keys() >= {"processor", "threads"}
    ]
    return {"trained on": "; ".join(dict.fromkeys(texts))} if texts else {}


def accuracy_table(buffer: ExpertBuffer) -> list[str]:
    """Mean, lowest and highest test accuracy after each epoch, as lines."""
    columns = zip(*(buffer.accuracies(expert) for expert in range(buffer.experts)))
    lines = [
        f"{epoch:5d}  {fmean(values):6.1%}  {min(values):6.1%}  {max(values):6.1%}"
        for epoch, values in enumerate(columns)
    ]
    return ["epoch    mean  lowest highest", *lines]


def plot_accuracies(buffer: ExpertBuffer, path: Path) -> None:
    """Test accuracy of every expert by epoch, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for expert in range(buffer.experts):
        values = [100 * value for value in buffer.accuracies(expert)]
        axes.plot(range(buffer.epochs + 1), values, color="tab:blue", alpha=0.5, linewidth=1.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epochs")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(for_plot(f"{buffer.experts} experts: {buffer.description.network} on {buffer.description.data}"))
    axes.grid(alpha=0.3)
    with atomic_write(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of names in letters that the font lacks
        figure.savefig(temporary, format="png", dpi=120)
