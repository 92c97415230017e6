"""Typed, closed configuration: pydantic models, and every failure of theirs in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from condense.runtime.errors import CondenseError, near_names


class Closed(BaseModel):
    """A frozen model that refuses unknown fields; the base of every configuration in condense."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def option_name(field: str) -> str:
    """The command-line spelling of a field.

    >>> option_name("image_lr")
    '--image-lr'
    """
    return "--" + field.replace("_", "-")


def option_words(values: Mapping[str, Any]) -> list[str]:
    """The words of a command line that give fields their values.

    >>> option_words({"image_size": "8x8", "mirror": False, "image_average": None})
    ['--image-size', '8x8', '--no-mirror', '--image-average', 'none']
    """
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(option_name(name if value else f"no-{name}"))
        else:
            words += [option_name(name), "none" if value is None else str(value)]
    return words


def validated(
    model: type[Model], values: Mapping[str, Any], *, origin: str = "", spell: Callable[[str], str] = str
) -> Model:
    """`model` made of `values`.

    Raises `CondenseError` with the first problem: its place (after `origin`, each field written by `spell`), the value
    given, what is allowed and, for an unknown field, near names.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise CondenseError(origin + _sentence(error, model, spell)) from None


def _sentence(error: ValidationError, model: type[BaseModel], spell: Callable[[str], str]) -> str:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    place = ".".join([spell(path[0]), *path[1:]]) if path else model.__name__
    if first["type"] == "extra_forbidden":
        allowed = {spell(name): name for name in model.model_fields}
        return f"unknown option {place} (known: {', '.join(allowed)}){near_names(place, allowed)}"
    if first["type"] == "missing":
        return f"{place} is missing; give it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = first["input"]
    shown = f" {given!r}" if isinstance(given, str | int | float | bool) or given is None else ""
    return f"{place}{shown}: {message}"
