"""Settings that methods share, in pairs: whatever works by itself works together with any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

import condense
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.methods.registry import methods
from condense.methods.request import Request, resolve_settings
from condense.runtime.registry import load_object
from condense.sets.synthetic_set import SyntheticSet
from condense.teachers import Committee

Factors = Mapping[str, Sequence[Any]]
Row = dict[str, Any]


def settings_of(method: str) -> Mapping[str, Any]:
    """The fields of a method's settings, by name."""
    maker = load_object(methods().find(method).target)
    return maker.Settings.model_fields


FACTORS: Factors = {
    "method": tuple(name for name in methods().names() if "real_batches" in settings_of(name)),
    "initialization": ("noise", "real", "kmeans", "herding", "tiles"),
    "shape": ((1, 8, 8), (1, 8, 12), (3, 8, 8), (3, 12, 8)),
    "flip_closure": (False, True),
    "real_batches": (None, "representative"),
    "norm": ("in", "bn"),
    "image_average": (None, 0.5),
    "precision": ("float32", "bfloat16"),
}
APART = ("method", "initialization")  # every method meets every start in the tests of all methods
QUICK = {
    "iterations": 2,
    "real_batch": 4,
    "matching_steps": 2,
    "network_images": 8,
    "network_steps": 1,
    "network_batch": 8,
    "networks": 1,
    "network_epochs": 1,
    "frequencies": 8,
}


def pairs_in(row: Row, factors: Factors) -> set[tuple]:
    """The pairs of values that meet in a row, which may have some of the factors only."""
    return set(combinations([(name, row[name]) for name in factors if name in row], 2))


def covering_rows(factors: Factors, apart: tuple[str, str] | None = None) -> list[Row]:
    """Rows with a value of every factor in which any two values of two factors meet, but for those of `apart`.

    Greedily: a row begins with a pair that has not met, then takes, factor by factor, the value that meets most others
    for the first time; of equally good ones that which rows have least often.
    """
    missing = [
        ((first, left), (second, right))
        for first, second in combinations(factors, 2)
        if (first, second) != apart
        for left, right in product(factors[first], factors[second])
    ]
    rows: list[Row] = []
    used: Counter[tuple] = Counter()
    while missing:
        row: Row = dict(missing[0])
        for name, values in factors.items():
            if name not in row:
                met = {value: pairs_in(row | {name: value}, factors).intersection(missing) for value in values}
                row[name] = max(values, key=lambda value: (len(met[value]), -used[name, value]))
        rows.append(row)
        used.update(row.items())
        missing = [pair for pair in missing if pair not in pairs_in(row, factors)]
    return rows


ROWS = covering_rows(FACTORS, APART)


@pytest.mark.parametrize(
    ("factors", "apart"),
    [
        (FACTORS, APART),
        (FACTORS, None),
        ({"a": "xyz", "b": "xyz", "c": "xyz", "d": "xy"}, None),
        ({"a": "x", "b": "yz"}, None),
    ],
    ids=str,
)
def test_any_two_values_meet_in_a_row(factors: Factors, apart: tuple[str, str] | None):
    rows = covering_rows(factors, apart)
    for first, second in combinations(factors, 2):
        for left in factors[first]:
            for right in factors[second]:
                together = any(row[first] == left and row[second] == right for row in rows)
                assert together or (first, second) == apart
    for row in rows:
        assert row.keys() == factors.keys()
        assert all(row[name] in values for name, values in factors.items())


def test_the_rows_are_few_and_shared_out():
    assert len(ROWS) <= 30
    assert set(Counter(row["method"] for row in ROWS).values()) == {4}


def test_every_method_that_compares_classes_is_in_some_row():
    assert {"dm", "dc", "dsa", "datadam", "idc", "idm", "ncfm"} <= {row["method"] for row in ROWS}


@pytest.fixture(scope="module")
def data_of(tmp_path_factory) -> Iterator[Callable[[tuple[int, int, int]], condense.RealData]]:
    """Noise in three classes of a shape, made when first asked for; with a cache of its own."""
    loaded: dict[tuple[int, int, int], Any] = {}

    def of(shape: tuple[int, int, int]):
        if shape not in loaded:
            channels, *sides = shape
            draws, labels = np.random.default_rng(0), np.arange(36) % 3
            images = draws.integers(0, 256, (36, *sides, *([channels] if channels > 1 else [])), dtype=np.uint8)
            path = tmp_path_factory.mktemp("data") / "noise.npz"
            np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
            loaded[shape] = condense.load_data(path, mirror=True)
        return loaded[shape]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield of


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row.values())))
def test_two_updates_of_every_combination(row: Row, data_of, tmp_path: Path):
    method, data = row["method"], data_of(row["shape"])
    maker = load_object(methods().find(method).target)
    options = {name: value for name, value in QUICK.items() if name in settings_of(method)}
    options |= {name: row[name] for name in ("initialization", "flip_closure", "real_batches", "image_average")}
    options["network"] = f"convnet-d2-w4-{row['norm']}"
    settings = resolve_settings(Request.of(method, Budget(ipc=2), options), data.train.info)
    start = maker(Job(data.train, Budget(ipc=2), 0, torch.device("cpu")), settings).stored()

    out = tmp_path / "set.h5"
    made = condense.distill(method, data, 2, precision=row["precision"], compile="off", out=out, **options)
    assert made.provenance["configuration"]["plan"]["precision"] == row["precision"]
    assert made.stored.shape == (6, *row["shape"])
    assert made.images.shape == (24 if method in ("idc", "idm", "ncfm") else 6, *row["shape"])
    assert made.stored.dtype == made.images.dtype == torch.float32
    assert torch.isfinite(made.images).all()
    assert ((made.stored - start).flatten(1).abs().amax(1) > 0).all()
    assert made.metrics["loss"].shape == (2,)
    assert torch.isfinite(made.metrics["loss"]).all()
    read = SyntheticSet.load(out)
    assert torch.equal(read.stored, made.stored)
    assert torch.equal(read.images, made.images)
    assert torch.equal(read.labels, made.labels)


RECOVERY: Factors = {
    "method": tuple(name for name in methods().names() if "statistics_weight" in settings_of(name)),
    "layout": ("ipc-index", "mixed", "per-class"),
    "initialization": ("noise", "real", "patches"),
    "shape": ((1, 8, 8), (1, 8, 12), (3, 8, 8), (3, 12, 8)),
    "crop": (None, 0.3),
    "statistics_weight": (0.0, 0.1),
    "teachers": (1, 2),
    "float_pixels": (False, True),
    "slice_size": (1, 4, 100),
}
RECOVERIES = covering_rows(RECOVERY)


def test_every_recovery_is_in_some_row():
    assert {"sre2l", "cda", "dwa", "cv-dd", "infer", "nrr-dd"} <= {row["method"] for row in RECOVERIES}
    assert len(RECOVERIES) <= 30


@pytest.mark.parametrize("row", RECOVERIES, ids=lambda row: "-".join(map(str, row.values())))
def test_two_updates_of_every_recovery(row: Row, data_of, untrained_teacher, tmp_path: Path):
    """A method that leaves something no choice has what it needs instead."""
    data, method, fields = data_of(row["shape"]), row["method"], settings_of(row["method"])
    names = ["convnet-d2-w4-bn", "convnet-d1-w6-bn"][: row["teachers"]]
    teacher = Committee(tuple(untrained_teacher(data.info, name, seed) for seed, name in enumerate(names)))
    options = {"iterations": 2, "patch_images": 4, "patch_crops": 2}
    for name in RECOVERY.keys() - {"method", "shape", "teachers"}:
        choices = get_args(fields[name].annotation)
        if name not in ("layout", "initialization") or row[name] in choices:
            options[name] = row[name]
    options["float_pixels"] &= method != "infer"

    out = tmp_path / "set.h5"
    made = condense.distill(method, data, 2, teacher=teacher, compile="off", out=out, **options)
    places = 2 if method != "infer" else 1
    assert made.stored.shape == (3 * places, *row["shape"])
    assert made.stored.dtype == (torch.float32 if options["float_pixels"] else torch.uint8)
    assert made.images.shape == (3 * places if method != "infer" else 3 * (1 + row["teachers"]), *row["shape"])
    assert torch.isfinite(made.images).all()
    assert all(series.shape == (2,) for series in made.metrics.values())
    assert (made.metrics["statistics"] > 0).all() == bool(row["statistics_weight"])
    still = condense.distill(method, data, 2, teacher=teacher, compile="off", **options | {"image_lr": 1e-12})
    assert not torch.equal(still.images, made.images)
    read = SyntheticSet.load(out)
    assert torch.equal(read.images, made.images)
    assert torch.equal(read.labels, made.labels)
