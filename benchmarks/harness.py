"""The harness: computes the cells of a grid that have no record yet, alone or on workers, and writes the report."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cells import CellJob
from benchmarks.grid import Grid, load_grid
from benchmarks.jobs import make_and_score, make_set, score, shares_the_machine
from benchmarks.page import page_path
from benchmarks.plan import plan
from benchmarks.records import Parts, Record, read_account, read_record, record_path, set_path, write_record
from benchmarks.report import FIGURES, write_report
from condense.methods.output import is_finished
from condense.runtime.errors import CondenseError
from condense.runtime.executors import Executor
from condense.runtime.files import remove_half_done, write_text
from condense.runtime.locks import Claim, only_one
from condense.runtime.progress import answer, progress_bar, say
from condense.runtime.provenance import circumstances
from condense.runtime.subprocesses import subprocesses


def run(grid_path: str | Path, out: str | Path, progress: bool = True, workers: Executor | None = None) -> int:
    """Run the grid in a YAML file, each piece of work in its own process, never two at a time.

    With `workers` what nobody takes the time of runs on these, many cells at once: all but sets that were given
    minutes, training-time baselines, and what shares experts or teachers.

    `out` becomes a folder of records (`cells/`), sets (`sets/`, made again when they are missing and needed), the
    indices and scores of real images that were chosen (`choices/`), pictures of sets and of the real images nearest
    to theirs, as far as these may be shown (`pictures/`), `results.md`, `.csv`, `.json`, `.png` and `.svg`, and
    a page of all of it (`report/index.html`). Cells with a good record there are not computed again; failed ones are
    tried again.

    Returns 0, or 1 if cells failed; these are listed on standard error.
    Raises `CondenseError` for a wrong grid or folder before any work, `KeyboardInterrupt` after a Ctrl-C.
    """
    records = run_grid(load_grid(grid_path), Path(out), origin=Path(grid_path).name, workers=workers, progress=progress)
    done = sum(record.status == "done" for record in records)
    answer(
        f"{done} of {len(records)} cells are done; the tables are in {Path(out) / 'results.md'}, and with pictures and "
        f"charts in {page_path(Path(out))}"
    )
    return exit_code(records)


def run_grid(
    grid: Grid,
    folder: Path,
    *,
    origin: str,
    executor: Executor = subprocesses,
    workers: Executor | None = None,
    progress: bool = True,
) -> list[Record]:
    """Compute what is missing, write the report and return the records of all cells of the grid, in its order.

    `executor` does the work, but for what `workers` do, if there are some; `origin` names the grid in errors.
    """
    jobs = plan(grid, origin)
    with _only_run(folder) as claim:
        records = _compute(jobs, folder, executor, workers, progress, claim)
        write_report(records, folder)
        claim.check()
        _check_kept(records, folder)
    return records


def _check_kept(records: list[Record], folder: Path) -> None:
    lost = [record for record in records if not record_path(record.configuration, folder).exists()]
    if lost:
        raise CondenseError(
            f"{len(lost)} of {len(records)} records were removed from {folder / 'cells'} while the benchmark was "
            "running; the same command computes their cells again"
        )


def exit_code(records: list[Record]) -> int:
    """0, or 1 if cells failed, after listing them on standard error."""
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        say(f"failed: {record.configuration.title}: {record.error}")
    if failed:
        say(f"{len(failed)} of {len(records)} cells failed; the same command tries them again")
    return 1 if failed else 0


@contextmanager
def _only_run(folder: Path) -> Iterator[Claim]:
    """Make the folder and keep others out of it: two runs would spoil each other's times and checkpoints."""
    with only_one(folder / "sets", "benchmark") as claim:
        for name in FIGURES:
            remove_half_done(folder, f"{name}.*")
        remove_half_done(folder / "choices", "*.safetensors")
        remove_half_done(folder / "pictures", "*.webp")
        remove_half_done(folder / "cells", "*.json")
        remove_half_done(page_path(folder).parent, "*")
        write_text(folder / "sets" / ".gitignore", "*\n")
        yield claim


def _compute(
    jobs: list[CellJob], folder: Path, executor: Executor, workers: Executor | None, progress: bool, claim: Claim
) -> list[Record]:
    """The records of all cells, found or made."""
    records = {job.cell.key: read_record(record_path(job.cell, folder)) for job in jobs}
    missing = _by_experts([job for job in jobs if not _is_done(records[job.cell.key])])
    with progress_bar("benchmark", len(missing), enabled=progress) as bar:
        results = _results(missing, folder, executor, workers, progress)
        for number, (job, result, shared) in enumerate(results, start=1):
            claim.check()
            record = _record(job, result, folder, shared=shared)
            write_record(record_path(job.cell, folder), record)
            records[job.cell.key] = record
            if progress:
                say(_line(record))
            bar.update(number)
    return [record for record in records.values() if record is not None]


Result = dict[str, Any] | str


def _results(
    jobs: list[CellJob], folder: Path, executor: Executor, workers: Executor | None, progress: bool
) -> Iterator[tuple[CellJob, Result, bool]]:
    """Each job with what scoring its set gives, or an error, and whether other cells ran beside it.

    `workers` do what nobody takes the time of, the cells of a set together; `executor` does the rest, alone.
    """
    alone = jobs if workers is None else [job for job in jobs if not shares_the_machine(job)]
    if workers is not None:
        by_set: dict[str, list[CellJob]] = {}
        for job in filter(shares_the_machine, jobs):
            by_set.setdefault(job.cell.set_name, []).append(job)
        function = partial(make_and_score, folder=folder.resolve(), there=Path.cwd())
        for outcome in workers.run(function, [tuple(cells) for cells in by_set.values()]):
            found: list[Result] = outcome.value or [outcome.error or "no result"] * len(outcome.job)
            yield from ((job, result, True) for job, result in zip(outcome.job, found, strict=True))
    failed_sets: dict[str, str] = {}  # a set that failed is tried once in a run, not once for every column
    for job in alone:
        yield job, _result(job, folder, executor, failed_sets, progress), False


def _by_experts(jobs: list[CellJob]) -> list[CellJob]:
    """Those without experts first, then those of the same experts together.

    Experts take longer than most sittings have left: one kind should serve all its cells before the next is recorded.
    """
    kinds: dict[str, list[CellJob]] = {"": []}
    for job in jobs:
        experts = None if job.cell.made is None else job.cell.made.experts
        kind = "" if experts is None else json.dumps([job.cell.data.fingerprint, experts], sort_keys=True)
        kinds.setdefault(kind, []).append(job)
    return [job for alike in kinds.values() for job in alike]


def _is_done(record: Record | None) -> bool:
    return record is not None and record.status == "done"


def _result(job: CellJob, folder: Path, executor: Executor, failed_sets: dict[str, str], progress: bool) -> Result:
    """The fields that scoring the cell's set gives, after making the set if it is missing; or the error of either."""

    def do(action: Callable[..., dict[str, Any]]) -> Result:
        (outcome,) = executor.run(partial(action, folder=folder, progress=progress), [job])
        return outcome.value if outcome.value is not None else outcome.error or "no result"

    cell = job.cell
    if cell.has_set and not is_finished(set_path(cell, folder)):
        made = failed_sets.get(cell.set_name) or do(make_set)
        if isinstance(made, str):
            failed_sets[cell.set_name] = made
            return made
    return do(score)


def _record(job: CellJob, result: Result, folder: Path, *, shared: bool) -> Record:
    cell = job.cell
    fields: dict[str, Any] = {
        "key": cell.key,
        "configuration": cell,
        "shared": shared,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if isinstance(result, str):
        fields |= cell.column.model_dump(include={"protocol", "protocol_hash", "network"})
        fields |= circumstances()
        return Record(status="failed", error=result, **fields)
    fields |= result
    account, choosing, training = None, fields.pop("choosing", None), fields.pop("training")
    if cell.has_set:
        account = read_account(cell, folder)
        fields["made_with"] = account.model_dump(include={"plan", "versions", "hardware", "commit"})
        fields |= account.model_dump(include={"iterations", "expert_seconds", "notes"})
        with set_path(cell, folder).open("rb") as file:
            fields["set_digest"] = hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()
    fields["seconds"] = Parts(
        making=getattr(account, "seconds", None) if choosing is None else choosing,
        labelling=fields.pop("labelling", None),
        evaluating=result["seconds"],
        training=training,
    )
    fields["peak_memory"] = Parts(making=getattr(account, "peak_memory", None), evaluating=result["peak_memory"])
    return Record(status="done", **fields)


def _line(record: Record) -> str:
    if record.status == "failed":
        return f"{record.configuration.title}: failed: {record.error}"
    assert record.mean is not None
    spread = f" ± {100 * record.std:.1f}" if record.std is not None else ""
    return f"{record.configuration.title}: {100 * record.mean:.1f}{spread} %"
