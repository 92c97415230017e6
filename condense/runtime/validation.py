"""Typed, closed configuration: pydantic models, and every failure of theirs in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args

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
    >>> option_words({"window": [0, 4095]})
    ['--window', '0', '4095']
    """
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(option_name(name if value else f"no-{name}"))
        elif isinstance(value, list | tuple):
            words += [option_name(name), *map(str, value)]
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
        last = place if len(path) == 1 else path[-1]
        allowed = [spell(name) if len(path) == 1 else name for name in _model_around(first["loc"], model).model_fields]
        return f"unknown option {place} (known: {', '.join(allowed)}){near_names(last, allowed)}"
    if first["type"] == "missing":
        return f"{place} is missing; give it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = first["input"]
    if not path:
        return message
    shown = f" {given!r}" if isinstance(given, str | int | float | bool) or given is None else ""
    return f"{place}{shown}: {message}"


def _model_around(place: Sequence[int | str], model: type[BaseModel]) -> type[BaseModel]:
    """The model within `model` that the last part of `place` is a field of."""
    for part in place[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation speaks of, as in `list[Case] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
