"""Which arrays of a file are images and labels of which split, by the names that people give them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from condense.data.readers.folders.splits import TEST_NAMES, TRAIN_NAMES
from condense.runtime.errors import CondenseError

CLASSES = "classes"
# In any case, and either before or after the name of the split; of several the first is taken.
_IMAGES = ("images", "image", "imgs", "img", "x", "data")
_LABELS = ("labels", "label", "targets", "target", "y")
_WHOLE = ""  # instead of the name of a split: of arrays that are not split


@dataclass(frozen=True)
class SplitNames:
    """The names of the arrays of one split (no labels: empty), and that of the split (empty: of all images)."""

    split: str
    images: str
    labels: str


def array_names(path: Path, present: Iterable[str], *, labelled: bool = True) -> tuple[SplitNames, SplitNames | None]:
    """The arrays of the training split and of the test split (None: one has to be made).

    Where labels are not asked for, there may be none, and their name is empty. Raises `CondenseError` if the names that
    are `present` in the file do not tell images and labels.

    >>> train, test = array_names(Path("a.npz"), ["x_train", "y_train", "x_val", "y_val"])
    >>> (train.images, train.labels), (test.split, test.images, test.labels)
    (('x_train', 'y_train'), ('val', 'x_val', 'y_val'))
    """
    present = list(present)
    roles = _roles(present)

    def pair(split: str) -> SplitNames | None:
        images, labels = roles.get((split, "images")), roles.get((split, "labels"))
        if images is None or (labels is None and labelled):
            return None
        return SplitNames(split, images, labels or "" if labelled else "")

    train = next((names for split in TRAIN_NAMES if (names := pair(split))), None)
    if train is None:
        whole = pair(_WHOLE)
        if whole is not None:
            return whole, None
        wanted = "images and labels" if labelled else "images"
        raise CondenseError(
            f"{path} has no {wanted} to train on (it has: {', '.join(sorted(present)[:20]) or 'nothing'}); "
            "call them train_images, train_labels, test_images and test_labels, or images and labels"
        )
    return train, next((names for split in TEST_NAMES if (names := pair(split))), None)


def _roles(present: Iterable[str]) -> dict[tuple[str, str], str]:
    """The names of arrays by split and content."""
    best: dict[tuple[str, str], tuple[int, str]] = {}
    for name in present:
        first, _, second = name.lower().replace("-", "_").partition("_")
        for split, content in {(second, first), (first, second)}:
            for what, contents in (("images", _IMAGES), ("labels", _LABELS)):
                if content in contents and split in (_WHOLE, *TRAIN_NAMES, *TEST_NAMES):
                    rank = (contents.index(content), name)
                    best[split, what] = min(best.get((split, what), rank), rank)
    return {role: name for role, (_, name) in best.items()}
