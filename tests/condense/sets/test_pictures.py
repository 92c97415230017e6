"""Pictures, pixel by pixel."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from condense.data.info import DataInfo
from condense.data.preprocessing import Normalization
from condense.sets.pictures import brought_into_range, picture_rows, to_picture, to_uint8
from condense.sets.synthetic_set import SyntheticSet


def test_grid_places_every_image_and_leaves_gaps() -> None:
    values = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8])
    images = values.view(-1, 1, 1, 1).expand(-1, 1, 16, 24)
    grid = np.asarray(picture_rows(images.split(3)))
    assert grid.shape == (2 * (32 + 2) + 2, 3 * (48 + 2) + 2, 3)
    for index, value in enumerate(values.tolist()):
        top, left = 2 + (index // 3) * 34, 2 + (index % 3) * 50
        cell = grid[top : top + 32, left : left + 48]
        assert (cell == round(value * 255)).all()
    rest = grid[36:68, 102:150]  # the sixth place
    for part in (grid[:2], grid[34:36], grid[:, :2], grid[:, 50:52], rest):
        assert (part == 255).all()


def test_small_images_grow_sharp_and_large_ones_stay() -> None:
    board = (torch.arange(64).view(8, 8) % 2).float()[None, None]
    grid = np.asarray(picture_rows([board]))
    assert grid.shape == (68, 68, 3)
    assert set(np.unique(grid)) == {0, 255}
    for side, shown in ((28, 56), (32, 64), (40, 40), (96, 96)):
        assert picture_rows([torch.zeros(1, 3, side, side)]).size == (shown + 4, shown + 4)


def test_colors_and_values_out_of_range() -> None:
    image = torch.tensor([1.5, 0.5, -0.5]).view(3, 1, 1).expand(3, 2, 2)
    assert to_picture(image).getpixel((0, 0)) == (255, 128, 0)
    assert to_picture(image[:1]).mode == "L"


def test_contrast_is_lowered_only_where_values_leave_the_range() -> None:
    inside = torch.linspace(0.1, 0.9, 64).view(1, 1, 8, 8)
    beyond = torch.linspace(-1.0, 3.0, 64).view(1, 1, 8, 8)
    shown = brought_into_range(torch.cat([inside, beyond]))
    assert torch.equal(shown[:1], inside)
    assert len(torch.unique(to_uint8(shown[1]))) > 60, "clipping would leave 16 shades"


def test_names_stand_beside_their_rows_if_they_fit() -> None:
    rows = [torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8)]
    bare = picture_rows(rows)
    named = picture_rows(rows, names=("cat", "a very long name that would take all of the picture"))
    assert bare.width < named.width < bare.width + 160
    margin = named.width - bare.width
    for top in (0, 66):
        assert (np.asarray(named)[top : top + 66, :margin] < 128).any()
    assert np.array_equal(np.asarray(named)[:, margin:], np.asarray(bare))
    low = [torch.zeros(1, 1, 4, 96)]
    assert picture_rows(low, names=("cat",)).size == picture_rows(low).size
    assert picture_rows(rows, names=("cat", "犬")).width > bare.width


def test_the_grid_of_a_set_has_a_row_for_each_class() -> None:
    info = DataInfo("pets", ("cat", "dog", "cow"), (1, 8, 8), True, "ab" * 16, Normalization((0.5,), (0.25,)))
    values = torch.tensor([0.2, 0.8, 0.4, 0.6])
    learned = info.preprocessing.apply(values.view(-1, 1, 1, 1).expand(-1, 1, 8, 8))
    synthetic = SyntheticSet(stored=learned, stored_labels=torch.tensor([1, 0, 1, 1]), info=info)
    grid = synthetic.grid(per_class=2)
    assert isinstance(grid, Image.Image)
    pixels = np.asarray(grid)
    left = grid.width - 2 * 66 - 2
    cells = {
        (row, column): pixels[66 * row + 30, left + 66 * column + 30, 0] for row in range(3) for column in range(2)
    }
    assert cells == {(0, 0): 204, (0, 1): 255, (1, 0): 51, (1, 1): 102, (2, 0): 255, (2, 1): 255}
