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
from condense.runtime.interrupts import INTERRUPTED, MESSAGE, InterruptsRaise
from condense.runtime.limits import check_address_space, limit_reached
from condense.runtime.progress import answer, say
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
        Command("import", "condense.cli.files:import_set", "turn a set of another program, or an export, into a set"),
        Command("experts", "condense.cli.experts:experts", "train networks on real data and keep their trajectories"),
        Command("teachers", "condense.cli.teachers:teachers", "train networks to recover and label images with"),
        Command("distill", "condense.cli.distill:distill", "make a synthetic set"),
        Command("relabel", "condense.cli.relabel:relabel", "give the images of a set the labels of a teacher"),
        Command("evaluate", "condense.cli.evaluate:evaluate", "train fresh networks on a set and score them"),
        Command("show", "condense.cli.files:show", "say what a set, a teacher or experts are and how they were made"),
        Command("export", "condense.cli.files:export", "write a set as a folder of images, a .pt or for Hugging Face"),
        Command("benchmark", "condense.cli.benchmark:benchmark", "run a grid of methods, data, protocols and seeds"),
    ],
)


_WITHOUT_TORCH = ("data", "methods", "networks", "protocols", "recipes")
_ONLY_PRINT = (*_WITHOUT_TORCH, "show")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # to print a name in other letters must not end a run
    try:
        with InterruptsRaise():
            code = _dispatch(words)
            sys.stdout.flush()
            return code
    except CondenseError as error:
        say(f"condense: {error}")
        return 2
    except KeyboardInterrupt:
        say(MESSAGE)
        return INTERRUPTED
    except BrokenPipeError:  # who reads, for example `head`, has seen enough of a list, or too little of a run
        _let_output_go()
        return 0 if not words or words[0] in _ONLY_PRINT or {"-h", "--help"} & {*words} else 1
    except (MemoryError, OSError, RuntimeError, ImportError) as error:
        sentence = limit_reached(error) or _too_long(error)
        if sentence is None:
            raise
        say(f"condense: {sentence}")
        return 2


def _too_long(error: Exception) -> str | None:
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"the name {error.filename} is too long for a file; give a shorter one"
    return None


def _let_output_go() -> None:
    """Nobody reads any more: what is still to be written must not fail once more when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        answer(*_overview())
        return 0
    if words[0] == "--version":
        answer(f"condense {__version__}")
        return 0
    command = COMMANDS.find(words[0])
    if command.name not in _WITHOUT_TORCH:
        check_address_space()
    code: int = load_object(command.target)(words[1:])
    return code


def _overview() -> list[str]:
    width = max(len(command.name) for command in COMMANDS)
    rows = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS]
    return [
        "usage: condense COMMAND [OPTIONS]",
        "",
        "Turn a large training set into a tiny synthetic one that trains networks almost as well.",
        "",
        *rows,
        "",
        "condense COMMAND --help tells the options of a command, condense --version the version.",
        "Start with: condense demo",
    ]
