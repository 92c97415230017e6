"""What the layers of a network see and give for images, as functions of the network and the images.

Layers have the names of `network.named_modules()`, and any module will do. A reader gives one tensor for each of its
layers, with one row for each image, so `Engine.read` can divide a batch and join the rows of its parts:

    norms = layer_names(network, BATCH_NORM, image_shape)
    read = batch_norm_moments(norms)
    batch = [combined(rows) for rows in engine.read(parameters, images, read)]
    trained = running_statistics(network, norms)

What the classifier of a `Network` sees are its features, so `inputs_of(["classifier"])` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from condense.runtime.errors import CondenseError, near_names
from condense.runtime.global_draws import drawing, global_generators

BATCH_NORM = nn.modules.batchnorm._BatchNorm  # of images, vectors and volumes
Kinds = type[nn.Module] | tuple[type[nn.Module], ...]


class Moments(NamedTuple):
    """Mean and biased variance of each channel, both [C]."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class LayerReader:
    """`take` of what each of the layers `names` sees, or with `outputs` gives: a tensor of N rows for each name.

    A pure function of the network and images [N, ...], differentiable in them: BatchNorm in training mode uses the
    batch and moves no statistics, and global generators stay as they were. Two readers of the same names are equal, so
    to `Engine.read` they are the same function.
    """

    names: tuple[str, ...]
    outputs: bool
    take: Callable[[Tensor], Tensor] = torch.clone  # a copy: layers behind it may work in place

    def __call__(self, network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """The tensors, in the order of the names.

        Raises `CondenseError` for a layer that does not exist, that runs never or more than once, or that has something
        else than a tensor with a row for each image.
        """
        return self.with_output(network, images)[1]

    def with_output(self, network: nn.Module, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the network gives, and the tensors, of one forward."""
        seen: dict[str, list[Tensor]] = {name: [] for name in self.names}

        def look(name: str, value: object) -> None:
            seen[name].append(self.take(_rows(name, value, len(images))))

        handles = [_watched(network, name, look, self.outputs) for name in seen]
        try:
            with drawing(network, images):
                output = _run(network, images)
        finally:
            for handle in handles:
                handle.remove()
        for name, values in seen.items():
            if len(values) != 1:
                raise CondenseError(f"layer {name!r} runs {len(values)} times in a network; give layers that run once")
        return output, tuple(seen[name][0] for name in self.names)


def inputs_of(names: Iterable[str]) -> LayerReader:
    """A reader of what these layers see."""
    return LayerReader(tuple(names), outputs=False)


def outputs_of(names: Iterable[str]) -> LayerReader:
    """A reader of what these layers give."""
    return LayerReader(tuple(names), outputs=True)


def batch_norm_moments(names: Iterable[str]) -> LayerReader:
    """A reader of the `image_moments` of what these layers see: [N, 2, C] for each; see `combined`."""
    return LayerReader(tuple(names), outputs=False, take=image_moments)


def layer_names(network: nn.Module, kinds: Kinds, image_shape: tuple[int, int, int]) -> tuple[str, ...]:
    """The layers of these kinds that run for images (C, H, W), in the order of the network's modules.

    >>> layer_names(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), BATCH_NORM, (1, 8, 8))
    ('1',)
    """
    run: set[str] = set()
    names = [name for name, part in network.named_modules() if isinstance(part, kinds)]
    modes = {part: part.training for part in network.modules()}
    example = next(network.parameters())
    handles = [_watched(network, name, lambda name, _: run.add(name), outputs=False) for name in names]
    try:
        network.eval()
        with torch.no_grad(), global_generators(0):
            network(torch.zeros(1, *image_shape, dtype=example.dtype, device=example.device))
    finally:
        for handle in handles:
            handle.remove()
        for part, training in modes.items():
            part.training = training
    return tuple(name for name in names if name in run)


def batch_moments(maps: Tensor) -> Moments:
    """The moments of maps [N, C, ...] over images and pixels, as BatchNorm in training mode computes them."""
    values = maps.to(torch.promote_types(maps.dtype, torch.float32))
    variance, mean = torch.var_mean(values, [axis for axis in range(maps.dim()) if axis != 1], correction=0)
    return Moments(mean, variance)


def image_moments(maps: Tensor) -> Tensor:
    """Mean and biased variance of each channel of each image over its pixels: [N, C, ...] to [N, 2, C].

    In float32, or in the maps' own type where that is more precise. Vectors [N, C] have one pixel.
    """
    values = maps.to(torch.promote_types(maps.dtype, torch.float32)).reshape(*maps.shape[:2], -1)
    variance, mean = torch.var_mean(values, 2, correction=0)
    return torch.stack([mean, variance], 1)


def combined(rows: Tensor) -> Moments:
    """The moments of a whole batch over images and pixels, from the `image_moments` [N, 2, C] of its images.

    As BatchNorm computes them from the maps themselves. No squares of means are subtracted from each other, so nothing
    is lost where the mean of a channel is large beside its deviation.

    >>> maps = torch.arange(12.0).reshape(2, 1, 2, 3)
    >>> mean, variance = combined(image_moments(maps))
    >>> mean.item(), round(variance.item(), 4), round(maps.var(correction=0).item(), 4)
    (5.5, 11.9167, 11.9167)
    """
    means, variances = rows.unbind(1)
    mean = means.mean(0)
    return Moments(mean, variances.mean(0) + (means - mean).square().mean(0))


def running_statistics(network: nn.Module, names: Iterable[str]) -> list[Moments]:
    """What these layers of BatchNorm have kept of their training: running means and (unbiased) variances.

    Raises `CondenseError` for a layer that keeps none.
    """
    statistics = []
    for name in names:
        layer = _layer(network, name)
        mean, variance = getattr(layer, "running_mean", None), getattr(layer, "running_var", None)
        if mean is None or variance is None:
            raise CondenseError(
                f"layer {name!r} ({type(layer).__name__}) keeps no statistics; give a BatchNorm that does"
            )
        statistics.append(Moments(mean, variance))
    return statistics


def _run(network: nn.Module, images: Tensor) -> Tensor:
    """The output of a forward that moves no buffer."""
    output: Tensor
    if any(part.training and part._buffers for part in network.modules()):
        output = functional_call(network, {name: value.clone() for name, value in network.named_buffers()}, (images,))
    else:
        output = network(images)
    return output


def _layer(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        names = (other for other, _ in network.named_modules())
        raise CondenseError(f"{type(network).__name__} has no layer {name!r}{near_names(name, names)}") from None


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it would be compiled again for each layer, to no use
def _watched(network: nn.Module, name: str, look: Callable[[str, Any], object], outputs: bool) -> RemovableHandle:
    """Have `look(name, value)` called when the layer runs."""

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        look(name, inputs[0] if inputs else None)

    def after(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        look(name, output)

    layer = _layer(network, name)
    return layer.register_forward_hook(after) if outputs else layer.register_forward_pre_hook(before)


def _rows(name: str, value: object, count: int) -> Tensor:
    if not isinstance(value, Tensor) or not value.dim() or len(value) != count:
        shown = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise CondenseError(f"layer {name!r} has {shown} for {count} images; give layers with one row for each image")
    return value
