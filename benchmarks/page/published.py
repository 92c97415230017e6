"""Numbers that papers print, to stand beside ours and never to be ranked with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cells import Cell
from benchmarks.markdown import percent


@dataclass(frozen=True)
class Published:
    """An accuracy (a fraction, as its deviation) of a method on a data set, and who says so.

    `tag` is the evidence for it; `selected_on_test` says that the best of several networks or epochs was taken.
    """

    method: str
    data: str
    ipc: int
    accuracy: float
    source: str
    tag: str
    std: float | None = None
    selected_on_test: bool = False

    @property
    def words(self) -> str:
        """The number with its source.

        >>> Published("dm", "cifar10", 10, 0.489, "Zhao & Bilen, WACV 2023", "paper").words
        '48.9 % (Zhao & Bilen, WACV 2023; paper)'
        """
        chosen = "; selected on test" if self.selected_on_test else ""
        return f"{percent(self.accuracy, self.std)} % ({self.source}; {self.tag}{chosen})"


def published_for(cell: Cell, published: Sequence[Published]) -> list[Published]:
    """Those of the method, the data set and the size of a cell."""
    made = cell.made
    return [
        each
        for each in published
        if made is not None and (each.method, each.data, each.ipc) == (made.method, cell.data.name, made.ipc)
    ]
