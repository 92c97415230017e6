"""How fast this machine was found to do a piece of work: measured once, kept in the cache folder for later runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import Field

from condense.runtime.files import cache_directory, write_json
from condense.runtime.processor import processor_name
from condense.runtime.validation import Closed


class Rate(Closed):
    """Seconds for each image, and before the first one (compilation)."""

    per_image: float = Field(gt=0)
    preparation: float = Field(ge=0)


class Rates:
    """The measured rates of this machine with this torch.

    What is not known yet is measured, and stored at once: a run that decides by a rate and a later run that reads it
    decide alike.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or cache_directory() / "rates.json"

    def find(self, work: str, measure: Callable[[], Rate]) -> Rate:
        """The rate of `work`, a description of everything that matters but the machine; measured if it is new."""
        key = f"{processor_name()}, torch {torch.__version__}: {work}"
        known = self._read()
        if key not in known:
            found = measure()
            known = self._read() | {key: found.model_dump()}  # another process may have measured meanwhile
            write_json(self._path, known)
        return Rate(**known[key])

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # not there yet, or damaged: it can be measured again
            return {}
