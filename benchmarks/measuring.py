"""What the commands that measure this machine share: how results are given out, how a command ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from condense.runtime.errors import CondenseError
from condense.runtime.files import write_json
from condense.runtime.progress import say


def give_out(found: dict[str, Any], text: str, out: Path | None) -> int:
    """Print the results, with a word about a busy machine, and write them if asked for; the exit code."""
    if found.get("notice"):
        say(found["notice"])
    print(text)
    if out is not None:
        write_json(out, found)
    return 0


def end(name: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run the command on the words of the command line; a wrong request is one line and exit code 2."""
    try:
        sys.exit(main(sys.argv[1:]))
    except CondenseError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
