"""Frequent itemsets of bounded size by FP-growth, and a bound of their number that is known before they are mined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from itertools import combinations
from math import comb
from typing import TypeVar

import numpy as np

from condense.runtime.errors import CondenseError

ItemT = TypeVar("ItemT", bound=Hashable)
MOST = 200_000  # itemsets
_MOST_CELLS = 2**28  # of the table that is mined


def frequent(
    transactions: Sequence[Collection[ItemT]], least: int, *, largest: int, closed: bool, what: str
) -> list[tuple[tuple[ItemT, ...], int]]:
    """Itemsets of 1 to `largest` items that at least `least` transactions hold, with their support; `what` names these.

    The most frequent come first, then the smaller, then by the order in which items are first met. `closed` leaves out
    those that a mined superset is as frequent as. Raises `CondenseError` where there may be too many, with a support
    that gives few enough, and where mlxtend is missing.

    >>> frequent([{"a", "b"}, {"a", "b"}, {"a"}], 2, largest=2, closed=True, what="pets")
    [(('a',), 3), (('a', 'b'), 2)]
    """
    counts = Counter(item for transaction in transactions for item in transaction)
    _check_number(sorted(counts.values(), reverse=True), len(transactions), least, largest, what)
    items = [item for item, count in counts.items() if count >= least]
    if not items:
        return []
    order = {item: place for place, item in enumerate(_in_order(transactions, items))}
    table = np.zeros((len(transactions), len(order)), bool)
    for row, transaction in enumerate(transactions):
        table[row, [order[item] for item in transaction if item in order]] = True
    mined = _mine(table, least, largest)
    names = list(order)
    kept = _closed(mined) if closed else mined
    ranked = sorted(kept, key=lambda found: (-kept[found], len(found), found))
    return [(tuple(names[place] for place in found), kept[found]) for found in ranked]


def _in_order(transactions: Sequence[Collection[ItemT]], items: Sequence[ItemT]) -> list[ItemT]:
    """The items as they are met; within a transaction by their own order, since a set has none that lasts."""
    wanted, met = set(items), dict[ItemT, None]()
    for transaction in transactions:
        for item in sorted(wanted.intersection(transaction), key=repr):
            met.setdefault(item)
    return list(met)


def _mine(table: np.ndarray, least: int, largest: int) -> dict[tuple[int, ...], int]:
    try:
        import pandas
        from mlxtend.frequent_patterns import fpgrowth
    except ImportError as error:
        raise CondenseError("this needs mlxtend; install it with: pip install 'condense-data[graphs]'") from error
    found = fpgrowth(pandas.DataFrame(table), min_support=(least - 0.5) / len(table), max_len=largest)
    supports = np.rint(found["support"].to_numpy() * len(table)).astype(int)
    return {tuple(sorted(items)): int(support) for items, support in zip(found["itemsets"], supports)}


def _closed(mined: dict[tuple[int, ...], int]) -> dict[tuple[int, ...], int]:
    """Itemsets without a mined superset of the same support; one item more is enough to look at."""
    open_ = {
        smaller
        for items, support in mined.items()
        for smaller in combinations(items, len(items) - 1)
        if mined.get(smaller) == support
    }
    return {items: support for items, support in mined.items() if items not in open_}


def _check_number(counts: Sequence[int], transactions: int, least: int, largest: int, what: str) -> None:
    """Raise where so many frequent items may make too many sets, or a table too large."""

    def fits(items: int) -> bool:
        return sum(comb(items, size) for size in range(1, largest + 1)) <= MOST and items * transactions <= _MOST_CELLS

    frequent_items = sum(count >= least for count in counts)
    if fits(frequent_items):
        return
    enough = next(items for items in range(frequent_items, -1, -1) if fits(items))
    raise CondenseError(
        f"{frequent_items:,} frequent trees of {what} may make more than {MOST:,} sets of up to {largest}; "
        f"give a support of {counts[enough] + 1} or more, or smaller sets"
    )
