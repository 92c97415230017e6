"""What other code bases call the tensors of a network, found by their names and shapes.

Files of safetensors list their tensors by the alphabet, so names decide. Where no known way to name them fits, and the
file has them in the order of the network, as `torch.save` does, the order decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense.networks import Network
from condense.networks.convnet import ConvNet
from condense.networks.own import OfModule
from condense.networks.resnet import BasicBlock, ResNet
from condense.runtime.errors import CondenseError
from condense.runtime.progress import say

_COUNTER = "num_batches_tracked"  # of BatchNorm: what evaluation does not need, and old files do not have
_AROUND = ("module.", "model.", "net.", "network.", "_orig_mod.", "backbone.")  # of wrappers of whole networks
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")  # as torchvision's own files still have it

Naming = Callable[[Network, Iterable[str]], dict[str, str]]  # their names to ours, of those that it knows


@dataclass(frozen=True, eq=False)
class _Match:
    """Tensors of another code base, and which of them is which of ours: `found` has their names by ours."""

    theirs: Mapping[str, Tensor]
    wanted: Mapping[str, Tensor]
    found: Mapping[str, str]

    @classmethod
    def of(cls, theirs: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Mapping[str, str]) -> _Match:
        found: dict[str, str] = {}
        for name, our in names.items():
            if our in wanted:
                found.setdefault(our, name)
        return cls(theirs, wanted, found)

    @property
    def left_over(self) -> list[str]:
        taken = set(self.found.values())
        return [name for name in self.theirs if _counts(name) and name not in taken]

    @property
    def missing(self) -> list[str]:
        return [name for name in self.wanted if _counts(name) and name not in self.found]

    @property
    def odd(self) -> int:
        return len(self.left_over) + len(self.missing)

    def check(self, network: str) -> None:
        """Raise `CondenseError` for what does not fit."""
        if self.left_over:
            raise CondenseError(
                f"has {_several(self.left_over)}, which {network} has no place for; give the --net that it is of"
            )
        if self.missing:
            raise CondenseError(f"lacks what {network} keeps in {_several(self.missing)}; give the --net that it is of")
        for our, name in self.found.items():
            there, here = self.theirs[name].shape, self.wanted[our].shape
            if there != here:
                raise CondenseError(
                    f"has {name} of shape {list(there)} where {network} has {list(here)}; give the --net, the classes "
                    "and the image size that it is of"
                )


def renamed(tensors: Mapping[str, Tensor], network: Network, *, ordered: bool) -> dict[str, Tensor]:
    """The state of `network` from the tensors of another code base, in the types of the network.

    `ordered` says whether the tensors come in the order of their network. Raises `CondenseError` for a tensor that is
    missing, left over or of another shape; its message goes on after the name of the file.
    """
    wanted = network.state_dict()
    forms = list(_without_wrappers(tensors))
    matches = [_Match.of(theirs, wanted, naming(network, theirs)) for theirs in forms for naming in _NAMINGS]
    best = min(matches, key=lambda match: match.odd)
    if best.odd and ordered:
        in_order = _in_order(forms[-1], wanted)
        if in_order is not None:
            say(f"note: {network.name} has other names for these tensors, so they were taken in their order")
            best = in_order
    best.check(network.name)
    ours = {our: best.theirs[name] for our, name in best.found.items()}
    blank = torch.zeros((), dtype=torch.int64)
    return {our: ours.get(our, blank).to(value.dtype, copy=True).contiguous() for our, value in wanted.items()}


def _without_wrappers(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors, and again after each word that can be taken from before the names of all of them."""
    found = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in tensors.items()}
    yield found
    while prefix := next((word for word in _AROUND if found and all(name.startswith(word) for name in found)), None):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
        yield found


# Ways to name tensors


def _same(network: Network, theirs: Iterable[str]) -> dict[str, str]:
    """As here."""
    ours = network.state_dict()
    return {name: name for name in theirs if name in ours}


def _whole_module(network: Network, theirs: Iterable[str]) -> dict[str, str]:
    """As the module has it that was split here into features and a classifier: torchvision's networks, and own ones."""
    if not isinstance(network, OfModule):
        return {}
    ours = network.state_dict()
    found = {name: f"features.{name}" for name in theirs if f"features.{name}" in ours}
    return found | {name: f"classifier.{name.rpartition('.')[2]}" for name in theirs if name not in found}


def _residual(network: Network, theirs: Iterable[str]) -> dict[str, str]:
    """As torchvision and the ResNets for CIFAR have it: conv1, bn1, layer1.0.conv1, ..., fc."""
    if not isinstance(network, ResNet):
        return {}
    modules = dict(_residual_modules(network))
    found = {}
    for name in theirs:
        usual = re.sub(r"\bdownsample\b", "shortcut", re.sub(r"^(fc|linear)\b", "classifier", name))
        module, _, value = usual.rpartition(".")
        if module in modules:
            found[name] = f"{modules[module]}.{value}"
    return found


def _residual_modules(network: ResNet) -> Iterator[tuple[str, str]]:
    """Their name and ours for each module with values."""
    yield "conv1", "features.0"
    yield "bn1", "features.1"
    yield "classifier", "classifier"
    blocks = [(place, part) for place, part in network.features.named_children() if isinstance(part, BasicBlock)]
    for number, (place, block) in enumerate(blocks):
        theirs, ours = f"layer{number // network.blocks + 1}.{number % network.blocks}", f"features.{place}"
        parts = {"conv": 0, "bn": 0}
        for inner, module in block.residual.named_children():
            if any(True for _ in module.parameters()):
                kind = "conv" if isinstance(module, nn.Conv2d) else "bn"
                parts[kind] += 1
                yield f"{theirs}.{kind}{parts[kind]}", f"{ours}.residual.{inner}"
        for inner, _ in block.shortcut.named_children():
            yield f"{theirs}.shortcut.{inner}", f"{ours}.shortcut.{inner}"


def _flat(network: Network, theirs: Iterable[str]) -> dict[str, str]:
    """As DC and MTT have the ConvNet: its layers without the blocks around them, features.0, features.1, ..."""
    if not isinstance(network, ConvNet):
        return {}
    layers = [
        f"features.{block}.{part}"
        for block, content in network.features.named_children()
        for part, layer in content.named_children()
        if not isinstance(layer, nn.Identity)
    ]
    modules = {f"features.{number}": layer for number, layer in enumerate(layers)} | {"classifier": "classifier"}
    split = {name: name.rpartition(".") for name in theirs}
    return {name: f"{modules[module]}.{value}" for name, (module, _, value) in split.items() if module in modules}


_NAMINGS: tuple[Naming, ...] = (_same, _whole_module, _residual, _flat)


def _in_order(theirs: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> _Match | None:
    """One tensor after the other, if all agree in shape and in the last word of their names."""
    names, ours = ([name for name in tensors if _counts(name)] for tensors in (theirs, wanted))
    alike = all(
        name.rpartition(".")[2] == our.rpartition(".")[2] and theirs[name].shape == wanted[our].shape
        for name, our in zip(names, ours)
    )
    return _Match.of(theirs, wanted, dict(zip(names, ours))) if alike and len(names) == len(ours) else None


def _counts(name: str) -> bool:
    return not name.endswith(_COUNTER)


def _several(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
