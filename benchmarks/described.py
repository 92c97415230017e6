"""What decides teachers and labels of a cell, as records have it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from condense.runtime.validation import Closed
from condense.teachers.label_settings import USUAL_VIEWS, LabelSettings


class TeacherDescription(Closed):
    """A teacher: its name in the grid, its network, its vote, and its hash or how it is trained on the data."""

    name: str
    network: str
    weight: float = Field(gt=0)
    hash: str | None = None
    training: dict[str, Any] | None = None


class LabelDescription(Closed):
    """Labels that sets are given before they are scored: all settings, and who gives them (none for class indices).

    `encoder` is what a projector adapts.
    """

    settings: dict[str, Any]
    teachers: tuple[TeacherDescription, ...] = ()
    encoder: TeacherDescription | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_usual(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if name != "encoder" or value is not None}

    @property
    def words(self) -> str:
        """For the head of a column: kind, temperature and loss, then whatever is not as usual.

        >>> LabelDescription(settings={"labels": "views", "temperature": 20.0, "loss": "kl", "pool": 0.1}).words
        'views, T 20, kl, pool 0.1'
        """
        first = {"labels": "", "temperature": "T ", "loss": ""}
        said = [f"{word}{_shown(self.settings[name])}" for name, word in first.items() if name in self.settings]
        usual = {name: field.default for name, field in LabelSettings.model_fields.items()} | {"views": USUAL_VIEWS}
        for name, value in usual.items():
            given = self.settings.get(name, value)
            if name not in (*first, "flip") and given != value:
                said.append(f"{name.replace('_', ' ')} {_shown(given)}")
        return ", ".join(said + ([f"on {self.encoder.name}"] if self.encoder else []))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_words(described: tuple[TeacherDescription, ...]) -> str:
    """Teachers for people, by their names in the grid.

    >>> in_words((TeacherDescription(name="small", network="mlp", weight=0.5),))
    'small'
    """
    if len(described) == 1:
        return described[0].name
    return " + ".join(f"{each.weight:g} {each.name}" for each in described)
