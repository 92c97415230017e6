"""Numbers and names as people read them."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text for one line of a terminal, whatever is in the names that it tells: what is no letter, sign or blank is
    escaped.

    >>> print(printable("cat\x1b[2J, dog\u202e\nand \udcff"))
    cat\x1b[2J, dog\u202e\nand \udcff
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def for_plot(text: str) -> str:
    r"""Text that matplotlib draws as it is, dollars included.

    >>> print(for_plot("5 $ and 6 $"))
    5 \$ and 6 \$
    """
    return printable(text).replace("$", r"\$")


def duration(seconds: float) -> str:
    """A time in its usual unit.

    >>> duration(59.6), duration(3700.0)
    ('60 s', '1 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
