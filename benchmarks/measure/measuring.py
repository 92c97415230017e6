"""What the commands that measure this machine share: how results are given out, how a command ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from condense.runtime.errors import CondenseError
from condense.runtime.files import write_json
from condense.runtime.progress import answer, say


def give_out(found: dict[str, Any], text: str, out: Path | None) -> int:
    """Print the results, with a word about a busy machine, and write them if asked for; the exit code."""
    if found.get("notice"):
        say(found["notice"])
    answer(*text.splitlines())
    if out is not None:
        write_json(out, found)
    return 0


def end(name: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run the command on the words of the command line; a wrong request is one line and exit code 2, Ctrl-C 130."""
    try:
        sys.exit(main(sys.argv[1:]))
    except CondenseError as error:
        say(f"{name}: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say(f"{name}: interrupted")
        sys.exit(130)
