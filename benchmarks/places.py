"""Where in a grid an error is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from condense.runtime.errors import CondenseError


@contextmanager
def placed(prefix: str) -> Iterator[None]:
    """Say in errors which part of the grid they are about."""
    try:
        yield
    except CondenseError as error:
        raise CondenseError(f"{prefix}{error}") from None
