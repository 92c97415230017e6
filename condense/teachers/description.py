"""A teacher in words: the rows that `condense show` prints, and one line for lists."""

from __future__ import annotations

from condense.networks.base import describe_shape
from condense.teachers.manifest import Manifest, Measured
from condense.teachers.teacher import Teacher

_LISTED = 12  # classes that are shown


def describe_teacher(teacher: Teacher) -> dict[str, str]:
    """What the teacher is, how good it is and where it comes from; texts by row name, in reading order."""
    mine = teacher.manifest
    rows = {
        "network": mine.network,
        "images": describe_shape(mine.image_shape),
        "classes": f"{len(mine.classes)}: {_shortened(mine.classes)}",
        "normalisation": f"mean {_numbers(mine.mean)}; std {_numbers(mine.std)}",
        "BatchNorm": "with running statistics" if teacher.has_statistics else "none: it can label images, not recover",
        "held-out accuracy": _accuracy(mine.held_out, "training images that it was not trained on"),
        "test accuracy": _accuracy(mine.test, "test images"),
        "real data": _data(mine),
        "training": _training(mine),
    }
    if mine.seed is not None:
        rows["seed"] = str(mine.seed)
    return rows | {
        "hash": teacher.hash,
        "bytes": f"{teacher.bytes:,}",
        "versions": ", ".join(f"{name} {value}" for name, value in mine.versions.items()),
    }


def teacher_line(teacher: Teacher) -> str:
    """The file, accuracies, size and hash in one line."""
    mine = teacher.manifest
    accuracies = [
        f"{name} {measured.accuracy:.2%} of {measured.images:,}"
        for name, measured in (("held-out", mine.held_out), ("test", mine.test))
        if measured is not None
    ]
    told = ", ".join(accuracies) or "accuracy unknown"
    return f"{teacher.path or mine.network}: {told}, {teacher.bytes:,} bytes, hash {teacher.hash}"


def _accuracy(measured: Measured | None, images: str) -> str:
    return "unknown" if measured is None else f"{measured.accuracy:.2%} of {measured.images:,} {images}"


def _data(mine: Manifest) -> str:
    if mine.data is None:
        return "unknown"
    return f"{mine.data} (fingerprint {str(mine.fingerprint)[:12]})"


def _training(mine: Manifest) -> str:
    if mine.origin == "imported":
        return f"unknown: imported from {mine.source}"
    return ", ".join(f"{name} {value}" for name, value in mine.training.items())


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _shortened(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown}, ..."
