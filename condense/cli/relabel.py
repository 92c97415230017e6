"""`condense relabel SET.h5|DATA --teacher T ...`: labels that a teacher gives the images of a set, or of real data."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from condense.cli.options import DataOptions, load
from condense.cli.parsing import POSITIONAL, parse
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer
from condense.runtime.validation import option_name
from condense.teachers.label_settings import LabelSettings

if TYPE_CHECKING:
    from condense.data import RealData
    from condense.sets.synthetic_set import SyntheticSet

# how real data is read, as with other commands; but --labels says here which ones are made
_READING: dict[str, Any] = {
    name: (field.annotation, field) for name, field in DataOptions.model_fields.items() if name != "labels"
}


class _Relabel(LabelSettings):
    source: str = Field(
        description="a synthetic set, an .h5 file; or real data, by name or path", json_schema_extra=POSITIONAL
    )
    teacher: str | None = Field(
        None, description="a teacher, a folder of them, or several as A:0.8,B:0.2; hard labels need none"
    )
    encoder: Path | None = Field(
        None, description="of a projector: the teacher that it adapts, of such images and any classes"
    )
    data: str | None = Field(
        None, description="of a projector: the real data that it learns from [that which is labelled]"
    )
    out: Path = Field(description="where to store the set, for example relabelled.h5")
    device: str = Field("auto", description="auto, cpu or cuda:N")
    threads: int | None = Field(None, ge=1, description="processor threads [what torch finds]")
    overwrite: bool = Field(False, description="replace an existing file")


RelabelOptions: Any = create_model("RelabelOptions", __base__=_Relabel, **_READING)


def relabel(words: Sequence[str]) -> int:
    """Relabel a set, or make one of real data."""
    options = parse(
        RelabelOptions,
        words,
        program="condense relabel",
        description="Give the images of a set, or all training images of real data, the labels of a teacher. Labels of "
        "views go to the file while they are made, and may be larger than memory.",
    )
    from condense.runtime.device import set_threads, threads_restored
    from condense.runtime.locks import claimed_output
    from condense.teachers.committee import Committee
    from condense.teachers.relabel import check_asked
    from condense.teachers.relabel import relabel as make

    settings = LabelSettings.of({name: getattr(options, name) for name in LabelSettings.model_fields})
    check_asked(settings, options.teacher, options.encoder)  # before data that may take minutes
    with claimed_output(options.out, "relabelling", suffix=".h5", overwrite=options.overwrite), threads_restored():
        set_threads(options.threads)
        for given in filter(None, (options.source, options.data)):
            if options.out.exists() and Path(given).exists() and options.out.samefile(given):
                raise CondenseError(f"--out {options.out} is {given} itself, which is read; give another name")
        teacher = None if options.teacher is None else Committee.open(options.teacher)
        made = make(
            _source(options),
            teacher,
            **settings.model_dump(),
            encoder=options.encoder,
            data=_learned_from(options),
            device=options.device,
            out=options.out,
            overwrite=options.overwrite,
            progress=sys.stderr.isatty(),
        )
    decoded = "" if made.decoder is None else f", decoded to {len(made)}"
    answer(f"{options.out}: {len(made.stored)} images{decoded}, {made.stored_labels.describe()}, {made.bytes:,} bytes")
    return 0


def _source(options: Any) -> SyntheticSet | RealData:
    """The set in the file, or the real data that the word names."""
    from condense.sets.file import is_set
    from condense.sets.synthetic_set import SyntheticSet

    given, path = sorted(options.model_fields_set & _READING.keys()), Path(options.source)
    if path.suffix == ".h5" and not path.exists():
        raise CondenseError(f"{options.source} does not exist; give the file of a set, or real data by name or path")
    if not is_set(path):
        return _read(options.source, options)
    if given and options.data is None:
        raise CondenseError(f"{option_name(given[0])} is for real data, and {options.source} is a set; leave it out")
    return SyntheticSet.load(path)


def _learned_from(options: Any) -> RealData | None:
    """The real data that a projector learns from."""
    return None if options.data is None else _read(options.data, options)


def _read(source: str, options: Any) -> RealData:
    """Real data, read as the options say."""
    given = options.model_fields_set & _READING.keys()
    return load(source, DataOptions.model_construct(**{name: getattr(options, name) for name in given}))
