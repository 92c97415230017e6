"""Building a network from its name and a seed, without touching torch's global random state."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.networks.base import ImagesTooSmallError, Network, describe_shape
from condense.networks.names import canonical_name, parse_name
from condense.networks.own import OfModule
from condense.networks.registry import networks
from condense.runtime.errors import CondenseError, first_line
from condense.runtime.global_draws import global_generators, global_states
from condense.runtime.seeds import derive_seed, generator


def build_network(name: str, image_shape: tuple[int, int, int], classes: int, seed: int) -> Network:
    """The network called `name` for images (C, H, W), on the processor, initialised from `seed`.

    What `name` leaves open is filled in by `canonical_name`; the result's `.name` is the full name. The same arguments
    give the same parameters on every machine and for every number of threads.

    Raises `CondenseError` for unknown or malformed names, for images too small for the network, and for a network of
    someone else's that does not work.

    >>> network = build_network("convnet-w32", (1, 8, 8), classes=10, seed=0)
    >>> network.name, network.embed(torch.zeros(2, 1, 8, 8)).shape
    ('convnet-d2-w32-in', torch.Size([2, 128]))
    """
    full_name = canonical_name(name, image_shape)
    try:
        return _blueprint(full_name, tuple(image_shape), classes).build(seed)
    except ImagesTooSmallError as error:
        fitting = ", ".join(_fitting_names(image_shape))
        shape = describe_shape(image_shape)
        raise CondenseError(f"network {full_name} needs larger images than {shape}; these fit: {fitting}") from error


def blank_state(name: str, image_shape: tuple[int, int, int], classes: int) -> dict[str, Tensor]:
    """The parameters and buffers of such a network by name: their shapes and types, without values.

    To compare a file with, before anything of its size is made. Raises `CondenseError` as `build_network` does.

    >>> [list(value.shape) for value in blank_state("mlp", (1, 8, 8), 10).values()][-2:]
    [[10, 128], [10]]
    """
    blueprint = _blueprint(canonical_name(name, image_shape), tuple(image_shape), classes)
    state: dict[str, Tensor] = (blueprint.skeleton or blueprint.build(0)).state_dict()
    return {key: value.to("meta") for key, value in state.items()}


@dataclass(frozen=True, eq=False)
class _Blueprint:
    """What all networks of a name have in common, and how one is made; `skeleton` is one without values."""

    name: str
    make: Callable[[int], Network]
    skeleton: Network | None = None
    foreign: bool = False
    draws: bool = False

    def build(self, seed: int) -> Network:
        network = self.make(seed)
        network.name, network.foreign, network.draws = self.name, self.foreign, self.draws
        return network


@functools.lru_cache(maxsize=64)  # several times the cost of the rest, and methods build a network in every iteration
def _blueprint(full_name: str, image_shape: tuple[int, int, int], classes: int) -> _Blueprint:
    entry, words = parse_name(full_name)
    options = {option.name: option.value(words[option.name]) for option in entry.options if option.name in words}
    make = functools.partial(entry.factory(), image_shape, classes, **options)
    if entry.built_in:
        skeleton = _skeleton(make)
        return _Blueprint(full_name, functools.partial(_initialized, skeleton), skeleton)
    return _foreign(full_name, entry.factory(), make, image_shape, classes)


def _skeleton(make: Callable[[], nn.Module]) -> Network:
    """The network without values: its parameters are on the meta device, where initialisation draws nothing."""
    with torch.device("meta"):
        network = make()
    assert isinstance(network, Network), "networks of condense are of this class, others are asked before"
    return network


def _initialized(skeleton: Network, seed: int) -> Network:
    """A copy of the skeleton, with the values of `initialize`."""
    network = copy.deepcopy(skeleton)
    network.to_empty(device="cpu")
    initialize(network, generator(seed, "network"))
    return network


def _constructed(make: Callable[[], nn.Module], image_shape: tuple[int, int, int], seed: int) -> Network:
    """A network with the values of its own constructor, which draws from the global generators."""
    with global_generators(derive_seed(seed, "network")):
        module = make()
    return module if isinstance(module, Network) else OfModule(module, _two_images(image_shape))


def _foreign(
    name: str,
    factory: Callable[..., nn.Module],
    make: Callable[[], nn.Module],
    shape: tuple[int, int, int],
    classes: int,
) -> _Blueprint:
    """The blueprint of a network of someone else's, after trying whether it works."""
    try:
        skeleton = _skeleton_of_known_layers(factory, make)
        if skeleton is None:
            build: Callable[[int], Network] = functools.partial(_constructed, make, shape)
        else:
            build = functools.partial(_initialized, skeleton)
        draws = _tried(build, _two_images(shape), classes)
    except ImagesTooSmallError as error:
        raise CondenseError(_no_use(name, shape, classes, error.__cause__ or error)) from error
    except CondenseError as error:
        raise CondenseError(f"network {name}: {error}") from error
    except Exception as error:  # the code of others may raise anything
        raise CondenseError(_no_use(name, shape, classes, error)) from error
    return _Blueprint(name, build, foreign=True, draws=draws)


def _no_use(name: str, shape: tuple[int, int, int], classes: int, error: BaseException) -> str:
    reason = f"images of {describe_shape(shape)} and {classes} classes ({first_line(error)})"
    return f"network {name} does not work for {reason}; correct it, or give another one, or other images"


def _skeleton_of_known_layers(factory: Callable[..., nn.Module], make: Callable[[], nn.Module]) -> Network | None:
    """The skeleton of a `Network` whose values `initialize` can give; None for others, which give their own."""
    if not (isinstance(factory, type) and issubclass(factory, Network)):
        return None
    try:
        with global_generators(0):
            skeleton = _skeleton(make)
    except Exception:  # some layers need real values to be made
        return None
    return skeleton if all(_is_known(module) for module in skeleton.modules()) else None


def _two_images(image_shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(2, *image_shape, generator=generator(0, "images to try a network"))


def _tried(build: Callable[[int], Network], images: Tensor, classes: int) -> bool:
    """Whether a network draws random numbers in training; raises where it cannot be trained, or not reproducibly."""
    network = build(0).train()
    state = copy.deepcopy(network.state_dict())
    for (key, value), other in zip(state.items(), build(0).state_dict().values()):
        if not torch.equal(value, other):
            raise CondenseError(f"its initial values do not follow torch's seed: {key} differs between two networks")
    logits, moved = _forward(network, state, images, seed=0)
    if not isinstance(logits, Tensor) or logits.shape != (len(images), classes):
        shown = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        wanted = [len(images), classes]
        raise CondenseError(f"it gives {shown} for {len(images)} images; give one whose logits have the shape {wanted}")
    if not logits.isfinite().all():
        raise CondenseError("it gives logits that are not finite for images of normal noise; correct it")
    F.cross_entropy(logits, torch.zeros(len(images), dtype=torch.int64)).backward()
    again, other = (_forward(network, state, images, seed)[0] for seed in (0, 1))
    if not torch.equal(logits, again) or (not moved and not torch.equal(logits, other)):
        raise CondenseError("it draws random numbers from a generator of its own, which no seed of a run can set")
    return moved


def _forward(network: Network, state: dict[str, Any], images: Tensor, seed: int) -> tuple[Tensor, bool]:
    """The output under this seed of the global generators, and whether they moved; the network begins in `state`."""
    network.load_state_dict(state)
    with global_generators(seed):
        before = global_states()
        output = network(images)
        return output, global_states() != before


def _fitting_names(image_shape: tuple[int, int, int]) -> list[str]:
    """The full names of the families that take such images, with BatchNorm where the usual norm does not."""
    fitting = []
    for entry in networks():
        suffixes = ["", "-bn"] if any(option.accepts("bn") for option in entry.options) else [""]
        names = [canonical_name(entry.name + suffix, image_shape) for suffix in suffixes]
        fitting += [name for name in names if _fits(name, image_shape)][:1]
    return fitting


def _fits(full_name: str, image_shape: tuple[int, int, int]) -> bool:
    try:
        _blueprint(full_name, tuple(image_shape), 2)
    except CondenseError:
        return False
    return True


def initialize(network: nn.Module, source: torch.Generator) -> None:
    """Give every parameter and buffer PyTorch's default initial value, drawn from `source`.

    Convolutions and linear layers have weights U(-b, b) with b = 1 / sqrt(fan_in), written as PyTorch writes it
    (Kaiming's rule with a = sqrt(5)), and biases likewise; norms have weight 1, bias 0 and blank running statistics.
    Drawn in the order of `network.modules()`, the values equal those of a network constructed under this random state.
    A module of another kind, or with other values, draws them itself, in a method `initialize(source)`.

    Raises `TypeError` for a module that cannot: leaving it out would leave its memory unset.
    """
    for module in network.modules():
        if callable(own := getattr(module, "initialize", None)):
            own(source)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=source)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=source)
        elif isinstance(module, _NORMS):
            module.reset_parameters()
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            kind = type(module).__name__
            raise TypeError(f"no seeded initialisation is known for {kind}; give it a method `initialize(source)`")


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def _is_known(module: nn.Module) -> bool:
    """Whether `initialize` gives a layer the values that it should have: it has none, or it is of these very kinds."""
    empty = not [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return empty or hasattr(module, "initialize") or type(module) in (nn.Conv2d, nn.Linear, *_NORMS)
