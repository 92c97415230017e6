"""Commands that turn one file into another or into words: `pack`, `import`, `show` and `export`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from condense.cli.options import DataOptions, load
from condense.cli.parsing import POSITIONAL, parse
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer, say
from condense.runtime.validation import Closed, option_name

if TYPE_CHECKING:
    from condense.data import DataInfo


class PackOptions(DataOptions):
    """Options of `condense pack`."""

    data: str = Field(description="name of a data set, or a path to images", json_schema_extra=POSITIONAL)
    out: Path = Field(description="where to store it, for example photos.h5")
    overwrite: bool = Field(False, description="replace an existing file")


def pack(words: Sequence[str]) -> int:
    """Store a data set decoded."""
    options = parse(
        PackOptions,
        words,
        program="condense pack",
        description="Store a data set as decoded pixels in one HDF5 file that loads fast.",
    )
    from condense.data import pack as store
    from condense.data.names import shown
    from condense.runtime.locks import claimed_output

    with claimed_output(options.out, "pack", suffix=".h5", overwrite=options.overwrite):
        if options.out.exists() and Path(options.data).exists() and options.out.samefile(options.data):
            raise CondenseError(f"--out {options.out} is the data itself; give another name")
        data = load(options.data, options)
        store(data, options.out)
    answer(
        f"{options.out}: {data.name}, {len(data.train):,} training and {len(data.test):,} test images",
        *(f"left out: {shown([name])}" for name in data.left_out),
    )
    return 0


class ImportOptions(DataOptions):
    """Options of `condense import`."""

    file: Path = Field(
        description="res_*.pt, images_best.pt, ema_images_best.pt, data.pt of [images, labels] or replay_buffer_*.pt "
        "of a reference project; a .pt or .npz with images and labels by name; what condense export wrote",
        json_schema_extra=POSITIONAL,
    )
    data: str = Field(description="the real data that the set or the experts were made from")
    out: Path = Field(description="where to store the set, for example set.h5; for experts a folder")
    learned_lr: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="of a set: learning rate that was learned with it [that of the file, or of one beside it]",
    )
    space: Literal["preprocessed", "unit"] | None = Field(
        None, description="of a set: whether its images are preprocessed or pictures in [0, 1] [preprocessed]"
    )
    factor: int | None = Field(
        None, ge=2, description="of a set: its images are mosaics of N x N tiles, as those of IDC, IDM (2) and NCFM are"
    )
    net: str | None = Field(None, description="of experts: their network")
    optimizer: Literal["sgd", "flat", "smooth"] = Field("sgd", description="of experts: how they were trained")
    overwrite: bool = Field(False, description="replace an existing file")


def import_set(words: Sequence[str]) -> int:
    """Turn a file of another program, or an export, into a synthetic set."""
    options = parse(
        ImportOptions,
        words,
        program="condense import",
        description="Turn a set of a reference project, of your own or of condense export into a self-explaining "
        "file, or a project's experts (with --net) into a folder of them. But for exports, files do not say how their "
        "images were preprocessed: --data and --normalization tell it, or --space unit.",
    )
    if not options.file.exists():
        raise CondenseError(f"{options.file} is no file; give a set of a reference project, or an export")
    if options.net is not None:
        return _import_experts(options, options.net)
    if "optimizer" in options.model_fields_set:
        raise CondenseError("--optimizer is of experts: name their network as --net, or leave it out")
    if options.file.name.startswith("replay_buffer"):
        raise CondenseError(f"{options.file} has experts: name their network as --net, and a folder as --out")
    from condense.runtime.locks import claimed_output
    from condense.sets.importing import import_synthetic

    with claimed_output(options.out, "import", suffix=".h5", overwrite=options.overwrite):
        info = load(options.data, options).info
        synthetic = import_synthetic(
            options.file, info, learned_lr=options.learned_lr, space=options.space, factor=options.factor
        )
        if synthetic.info is not info:  # an export, which knows its own
            _check_normalization(options, synthetic.info, info)
        elif synthetic.space == "preprocessed" and options.normalization is None:
            _say_preprocessing("its images", info)
        synthetic.save(options.out)
    decoded = "" if synthetic.decoder is None else f", decoded to {len(synthetic)}"
    answer(f"{options.out}: {len(synthetic.stored)} images{decoded}, {synthetic.bytes:,} bytes")
    return 0


def _check_normalization(options: ImportOptions, exported: DataInfo, info: DataInfo) -> None:
    if options.normalization is not None and not exported.preprocessing.equals(info.preprocessing):
        raise CondenseError(
            f"{options.file} says itself how its images were preprocessed ({exported.preprocessing.kind}), and "
            f"--normalization {options.normalization} is another way: leave it out"
        )


def _import_experts(options: ImportOptions, network: str) -> int:
    from buffers.importing import import_replay_buffer
    from condense.runtime.files import check_folder

    if options.overwrite:
        raise CondenseError("experts are added to a folder, never replaced: leave --overwrite out")
    for name in ("learned_lr", "space", "factor"):
        if getattr(options, name) is not None:
            raise CondenseError(f"{option_name(name)} is of a set, and experts have none: leave it out")
    if not options.file.is_file():
        raise CondenseError(f"{options.file} is no file; give a replay_buffer_*.pt of a reference project")
    check_folder(options.out)
    data = load(options.data, options)
    if options.normalization is None:
        _say_preprocessing("the images of its experts", data.info)
    count = import_replay_buffer(options.file, data, network, options.out, optimizer=options.optimizer)
    answer(f"{options.out}: {count} experts")
    return 0


def _say_preprocessing(images: str, info: DataInfo) -> None:
    from condense.data.fitting import normalization_name

    say(
        f"note: the file does not say how {images} were preprocessed; taken for --normalization "
        f"{normalization_name(info.preprocessing)} (those of the MTT lineage usually need zca)"
    )


class ShowOptions(Closed):
    """Options of `condense show`."""

    set: Path = Field(
        description="a synthetic set (.h5), a teacher (.safetensors), or a folder of teachers or of experts",
        json_schema_extra=POSITIONAL,
    )
    png: Path | None = Field(None, description="also draw its images, or the accuracies of the experts, here")
    html: Path | None = Field(None, description="also write a page of the set: what it is, its images and its curves")


def show(words: Sequence[str]) -> int:
    """Say what a set, a teacher, or a folder of teachers or experts, is and how it was made."""
    options = parse(
        ShowOptions,
        words,
        program="condense show",
        description="Say what a synthetic set, a teacher, or a folder of teachers or experts is and how it was made.",
    )
    from condense.runtime.locks import claimed_output

    if _has_teachers(options.set):
        _show_teachers(options)
        return 0
    show_one = _show_experts if options.set.is_dir() else _show_set
    with ExitStack() as claims:
        for path, suffix in ((options.png, ".png"), (options.html, ".html")):
            if path is not None:
                claims.enter_context(claimed_output(path, "show", suffix=suffix, option=f"--{suffix[1:]}"))
        show_one(options)
    return 0


def _has_teachers(path: Path) -> bool:
    """Whether this is a teacher, or a folder of teachers and not of experts."""
    if path.is_dir():
        return not (path / "buffer.json").exists() and any(path.glob("*.safetensors"))
    return path.suffix == ".safetensors"


def _show_teachers(options: ShowOptions) -> None:
    from condense.teachers.description import describe_teacher
    from condense.teachers.teacher import Teacher, teacher_files

    if options.png is not None:
        raise CondenseError("--png draws the images of a set or the accuracies of experts: leave it out for teachers")
    _refuse_page(options)
    files = teacher_files(options.set)
    for number, teacher in enumerate([Teacher.open(file) for file in files]):
        if len(files) > 1:
            answer(*([""] if number else []), f"{teacher.path}")
        _print_rows(describe_teacher(teacher))


def _show_set(options: ShowOptions) -> None:
    from condense.graphs.opening import holds_graphs
    from condense.runtime.files import atomic_write
    from condense.sets.synthetic_set import SyntheticSet

    if options.set.is_file() and holds_graphs(options.set):
        _show_graphs(options)
        return
    synthetic = SyntheticSet.load(options.set)
    _print_rows(synthetic.describe())
    if options.png is not None:
        with atomic_write(options.png) as temporary:
            synthetic.grid().save(temporary, format="PNG")
    if options.html is not None:
        from benchmarks.page.one_set import write_set_page

        write_set_page(synthetic, options.html, options.set.name)


def _show_graphs(options: ShowOptions) -> None:
    from condense.graphs.description import describe_graphs
    from condense.graphs.drawing import draw_graphs
    from condense.graphs.opening import load_graph_set

    made = load_graph_set(options.set)
    _print_rows(describe_graphs(made))
    if options.png is not None:
        draw_graphs(made, options.png)
    if options.html is not None:
        from benchmarks.page.one_set import write_set_page

        write_set_page(made, options.html, options.set.name)


def _refuse_page(options: ShowOptions) -> None:
    if options.html is not None:
        raise CondenseError("--html writes the page of a set: leave it out for teachers and experts")


def _show_experts(options: ShowOptions) -> None:
    from buffers import ExpertBuffer
    from buffers.summary import accuracy_table, describe_buffer, plot_accuracies

    _refuse_page(options)
    buffer = ExpertBuffer.open(options.set)
    _print_rows(describe_buffer(buffer))
    answer("", *accuracy_table(buffer))
    if options.png is not None:
        plot_accuracies(buffer, options.png)


def _print_rows(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    answer(*(f"{name:<{width}}  {value}" for name, value in rows.items()))


class ExportOptions(Closed):
    """Options of `condense export`."""

    set: Path = Field(description="a synthetic set, an .h5 file", json_schema_extra=POSITIONAL)
    to: Literal["folder", "torch", "huggingface"] = Field(description="the form: images, a .pt of tensors, datasets")
    out: Path = Field(description="the folder or file to write")
    overwrite: bool = Field(False, description="replace what is there")


def export(words: Sequence[str]) -> int:
    """Write a set in another form."""
    options = parse(
        ExportOptions, words, program="condense export", description="Write a synthetic set in a form that others read."
    )
    from condense.sets.synthetic_set import SyntheticSet

    SyntheticSet.load(options.set).export(options.out, to=options.to, overwrite=options.overwrite)
    answer(f"{options.out}: written")
    return 0
