"""The lists: what data sets, methods, networks, protocols and recipes exist. None of them imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from condense.cli.parsing import parse
from condense.runtime.progress import answer
from condense.runtime.validation import Closed


class _NoOptions(Closed):
    """A list takes no options."""


def _print_list(words: Sequence[str], kind: str, rows: Iterable[tuple[str, str, str]]) -> int:
    """One line of help for each name, and an indented line for what else there is to know."""
    parse(_NoOptions, words, program=f"condense {kind}", description=f"List the {kind}.")
    rows = list(rows)
    width = max(len(name) for name, _, _ in rows)
    for name, summary, more in rows:
        answer(f"{name:<{width}}  {summary}")
        if more:
            answer(f"{'':<{width}}    {more}")
    return 0


def data(words: Sequence[str]) -> int:
    """List the data sets."""
    from condense.data.catalogue import DATA_SETS

    own = (
        "PATH",
        "your own: images in class folders or with a table of labels; .npz or .h5 arrays",
        "docs/data.md tells of layouts, names and options",
    )
    hub = ("hf:NAME", "a data set of the Hugging Face hub", "needs the extra huggingface")
    return _print_list(words, "data", [*((entry.name, entry.summary, entry.found) for entry in DATA_SETS), own, hub])


def methods(words: Sequence[str]) -> int:
    """List the methods."""
    from condense.methods.registry import graph_methods, training_time
    from condense.methods.registry import methods as registered

    lines = [(method, f"{method.labels} labels") for method in registered()]
    for modality, what in (("graphs", "graphs with a class each"), ("nodes", "one graph whose nodes have classes")):
        lines += [(method, f"for {what}") for method in graph_methods(modality)]
    lines += [(method, "training-time baseline: makes no set, runs in benchmarks") for method in training_time()]
    return _print_list(
        words,
        "methods",
        (
            (
                method.name,
                method.summary,
                "; ".join(
                    [
                        *([f"also {', '.join(method.aliases)}"] if method.aliases else []),
                        method.paper,
                        kind,
                        f"needs {method.needs}",
                        *([] if method.nested else ["nested: no"]),
                    ]
                ),
            )
            for method, kind in lines
        ),
    )


def networks(words: Sequence[str]) -> int:
    """List the networks."""
    from condense.networks.pools import POOLS
    from condense.networks.registry import networks

    families = [(entry.name, entry.summary, entry.grammar) for entry in networks()]
    pools = [(pool.name, f"{pool.summary}, for evaluation", ", ".join(pool.nets)) for pool in POOLS]
    others = (
        "torchvision:NAME",
        "any classifier of torchvision, untrained; its first convolution takes the channels of the images",
        "torchvision:mobilenet_v3_small, torchvision:vit_b_16 ...",
    )
    return _print_list(words, "networks", [*families, others, *pools])


def protocols(words: Sequence[str]) -> int:
    """List the protocols."""
    from condense.evaluation.protocols import PROTOCOLS
    from condense.graphs.protocols import PROTOCOLS as GRAPH_PROTOCOLS

    images = [(entry.name, entry.summary, f"hash {entry.hash}") for entry in PROTOCOLS]
    graphs = [(entry.name, entry.summary, f"for {entry.of}; hash {entry.hash}") for entry in GRAPH_PROTOCOLS]
    return _print_list(words, "protocols", [*images, *graphs])


def recipes(words: Sequence[str]) -> int:
    """List the recipes."""
    from condense.methods.registry import methods as registered
    from condense.recipes import load_recipe, recipe_names

    rows = []
    for method in registered():
        for name in recipe_names(method.name):
            recipe = load_recipe(method.name, name.removeprefix(f"{method.name}-"))
            rows.append((name, recipe.summary, recipe.source))
    return _print_list(words, "recipes", rows)
