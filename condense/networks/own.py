"""Networks that are objects of the user's: an ordinary `nn.Module`, or what makes one for images and classes.

Each gets a name of its class and of a digest of its structure and source, by which everything else calls it. It exists
in this process; another program has to give the object again.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from condense.networks.base import Network
from condense.networks.registry import NetworkEntry, add_own
from condense.runtime.errors import CondenseError, first_line
from condense.runtime.global_draws import global_generators

NetworkFactory = Callable[[tuple[int, int, int], int], nn.Module]
NetworkLike = str | nn.Module | NetworkFactory


@dataclass(frozen=True)
class OwnNetwork(NetworkEntry):
    """A network that is no line of a list, but what `make` gives for an image shape and a number of classes."""

    make: NetworkFactory | None = None

    def factory(self) -> Callable[..., nn.Module]:
        """What makes the network."""
        assert self.make is not None, "an own network is made by something"
        return self.make


def network_name(network: NetworkLike, image_shape: tuple[int, int, int], classes: int) -> str:
    """The name by which `build_network` makes fresh networks like this one; a name is its own.

    - A module: copies of it whose values are drawn anew, layer by layer, by `reset_parameters`. Its own values are not
      used.
    - A function or class that takes an image shape (C, H, W) and a number of classes: what it makes, with the values
      that it gives.

    Raises `CondenseError` for anything else, for a layer that has parameters and no `reset_parameters`, and for a
    function that fails.

    >>> name = network_name(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8), 10)
    >>> name.partition(".")[0]
    'sequential'
    """
    if isinstance(network, str):
        return network
    if isinstance(network, nn.Module):
        make: NetworkFactory = _Reset(network)
        module, word = network, type(network).__name__
    elif callable(network):
        make, word = network, getattr(network, "__name__", type(network).__name__)
        module = _made(network, word, image_shape, classes)
    else:
        raise CondenseError(
            f"a network is a name, an nn.Module, or a function of an image shape and a number of classes, not "
            f"{type(network).__name__}"
        )
    name = f"{re.sub('[^a-z0-9]', '', word.lower()) or 'network'}.{_digest(network, module)}"
    add_own(OwnNetwork(name=name, target="", summary="an object of this program", make=make))
    return name


def _made(make: NetworkFactory, word: str, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    with global_generators(0):
        try:
            module, other = make(image_shape, classes), make(image_shape, classes)
        except Exception as error:  # the user's code may raise anything
            what = f"images {list(image_shape)} and {classes} classes"
            raise CondenseError(f"network {word} cannot be made for {what}: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise CondenseError(f"network {word} gives {type(module).__name__} when it is called, not an nn.Module")
    if module is other:
        raise CondenseError(
            f"network {word} gives the same object every time; let it make a new one, or give the object itself"
        )
    return module


def _digest(network: object, module: nn.Module) -> str:
    """12 hex digits of what a network computes: its layers, their shapes, numbers and source.

    Buffers that no layer draws anew count with their values.
    """
    parts = list(module.modules())
    kinds = {type(part) for part in parts if not type(part).__module__.startswith("torch.nn.")}
    sources = sorted(_source(kind) for kind in kinds)
    shapes = [f"{name} {list(value.shape)}" for name, value in module.state_dict().items()]
    numbers = [
        repr(sorted((name, value) for name, value in vars(part).items() if _counts(name, value))) for part in parts
    ]
    made_by = "" if isinstance(network, nn.Module) else _source(network)
    digest = hashlib.blake2b("\n".join([repr(module), *shapes, *numbers, *sources, made_by]).encode(), digest_size=6)
    for part in parts:
        for buffer in part.buffers(recurse=False) if _reset_of(part) is None else ():
            digest.update(buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _counts(name: str, value: object) -> bool:
    """Whether an attribute of a layer is a plain number or text that its class may compute with."""
    if name.startswith("_") or name == "training":
        return False
    parts = value if isinstance(value, tuple | list) else [value]
    return all(isinstance(part, bool | int | float | str | None) for part in parts)


def _source(part: object) -> str:
    """The source, where there is a file of it; else, as in a notebook, the name and the code of its functions."""
    try:
        return inspect.getsource(part)  # type: ignore[arg-type]
    except (OSError, TypeError):
        name = f"{getattr(part, '__module__', '')}.{getattr(part, '__qualname__', type(part).__qualname__)}"
        functions = vars(part).values() if isinstance(part, type) else [part]
        return "\n".join([name, *(_code(function.__code__) for function in functions if inspect.isfunction(function))])


def _code(code: types.CodeType) -> str:
    """What a function does: its instructions, names and constants, those of functions within it too."""
    constants = [_code(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts]
    return f"{code.co_name} {code.co_code.hex()} {code.co_names} {constants}"


class _Reset:
    """Copies of a module with fresh values, drawn from the global generator as `reset_parameters` draws them."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).cpu()
        for name, part in self.module.named_modules():
            own = [key for key, _ in part.named_parameters(recurse=False)]
            if own and _reset_of(part) is None:
                layer = f"{name} ({type(part).__name__})" if name else type(part).__name__
                raise CondenseError(
                    f"no fresh networks can be made of this {type(module).__name__}: {layer} has the parameter "
                    f"{own[0]} and no reset_parameters; give it that method, or a function that makes the network"
                )

    def __call__(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        copied = copy.deepcopy(self.module)
        for part in copied.modules():
            reset = _reset_of(part)
            if reset is not None:
                reset()
        return copied


def _reset_of(part: nn.Module) -> Callable[[], object] | None:
    """What gives the own parameters of a layer fresh values; torch's attention has it under a private name."""
    reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
    return reset if callable(reset) else None


class OfModule(Network):
    """A module as a `Network`: its last linear layer is the classifier, all that comes before it the features.

    Where the output is not that of a linear layer, as of an average over positions, the features are the outputs.
    """

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        nn.Module.__init__(self)
        features, classifier = _split(module, images)
        self.features, self.classifier = features, cast(nn.Linear, classifier)


class Outputs(nn.Identity):
    """The classifier of a network whose features are its outputs."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.in_features = self.out_features = classes


def _split(module: nn.Module, images: Tensor) -> tuple[nn.Module, nn.Module]:
    """Features and classifier, that give together what the module gives for these images in evaluation mode."""
    linear: list[tuple[str, Tensor]] = []
    hooks = [
        part.register_forward_hook(lambda part, inputs, output, name=name: linear.append((name, output)))
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
    ]
    try:
        expected = _evaluated(module, images)
    finally:
        for hook in hooks:
            hook.remove()
    name = next((name for name, output in linear if output is expected), "")
    classes = expected.shape[-1]
    if not name:  # none, or the module is itself a linear layer
        return module, Outputs(classes)
    features = copy.deepcopy(module)
    classifier: nn.Module = features.get_submodule(name)
    features.set_submodule(name, nn.Identity())
    joined = _evaluated(nn.Sequential(features, nn.Flatten(), classifier), images)
    return (features, classifier) if torch.equal(joined, expected) else (module, Outputs(classes))


def _evaluated(module: nn.Module, images: Tensor) -> Tensor:
    training = module.training
    module.eval()
    with torch.no_grad(), global_generators(0):
        output = module(images)
    module.train(training)
    if not isinstance(output, Tensor):
        raise CondenseError(f"it gives {type(output).__name__} for {len(images)} images, not a tensor of logits")
    return output
