"""Command lines made from pydantic models: argparse splits the words, the model checks them.

Every failure becomes one `CondenseError`, so the command line answers a wrong request with one line. (tyro, which also
builds parsers from typed models, prints boxes of many lines and has no hook for the whole of an error.)
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from condense.runtime.errors import CondenseError, near_names
from condense.runtime.validation import option_name, validated

Model = TypeVar("Model", bound=BaseModel)

POSITIONAL: JsonDict = {"positional": True}  # as json_schema_extra of a field: a word without a name


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CondenseError(f"{message}; see {self.prog} --help")


def parse(model: type[Model], words: Sequence[str], *, program: str, description: str) -> Model:
    """The `model` that `words` describe; `--help` prints its fields and exits with 0.

    Raises `CondenseError` for unknown options (with near names), missing and superfluous words, and values that the
    model refuses.
    """
    parser = _Parser(
        prog=program, description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, field in model.model_fields.items():
        _add(parser, name, field)
    found, unknown = parser.parse_known_args(list(words))
    if unknown:
        options = [_spelled(model, name) for name, field in model.model_fields.items() if not _is_positional(field)]
        given = unknown[0].split("=")[0]
        if not given.startswith("-"):
            raise CondenseError(f"{given!r} is one word too many; see {program} --help")
        raise CondenseError(f"unknown option {given} (known: {', '.join(options)}){near_names(given, options)}")
    given_values = {name: value for name, value in vars(found).items() if value is not None}
    return validated(model, given_values, spell=lambda name: _spelled(model, name))


def _key(name: str, field: FieldInfo) -> str:
    """What the model calls the field from outside: its alias, where the plain word is taken by pydantic."""
    return field.alias or name


def _is_positional(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("positional"))


def _spelled(model: type[BaseModel], name: str) -> str:
    field = model.model_fields.get(name)
    if field is None:
        return option_name(name)
    return name.upper() if _is_positional(field) else option_name(_key(name, field))


def _add(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    text = (field.description or "").replace("%", "%%")
    if _is_positional(field):
        several = get_origin(field.annotation) is list
        count = "+" if several else None if field.is_required() else "?"
        parser.add_argument(name, metavar=name.upper(), nargs=count, help=text)
        return
    kinds, option = _alternatives(field.annotation), option_name(_key(name, field))
    if not field.is_required() and field.default not in (None, PydanticUndefined, False):
        text += f" [{field.default}]"
    options: dict[str, Any] = {"dest": _key(name, field), "default": None, "help": text}
    if bool in kinds and field.default is False:
        parser.add_argument(option, action="store_true", **options)
    elif bool in kinds:
        parser.add_argument(option, action=argparse.BooleanOptionalAction, **options)
    elif hasattr(kinds[0], "_fields"):  # a named tuple: a word for each
        names = tuple(part.upper() for part in kinds[0]._fields)
        parser.add_argument(option, nargs=len(names), metavar=names, **options)
    else:
        parser.add_argument(option, metavar=_placeholder(name, kinds), required=field.is_required(), **options)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types that a value may have, without None and without what ranges they are annotated with."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return tuple(kind for part in parts for kind in _alternatives(part))
    return (annotation,)


def _placeholder(name: str, kinds: Sequence[Any]) -> str:
    for kind in kinds:
        if get_origin(kind) is Literal:
            return "|".join(str(choice) for choice in get_args(kind))
    return {int: "N", float: "X"}.get(kinds[0], name.upper())
