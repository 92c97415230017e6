"""YAML as people expect it: the 1.2 core schema, safe, no duplicate keys, of bounded size.

PyYAML reads YAML 1.1, where `on` is true and `1e-4` is text. Here only `true`/`false` are booleans, `1e-4` is a number
and everything that looks like a word is a word. Tags beyond the core schema are refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from condense.runtime.errors import CondenseError
from condense.runtime.inputs import check_bounds, read_text

_MOST_BYTES = 2**20  # of a file; the longest recipe has 5,000
_MOST_VALUES = 100_000  # counted as often as aliases repeat them


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # YAML 1.1 would read 010 as eight


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(problem="a key is no plain value", problem_mark=key_node.start_mark)
        if key in mapping:
            raise yaml.constructor.ConstructorError(problem=f"{key!r} is given twice", problem_mark=node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  (the base class declares it so)
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        "tag:yaml.org,2002:null": yaml.SafeLoader.construct_yaml_null,
        "tag:yaml.org,2002:bool": yaml.SafeLoader.construct_yaml_bool,
        "tag:yaml.org,2002:int": _decimal,
        "tag:yaml.org,2002:float": yaml.SafeLoader.construct_yaml_float,
        "tag:yaml.org,2002:str": yaml.SafeLoader.construct_yaml_str,
        "tag:yaml.org,2002:seq": yaml.SafeLoader.construct_yaml_seq,
        "tag:yaml.org,2002:map": _mapping,
        None: yaml.SafeLoader.construct_undefined,
    }


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


def parse_yaml(text: str, origin: str) -> Any:
    """The object that `text` describes; `origin` names the text in errors.

    Raises `CondenseError` with the line for bad syntax and for a key that is given twice, and for what is nested too
    deeply or, by its aliases, has too many values.

    >>> parse_yaml("flip: on\\nlr: 1e-4\\nsteps: 010", "example")
    {'flip': 'on', 'lr': 0.0001, 'steps': 10}
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        check_bounds(value, _MOST_VALUES)
        return value
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise CondenseError(
            f"{origin}{place}: {getattr(error, 'problem', None) or 'not valid YAML'}; correct it"
        ) from error
    except RecursionError:
        raise CondenseError(f"{origin}: it is nested too deeply; correct it") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a value that does not fit its tag, or too many
        reason = error if isinstance(error, ValueError) else "a value does not fit its tag"
        raise CondenseError(f"{origin}: {reason}; correct it") from error


def load_yaml(path: str | Path) -> Any:
    """The object in a YAML file; raises `CondenseError` if it cannot be read or parsed."""
    return parse_yaml(read_text(Path(path), "the path of a YAML file", _MOST_BYTES), str(path))
