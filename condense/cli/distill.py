"""`condense distill METHOD`: make a synthetic set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from condense.cli.options import DataOptions, load, open_fields
from condense.cli.parsing import parse
from condense.data.budget import Budget
from condense.methods.method import Method
from condense.methods.options import RunOptions
from condense.methods.registry import find_method, graph_methods, methods, modalities
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer
from condense.runtime.registry import load_object
from condense.runtime.validation import Closed, option_name, validated

if TYPE_CHECKING:
    from condense.methods.request import Request

_BUFFERS = {"buffer", "label_buffer"}  # options that name folders of experts


class SetOptions(Closed):
    """Which set is made, and where it goes."""

    data: str = Field(description="name of a data set, or a path to images or arrays")
    ipc: int | None = Field(None, ge=1, description="images per class of the set")
    fraction: float | None = Field(
        None, gt=0, le=1, description="instead of --ipc: part of the training images, for methods that choose real ones"
    )
    balanced: bool = Field(True, description="every class gets its share; otherwise images are chosen from all")
    out: Path = Field(description="where to store the set, for example set.h5")


class DistillOptions(RunOptions, DataOptions, SetOptions):
    """The options that every method shares."""

    dry_run: bool = Field(False, description="only tell how long it would take and how much memory, and write nothing")


def distill(words: Sequence[str]) -> int:
    """Read the method word, import only that method, parse the rest with its settings, and run."""
    if not words or words[0].startswith("-"):
        if words and words[0] in ("-h", "--help"):
            answer(*_overview())
            return 0
        raise CondenseError(
            f"distill needs a METHOD first ({', '.join(methods().names())}); see condense distill --help"
        )
    modality = _modality(words)
    if modality != "images":
        from condense.cli.graphs import distill as distill_graphs

        return distill_graphs(graph_methods(modality).find(words[0]), words[1:])
    method = find_method(words[0])
    options = parse(
        options_model(method),
        words[1:],
        program=f"condense distill {method.name}",
        description=f"{method.name}: {method.summary}.\n{method.paper}.",
    )
    if options.dry_run:
        answer(*_estimate(method.name, options))
        return 0
    from condense.methods.distill import make
    from condense.methods.output import claimed_target

    request = _request(method.name, options)
    with claimed_target(options.out, overwrite=options.overwrite):  # before data that may take minutes
        experts, teachers = _experts(options), _teachers(options)
        data = load(options.data, options)
        synthetic = make(request, data, progress=sys.stderr.isatty(), **experts, **teachers)
    decoded = "" if synthetic.decoder is None else f", decoded to {len(synthetic)}"
    stored = f"{len(synthetic.stored)} images ({request.budget}){decoded}"
    answer(f"{options.out}: {stored}, {synthetic.bytes:,} bytes")
    return 0


def _modality(words: Sequence[str]) -> str:
    """What the method is for; where several have its name, what the words after `--data` lead to decides."""
    found = modalities(words[0])
    if found in ([], ["images"]):
        return "images"
    if len(found) == 1:
        return found[0]
    source, root = _value(words, "--data"), _value(words, "--data-root")
    if source is None:
        return found[0]
    from condense.graphs.data import modality_of

    there = modality_of(source, root)
    return there if there in found else found[0]


def _value(words: Sequence[str], option: str) -> str | None:
    """What the words give for an option, before they are parsed."""
    for place, word in enumerate(words):
        if word == option and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None


def _request(method: str, options: Any) -> Request:
    """What the words ask for, data and experts aside."""
    from condense.methods.request import Request

    about_others = {*DataOptions.model_fields, *Budget.model_fields, *_BUFFERS, "teacher", "data", "dry_run"}
    asked = {name: getattr(options, name) for name in options.model_fields_set - about_others}
    settings = {name: asked.pop(name) for name in asked.keys() - Request.model_fields.keys()}
    budget = validated(Budget, options.model_dump(include=set(Budget.model_fields)), spell=option_name)
    return Request.of(method, budget, settings, **asked)


def _experts(options: Any) -> dict[str, Any]:
    """The experts in the folders that the words name."""
    folders = {name: getattr(options, name) for name in options.model_fields_set & _BUFFERS}
    if not folders:
        return {}
    from buffers import ExpertBuffer

    return {name: ExpertBuffer.open(folder) for name, folder in folders.items()}


def _estimate(method: str, options: Any) -> list[str]:
    """What `--dry-run` prints."""
    from condense.methods.estimate import estimate

    request, experts, teachers = _request(method, options), _experts(options), _teachers(options)
    return estimate(request, load(options.data, options), **experts, **teachers).lines()


def _teachers(options: Any) -> dict[str, Any]:
    """The teachers that the words name."""
    if getattr(options, "teacher", None) is None:
        return {}
    from condense.teachers import Committee

    return {"teacher": Committee.open(options.teacher)}


def options_model(method: Method) -> type[Any]:
    """The shared options and the settings of one method in one model; a setting left out is the recipe's."""
    settings = load_object(method.target).Settings
    own = open_fields(settings, lambda field: f"recipe, else {field.default}")
    if method.experts:
        own["buffer"] = (Path, Field(None, description="folder of experts, from condense experts"))
    if method.label_experts:
        help_text = "folder of other experts, of any network, to choose images and start labels by [--buffer]"
        own["label_buffer"] = (Path, Field(None, description=help_text))
    if method.teacher:
        help_text = "file or folder from condense teachers, or several with their weights: A:0.8,B:0.2"
        own["teacher"] = (str | None, Field(None, description=help_text))
    return create_model("DistillOptions", __base__=DistillOptions, **own)


def _overview() -> list[str]:
    rows = [f"  {method.name:<10} {method.summary}" for method in methods()]
    return [
        "usage: condense distill METHOD --data D --ipc N|--fraction F --out F.h5 [OPTIONS]",
        "",
        *rows,
        "",
        "for graphs, or nodes of one graph (--data GRAPHS --ipc N|--fraction F|--bytes N):",
        *(f"  {method.name:<10} {method.summary}" for method in graph_methods("graphs")),
        *(f"  {method.name:<10} {method.summary}" for method in graph_methods("nodes")),
        "",
        "condense distill METHOD --help tells the options of a method.",
    ]
