"""What somebody says about how a source is to be read, apart from its name: `load_data` hands it to the readers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense.data.class_choice import classes_word
from condense.data.images.window import Window

NO_LABELS = "none"  # instead of a table
READING_OPTIONS = ("group_by_folder", "labels", "classes", "skip_broken", "window")  # those that decide what is read


@dataclass(frozen=True)
class Reading:
    """The options of `load_data` that readers look at.

    `image_size` is (H, W), `memory_limit` in bytes, `labels` a table of files and labels, `classes` those that are
    read, in this order (None: all); images that are `unlabelled` are read without labels, even where there are some.
    """

    data_root: Path
    image_size: tuple[int, int] | None = None
    memory_limit: int = 4 * 2**30
    download: bool = False
    group_by_folder: bool = False
    labels: Path | None = None
    unlabelled: bool = False
    classes: tuple[str, ...] | None = None
    skip_broken: bool = False
    window: Window | None = None

    def recorded(self, *, left_out: bool) -> dict[str, Any]:
        """The options of a command that read the same images, by name, in JSON's types.

        The table of labels goes by its base name. `skip_broken` counts only where something was `left_out`.
        """
        options: dict[str, Any] = {
            "group_by_folder": self.group_by_folder or None,
            "labels": NO_LABELS if self.unlabelled else None if self.labels is None else self.labels.name,
            "classes": None if self.classes is None else classes_word(self.classes),
            "skip_broken": (self.skip_broken and left_out) or None,
            "window": None if self.window is None else self.window.bounds,
        }
        return {name: value for name, value in options.items() if value is not None}
