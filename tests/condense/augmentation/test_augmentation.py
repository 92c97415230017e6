from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from condense.augmentation.dsa import (
    Augmentation,
    AugmentationName,
    Draws,
    augment,
    draw_per_class,
    draw_per_image,
    draw_shared,
    flip_closure,
)
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.training.rule import TrainingRule

OPERATIONS = Augmentation.operations
SHAPES = [(1, 8, 8), (3, 9, 12), (4, 11, 6)]


def images_of(count: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=generator(seed, "test images"), dtype=torch.float64)


# Independent references: one image at a time, one pixel at a time, from the definitions.


def naive(operation: str, image: Tensor, draws: Draws, row: int) -> Tensor:
    values = {field.name: getattr(draws, field.name)[row].tolist() for field in fields(draws)}
    return torch.from_numpy(REFERENCES[operation](image.numpy(), values))


def naive_color(image: np.ndarray, drawn: dict[str, Any]) -> np.ndarray:
    channels, height, width = image.shape
    bright = image + drawn["brightness"]
    saturated = bright.copy()
    for i in range(height):
        for j in range(width):
            gray = sum(bright[c, i, j] for c in range(channels)) / channels
            for c in range(channels):
                saturated[c, i, j] = (bright[c, i, j] - gray) * drawn["saturation"] + gray
    mean = sum(saturated.flatten().tolist()) / saturated.size
    return (saturated - mean) * drawn["contrast"] + mean


def naive_crop(image: np.ndarray, drawn: dict[str, Any]) -> np.ndarray:
    _, height, width = image.shape
    down, right = drawn["shift"]
    out = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            if 0 <= i + down < height and 0 <= j + right < width:
                out[:, i, j] = image[:, i + down, j + right]
    return out


def naive_cutout(image: np.ndarray, drawn: dict[str, Any]) -> np.ndarray:
    _, height, width = image.shape
    tall, wide = int(0.5 * height + 0.5), int(0.5 * width + 0.5)
    out = image.copy()
    for i in range(tall):
        for j in range(wide):
            row = min(max(drawn["centre"][0] - tall // 2 + i, 0), height - 1)
            column = min(max(drawn["centre"][1] - wide // 2 + j, 0), width - 1)
            out[:, row, column] = 0
    return out


def naive_flip(image: np.ndarray, drawn: dict[str, Any]) -> np.ndarray:
    return image[:, :, ::-1].copy() if drawn["flip"] else image


def naive_linear(image: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    """Bilinear sampling in pixels about the centre: new (x, y) looks at matrix @ (x, y), zero outside."""
    _, height, width = image.shape
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    out = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            x = matrix[0][0] * (j - middle_x) + matrix[0][1] * (i - middle_y) + middle_x
            y = matrix[1][0] * (j - middle_x) + matrix[1][1] * (i - middle_y) + middle_y
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        out[:, i, j] += image[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return out


def naive_scale(image: np.ndarray, drawn: dict[str, Any]) -> np.ndarray:
    return naive_linear(image, [[drawn["scale"][1], 0], [0, drawn["scale"][0]]])


def naive_rotate(image: np.ndarray, drawn: dict[str, Any]) -> np.ndarray:
    cosine, sine = math.cos(math.radians(drawn["angle"])), math.sin(math.radians(drawn["angle"]))
    return naive_linear(image, [[cosine, -sine], [sine, cosine]])


REFERENCES = {
    "color": naive_color,
    "crop": naive_crop,
    "cutout": naive_cutout,
    "flip": naive_flip,
    "scale": naive_scale,
    "rotate": naive_rotate,
}


# The operations


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_equals_naive_reference(operation: str, align_corners: bool, shape: tuple[int, int, int]) -> None:
    augmentation = Augmentation((operation,), align_corners)
    images = images_of(12, shape)
    draws = draw_per_image(augmentation, shape, 12, generator(1, "draws"))
    expected = torch.stack([naive(operation, image, draws, row) for row, image in enumerate(images)])
    torch.testing.assert_close(augment(augmentation, images, draws), expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(expected, images)


@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_batch_equals_naive_reference(shape: tuple[int, int, int]) -> None:
    augmentation = Augmentation()
    draws = draw_per_class(augmentation, shape, 20, generator(2, "draws"))
    assert set(draws.operation.tolist()) == set(range(6))
    labels = torch.randint(20, (50,), generator=generator(3, "labels"))
    images = images_of(50, shape)
    expected = torch.stack(
        [
            naive(OPERATIONS[int(draws.operation[label])], image, draws, int(label))
            for label, image in zip(labels, images)
        ]
    )
    actual = augment(augmentation, images, draws.expand(labels))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("angle", "turns"), [(90.0, 1), (-90.0, -1), (180.0, 2)])
def test_rotation_by_right_angles_is_rot90(angle: float, turns: int, align_corners: bool) -> None:
    augmentation = Augmentation(("rotate",), align_corners, rotate=180.0)
    images = images_of(2, (3, 7, 7))
    drawn = draw_shared(augmentation, (3, 7, 7), generator(0, "draws"))
    draws = replace(drawn, angle=torch.tensor([angle], dtype=torch.float64))
    torch.testing.assert_close(augment(augmentation, images, draws), torch.rot90(images, turns, (2, 3)))


def test_rotation_keeps_the_aspect_of_non_square_images() -> None:
    augmentation = Augmentation(("rotate",), rotate=90.0)
    images = torch.zeros(1, 1, 9, 21)
    images[..., 4, 10:14] = 1  # a bar of 4 pixels from the centre to the right
    draws = replace(draw_shared(augmentation, (1, 9, 21), generator(0, "draws")), angle=torch.tensor([90.0]))
    expected = torch.zeros(1, 1, 9, 21)
    expected[..., 1:5, 10] = 1  # is 4 pixels long afterwards as well
    torch.testing.assert_close(augment(augmentation, images, draws), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("centre", "rows", "columns"),
    [((3, 3), range(1, 5), range(2, 5)), ((8, 0), range(6, 8), range(2)), ((0, 5), range(2), range(4, 6))],
)
def test_cutout_is_clipped_at_the_border(centre: tuple[int, int], rows: range, columns: range) -> None:
    augmentation = Augmentation(("cutout",))  # a hole of 4 x 3 pixels in 8 x 6
    drawn = draw_shared(augmentation, (1, 8, 6), generator(0, "draws"))
    holed = augment(augmentation, torch.ones(1, 1, 8, 6), replace(drawn, centre=torch.tensor([centre])))
    expected = {(row, column) for row in rows for column in columns}
    assert {tuple(pixel) for pixel in (holed[0, 0] == 0).nonzero().tolist()} == expected


def test_one_channel_has_no_saturation() -> None:
    augmentation = Augmentation(("color",))
    images = images_of(3, (1, 8, 8))
    draws = draw_per_image(augmentation, (1, 8, 8), 3, generator(0, "draws"))
    other = replace(draws, saturation=draws.saturation + 1)
    torch.testing.assert_close(augment(augmentation, images, draws), augment(augmentation, images, other))


def test_mixed_batch_samples_only_the_images_that_need_it() -> None:
    sampled: Counter[str] = Counter()

    class CountSampledImages(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
            if "grid_sampler" in str(function):
                sampled["images"] += len(arguments[0])
            return function(*arguments, **(keywords or {}))

    augmentation = Augmentation()
    draws = draw_per_class(augmentation, (3, 8, 8), 60, generator(0, "draws"))
    with CountSampledImages():
        augment(augmentation, images_of(60, (3, 8, 8)), draws)
    assert 0 < sampled["images"] == int((draws.operation >= OPERATIONS.index("scale")).sum()) < 60


# Who shares a draw


def test_siamese_draw_is_the_same_transformation_for_every_batch() -> None:
    augmentation = Augmentation()
    for seed in range(12):
        draws = draw_shared(augmentation, (3, 8, 12), generator(seed, "draws"))
        assert len(draws) == 1
        images = images_of(7, (3, 8, 12))
        together = augment(augmentation, images, draws)
        parts = [augment(augmentation, part, draws) for part in images.split([5, 2])]
        torch.testing.assert_close(torch.cat(parts), together)
        expanded = augment(augmentation, images, draws.expand(torch.zeros(7, dtype=torch.int64)))
        torch.testing.assert_close(expanded, together)


def test_per_image_draws_share_the_operation_but_not_the_parameters() -> None:
    operations = set()
    for seed in range(40):
        draws = draw_per_image(Augmentation(), (3, 32, 32), 16, generator(seed, "draws"))
        assert len(draws) == 16
        assert len(draws.operation.unique()) == 1
        assert len(draws.angle.unique()) == len(draws.brightness.unique()) == 16
        operations.add(int(draws.operation[0]))
    assert operations == set(range(6))


def test_per_class_draws_expand_to_images() -> None:
    draws = draw_per_class(Augmentation(), (3, 32, 32), 10, generator(0, "draws"))
    labels = torch.tensor([3, 0, 3, 9])
    expanded = draws.expand(labels)
    for field in fields(Draws):
        assert torch.equal(getattr(expanded, field.name), getattr(draws, field.name)[labels])
    images = images_of(1, (3, 32, 32)).expand(4, -1, -1, -1)
    first, _, third, _ = augment(Augmentation(), images, expanded)
    assert torch.equal(first, third)


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    augmentation = Augmentation()
    for draw in (draw_per_image, draw_per_class):
        augment(augmentation, images_of(9, (3, 8, 8)), draw(augmentation, (3, 8, 8), 9, generator(0, "draws")))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


# Derivatives, types and devices


@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradient_of_each_operation(operation: str) -> None:
    augmentation = Augmentation((operation,))
    draws = draw_per_image(augmentation, (2, 4, 5), 3, generator(0, "draws"))
    images = images_of(3, (2, 4, 5)).requires_grad_()
    assert gradcheck(lambda images: augment(augmentation, images, draws), images)


def test_gradient_of_a_mixed_batch() -> None:
    augmentation = Augmentation()
    drawn = draw_per_class(augmentation, (1, 4, 3), 8, generator(0, "draws"))
    draws = replace(drawn, operation=torch.tensor([3, 1, 5, 0, 2, 4, 1, 5]))
    images = images_of(8, (1, 4, 3)).requires_grad_()
    assert gradcheck(lambda images: augment(augmentation, images, draws), images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_type_is_kept_and_computed_in_float32(operation: str, dtype: torch.dtype) -> None:
    augmentation = Augmentation((operation,))
    images = images_of(4, (3, 8, 8)).to(dtype)
    draws = draw_per_image(augmentation, (3, 8, 8), 4, generator(0, "draws"))
    actual = augment(augmentation, images, draws)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual, augment(augmentation, images.float(), draws).to(dtype), rtol=0, atol=0)
    exact = augment(augmentation, images.double(), draws)
    torch.testing.assert_close(actual.double(), exact, rtol=1e-2, atol=1e-5 if dtype == torch.float32 else 1e-2)


def test_memory_format_does_not_matter() -> None:
    augmentation = Augmentation()
    images = images_of(30, (3, 8, 12))
    draws = draw_per_class(augmentation, (3, 8, 12), 30, generator(0, "draws"))
    channels_last = augment(augmentation, images.contiguous(memory_format=torch.channels_last), draws)
    torch.testing.assert_close(channels_last, augment(augmentation, images, draws))


def test_images_are_not_changed() -> None:
    images = images_of(30, (3, 8, 8))
    before = images.clone()
    augment(Augmentation(), images, draw_per_class(Augmentation(), (3, 8, 8), 30, generator(0, "draws")))
    assert torch.equal(images, before)


# The strategy


def test_flips_follow_mirror() -> None:
    assert Augmentation.dsa(mirror=True).operations == OPERATIONS
    assert Augmentation.dsa(mirror=False).operations == ("color", "crop", "cutout", "scale", "rotate")
    assert Augmentation.dsa(mirror=True, align_corners=True).align_corners


def test_strategy_survives_json() -> None:
    augmentation = Augmentation(("crop", "rotate"), align_corners=True, rotate=30.0)
    written = json.loads(json.dumps(augmentation.to_dict()))
    assert written == augmentation.to_dict()
    assert Augmentation.from_dict(written) == augmentation


def test_wrong_strategies_are_refused_in_one_line() -> None:
    for wrong, message in (
        (lambda: Augmentation(("rotat",)), "did you mean rotate"),
        (lambda: Augmentation(()), "at least one operation"),
        (lambda: Augmentation(scale=0.5), "scale 0.5 must be from 1"),
        (lambda: Augmentation(flip=math.nan), "flip nan must be from 0 to 1"),
        (lambda: Augmentation.from_dict({"rotation": 15}), "did you mean"),
    ):
        with pytest.raises(CondenseError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)


def test_wrong_number_of_draws_is_refused() -> None:
    draws = draw_per_class(Augmentation(), (3, 8, 8), 10, generator(0, "draws"))
    with pytest.raises(CondenseError, match="10 augmentation draws do not fit 4 images; give 1 or 4"):
        augment(Augmentation(), torch.zeros(4, 3, 8, 8), draws)


@pytest.mark.parametrize("name", ["crop", "cutout", "brightness", "rotate"])
def test_strength_zero_is_no_change(name: str) -> None:
    operation = "color" if name == "brightness" else name
    augmentation = Augmentation((operation,), **{name: 0.0})
    images = images_of(8, (1, 8, 8))
    draws = draw_per_image(augmentation, (1, 8, 8), 8, generator(0, "draws"))
    if operation == "color":
        draws = replace(draws, contrast=torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close(augment(augmentation, images, draws), images)


@pytest.mark.parametrize("labels", [torch.arange(3), torch.eye(3)])
def test_flip_closure(labels: Tensor) -> None:
    images = images_of(3, (2, 4, 5)).requires_grad_()
    closed, closed_labels = flip_closure(images, labels)
    assert torch.equal(closed[:3], images)
    assert torch.equal(closed[3:], torch.from_numpy(images.detach().numpy()[..., ::-1].copy()))
    assert torch.equal(closed_labels[:3], labels)
    assert torch.equal(closed_labels[3:], labels)
    (gradient,) = torch.autograd.grad(closed.sum(), images)
    assert torch.equal(gradient, torch.full_like(gradient, 2))


def test_operations_before_and_after_are_carried_out_in_this_order() -> None:
    strategy = Augmentation(("crop",), before=("flip", "color"), after=("cutout",))
    draws = draw_per_image(strategy, (3, 8, 8), 12, generator(0, "draws"))
    images = images_of(12, (3, 8, 8))
    expected = images
    for operation in ("flip", "color", "crop", "cutout"):
        expected = augment(Augmentation((operation,)), expected, replace(draws, operation=torch.zeros(12).long()))
    torch.testing.assert_close(augment(strategy, images, draws), expected)
    assert Augmentation.from_dict(strategy.to_dict()) == strategy


def test_flipping_first_is_a_flip_before_the_operation() -> None:
    strategy = Augmentation.named("dsa-flip-first", mirror=True)
    assert strategy is not None
    assert "flip" not in strategy.operations
    draws = draw_per_image(strategy, (3, 8, 8), 12, generator(0, "draws"))
    assert 0 < int(draws.flip.sum()) < 12
    images = images_of(12, (3, 8, 8))
    flipped = torch.stack([image.flip(-1) if flip else image for image, flip in zip(images, draws.flip, strict=True)])
    plain = replace(strategy, before=())
    torch.testing.assert_close(augment(strategy, images, draws), augment(plain, flipped, draws))
    assert Augmentation.from_dict(strategy.to_dict()) == strategy


@pytest.mark.parametrize("mirror", [True, False])
def test_networks_of_idc_see_a_flip_color_and_one_more_operation(mirror: bool) -> None:
    """Kim et al., ICML 2022: flip (where the data is mirrored) and color always, then one; cutout never."""
    strategy = Augmentation.named("dsa-flip-color-first", mirror=mirror)
    assert strategy is not None
    draws = draw_per_image(strategy, (3, 8, 8), 12, generator(0, "draws"))
    images = images_of(12, (3, 8, 8))
    for position, chosen in enumerate(("crop", "scale", "rotate")):
        expected = images
        for operation in (("flip",) if mirror else ()) + ("color", chosen):
            expected = augment(Augmentation((operation,)), expected, replace(draws, operation=torch.zeros(12).long()))
        result = augment(strategy, images, replace(draws, operation=torch.full((12,), position)))
        torch.testing.assert_close(result, expected)
    chosen = {int(draw_per_image(strategy, (3, 8, 8), 2, generator(0, "draws", k)).operation[0]) for k in range(30)}
    assert chosen == {0, 1, 2}


def test_named_strategies() -> None:
    for name in get_args(AugmentationName):
        strategies = [Augmentation.named(name, mirror=mirror) for mirror in (True, False)]
        assert (strategies == [None, None]) == (name == "none")
        if strategies[1] is not None:
            assert "flip" not in strategies[1].before + strategies[1].operations  # digits are never mirrored
    assert Augmentation.named("dsa", mirror=True) == Augmentation.dsa(mirror=True)
    assert Augmentation.named("dsa-flip-first", mirror=False) == Augmentation.dsa(mirror=False)
    rule = get_args(get_args(TrainingRule.model_fields["augmentation"].annotation)[0])
    assert {*rule, "none"} == set(get_args(AugmentationName))  # two lists, as the rule does not import torch


def test_an_operation_is_refused_twice() -> None:
    with pytest.raises(CondenseError, match="has flip twice"):
        Augmentation(before=("flip",))
