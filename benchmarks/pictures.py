"""Pictures of sets that are kept with the records: one sprite a set, a row for each class, and the nearest real images.

Of a set of graphs there are drawings. Real images are somebody's: what shows them is kept with the records, to be
committed, only where their licence says so; elsewhere it lies with the sets, which are not.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from condense.data import TrainingData
from condense.data.catalogue import DATA_SETS
from condense.data.info import DataInfo
from condense.graphs.drawing import LARGE_TILE, TILE, graph_sprite
from condense.graphs.sets import GraphSet, NodeGraphSet
from condense.runtime.files import atomic_write
from condense.sets.pictures import brought_into_range, to_picture
from condense.sets.synthetic_set import SyntheticSet

PER_CLASS = 10
_CLASSES = 100
_LARGEST_SIDE = 64  # of an image in a sprite, in pixels
_QUALITY = 85
_READ_AT_ONCE = 512
_SEARCHED = 200_000  # real images, at most


def may_show_real(info: DataInfo) -> bool:
    """Whether real images of this data may be published."""
    return info.name in {entry.name for entry in DATA_SETS if entry.licence}


def shows_real(synthetic: SyntheticSet, method_target: str) -> bool:
    """Whether the set is of real images, or of parts of them; `method_target` is the class that made it."""
    return synthetic.source_indices is not None or method_target.startswith("condense.selection")


def shown_rows(synthetic: SyntheticSet) -> list[Tensor]:
    """The stored images that a picture shows: the first ten of each of the first hundred classes, int64 each.

    Images without class index fill rows as they come.
    """
    classes = synthetic.stored_classes
    if classes is None:
        return list(torch.arange(len(synthetic.stored)).split(PER_CLASS))[:_CLASSES]
    count = min(_CLASSES, len(synthetic.info.classes))
    return [(classes == label).nonzero().flatten()[:PER_CLASS] for label in range(count)]


def sprite_tile(height: int, width: int) -> tuple[int, int]:
    """Width and height in a sprite, in pixels, of images of this size.

    >>> sprite_tile(28, 28), sprite_tile(100, 128)
    ((28, 28), (64, 50))
    """
    factor = min(1.0, _LARGEST_SIDE / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def sprite(rows: Sequence[Tensor]) -> Image.Image:
    """Rows of images [n, C, H, W] in about [0, 1] as equal tiles without gaps; short rows end in grey.

    Tiles have the size of the images, but at most 64 pixels. Images whose values leave [0, 1] get less contrast.
    """
    size = sprite_tile(*rows[0].shape[2:])
    whole = Image.new("RGB", (size[0] * max(map(len, rows)), size[1] * len(rows)), "#808080")
    for row, images in enumerate(rows):
        for column, image in enumerate(brought_into_range(images)):
            tile = to_picture(image).resize(size, Image.Resampling.BOX)
            whole.paste(tile, (column * size[0], row * size[1]))
    return whole


def graphs_as_sprite(made: GraphSet | NodeGraphSet) -> Image.Image:
    """Drawings of the first ten graphs of each class, as tiles of `graph_tile`; or of the one graph.

    Raises `CondenseError` where networkx is missing.
    """
    return graph_sprite(made, _CLASSES, PER_CLASS)


def graph_tile(modality: str) -> tuple[int, int]:
    """Width and height in a sprite, in pixels, of one of many graphs (`graphs`) or of a graph with nodes (`nodes`)."""
    return (TILE, TILE) if modality == "graphs" else (LARGE_TILE, LARGE_TILE)


def encoded(picture: Image.Image) -> bytes:
    """A picture as the bytes of a WebP file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="webp", quality=_QUALITY, method=6)
    return buffer.getvalue()


def write_sprite(rows: Sequence[Tensor], path: Path) -> None:
    """The sprite of these images as a WebP file."""
    write_picture(sprite(rows), path)


def write_picture(picture: Image.Image, path: Path) -> None:
    """A picture as a WebP file."""
    with atomic_write(path) as target:
        target.write_bytes(encoded(picture))


def nearest_real(
    synthetic: SyntheticSet, rows: Sequence[Tensor], train: TrainingData
) -> list[tuple[int, float]] | None:
    """For each stored image at `rows` the index of the training image that is nearest, and how far that is.

    Of its class, where it has one. The distance is the root of the mean squared difference of pixels from 0 to 1. None
    where stored images are not what networks see (mosaics), and where there are more than 200,000 training images.
    """
    if synthetic.decoder is not None or len(train) > _SEARCHED:
        return None
    every = torch.arange(len(train)) if synthetic.stored_classes is None else None
    found: list[tuple[int, float]] = []
    for label, row in enumerate(rows):
        candidates = train.class_indices(label) if every is None else every
        if len(row) and len(candidates):
            found += _nearest(synthetic.pixels_at(row), train, candidates)
    return found


def _nearest(images: Tensor, train: TrainingData, candidates: Tensor) -> list[tuple[int, float]]:
    """Of these candidates (int64), for images [n, C, H, W]."""
    mine = images.flatten(1)
    best, where = torch.full((len(mine),), torch.inf), torch.zeros(len(mine), dtype=torch.int64)
    for part in candidates.split(_READ_AT_ONCE):
        theirs = train.pixels(part).flatten(1).float() / 255
        distance, place = torch.cdist(mine, theirs).min(1)  # up to rounding
        nearer = distance < best
        best, where = torch.where(nearer, distance, best), torch.where(nearer, part[place], where)
    theirs = train.pixels(where).flatten(1).float() / 255
    return list(zip(where.tolist(), (mine - theirs).square().mean(1).sqrt().tolist()))
