"""Images of a folder that nobody has said anything about: all of them, whatever folders they lie in."""

from __future__ import annotations

from pathlib import Path

import torch

from condense.data.names import shown
from condense.data.raw import check_names
from condense.data.readers.folders.listing import Listing, Tree
from condense.data.readers.folders.tree import is_image, walk
from condense.runtime.errors import CondenseError


def list_unlabelled(root: Path) -> Tree:
    """Every image file below `root`, in the order of its name; raises `CondenseError` if there is none."""
    name, repeated = root.resolve().name, list[str]()
    check_names(name, ())
    files = sorted(file for _, file in walk(root, [root], apart=root.resolve().parents, repeated=repeated))
    images, others = ([file for file in files if is_image(file) == wanted] for wanted in (True, False))
    if not images:
        raise CondenseError(f"no image files (.png, .jpg, ...) in {root}; give the folder that has them")
    nothing: list[str | None] = [None] * len(images)
    listing = Listing(images, torch.zeros(len(images), dtype=torch.int64), [], nothing, others)
    notes = [f"{len(others)} file(s) have no suffix of an image and were left out: {shown(others)}"] if others else []
    notes += [f"{len(repeated)} link(s) to folders of the tree were not followed"] if repeated else []
    return Tree(root, None, listing, None, notes=tuple(notes))
