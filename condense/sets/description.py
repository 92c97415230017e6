"""A synthetic set in words: the rows that `condense show` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from condense.data.preprocessing import Preprocessing
from condense.labels.costs import heavy_labels
from condense.sets.content import SetContent

_LISTED = 12  # entries of a list that are shown
_OF_IMAGES = {
    "weights": "how much each image counts in training",
    "source_indices": "which training image each one is",
    "scores": "what each image was chosen by",
}


def describe_set(synthetic: SetContent) -> dict[str, str]:
    """What the set is, what it needs in training and how it was made; texts by row name, in reading order."""
    info = synthetic.info
    rows = {
        "real data": f"{info.name} (fingerprint {info.fingerprint[:12]})",
        "classes": f"{len(info.classes)}: {_shortened(info.classes)}",
        "images": _images(synthetic),
        "preprocessing": _preprocessing(info.preprocessing),
        "mirror images": "same class" if info.mirror else "not the same class",
        "labels": synthetic.stored_labels.describe(),
        "bytes": f"{synthetic.bytes:,}{_beside(info.preprocessing)}{_heavy(synthetic)}",
    }
    for name, what in _OF_IMAGES.items():
        if getattr(synthetic, name) is not None:
            rows[name.replace("_", " ")] = what
    if synthetic.learned_lr is not None:
        rows["learned learning rate"] = f"{synthetic.learned_lr:.6g}"
    if synthetic.mirrored:
        rows["learned beside"] = "their mirror images"
    if synthetic.augmentation is not None:
        rows |= _rows("augmentation", synthetic.augmentation)
    if synthetic.protocol is not None:
        rows["made for protocol"] = synthetic.protocol
    for name, value in synthetic.provenance.items():
        rows |= _rows(name, value)
    for name, series in synthetic.metrics.items():
        last = f", {series[-1]:.4g} at the end" if len(series) else ""
        rows[f"recorded {name}"] = f"{len(series)} values{last}"
    return rows


def _images(synthetic: SetContent) -> str:
    counts = synthetic.class_counts
    per_class = f", {_span(counts)} per class" if counts else ""
    shape = "x".join(map(str, synthetic.info.image_shape))
    dtype = str(synthetic.stored.dtype).removeprefix("torch.")
    text = f"{len(synthetic.stored)} of {shape}{per_class}, stored as {dtype} ({synthetic.space})"
    return text if synthetic.decoder is None else f"{text}; {synthetic.decoder.describe(len(synthetic))}"


def _span(counts: Sequence[int]) -> str:
    return f"{counts[0]}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _preprocessing(preprocessing: Preprocessing) -> str:
    numbers = (
        f"{name} {_shortened([f'{value:.4g}' for value in array.reshape(-1).tolist()])}"
        for name, array in preprocessing.to_arrays().items()
        if array.size <= _LISTED
    )
    return "; ".join([preprocessing.kind, *numbers])


def _beside(preprocessing: Preprocessing) -> str:
    """What the numbers of the preprocessing add, where they are many: a whitening outweighs a small set."""
    arrays = preprocessing.to_arrays().values()
    many = sum(array.nbytes for array in arrays if array.size > _LISTED)
    return f"; the preprocessing has {many:,} more, the same for all sets of this data" if many else ""


def _heavy(synthetic: SetContent) -> str:
    """That labels outweigh images, where they do."""
    labels = synthetic.stored_labels.bytes
    note = heavy_labels(synthetic.bytes - labels, labels)
    return "" if note is None else f"; {note}"


def _rows(name: str, value: Any) -> dict[str, str]:
    """One row for a value; for a mapping one row of its plain values and one for each mapping in it.

    >>> _rows("configuration", {"method": "dm", "seed": 0, "settings": {"image_lr": 1.0}})
    {'configuration': 'method dm, seed 0', 'configuration.settings': 'image_lr 1.0'}
    """
    if not isinstance(value, Mapping):
        return {name: _text(value)}
    plain = [f"{key} {_text(inner)}" for key, inner in value.items() if not isinstance(inner, Mapping)]
    rows = {name: ", ".join(plain)} if plain else {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            rows |= _rows(f"{name}.{key}", inner)
    return rows


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    separator = ", " if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value) else " "
    return separator.join(map(_text, value)) if isinstance(value, list) else str(value)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown}, ..."
