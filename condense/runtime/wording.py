"""Numbers as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A time in its usual unit.

    >>> duration(59.6), duration(3700.0)
    ('60 s', '1 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
