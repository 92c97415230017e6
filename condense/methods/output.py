"""What a run writes, and when it is finished.

    set.h5.checkpoint.safetensors   from before the first update to the very end
    set.h5                          the set
    set.json                        its account: time, memory, hardware

They are written in this order, and the checkpoint goes when all of it is there: its removal is what finishes a run. A
run that is killed before goes on by the same command, wherever that was.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from condense.methods.checkpoints import Checkpoint, checkpoint_path, read_header, save_checkpoint
from condense.methods.intermediate_sets import without_iterations
from condense.methods.slices.storing import remove_slices
from condense.runtime.errors import CondenseError
from condense.runtime.files import check_output, remove_half_done, write_json
from condense.runtime.limits import LimitError
from condense.runtime.locks import only_writer
from condense.sets.synthetic_set import SyntheticSet


class Stored(Protocol):
    """A set, of images or of graphs."""

    @property
    def provenance(self) -> dict[str, Any]:
        """How it was made."""

    def save(self, path: Path) -> None:
        """Write it."""


Load = Callable[[Path], Stored]


def account_path(target: Path) -> Path:
    """Where the account of a set is.

    >>> account_path(Path("set.h5")).name
    'set.json'
    """
    return target.with_suffix(".json")


def is_finished(target: Path) -> bool:
    """Whether set and account are there, and no run is still to end them."""
    return target.exists() and account_path(target).exists() and not checkpoint_path(target).exists()


@contextmanager
def claimed_target(out: str | Path, *, overwrite: bool, load: Load = SyntheticSet.load) -> Iterator[Path]:
    """The file to write, which nobody else writes within the block; `load` reads what may be there.

    Neither it nor the account beside it is something of the user's, nor a finished set unless that may be overwritten;
    otherwise `CondenseError` is raised.
    """
    target = _checked(out, overwrite, load)
    with only_writer(target, "run", beside=(account_path(target), checkpoint_path(target))):
        remove_half_done(target.parent, f"{glob.escape(target.stem)}-[0-9]*.h5")  # sets on the way
        if not checkpoint_path(target).exists():
            remove_slices(target)  # of a run that ended just before it removed them
        yield _checked(out, overwrite, load)  # somebody may just have finished it


def _checked(out: str | Path, overwrite: bool, load: Load) -> Path:
    begun = _is_of_unfinished_run(Path(out), load)
    target = check_output(out, suffix=".h5", overwrite=overwrite or begun)
    if not target.exists():
        check_output(account_path(target), suffix=".json", overwrite=overwrite)
        return target
    try:
        load(target)
    except LimitError:
        raise
    except CondenseError as error:
        raise CondenseError(
            f"--out {target} is no readable synthetic set and is not replaced; remove it or give another name"
        ) from error
    return target


def _is_of_unfinished_run(target: Path, load: Load) -> bool:
    """Whether the set that is there was written by the run whose checkpoint is still beside it."""
    checkpoint = checkpoint_path(target)
    if not (os.path.isfile(target) and os.path.isfile(checkpoint)):  # noqa: PTH113  (no name is too long for these)
        return False
    try:
        begun = read_header(checkpoint)["configuration"]
        made = load(target).provenance["configuration"]
        return _decisive(begun) == _decisive(made)
    except (CondenseError, KeyError):
        return False


def _decisive(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same in a checkpoint and in the set that its run ends with: how long it takes may not be known."""
    return {name: value for name, value in without_iterations(configuration).items() if name != "for the whole run"}


def store(synthetic: Stored, account: Mapping[str, Any], target: Path, configuration: Mapping[str, Any]) -> None:
    """Write the set and its account, and end the run, which began with `configuration`."""
    checkpoint = checkpoint_path(target)
    if not checkpoint.exists():  # a choice of real images has nothing to save before
        save_checkpoint(checkpoint, Checkpoint(0, 0.0, {}, {}), configuration)
    synthetic.save(target)
    write_json(account_path(target), account)
    checkpoint.unlink(missing_ok=True)
    remove_slices(target)
