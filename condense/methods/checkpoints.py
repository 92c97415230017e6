"""One safetensors file beside the output that holds everything an unfinished run needs to go on exactly."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field
from torch import Tensor

from condense.runtime.errors import CondenseError
from condense.runtime.inputs import parse_json
from condense.runtime.limits import LimitError
from condense.runtime.tensor_files import load_facts, load_tensors, save_tensors
from condense.runtime.validation import Closed, validated

_SUFFIX = ".checkpoint.safetensors"
_FORMAT = 2  # checkpoints of format 1 had no checksum: nobody can tell a whole one from a damaged one
MOST_SECONDS_LOST = 10.0  # a killed run loses at most this much work, or one update if that takes longer
LARGEST_COST = 0.05  # and saving takes at most this share of the time


@dataclass(frozen=True)
class Checkpoint:
    """The state after `iteration` updates: tensors, metrics so far and the seconds spent."""

    iteration: int
    seconds: float
    state: dict[str, Tensor]
    metrics: dict[str, Tensor]


def checkpoint_path(out: Path) -> Path:
    """Where the unfinished run of `out` is kept.

    >>> checkpoint_path(Path("set.h5")).name
    'set.h5.checkpoint.safetensors'
    """
    return out.with_name(out.name + _SUFFIX)


def output_of(checkpoint: Path) -> Path:
    """The output whose unfinished run is kept there.

    >>> output_of(checkpoint_path(Path("set.h5"))).name
    'set.h5'
    """
    return checkpoint.with_name(checkpoint.name.removesuffix(_SUFFIX))


def save_checkpoint(path: Path, checkpoint: Checkpoint, configuration: Mapping[str, Any]) -> None:
    """Write atomically; a kill leaves the previous checkpoint."""
    header = {
        "format": _FORMAT,
        "iteration": checkpoint.iteration,
        "seconds": checkpoint.seconds,
        "configuration": configuration,
    }
    tensors = {f"state.{name}": tensor for name, tensor in checkpoint.state.items()}
    tensors |= {f"metrics.{name}": values for name, values in checkpoint.metrics.items()}
    save_tensors(path, tensors, {"condense": json.dumps(header)})


class _Header(Closed):
    model_config = ConfigDict(strict=True)

    format: Literal[2]
    iteration: int = Field(ge=0)
    seconds: float = Field(ge=0)
    configuration: dict[str, Any]


def read_header(path: Path) -> dict[str, Any]:
    """Format, iteration, seconds and configuration of a checkpoint.

    Raises `CondenseError` for a damaged or foreign file and for one of an earlier version, which has no checksum.
    """
    try:
        header = parse_json(load_facts(path)["condense"])
        return validated(_Header, header if isinstance(header, dict) else {}).model_dump()
    except LimitError:
        raise
    except (KeyError, ValueError) as error:  # a CondenseError is a ValueError
        raise _damaged(path) from error


def recorded_part(path: Path, part: Literal["settings", "plan"]) -> dict[str, Any]:
    """The settings or the plan that an unfinished run began with; raises `CondenseError` as `read_header` does."""
    values = read_header(path)["configuration"].get(part)
    if not isinstance(values, dict):
        raise _damaged(path)
    return values


def check_continues(path: Path, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The header of the checkpoint at `path`.

    Raises `CondenseError` if it was made with another configuration (naming the first field that differs) or is
    damaged: its checksum covers everything in it.
    """
    header = read_header(path)
    _check_same(path, header["configuration"], json.loads(json.dumps(configuration)))
    return header


def load_checkpoint(path: Path, configuration: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint at `path`; raises `CondenseError` as `check_continues` does, and if its checksum does not fit."""
    header = check_continues(path, configuration)
    try:
        tensors, _ = load_tensors(path)
    except LimitError:
        raise
    except CondenseError as error:
        raise _damaged(path) from error
    parts: dict[str, dict[str, Tensor]] = {"state": {}, "metrics": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part not in parts or (part == "metrics" and tensor.ndim != 1):
            raise _damaged(path)
        parts[part][rest] = tensor
    return Checkpoint(header["iteration"], header["seconds"], parts["state"], parts["metrics"])


def _damaged(path: Path) -> CondenseError:
    return CondenseError(f"{path} is damaged or not a checkpoint of this version; start again with --no-resume")


def _check_same(path: Path, saved: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> None:
    for field in sorted(saved.keys() | asked.keys()):
        before, now = saved.get(field), asked.get(field)
        if isinstance(before, dict) and isinstance(now, dict):
            _check_same(path, before, now, f"{prefix}{field}.")
        elif before != now:
            raise CondenseError(
                f"{path} is of an unfinished run with {prefix}{field} {before!r}, now it is {now!r}; "
                "give the same options, or --no-resume to start again"
            )


class CheckpointTimer:
    """Decides when to save: often enough to lose little work, seldom enough to cost little."""

    def __init__(self) -> None:
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._step = 0.0
        self._last_check = self._saved_at

    def due(self) -> bool:
        """Whether to save now, asked once after every update."""
        now = time.monotonic()
        self._step, self._last_check = now - self._last_check, now
        interval = max(MOST_SECONDS_LOST - self._step, self._cost / LARGEST_COST)
        return now - self._saved_at >= interval

    def saved(self, started: float) -> None:
        """Note that a save that began at `started` (monotonic seconds) has just ended."""
        self._saved_at = self._last_check = time.monotonic()
        self._cost = self._saved_at - started
