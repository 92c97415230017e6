"""Pictures of sets for a page: sprites as they are kept with the records, with what lies in each tile of them.

A page that is published has nothing but what may be: files that lie beside the records (see `benchmarks.pictures`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageStat

from benchmarks.page.comparing import Comparison, Entry
from benchmarks.pictures import encoded, graph_tile, graphs_as_sprite, shown_rows, sprite, sprite_tile
from benchmarks.records import Record, picture_path
from condense.data.catalogue import DATA_SETS
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.sets.synthetic_set import SyntheticSet

_GREY, _ABOUT = 0x80, 6  # what tiles without image are filled with, and how far compression moves it


@dataclass(frozen=True)
class Sprite:
    """A WebP file in memory: rows of so many `columns` of tiles of `tile` (width, height) pixels.

    `counts` says how many of each row are images.
    """

    content: bytes
    tile: tuple[int, int]
    columns: int
    counts: tuple[int, ...]

    @property
    def url(self) -> str:
        """The file as a link that holds it."""
        return f"data:image/webp;base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class Gallery:
    """The pictures of one set: `names` of the rows (classes, mostly), and what real image is nearest to each one.

    `nearest` has index and distance, row by row, as long as the images; empty where they are not known. `real` shows
    them. `keys` are those of the rows that score the set, `group` is the data and the size.
    """

    keys: tuple[str, ...]
    title: str
    group: str
    names: tuple[str, ...]
    sprite: Sprite
    nearest: tuple[tuple[int, float], ...] = ()
    real: Sprite | None = None
    licence: str = ""

    @property
    def size(self) -> int:
        """Bytes that it adds to a page, about."""
        return sum(len(each.url) for each in (self.sprite, self.real) if each is not None)


def galleries(tables: Sequence[Comparison], folder: Path, *, public: bool) -> list[Gallery]:
    """Those of the first set of each row whose pictures are there, each set once."""
    found: dict[str, Gallery] = {}
    for table in tables:
        for entry in table.entries:
            name = entry.first.configuration.set_name
            if name in found:
                found[name] = replace(found[name], keys=(*found[name].keys, entry.key))
            elif (gallery := _gallery(entry, table, folder, public=public)) is not None:
                found[name] = gallery
    return list(found.values())


def _gallery(entry: Entry, table: Comparison, folder: Path, *, public: bool) -> Gallery | None:
    record = entry.first
    made, real = (_read(record, folder, nearest=nearest, public=public) for nearest in (False, True))
    if made is None:
        return None
    rows, nearest = len(made.counts), record.nearest or ()
    data = record.configuration.data
    classes = ("all classes",) if data.modality == "nodes" else tuple(record.class_accuracies)
    return Gallery(
        keys=(entry.key,),
        title=entry.name,
        group=table.title,
        names=classes[:rows] if len(classes) >= rows else tuple(f"row {row}" for row in range(1, rows + 1)),
        sprite=made,
        nearest=tuple(nearest) if len(nearest) == sum(made.counts) else (),
        real=real,
        licence=next((known.licence for known in DATA_SETS if known.name == data.name), ""),
    )


def _read(record: Record, folder: Path, *, nearest: bool, public: bool) -> Sprite | None:
    for published in (True,) if public else (True, False):
        path = picture_path(record.configuration, folder, nearest=nearest, published=published)
        if path.exists():
            made, data = record.configuration.made, record.configuration.data
            if data.image_shape is None:
                return read_sprite(path.read_bytes(), graph_tile(data.modality), even=False)
            even = made is not None and made.balanced and made.ipc is not None
            return read_sprite(path.read_bytes(), sprite_tile(*data.image_shape[1:]), even=even)
    return None


def read_sprite(content: bytes, tile: tuple[int, int], *, even: bool) -> Sprite:
    """The tiles of a sprite, of this width and height.

    Where rows are not `even`, short ones end in grey tiles, which are found by their looks.
    """
    with Image.open(io.BytesIO(content)) as picture:
        columns, rows = max(1, picture.width // tile[0]), max(1, picture.height // tile[1])
        counts = [columns] * rows if even else [_filled(picture, tile, columns, row) for row in range(rows)]
        return Sprite(content, tile, columns, tuple(counts))


def _filled(picture: Image.Image, tile: tuple[int, int], columns: int, row: int) -> int:
    """How many tiles of a row are images."""
    width, height = tile
    while columns:
        left, top = (columns - 1) * width, row * height
        if not _is_grey(picture.crop((left, top, left + width, top + height))):
            break
        columns -= 1
    return columns


def _is_grey(tile: Image.Image) -> bool:
    """Whether there is nothing in a tile, but for what compression lets neighbours leave at its edges."""
    statistics = ImageStat.Stat(tile.convert("L"))
    return abs(statistics.mean[0] - _GREY) < _ABOUT and statistics.stddev[0] < 2 * _ABOUT


def gallery_of_graphs(made: GraphSet | NodeGraphSet, title: str) -> Gallery:
    """The gallery of a set of graphs in memory; of one graph with nodes a single picture."""
    many = isinstance(made, GraphSet)
    sprite = read_sprite(encoded(graphs_as_sprite(made)), graph_tile("graphs" if many else "nodes"), even=False)
    return Gallery(
        keys=(),
        title=title,
        group=f"{made.info.name}, {len(made):,} {'graphs' if many else 'nodes'}",
        names=made.info.classes[: len(sprite.counts)] if many else ("all classes",),
        sprite=sprite,
    )


def gallery_of(synthetic: SyntheticSet, title: str) -> Gallery:
    """The gallery of a set in memory, without its nearest real images."""
    rows = shown_rows(synthetic)
    tile = sprite_tile(*synthetic.info.image_shape[1:])
    content = encoded(sprite([synthetic.pictures_at(row) for row in rows]))
    named = synthetic.stored_classes is not None
    return Gallery(
        keys=(),
        title=title,
        group=f"{synthetic.info.name}, {len(synthetic.stored)} images",
        names=synthetic.info.classes[: len(rows)] if named else tuple(f"row {row + 1}" for row in range(len(rows))),
        sprite=Sprite(content, tile, max(map(len, rows)), tuple(map(len, rows))),
    )
