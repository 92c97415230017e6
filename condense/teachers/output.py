"""What a training writes, and when it is finished.

    convnet-d3-w64-bn-s0.safetensors            the teacher
    convnet-d3-w64-bn-s0.json                   its account: time and machine
    convnet-d3-w64-bn-s0.partial.safetensors    while it is trained: all that it takes to go on

The last one is replaced after every epoch; its removal is what finishes a training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condense.runtime.errors import CondenseError
from condense.runtime.files import check_output, write_json
from condense.runtime.locks import only_writer
from condense.teachers.job import Trained
from condense.teachers.manifest import Manifest
from condense.teachers.teacher import SUFFIX, Teacher


def teacher_file(manifest: Manifest) -> str:
    """The name of the file of a teacher that is trained here: its network, with - for :, and its seed."""
    return f"{manifest.network.replace(':', '-')}-s{manifest.seed}{SUFFIX}"


def partial_path(target: Path) -> Path:
    """Where the training of a teacher is kept until it is over.

    >>> partial_path(Path("mlp-s0.safetensors")).name
    'mlp-s0.partial.safetensors'
    """
    return target.with_suffix(f".partial{SUFFIX}")


def account_path(target: Path) -> Path:
    """Where the account of a training is."""
    return target.with_suffix(".json")


def is_finished(target: Path) -> bool:
    """Whether the teacher is there, and no training is still to end it."""
    return target.exists() and not partial_path(target).exists()


@contextmanager
def claimed_teacher(target: Path, overwrite: bool) -> Iterator[None]:
    """The files of a teacher, which nobody else writes within the block; raises `CondenseError` for others' files."""
    check_output(target, suffix=SUFFIX, overwrite=True)
    with only_writer(target, "training", beside=(account_path(target), partial_path(target))):
        if target.exists():
            try:
                Teacher.open(target)
            except CondenseError as error:
                raise CondenseError(f"{error}; it is not replaced: remove it or give another --out") from error
        elif not partial_path(target).exists():
            check_output(account_path(target), suffix=".json", overwrite=overwrite)
        yield


def check_same(found: Manifest, asked: Manifest, path: Path, *, but: Sequence[str] = ()) -> None:
    """Raise `CondenseError` with the first thing in which the teacher in `path` is not the one that is asked for."""
    there = _decisive(found)
    for name, here in _decisive(asked).items():
        if there.get(name) != here and name not in but:
            raise CondenseError(
                f"{path} is a teacher with another {name.replace('_', ' ')} ({_short(there.get(name))}, not "
                f"{_short(here)}); give the same, --overwrite to train it anew, or another --out"
            )


def _decisive(manifest: Manifest) -> dict[str, Any]:
    """What decides a teacher and must be equal, by the words of errors."""
    fields = manifest.model_dump(mode="json", exclude={"versions", "training", "held_out", "test"})
    return fields | manifest.training


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def store(trained: Trained, target: Path) -> None:
    """Write the teacher and its account, and end the training."""
    trained.teacher.save(target)
    write_json(account_path(target), trained.account)
    partial_path(target).unlink(missing_ok=True)
