"""YAML as people expect it: the 1.2 core schema, safe, no duplicate keys.

PyYAML reads YAML 1.1, where `on` is true and `1e-4` is text. Here only `true`/`false` are booleans, `1e-4` is a number
and everything that looks like a word is a word.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from condense.runtime.errors import CondenseError


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  (the base class declares it so)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # YAML 1.1 would read 010 as eight


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(problem=f"{key!r} is given twice", problem_mark=node.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str, origin: str) -> Any:
    """The object that `text` describes; `origin` names the text in errors.

    Raises `CondenseError` with the line for bad syntax and for a key that is given twice.

    >>> parse_yaml("flip: on\\nlr: 1e-4\\nsteps: 010", "example")
    {'flip': 'on', 'lr': 0.0001, 'steps': 10}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise CondenseError(
            f"{origin}{place}: {getattr(error, 'problem', None) or 'not valid YAML'}; correct it"
        ) from error


def load_yaml(path: str | Path) -> Any:
    """The object in a YAML file; raises `CondenseError` if it cannot be read or parsed."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise CondenseError(f"cannot read {path}: {reason}; give the path of a YAML file") from error
    return parse_yaml(text, str(path))
