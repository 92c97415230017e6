"""Records whose numbers are made up."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.cells import Cell, ColumnDescription, DataDescription, SetDescription
from benchmarks.pictures import write_sprite
from benchmarks.records import Parts, Record, picture_path

MakeRecord = Callable[..., Record]


def _record(
    method: str | None = "dm",
    accuracies: tuple[float, ...] = (0.5, 0.52, 0.51),
    *,
    data: str = "digits",
    ipc: int | None = 1,
    fraction: float | None = None,
    seed: int = 0,
    protocol: str = "desk",
    protocol_hash: str = "a" * 12,
    net: str = "convnet",
    network: str = "convnet-d2-w64-in",
    machine: str = "abacus",
    options: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    recipe: str | None = None,
    failed: bool = False,
    made_with: bool = True,
    asked: dict[str, Any] | None = None,
    **fields: Any,
) -> Record:
    made = (
        None
        if method is None
        else SetDescription(
            **{
                "method": method,
                "revision": 1,
                "settings": settings or {},
                "recipe": recipe,
                "options": options or {},
                "iterations": None,
                "minutes": None,
                "ipc": ipc,
                "fraction": fraction,
                "seed": seed,
            }
            | (asked or {})
        )
    )
    column = ColumnDescription(
        protocol=protocol if made else "full",
        protocol_hash=protocol_hash,
        net=net,
        network=network,
        beside=None if made else protocol,
    )
    described = DataDescription(
        name=data,
        fingerprint="f" * 32,
        image_shape=(1, 8, 8),
        mirror=False,
        preprocessing="normalize",
        image_size=None,
        normalization=None,
    )
    cell = Cell(data=described, made=made, column=column, network_seeds=len(accuracies))
    hardware = {"processor": machine, "cores": 2, "threads": 2, "memory_gb": 8.0, "gpu": None}
    result: dict[str, Any] = {
        "accuracies": accuracies,
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "images": 10 * (ipc or 2),
        "stored_images": 10 * (ipc or 2),
        "bytes": 2640 * (ipc or 2),
        "label_source": "class index",
        "seconds": Parts(making=60.0, evaluating=3.0) if made else Parts(evaluating=9.0),
        "made_with": {"plan": {"device": "cpu"}, "hardware": hardware, "commit": "beef"}
        if made and made_with
        else None,
    }
    return Record(
        key=cell.key,
        status="failed" if failed else "done",
        error="it broke" if failed else None,
        protocol=column.protocol,
        protocol_hash=protocol_hash,
        network=column.network,
        versions={"condense": "0.1.0"},
        hardware=hardware,
        commit="c0ffee",
        date="2026-01-02T03:04:05+00:00",
        configuration=cell,
        **({} if failed else result | fields),
    )


@pytest.fixture
def make_record() -> MakeRecord:
    """A record of one set by a method, with such accuracies; further names are fields of `Record`.

    `asked` has further fields of its `SetDescription`.
    """
    return _record


def _pictures(record: Record, folder: Path, *, published: bool = True, per_class: int = 2, side: int = 8) -> None:
    draws = torch.Generator().manual_seed(0)
    rows = [torch.rand(per_class, 1, side, side, generator=draws) for _ in range(10)]
    for nearest in (False, True):
        write_sprite(rows, picture_path(record.configuration, folder, nearest=nearest, published=published))


@pytest.fixture
def draw_pictures() -> Callable[..., None]:
    """Write the pictures of a record's set into a folder: noise, of ten classes, and as many nearest real images."""
    return _pictures
