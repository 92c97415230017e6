"""Showings: functions of (seed, epoch, image) and (seed, epoch, batch); mixing by hand; what leaves an image alone."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from condense.augmentation.views import ViewRule, draw_views, see
from condense.labels.showing import Place, Showing
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import uniforms
from condense.runtime.validation import validated

IMAGES = torch.rand(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
FILL = (0.5, 0.25, 0.75)


def showing(**changes: Any) -> Showing:
    return Showing(**{"seed": 3, "rule": ViewRule(), "fill": FILL} | changes)


def test_a_view_does_not_depend_on_the_images_beside_it() -> None:
    one = showing(views=5)
    together = one.shown(IMAGES, one.place(2, 0, torch.arange(10), 10), torch.arange(10))
    for row in range(10):
        alone = one.shown(IMAGES[row : row + 1], one.place(2, 7, torch.tensor([row]), 10), torch.tensor([row]))
        assert torch.equal(alone[0], together[row])
    assert torch.equal(
        together, one.shown(IMAGES, one.place(7, 3, torch.arange(10), 10), torch.arange(10))
    )  # view 2 of 5
    assert not torch.equal(together, one.shown(IMAGES, one.place(3, 0, torch.arange(10), 10), torch.arange(10)))
    assert not torch.equal(
        together, showing(seed=4).shown(IMAGES, one.place(2, 0, torch.arange(10), 10), torch.arange(10))
    )
    endless = showing()
    assert torch.equal(endless.shown(IMAGES, endless.place(2, 0, torch.arange(10), 10), torch.arange(10)), together)
    assert not torch.equal(endless.shown(IMAGES, endless.place(7, 0, torch.arange(10), 10), torch.arange(10)), together)


def test_what_lies_beyond_an_image_is_the_stored_colour() -> None:
    shown = showing(rule=ViewRule(flip=False)).shown(
        torch.ones(40, 3, 16, 16), Place.of(0, 0, torch.arange(40)), torch.arange(40)
    )
    for channel, value in enumerate(FILL):
        assert set(shown[:, channel].unique().tolist()) == {value, 1.0}


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_batch_is_mixed_by_one_draw(mix: str) -> None:
    """By hand, from the numbers that the draws are made of."""
    one = showing(mix=mix, batch_size=10, views=4)
    ids = torch.tensor([4, 2, 9, 0, 7])
    for epoch, number in ((1, 0), (1, 1), (6, 0)):
        view = epoch % 4
        seen = see(IMAGES[ids], draw_views(one.rule, (3, 16, 16), 3, view, ids), torch.tensor(FILL))
        share, down, right, *rest = uniforms(8, 3, mix, view, number)
        partner = sorted(range(5), key=rest.__getitem__)
        if mix == "mixup":
            kept = float(beta(0.8, 0.8).ppf(share))
            expected = torch.stack([kept * seen[row] + (1 - kept) * seen[partner[row]] for row in range(5)])
        else:
            half, rows, columns = int(16 * share**0.5) // 2, int(down * 16), int(right * 16)
            expected = seen.clone()
            for row in range(5):
                window = slice(max(0, rows - half), rows + half), slice(max(0, columns - half), columns + half)
                expected[row][:, *window] = seen[partner[row]][:, *window]
        torch.testing.assert_close(one.shown(IMAGES[ids], one.place(epoch, number, ids, 10), ids), expected)


def test_batches_are_a_function_of_seed_and_view() -> None:
    one = showing(mix="mixup", batch_size=4, views=3)
    first, again, next_view = (one.batches(10, epoch) for epoch in (1, 4, 2))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(torch.cat(first).tolist()) == list(range(10))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(torch.cat(first), torch.cat(next_view))
    assert showing().batches(10, 0) is None


def test_the_order_is_the_same_in_another_process() -> None:
    code = (
        "import json, condense.labels.showing as s; from condense.augmentation.views import ViewRule\n"
        "one = s.Showing(seed=3, rule=ViewRule(), fill=(0.5,), mix='cutmix', batch_size=4)\n"
        "print(json.dumps([batch.tolist() for batch in one.batches(10, 1)]))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    one = showing(mix="cutmix", batch_size=4, fill=(0.5,))
    assert json.loads(found) == [batch.tolist() for batch in one.batches(10, 1)]


class Counting:
    """A voter that says how many images it was asked about at once, and in which mode."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []

    def logits(self, pixels: Tensor, *, batch_norm: str = "running") -> Tensor:
        self.asked.append((len(pixels), batch_norm))
        return torch.full((len(pixels), 2), float(len(self.asked)))


def test_batches_may_be_asked_in_two_halves() -> None:
    for groups, parts in ((1, [(7, "batch")]), (2, [(4, "batch"), (3, "batch")])):
        voter = Counting()
        answer = showing(batch_norm="batch", batch_size=7, bn_groups=groups).ask(voter, torch.zeros(7, 3, 4, 4))
        assert voter.asked == parts
        assert answer[:, 0].tolist() == [1.0] * parts[0][0] + [2.0] * (7 - parts[0][0])
    voter = Counting()
    showing().ask(voter, torch.zeros(7, 3, 4, 4))
    assert voter.asked == [(7, "running")]


@pytest.mark.parametrize(
    ("images", "changes", "alone"),
    [
        (10, {"batch_size": 3}, 1),
        (10, {"batch_size": 9}, 1),
        (11, {"batch_size": 4}, None),
        (10, {"batch_size": 16}, None),
        (1, {"batch_size": 16}, 1),
        (19, {"batch_size": 16, "bn_groups": 2}, 3),
        (20, {"batch_size": 16, "bn_groups": 2}, None),
        (10, {"batch_size": 2, "bn_groups": 2}, 2),
    ],
)
def test_a_batch_of_a_single_image_is_refused(images: int, changes: dict[str, int], alone: int | None) -> None:
    one = showing(batch_norm="batch", **changes)
    if alone is None:
        one.check(images)
        return
    with pytest.raises(CondenseError, match=f"for {images} images leaves a batch of {alone}.*give another batch size"):
        one.check(images)
    showing().check(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix": "mixup"}, "give --batch-size N"),
        ({"batch_norm": "batch"}, "give --batch-size N"),
        ({"batch_size": 8}, "batch size 8: neither are images mixed"),
        ({"bn_groups": 2}, "bn groups divide a batch whose statistics are taken"),
        ({"batch_size": 1, "mix": "mixup"}, "batch_size 1"),
        ({"views": 0}, "views 0"),
        ({"mix": "cutout"}, "mix 'cutout'"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CondenseError, match=message):
        validated(Showing, {"seed": 0, "rule": ViewRule(), "fill": FILL} | changes)


def test_it_tells_what_is_seen() -> None:
    words = showing(mix="cutmix", batch_size=16, batch_norm="batch", bn_groups=2, rule=ViewRule(crop="resized"))
    assert words.describe() == "crops of 0.08 to 1, flips, cutmix, batches of 16, batch statistics of 2 groups"
    assert showing(rule=ViewRule(crop="none", flip=False, shuffle=2)).describe() == "whole images, 2x2 strips shuffled"


def test_drawn_views_are_those_that_are_stored_in_an_order_of_their_own():
    drawn, ids = showing(views=4, drawn=True), torch.arange(10)
    stored = [drawn.shown(IMAGES, Place.of(view, 0, ids), ids) for view in range(4)]
    seen: list[list[int]] = []
    for epoch in range(200):
        place = drawn.place(epoch, 0, ids, 10)
        part = torch.tensor([7, 2])
        assert torch.equal(drawn.place(epoch, 3, part, 10).views, place.views[part])  # whatever the batch
        seen.append(place.views.tolist())
        if epoch < 5:
            shown = drawn.shown(IMAGES, place, ids)
            for row, view in enumerate(place.views.tolist()):
                assert torch.equal(shown[row], stored[view][row])
    counts = torch.bincount(torch.tensor(seen).flatten(), minlength=4)
    assert (counts - 500).abs().max() < 100  # of 2,000 draws; a standard deviation is 19
    assert len({tuple(views) for views in seen}) > 190


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_drawn_batches_are_batches_of_the_views(mix: str):
    """Ten images in batches of 4, 4 and 2, of three views: nine batches, of which an epoch has three."""
    drawn = showing(views=3, drawn=True, mix=mix, batch_size=4)
    pool = {
        (view, number): (ids, drawn.shown(IMAGES[ids], Place.of(view, number, ids), ids))
        for view in range(3)
        for number, ids in enumerate(drawn.batches_of_view(10, view))
    }
    used = set()
    for epoch in range(40):
        batches = drawn.batches(10, epoch)
        places = [drawn.place(epoch, number, ids, 10) for number, ids in enumerate(batches)]
        keys = [(int(place.views[0]), place.batch) for place in places]
        assert len(set(keys)) == 3
        used |= set(keys)
        for ids, place, key in zip(batches, places, keys, strict=True):
            assert torch.equal(ids, pool[key][0])
            assert torch.equal(drawn.shown(IMAGES[ids], place, ids), pool[key][1])
    assert used == pool.keys()


def test_views_are_drawn_among_a_number_of_them():
    with pytest.raises(ValueError, match="views are drawn among a number of them; give views"):
        showing(drawn=True)


def test_an_image_is_mixed_with_another_view_of_itself():
    """Every pixel comes from one of two views of the same image, in a window, whatever images are beside it."""
    one, plain = showing(mix="selfmix"), showing()
    ids = torch.arange(10)
    assert not one.by_batch
    windows = 0
    for view in range(6):
        place = Place.of(view, 0, ids)
        mixed, first = one.shown(IMAGES, place, ids), plain.shown(IMAGES, place, ids)
        second = plain.shown(IMAGES, Place.of(-1 - view, 0, ids), ids)
        part = torch.tensor([8, 3])
        assert torch.equal(one.shown(IMAGES[part], Place.of(view, 0, part), part), mixed[part])
        for row in range(10):
            from_first, from_second = ((mixed[row] == seen[row]).all(0) for seen in (first, second))
            assert (from_first | from_second).all()
            changed = ~from_first
            if changed.any():
                down, across = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
                inside = torch.zeros_like(changed)
                inside[down[0] : down[-1] + 1, across[0] : across[-1] + 1] = True
                assert from_second[inside].all()
                windows += 1
    assert windows > 40
