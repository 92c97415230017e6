"""`condense evaluate F.h5`: train fresh networks on a set and score them on real test images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from condense.cli.options import SourceOptions, load
from condense.cli.parsing import POSITIONAL, parse
from condense.runtime.errors import CondenseError


class EvaluateOptions(SourceOptions):
    """Options of `condense evaluate`."""

    set: Path = Field(description="the synthetic set, an .h5 file", json_schema_extra=POSITIONAL)
    data: str | None = Field(None, description="the real data it was made from [the built-in name in the file]")
    nets: str = Field("convnet", description="networks, and pools of them such as pool-m, separated by commas")
    runs: int | None = Field(None, ge=1, description="networks trained of each kind [the protocol's number]")
    protocol: str = Field("desk", description="how networks are trained; see condense protocols")
    seed: int = Field(0, ge=0, description="of the networks, the order of images and augmentation")
    device: str = Field("auto", description="auto, cpu or cuda:N")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="compile the training step [where it saves more time than it costs]"
    )
    threads: int | None = Field(None, ge=1, description="processor threads [what torch finds]")
    json_file: Path | None = Field(None, alias="json", description="also write the results here")


def evaluate(words: Sequence[str]) -> int:
    """Evaluate a set and print one line per network."""
    options = parse(
        EvaluateOptions,
        words,
        program="condense evaluate",
        description="Train fresh networks on a set under a shared protocol; accuracies are on real test images.",
    )
    from condense.data.catalogue import DATA_SETS
    from condense.evaluation import evaluate as score
    from condense.runtime.device import set_threads
    from condense.runtime.files import check_output, write_json
    from condense.synthetic_set import SyntheticSet

    if options.json_file is not None:
        check_output(options.json_file, suffix=".json", overwrite=True, option="--json")
        if options.json_file.resolve() == options.set.with_suffix(".json").resolve():
            raise CondenseError(
                f"--json {options.json_file} is where the time and memory that {options.set} took are kept; give "
                "another name"
            )
    synthetic = SyntheticSet.load(options.set)
    name = synthetic.info.name
    if options.data is None and name not in DATA_SETS.names():
        raise CondenseError(f"{options.set} was made from {name!r}, which is not built in; give it with --data PATH")
    set_threads(options.threads)
    result = score(
        synthetic,
        load(options.data or name, options),
        nets=[net.strip() for net in options.nets.split(",")],
        runs=options.runs,
        protocol=options.protocol,
        seed=options.seed,
        device=options.device,
        compile=options.compile,
        progress=sys.stderr.isatty(),
    )
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    for network in result.results:
        print(network)
    if options.json_file is not None:
        write_json(options.json_file, result.as_dict())
    return 0
