"""Differentiable siamese augmentation (DSA): Zhao & Bilen, ICML 2021.

An image goes through one operation of the strategy (some strategies have more, before or after it). Everything random
is drawn first, into `Draws`; `augment` is then a pure function of images and draws. Shared, replayed and per-step
augmentation are the same function with the draws of one's choice, and real and synthetic images see the same
transformation by being given the same draws.

Empty space is filled with zeros, as published: in preprocessed images that is the mean colour, not black.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.runtime.errors import CondenseError, unknown_name


@dataclass(frozen=True)
class Augmentation:
    """A strategy: the operations to choose from, and their strengths (defaults: the published ones).

    Lengths are fractions of a side, each axis by its own side. `align_corners` is passed on to torch's sampling grid;
    the DC, DSA and DM line of work leaves it off, the MTT line sets it. Rotations and scalings about the centre are
    the same transformation under either, up to rounding.

    Raises `CondenseError` for unknown operations and strengths out of range.
    """

    operations: tuple[str, ...] = ("color", "crop", "cutout", "flip", "scale", "rotate")
    align_corners: bool = False
    brightness: float = 1.0  # color: adds up to half of this, either sign
    saturation: float = 2.0  # color: factor from 0 to this
    contrast: float = 0.5  # color: factor from this to this + 1
    crop: float = 0.125  # shift of up to this fraction of a side
    cutout: float = 0.5  # side of the hole
    flip: float = 0.5  # probability of a mirror image
    scale: float = 1.2  # size of either axis from 1 / this to this
    rotate: float = 15.0  # degrees, either sign
    before: tuple[str, ...] = ()  # operations that every image goes through before the one that is chosen
    after: tuple[str, ...] = ()  # and those after it

    def __post_init__(self) -> None:
        everything = (*self.before, *self.operations, *self.after)
        for operation in everything:
            if operation not in _OPERATIONS:
                raise unknown_name("augmentation operation", operation, _OPERATIONS)
            if everything.count(operation) > 1:
                raise CondenseError(
                    f"an augmentation has {operation} twice, but draws one set of parameters; give it once"
                )
        if not self.operations:
            raise CondenseError(f"an augmentation needs at least one operation of {', '.join(_OPERATIONS)}")
        ranges = {"crop": (0, 1), "cutout": (0, 1), "flip": (0, 1), "scale": (1, 100), "rotate": (0, 180)}
        for name in ("brightness", "saturation", "contrast", *ranges):
            low, high = ranges.get(name, (0, 100))
            if not low <= getattr(self, name) <= high:
                raise CondenseError(f"augmentation {name} {getattr(self, name)} must be from {low} to {high}")

    @classmethod
    def dsa(cls, *, mirror: bool, align_corners: bool = False) -> Self:
        """The published strategy; flips only if a `mirror` image may be taken for the same class (not for digits).

        >>> Augmentation.dsa(mirror=False).operations
        ('color', 'crop', 'cutout', 'scale', 'rotate')
        """
        return cls(_allowed(cls.operations, mirror), align_corners)

    @classmethod
    def named(cls, name: AugmentationName, *, mirror: bool, align_corners: bool = False) -> Self | None:
        """The strategy that settings and rules call `name`; None for `none`.

        - `dsa`: one of all operations (Zhao & Bilen, ICML 2021).
        - `dsa-flip-first`: a flip with its own probability, then one of the others (Son et al., ECCV 2024: the released
          code of FYI).
        - `dsa-flip-color-first`: flip and color, then one of crop, scale and rotation; no cutout, which CutMix replaces
          (Kim et al., ICML 2022, and NCFM: networks that are evaluated).
        - `color-crop-cutout`: all three, every time (Kim et al., ICML 2022: IDC, when it matches).
        - `color-crop`: both, every time (IDC and NCFM when they train networks, IDC on MNIST).

        >>> Augmentation.named("dsa-flip-first", mirror=True).before
        ('flip',)
        """
        if name == "none":
            return None
        before, operations, after = _NAMED[name]
        before, operations = _allowed(before, mirror), _allowed(operations, mirror)
        return cls(operations, align_corners, before=before, after=after)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it; `from_dict` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The augmentation that `to_dict` wrote. Raises `CondenseError` for a field that does not exist.

        >>> Augmentation.from_dict(Augmentation(rotate=30.0).to_dict()) == Augmentation(rotate=30.0)
        True
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise unknown_name("augmentation field", name, known)
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**settings)


def _allowed(operations: tuple[str, ...], mirror: bool) -> tuple[str, ...]:
    """Without flips, if mirror images are of another class."""
    return tuple(operation for operation in operations if mirror or operation != "flip")


AugmentationName = Literal["dsa", "dsa-flip-first", "dsa-flip-color-first", "color-crop-cutout", "color-crop", "none"]
# name: operations before the chosen one, those to choose from, and those after it
_NAMED: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "dsa": ((), Augmentation.operations, ()),
    "dsa-flip-first": (("flip",), ("color", "crop", "cutout", "scale", "rotate"), ()),
    "dsa-flip-color-first": (("flip", "color"), ("crop", "scale", "rotate"), ()),
    "color-crop-cutout": (("color",), ("crop",), ("cutout",)),
    "color-crop": (("color",), ("crop",), ()),
}


@dataclass(frozen=True, eq=False)
class Draws:
    """One row of drawn parameters for each image or group of images, on the processor whatever the device.

    Every row has the parameters of every operation; `operation` says which one is carried out. Axes are ordered
    (vertical, horizontal). `shift`, `centre` and the size of images belong together: draw for the shape you augment.
    """

    operation: Tensor  # int64 [G], position in Augmentation.operations
    brightness: Tensor  # float64 [G], added
    saturation: Tensor  # float64 [G], factor of the distance to the pixel's mean over channels
    contrast: Tensor  # float64 [G], factor of the distance to the image's mean
    shift: Tensor  # int64 [G, 2], pixels
    centre: Tensor  # int64 [G, 2], pixel coordinates of the hole
    flip: Tensor  # bool [G]
    scale: Tensor  # float64 [G, 2], above 1 shrinks
    angle: Tensor  # float64 [G], degrees

    def __len__(self) -> int:
        return len(self.operation)

    def expand(self, index: Tensor) -> Draws:
        """The rows `index` (int64 [N]) in this order, such as the row of the class of each of N images."""
        return Draws(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def draw_shared(augmentation: Augmentation, image_shape: tuple[int, int, int], generator: torch.Generator) -> Draws:
    """One row for any number of images (C, H, W): the siamese draw."""
    return draw_per_class(augmentation, image_shape, 1, generator)


def draw_per_class(
    augmentation: Augmentation, image_shape: tuple[int, int, int], classes: int, generator: torch.Generator
) -> Draws:
    """One row for each class, operation and parameters: the siamese draws of matching class by class.

    >>> draws = draw_per_class(Augmentation(), (3, 32, 32), 10, torch.Generator().manual_seed(0))
    >>> labels = torch.tensor([3, 3, 7])
    >>> augment(Augmentation(), torch.zeros(3, 3, 32, 32), draws.expand(labels)).shape
    torch.Size([3, 3, 32, 32])
    """
    operation = torch.randint(len(augmentation.operations), (classes,), generator=generator)
    return _draw_parameters(augmentation, image_shape, operation, generator)


def draw_per_image(
    augmentation: Augmentation, image_shape: tuple[int, int, int], count: int, generator: torch.Generator
) -> Draws:
    """One operation for a whole batch and parameters for each of its `count` images: DSA for training networks."""
    operation = torch.randint(len(augmentation.operations), (1,), generator=generator).repeat(count)
    return _draw_parameters(augmentation, image_shape, operation, generator)


def _draw_parameters(
    augmentation: Augmentation, image_shape: tuple[int, int, int], operation: Tensor, generator: torch.Generator
) -> Draws:
    rows = len(operation)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        # float64 whatever torch's default type is, so that draws never depend on it
        return low + (high - low) * torch.rand(rows, *shape, generator=generator, dtype=torch.float64)

    def integers(ranges: list[tuple[int, int]]) -> Tensor:  # (rows, axes), both ends of each range included
        return torch.stack([torch.randint(low, high + 1, (rows,), generator=generator) for low, high in ranges], 1)

    sides = image_shape[1:]
    reaches = [_pixels(augmentation.crop, side) for side in sides]
    evens = [1 - _pixels(augmentation.cutout, side) % 2 for side in sides]
    return Draws(
        operation=operation,
        brightness=uniform(-augmentation.brightness / 2, augmentation.brightness / 2),
        saturation=uniform(0, augmentation.saturation),
        contrast=uniform(augmentation.contrast, augmentation.contrast + 1),
        shift=integers([(-reach, reach) for reach in reaches]),
        centre=integers([(0, side - 1 + even) for side, even in zip(sides, evens)]),
        flip=uniform(0, 1) < augmentation.flip,
        scale=uniform(1 / augmentation.scale, augmentation.scale, 2),
        angle=uniform(-augmentation.rotate, augmentation.rotate),
    )


def _pixels(fraction: float, side: int) -> int:
    """A length on a side of so many pixels, rounded as in the published code."""
    return int(fraction * side + 0.5)


def augment(augmentation: Augmentation, images: Tensor, draws: Draws) -> Tensor:
    """Images [N, C, H, W] after the operations of `draws`, with their type and device; differentiable in `images`.

    `draws` has one row for all images or one for each, drawn with the same `augmentation` for this (H, W). Each image
    pays only for its own operation. Half-precision images are computed in float32.

    Raises `CondenseError` if the number of rows does not fit.
    """
    count = len(images)
    if len(draws) not in (1, count):
        raise CondenseError(f"{len(draws)} augmentation draws do not fit {count} images; give 1 or {count}")
    exact = images.to(torch.promote_types(images.dtype, torch.float32))
    for operation in augmentation.before:
        exact = _OPERATIONS[operation](augmentation, exact, draws)
    exact = _chosen(augmentation, exact, draws)
    for operation in augmentation.after:
        exact = _OPERATIONS[operation](augmentation, exact, draws)
    return exact.to(images.dtype)


def _chosen(augmentation: Augmentation, images: Tensor, draws: Draws) -> Tensor:
    """Each image after its own operation of those to choose from."""
    positions, sizes = draws.operation.unique(return_counts=True)  # on the processor: no device synchronisation
    operations = [_OPERATIONS[augmentation.operations[position]] for position in positions.tolist()]
    if len(operations) == 1:
        return operations[0](augmentation, images, draws)
    order = draws.operation.argsort(stable=True)  # images of the same operation side by side
    groups = [
        operation(augmentation, images[_on(images, group)], draws.expand(group))
        for operation, group in zip(operations, order.split(sizes.tolist()))
    ]
    return torch.cat(groups)[_on(images, order.argsort())]


def _on(images: Tensor, values: Tensor) -> Tensor:
    return values.to(images.device, non_blocking=True)


def _factor(images: Tensor, values: Tensor) -> Tensor:
    """Values [G], one for each image, in the type of the images and ready to broadcast."""
    return _on(images, values.to(images.dtype)).view(-1, 1, 1, 1)


def _color(augmentation: Augmentation, images: Tensor, draws: Draws) -> Tensor:
    """Brightness, saturation and contrast, in this order; with one channel, saturation changes nothing."""
    images = images + _factor(images, draws.brightness)
    gray = images.mean(1, keepdim=True)  # (N, 1, H, W)
    images = (images - gray) * _factor(images, draws.saturation) + gray
    mean = images.mean((1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
    return (images - mean) * _factor(images, draws.contrast) + mean


def _crop(augmentation: Augmentation, images: Tensor, draws: Draws) -> Tensor:
    """The window that lies `shift` pixels further; what it sees beyond the image is zero."""
    count, channels, height, width = images.shape
    down, right = _on(images, draws.shift).unbind(1)  # (G,) each
    rows = torch.arange(height, device=images.device) + down[:, None]  # (G, H)
    columns = torch.arange(width, device=images.device) + right[:, None]  # (G, W)
    inside = _outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))  # (G, 1, H, W)
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]  # (G, H, W)
    source = source.flatten(1)[:, None].expand(count, channels, -1)  # (N, C, H * W)
    return images.flatten(2).gather(2, source).view(images.shape).masked_fill(~inside, 0)


def _cutout(augmentation: Augmentation, images: Tensor, draws: Draws) -> Tensor:
    """A hole of zeros around `centre`, as much of it as lies on the image.

    The published code clamps the hole's indices to the border: the same pixels, as every centre leaves one inside.
    """
    hole = []
    for side, centre in zip(images.shape[2:], _on(images, draws.centre).unbind(1)):
        size = _pixels(augmentation.cutout, side)
        offset = torch.arange(side, device=images.device) - (centre[:, None] - size // 2)  # (G, side)
        hole.append((offset >= 0) & (offset < size))
    return images.masked_fill(_outer(*hole), 0)


def _flip(augmentation: Augmentation, images: Tensor, draws: Draws) -> Tensor:
    """Mirror images, left to right, of those drawn."""
    return torch.where(_on(images, draws.flip).view(-1, 1, 1, 1), images.flip(-1), images)


def _scale(augmentation: Augmentation, images: Tensor, draws: Draws) -> Tensor:
    """Both axes shrunk (above 1) or enlarged by their own factor, about the centre."""
    down, right = draws.scale.unbind(1)  # (G,) each
    zero = torch.zeros_like(down)
    return _transform(augmentation, images, [[right, zero, zero], [zero, down, zero]])


def _rotate(augmentation: Augmentation, images: Tensor, draws: Draws) -> Tensor:
    """Rotation about the centre.

    Grid coordinates run from -1 to 1 on either axis, so a rotation in pixels needs the ratio of the sides between them.
    """
    lengths = [max(side - augmentation.align_corners, 1) for side in images.shape[2:]]
    ratio = lengths[0] / lengths[1]
    cosine, sine = torch.deg2rad(draws.angle).cos(), torch.deg2rad(draws.angle).sin()
    zero = torch.zeros_like(sine)
    return _transform(augmentation, images, [[cosine, -sine * ratio, zero], [sine / ratio, cosine, zero]])


def _transform(augmentation: Augmentation, images: Tensor, matrix: list[list[Tensor]]) -> Tensor:
    """Each image seen through its affine map from new to old grid coordinates (x, y), given as 2 x 3 of [G]."""
    maps = torch.stack([torch.stack(row, -1) for row in matrix], 1)  # (G, 2, 3)
    count, _, height, width = images.shape
    size = [len(maps), 1, height, width]
    grid = F.affine_grid(_on(images, maps.to(images.dtype)), size, align_corners=augmentation.align_corners)
    grid = grid.expand(count, -1, -1, -1)
    return F.grid_sample(images, grid, align_corners=augmentation.align_corners)


def _outer(rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels [G, 1, H, W] whose row is in `rows` [G, H] and whose column is in `columns` [G, W]."""
    return rows[:, None, :, None] & columns[:, None, None, :]


_OPERATIONS: dict[str, Callable[[Augmentation, Tensor, Draws], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}


def flip_closure(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The images followed by their mirror images, and the labels twice: FYI (Son et al., ECCV 2024).

    `images` is [N, C, H, W], `labels` [N] or [N, K]; not for classes that a mirror image changes, such as digits.

    >>> images, labels = flip_closure(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([7]))
    >>> images.flatten(1).tolist(), labels.tolist()
    ([[1.0, 2.0], [2.0, 1.0]], [7, 7])
    """
    return torch.cat([images, images.flip(-1)]), torch.cat([labels, labels])
