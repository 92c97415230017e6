"""`condense teachers`: train networks on real data to recover and label images with, or take trained ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from condense.cli.options import DataOptions, load
from condense.cli.parsing import parse
from condense.runtime.errors import CondenseError
from condense.runtime.progress import answer, say
from condense.runtime.validation import option_name
from condense.teachers.rule import TeacherRule

if TYPE_CHECKING:
    from condense.runtime.executors import Executor

_OF_TRAINING = {*TeacherRule.model_fields, "count", "seed", "workers", "ray", "threads", "compile"}


class TeachersOptions(TeacherRule, DataOptions):
    """Options of `condense teachers`."""

    data: str | None = Field(None, description="name of a data set, or a path to images or arrays")
    net: str = Field(
        description="network of the teachers, or several with commas between them; those that images are recovered "
        "from need BatchNorm: convnet-bn, resnet18-bn"
    )
    out: Path = Field(description="folder of the teachers")
    count: int = Field(1, ge=1, description="teachers of each network, with the seeds from --seed on")
    seed: int = Field(0, ge=0, description="of the first one: initialisation, order of images and views")
    from_file: Path | None = Field(
        None,
        alias="from",
        description="instead of training: a .safetensors, or a .pt or .pth of a state dict, of a network that was "
        "trained elsewhere; --normalization and --classes (or --data) say what it does not",
    )
    device: str = Field("auto", description="auto, cpu or cuda:N; workers train on processors")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="compile the training step [where it saves more time than it costs]"
    )
    workers: int | None = Field(None, ge=1, description="train so many at once, in processes [one after the other]")
    ray: str | None = Field(
        None, description="address of a Ray cluster to train on, whose machines share this file system"
    )
    threads: int | None = Field(
        None, ge=1, description="processor threads of each training [as it began; at first all here, 1 on workers]"
    )
    overwrite: bool = Field(False, description="train again, or take again, what is there")


def teachers(words: Sequence[str]) -> int:
    """Train teachers, or import one."""
    options = parse(
        TeachersOptions,
        words,
        program="condense teachers",
        description="Train networks on real data, or take one that was trained elsewhere (--from), to recover images "
        "and to label them. Each becomes one file that says what it is. The same command goes on where it stopped.",
    )
    from condense.runtime.files import check_folder

    check_folder(options.out)
    return _train(options) if options.from_file is None else _import(options, options.from_file)


def _train(options: TeachersOptions) -> int:
    from condense.teachers.description import teacher_line
    from condense.teachers.training import not_by_channel, train_teachers

    if options.data is None:
        raise CondenseError("--data is missing; give the real data to train on, or --from and a trained network")
    if options.normalization in ("zca", "none"):  # before data that may take minutes
        raise not_by_channel(options.data, options.normalization)
    nets, executor = [name.strip() for name in options.net.split(",")], _executor(options)
    made = train_teachers(
        load(options.data, options),
        nets,
        options.out,
        rule=TeacherRule(**options.model_dump(include=set(TeacherRule.model_fields))),
        count=options.count,
        seed=options.seed,
        executor=executor,
        device=options.device,
        compile=options.compile,
        overwrite=options.overwrite,
        progress=sys.stderr.isatty(),
    )
    for path in made.found:
        say(f"note: {path} is finished and was not trained again; --overwrite trains it anew")
    for path, error in made.failed.items():
        say(f"{path} failed: {error}")
    answer(*map(teacher_line, made.teachers))
    return 1 if made.failed else 0


def _import(options: TeachersOptions, path: Path) -> int:
    from condense.teachers.description import teacher_line
    from condense.teachers.importing import import_teacher, stated

    for name in sorted(_OF_TRAINING & options.model_fields_set):
        raise CondenseError(f"{option_name(name)} is of a training, and --from takes a network as it is: leave it out")
    if not path.is_file():
        raise CondenseError(f"--from {path} is no file; give a .safetensors, or a .pt or .pth of a state dict")
    normalization = stated(options.normalization)  # before data that may take minutes
    data = None if options.data is None else load(options.data, options)
    answer(
        teacher_line(
            import_teacher(
                path,
                options.net,
                normalization,
                classes=options.classes if data is None else None,
                image_shape=_image_shape(options, normalization) if data is None else None,
                data=data,
                out=options.out,
                device=options.device,
                overwrite=options.overwrite,
            )
        )
    )
    return 0


def _image_shape(options: TeachersOptions, normalization: str) -> tuple[int, int, int] | None:
    """The size that is given, with as many channels as the constants are for."""
    from condense.data.catalogue import published_constants

    if options.image_size is None:
        return None
    if normalization in ("computed", "none"):
        raise CondenseError(f"--normalization {normalization} does not tell the channels of images; give --data, too")
    size = options.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return len(published_constants(normalization).mean), height, width


def _executor(options: TeachersOptions) -> Executor:
    """Where teachers are trained; raises `CondenseError` if that is out of reach."""
    if options.workers is not None and options.ray is not None:
        raise CondenseError("--workers trains in processes of this machine and --ray on a cluster; give one of them")
    import torch

    from condense.runtime.executors import InProcess, Ray
    from condense.runtime.subprocesses import Subprocesses
    from condense.teachers.training import threads_begun_with

    threads = options.threads or threads_begun_with(options.out)
    if options.workers is not None:
        return Subprocesses(options.workers, threads or 1, attempts=2)
    if options.ray is None:
        return InProcess(threads or torch.get_num_threads(), attempts=1)
    there = Ray(address=options.ray, threads=threads or 1)
    there.check()
    return there
