"""The names of networks: `convnet-d3-w128-in` is a family and its choices, in any order, each given at most once.

Names that begin with `torchvision:` are torchvision's own.
"""

from __future__ import annotations

from condense.networks.registry import TORCHVISION, NetworkEntry, find_network, networks
from condense.networks.torchvision_models import torchvision_network
from condense.runtime.errors import CondenseError, near_names
from condense.runtime.registry import plain

DEFAULT_NETWORK = "convnet-w128-in"  # what most published sets are made with and evaluated on


def parse_name(name: str) -> tuple[NetworkEntry, dict[str, str]]:
    """The family of `name`, and the word for each choice that `name` makes.

    Raises `CondenseError` for an unknown family, an unknown word and a choice made twice.

    >>> entry, words = parse_name("ConvNet-w64-bn")
    >>> entry.name, words
    ('convnet', {'width': 'w64', 'norm': 'bn'})
    """
    if name.lower().startswith(TORCHVISION):
        return torchvision_network(name), {}
    family, words = _family(plain(name))
    entry = find_network(family)
    chosen: dict[str, str] = {}
    for word in words:
        option = next((option for option in entry.options if option.accepts(word)), None)
        if option is None:
            raise _unknown_word(name, word, entry)
        if option.name in chosen:
            both = f"{chosen[option.name]} and {word}"
            raise CondenseError(f"network {name!r} chooses its {option.name} twice ({both}); keep one of them")
        chosen[option.name] = word
    return entry, chosen


def _family(name: str) -> tuple[str, list[str]]:
    """The longest known family that a name begins with, and the words behind it; else its first word.

    >>> _family("convnet-w64-bn"), _family("convnt-w64")
    (('convnet', ['w64', 'bn']), ('convnt', ['w64']))
    """
    found = [family for family in networks().known() if name == family or name.startswith(f"{family}-")]
    family = max(found, key=len) if found else name.partition("-")[0]
    return family, name[len(family) :].split("-")[1:]


def _unknown_word(name: str, word: str, entry: NetworkEntry) -> CondenseError:
    known = [known for option in entry.options for known in option.words]
    allowed = f"allowed: {entry.grammar}" if entry.options else f"{entry.name} takes no suffix"
    return CondenseError(f"unknown suffix {word!r} in network {name!r} ({allowed}){near_names(word, known)}")


def canonical_name(name: str, image_shape: tuple[int, int, int], default: str = DEFAULT_NETWORK) -> str:
    """The full name of a network: what `name` leaves open is filled in.

    A choice comes from `name`, else from `default` where the family knows that word, else from the family; the depth
    comes last from `image_shape` (C, H, W). `relu` and `avgpool` are only spelled where `default` says something else.

    Raises `CondenseError` for unknown or malformed names.

    >>> canonical_name("convnet", (1, 28, 28))
    'convnet-d3-w128-in'
    >>> canonical_name("convnet-w64", (3, 64, 64), default="convnet-bn-swish")
    'convnet-d4-w64-bn-swish'
    >>> [canonical_name(name, (3, 32, 32), default="convnet-w64-in") for name in ("resnet18", "alexnet", "mlp")]
    ['resnet18-in', 'alexnet-nonorm', 'mlp']
    """
    entry, chosen = parse_name(name)
    _, inherited = parse_name(default)
    words = [entry.name]
    for option in entry.options:
        fallback = inherited.get(option.name, "")
        if not option.accepts(fallback):
            fallback = option.default or f"{option.letter}{default_depth(image_shape)}"
        word = chosen.get(option.name, fallback)
        if not (option.quiet and word == fallback == option.default):
            words.append(word)
    return "-".join(words)


def default_depth(image_shape: tuple[int, int, int]) -> int:
    """How many times a ConvNet halves images (C, H, W) if its name does not say.

    The shorter side is halved while at least 4 pixels remain, 3.5 rounded up so that 28 pixels count as the 32 to
    which published networks pad them; at least 2 times and at most 6.

    >>> [default_depth((3, side, side)) for side in (8, 16, 28, 32, 64, 128, 512)]
    [2, 2, 3, 3, 4, 5, 6]
    """
    shorter = min(image_shape[1:])
    depth = 2
    while depth < 6 and shorter / 2 ** (depth + 1) >= 3.5:
        depth += 1
    return depth
