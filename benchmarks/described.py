"""What decides teachers and labels of a cell, as records have it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from condense.runtime.validation import Closed


class TeacherDescription(Closed):
    """A teacher: its name in the grid, its network, its vote, and its hash or how it is trained on the data."""

    name: str
    network: str
    weight: float = Field(gt=0)
    hash: str | None = None
    training: dict[str, Any] | None = None


class LabelDescription(Closed):
    """Labels that sets are given before they are scored: all settings, and who gives them (None for class indices)."""

    settings: dict[str, Any]
    teachers: tuple[TeacherDescription, ...] = ()

    @property
    def words(self) -> str:
        """For the head of a column: what differs from one label of a single teacher at temperature 20."""
        named = {"labels": None, "temperature": "T", "loss": None}
        said = [
            f"{word} {self.settings[name]:g}" if word else str(self.settings[name])
            for name, word in named.items()
            if name in self.settings
        ]
        usual = {"views": 300, "crop": "padded", "mix": "none", "teacher_bn": "running", "bn_groups": 1, "shuffle": 1}
        usual |= {"codec": "dense"}
        said += [
            f"{name.replace('_', ' ')} {self.settings[name]}"
            for name, value in usual.items()
            if self.settings.get(name, value) != value
        ]
        return ", ".join(said)


def in_words(described: tuple[TeacherDescription, ...]) -> str:
    """Teachers for people, by their names in the grid.

    >>> in_words((TeacherDescription(name="small", network="mlp", weight=0.5),))
    'small'
    """
    if len(described) == 1:
        return described[0].name
    return " + ".join(f"{each.weight:g} {each.name}" for each in described)
