"""Which word calls which command, and how a run ends: 0 done, 1 some jobs failed, 2 wrong request, 130 interrupted."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from condense._version import __version__
from condense.runtime.errors import CondenseError
from condense.runtime.registry import Registry, load_object


@dataclass(frozen=True)
class Command:
    """A command: `target` is `module:function` of (words) -> exit code, imported when the command is called."""

    name: str
    target: str
    summary: str
    aliases: tuple[str, ...] = ()


COMMANDS = Registry(
    "command",
    [
        Command("demo", "condense.cli.demo:demo", "condense the embedded digits end to end and compare with baselines"),
        Command("data", "condense.cli.lists:data", "list the data sets"),
        Command("methods", "condense.cli.lists:methods", "list the methods"),
        Command("networks", "condense.cli.lists:networks", "list the networks"),
        Command("protocols", "condense.cli.lists:protocols", "list the evaluation protocols"),
        Command("recipes", "condense.cli.lists:recipes", "list the recipes"),
        Command("pack", "condense.cli.files:pack", "store a data set decoded, for fast loading"),
        Command("import", "condense.cli.files:import_set", "turn a reference project's .pt into a set"),
        Command("experts", "condense.cli.experts:experts", "train networks on real data and keep their trajectories"),
        Command("distill", "condense.cli.distill:distill", "make a synthetic set"),
        Command("evaluate", "condense.cli.evaluate:evaluate", "train fresh networks on a set and score them"),
        Command("show", "condense.cli.files:show", "say what a set or a folder of experts is and how it was made"),
        Command("export", "condense.cli.files:export", "write a set as a folder of images, a .pt or for Hugging Face"),
        Command("benchmark", "condense.cli.benchmark:benchmark", "run a grid of methods, data, protocols and seeds"),
    ],
)


_ONLY_PRINT = ("data", "methods", "networks", "protocols", "recipes", "show")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # to print a path that is not UTF-8 must not end a run
    code = _run(words)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _let_output_go()
    return code


def _run(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except CondenseError as error:
        print(f"condense: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("condense: interrupted; the same command goes on from what is saved", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads, for example `head`, has seen enough of a list, or too little of a run
        _let_output_go()
        return 0 if not words or words[0] in _ONLY_PRINT or {"-h", "--help"} & {*words} else 1
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"condense: the name {error.filename} is too long for a file; give a shorter one", file=sys.stderr)
        return 2


def _let_output_go() -> None:
    """Nobody reads any more: what is still to be written must not fail once more when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"condense {__version__}")
        return 0
    command = COMMANDS.find(words[0])
    code: int = load_object(command.target)(words[1:])
    return code


def _overview() -> str:
    width = max(len(command.name) for command in COMMANDS)
    rows = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: condense COMMAND [OPTIONS]",
            "",
            "Turn a large training set into a tiny synthetic one that trains networks almost as well.",
            "",
            *rows,
            "",
            "condense COMMAND --help tells the options of a command, condense --version the version.",
            "Start with: condense demo",
        ]
    )
