"""`condense distill METHOD`: make a synthetic set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from condense.cli.options import DataOptions, load, open_fields
from condense.cli.parsing import parse
from condense.methods.registry import Method, methods
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer
from condense.runtime.registry import load_object

_BUFFERS = {"buffer", "label_buffer"}  # options that name folders of experts


class DistillOptions(DataOptions):
    """The options that every method shares."""

    data: str = Field(description="name of a data set, or a path to images or arrays")
    ipc: int = Field(ge=1, description="images per class of the set")
    out: Path = Field(description="where to store the set, for example set.h5")
    seed: int = Field(0, ge=0, description="of everything random")
    recipe: str | None = Field(None, description="name or YAML file of a recipe [the published settings]")
    minutes: float | None = Field(None, gt=0, allow_inf_nan=False, description="stop after this time")
    device: str = Field("auto", description="auto, cpu or cuda:N")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of what networks compute [bfloat16 where it is native, else float32]"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="compile inner functions [where it saves more time than it costs]"
    )
    micro_batch: int | None = Field(
        None, ge=1, description="images that go through a network at once; less needs less memory [the fastest size]"
    )
    threads: int | None = Field(None, ge=1, description="processor threads [what torch finds]")
    keep_every: int | None = Field(
        None, ge=1, description="also store the set after every so many updates, as NAME-000500.h5 beside --out"
    )
    resume: bool = Field(True, description="go on with an unfinished run of the same configuration")
    overwrite: bool = Field(False, description="replace a finished set")
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
    method = methods().find(words[0])
    options = parse(
        options_model(method),
        words[1:],
        program=f"condense distill {method.name}",
        description=f"{method.name}: {method.summary}.\n{method.paper}.",
    )
    if options.dry_run:
        answer(*_estimate(method.name, options))
        return 0
    from condense.methods.distill import distill as run
    from condense.methods.output import claimed_target

    with claimed_target(options.out, overwrite=options.overwrite):  # before data that may take minutes
        asked = _asked(options)
        data = load(options.data, options)
        synthetic = run(method.name, data, options.ipc, progress=sys.stderr.isatty(), **asked)
    decoded = "" if synthetic.decoder is None else f", decoded to {len(synthetic)}"
    stored = f"{len(synthetic.stored)} images ({options.ipc} per class){decoded}"
    answer(f"{options.out}: {stored}, {synthetic.bytes:,} bytes")
    return 0


def _asked(options: Any) -> dict[str, Any]:
    """The arguments of `distill`, data aside, that the words give; experts instead of their folders."""
    about_data = {*DataOptions.model_fields, "data", "ipc", "dry_run"}
    asked = {name: getattr(options, name) for name in options.model_fields_set - about_data}
    for name in _BUFFERS & asked.keys():
        from buffers import ExpertBuffer

        asked[name] = ExpertBuffer.open(asked[name])
    return asked


def _estimate(method: str, options: Any) -> list[str]:
    """What `--dry-run` prints."""
    from condense.methods.estimate import estimate

    about_files = ("out", "resume", "overwrite", "keep_every")
    asked = {name: value for name, value in _asked(options).items() if name not in about_files}
    return estimate(method, load(options.data, options), options.ipc, **asked).lines()


def options_model(method: Method) -> type[Any]:
    """The shared options and the settings of one method in one model; a setting left out is the recipe's."""
    settings = load_object(method.target).Settings
    own = open_fields(settings, lambda field: f"recipe, else {field.default}")
    if method.experts:
        own["buffer"] = (Path, Field(None, description="folder of experts, from condense experts"))
    if method.label_experts:
        help_text = "folder of other experts, of any network, to choose images and start labels by [--buffer]"
        own["label_buffer"] = (Path, Field(None, description=help_text))
    return create_model("DistillOptions", __base__=DistillOptions, **own)


def _overview() -> list[str]:
    rows = [f"  {method.name:<10} {method.summary}" for method in methods()]
    return [
        "usage: condense distill METHOD --data D --ipc N --out F.h5 [OPTIONS]",
        "",
        *rows,
        "",
        "condense distill METHOD --help tells the options of a method.",
    ]
