"""`condense evaluate F.h5 ...`: train fresh networks on sets and score them on real test images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from condense.cli.options import SourceOptions, load
from condense.cli.parsing import POSITIONAL, parse
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer, say

if TYPE_CHECKING:
    from condense.data import RealData
    from condense.sets.synthetic_set import SyntheticSet


class EvaluateOptions(SourceOptions):
    """Options of `condense evaluate`."""

    set: list[Path] = Field(description="the synthetic set, an .h5 file; or several", json_schema_extra=POSITIONAL)
    data: str | None = Field(None, description="the real data it was made from [the built-in name in the file]")
    first: int | None = Field(None, ge=1, description="only the first so many stored images of each class [all]")
    nets: str = Field("convnet", description="networks, and pools of them such as pool-m, separated by commas")
    runs: int | None = Field(None, ge=1, description="networks trained of each kind [the protocol's number]")
    protocol: str = Field("desk", description="how networks are trained; see condense protocols")
    teacher: str | None = Field(
        None, description="a teacher, or several as A:0.8,B:0.2: for labels that are asked for in training or missing"
    )
    seed: int = Field(0, ge=0, description="of the networks, the order of images and augmentation")
    device: str = Field("auto", description="auto, cpu or cuda:N")
    corruptions: bool = Field(
        False, description="also test on a thousand test images under ten corruptions at three strengths"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="compile the training step [where it saves more time than it costs]"
    )
    threads: int | None = Field(None, ge=1, description="processor threads [what torch finds]")
    json_file: Path | None = Field(None, alias="json", description="also write the results here")


def evaluate(words: Sequence[str]) -> int:
    """Evaluate sets and print one line per set and network."""
    if _of_graphs(words):
        from condense.cli.graphs import evaluate as evaluate_graphs

        return evaluate_graphs(words)
    options = parse(
        EvaluateOptions,
        words,
        program="condense evaluate",
        description="Train fresh networks on a set under a shared protocol; accuracies are on real test images. "
        "Several sets are scored one after the other.",
    )
    from condense.runtime.device import set_threads, threads_restored
    from condense.runtime.locks import claimed_output

    report = options.json_file
    with (
        nullcontext() if report is None else claimed_output(report, "evaluation", suffix=".json", option="--json"),
        threads_restored(),
    ):
        set_threads(options.threads)
        _score_all(options, _names(options.nets))
    return 0


def _of_graphs(words: Sequence[str]) -> bool:
    """Whether the first word that names a file is a set of graphs."""
    first = next((Path(word) for word in words if word.endswith(".h5") and Path(word).is_file()), None)
    if first is None:
        return False
    from condense.graphs.opening import holds_graphs

    return holds_graphs(first)


def _names(words: str) -> list[str]:
    """The names in a list with commas, whatever blanks are around them.

    >>> _names("convnet, resnet18")
    ['convnet', 'resnet18']
    """
    names = [name.strip() for name in words.split(",")]
    if not all(names):
        raise CondenseError(f"--nets {words!r} has an empty name in it; give names with a comma between two of them")
    return names


def _score_all(options: EvaluateOptions, nets: list[str]) -> None:
    from condense.evaluation import evaluate as score
    from condense.runtime.files import write_json

    sets = _with_their_data(options)  # every file is looked at before the first training
    results: list[dict[str, Any]] = []
    for path, (synthetic, data) in zip(options.set, sets):
        result = score(
            synthetic,
            data,
            nets=nets,
            runs=options.runs,
            protocol=options.protocol,
            teacher=options.teacher,
            seed=options.seed,
            device=options.device,
            compile=options.compile,
            corruptions=options.corruptions,
            progress=sys.stderr.isatty(),
        )
        name = f"{path.name}: " if len(sets) > 1 else ""
        for note in result.notes:
            say(f"note: {name}{note}")
        answer(*(f"{name}{network}" for network in result.results))
        results += [{"file": path.name} | network.as_dict() for network in result.results]
        if options.json_file is not None:  # after every set: a later one may take hours
            write_json(options.json_file, results if len(sets) > 1 else result.as_dict())


def about_first(synthetic: SyntheticSet) -> list[str]:
    """Why the first images of each class may not be what their method would have chosen, had it been asked for them."""
    from condense.methods.registry import methods

    made = synthetic.configuration
    known = {entry.name: entry for entry in methods()}
    entry, notes = known.get(str(made.get("method"))), list[str]()
    if entry is not None and not entry.nested:
        notes.append(f"the first images of a class are not what {entry.name} chooses for a smaller set (nested: no)")
    if made.get("balanced") is False:
        notes.append("images were chosen whatever their class: the first of a class are not a choice")
    if synthetic.weights is not None:
        notes.append("weights are those of the larger choice")
    return notes


def _with_their_data(options: EvaluateOptions) -> list[tuple[SyntheticSet, RealData]]:
    """Each set with the real data that it is scored on, at the size of its images if no other is asked for.

    Built-in data that no option names is read with the classes that the set was made of.

    Raises `CondenseError` for a set that cannot be read or has no such data, and where --json would replace its
    account.
    """
    from condense.data.catalogue import DATA_SETS
    from condense.sets.synthetic_set import SyntheticSet

    loaded: dict[tuple[Any, ...], RealData] = {}
    found = []
    for path in options.set:
        if options.json_file is not None and options.json_file.resolve() == path.with_suffix(".json").resolve():
            raise CondenseError(
                f"--json {options.json_file} is where the time and memory that {path} took are kept; give another name"
            )
        synthetic = SyntheticSet.load(path)
        if options.first is not None:
            for note in about_first(synthetic):
                say(f"note: {path.name}: {note}")
            synthetic = synthetic.first(options.first)
        name = synthetic.info.name
        if options.data is None and name not in DATA_SETS.names():
            raise CondenseError(f"{path} was made from {name!r}, which is not built in; give it with --data PATH")
        source, size = options.data or name, options.image_size or synthetic.info.image_shape[1:]
        classes = options.classes
        if options.data is None and classes is None:
            classes = _recorded_classes(synthetic)
        key = source, size, classes
        if key not in loaded:
            loaded[key] = load(source, options.model_copy(update={"image_size": size, "classes": classes}))
        synthetic.check_matches(loaded[key].info)
        found.append((synthetic, loaded[key]))
    return found


def _recorded_classes(synthetic: SyntheticSet) -> str | None:
    """The `--classes` that a set was made with; None where its file says none."""
    configuration = synthetic.provenance.get("configuration")
    classes = configuration.get("classes") if isinstance(configuration, dict) else None
    return classes if isinstance(classes, str) else None
