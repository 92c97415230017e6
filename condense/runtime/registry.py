"""Registries of plain data: what exists is listed without importing any of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol, TypeVar

from condense.runtime.errors import CondenseError, unknown_name


class Named(Protocol):
    """Anything with a name, aliases and a target `module:attribute`."""

    @property
    def name(self) -> str:
        """The name in lists and files."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that mean the same."""


Entry = TypeVar("Entry", bound=Named)


def plain(name: str) -> str:
    """A name without what does not matter in it.

    >>> plain("Distribution_Matching")
    'distribution-matching'
    """
    return name.lower().replace("_", "-")


class Registry(Sequence[Entry]):
    """An ordered collection of entries, found by name or alias.

    `kind` names the entries in the error for an unknown name (`unknown method 'dmm' ...`), which also lists `others`,
    forms of names that are not looked up here.
    """

    def __init__(self, kind: str, entries: Sequence[Entry], others: Sequence[str] = ()) -> None:
        self._kind = kind
        self._entries = tuple(entries)
        self._others = tuple(others)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def names(self) -> tuple[str, ...]:
        """The names, without aliases, in their order."""
        return tuple(entry.name for entry in self._entries)

    def known(self) -> list[str]:
        """All names and aliases, plain."""
        return [plain(name) for entry in self._entries for name in (entry.name, *entry.aliases)]

    def find(self, name: str) -> Entry:
        """The entry called `name`, or with this alias; capitals and underscores do not matter.

        Raises `CondenseError` with near names if there is none.
        """
        wanted = plain(name)
        for entry in self._entries:
            if wanted in (plain(other) for other in (entry.name, *entry.aliases)):
                return entry
        aliases = (alias for entry in self._entries for alias in entry.aliases)
        raise unknown_name(self._kind, name, [*self.names(), *self._others], aliases)


def with_entry_points(kind: str, built_in: Sequence[Entry], group: str, others: Sequence[str] = ()) -> Registry[Entry]:
    """These entries and those that installed packages give as entry points of `group`; `others` as in `Registry`.

    Raises `CondenseError` if a package gives something of another type, or takes a name.
    """
    found = list(built_in)
    wanted = type(built_in[0])
    for point in metadata.entry_points(group=group):
        entry, where = point.load(), f"entry point {point.name!r} ({point.value})"
        if not isinstance(entry, wanted):
            raise CondenseError(f"{where} must be a condense {wanted.__name__}; correct that package")
        if {*Registry(kind, found).known()} & {*Registry(kind, [entry]).known()}:
            raise CondenseError(f"{where} takes the name of another {kind}; rename it")
        found.append(entry)
    return Registry(kind, found, others)


def imported_when_asked_for(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names need torch: each is imported from its module when it is asked for.

    `homes` has the module in the package by name. So lists of what there is stay fast.

    >>> imported_when_asked_for("os", {"join": "path"})("join")("a", "b")
    'a/b'
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return load_object(f"{package}.{homes[name]}:{name}")

    return find


def load_object(target: str) -> Any:
    """Import `package.module:attribute` and return the attribute.

    >>> load_object("math:tau")
    6.283185307179586
    """
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
