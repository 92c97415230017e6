"""The one exception for a wrong request or a wrong file, and the sentences it is made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from condense.runtime.printing import printable


class CondenseError(ValueError):
    """A request or a file is wrong.

    The message is one line that says what was given, what is allowed and the way out. The command line prints it
    on standard error and exits with 2. What a file or a name has put into it (a line break, the codes that colour a
    terminal) stands there as an escape.

    >>> CondenseError("no class 'a\\nb'").args
    ("no class 'a\\\\nb'",)
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def near_names(given: str, allowed: Iterable[str]) -> str:
    """A hint about names close to `given`, ready to be appended to a message; empty if none is close.

    >>> near_names("herdin", ["herding", "random"])
    '; did you mean herding?'
    >>> near_names("xyz", ["herding", "random"])
    ''
    """
    names = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(given.lower(), names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(names[name] for name in close)}?" if close else ""


def unknown_name(kind: str, given: str, allowed: Iterable[str], aliases: Iterable[str] = ()) -> CondenseError:
    """The error for a name that is not registered, with every name, and near ones among them and their aliases.

    >>> raise unknown_name("network", "convnt", ["convnet", "mlp"])
    Traceback (most recent call last):
    condense.runtime.errors.CondenseError: unknown network 'convnt' (known: convnet, mlp); did you mean convnet?
    """
    names = sorted(allowed)
    return CondenseError(f"unknown {kind} {given!r} (known: {', '.join(names)}){near_names(given, [*names, *aliases])}")


def first_line(error: BaseException) -> str:
    """What went wrong in one line, without a full stop.

    >>> first_line(RuntimeError("a.\\nb"))
    'RuntimeError: a'
    """
    text = str(error).strip().split("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
