"""The command line: parse, call the Python API, print. Nothing heavy is imported before it is needed."""

from condense.cli.main import main

__all__ = ["main"]
