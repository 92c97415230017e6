"""The demo: the main job on the embedded digits, end to end, as an ordinary grid computed in this process."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.grid import load_grid
from benchmarks.harness import exit_code, run_grid
from benchmarks.markdown import percent
from benchmarks.page import page_path
from benchmarks.report import heading
from benchmarks.table import Table, build_table
from condense.runtime.errors import CondenseError
from condense.runtime.executors import here
from condense.runtime.files import atomic_write
from condense.runtime.locks import only_one
from condense.runtime.progress import answer
from condense.sets.synthetic_set import SyntheticSet

GRID = Path(__file__).parent / "grids" / "demo.yaml"
_MARKER = ".condense-demo"
_FOLDERS = ("cells", "choices", "pictures", "sets", "images")
_IN_FOLDERS = (*(f"{folder}/digits-*" for folder in _FOLDERS), "sets/.*", "report/*")
_OWN = (_MARKER, "results.*", *_IN_FOLDERS, "*.tmp", "*.tmp/*")


def run_demo(out: str | Path = "demo", progress: bool = True) -> int:
    """Condense the digits to 1 and 10 images per class, compare with real images, write everything into `out`.

    Writes the sets (`sets/*.h5`), a picture of each (`images/*.png`), the plot (`results.png`, `.svg`), the results
    (`results.json`, `.csv`, `.md`) and a page of all of it (`report/index.html`), and prints a table. Replaces what an
    earlier demo wrote.

    Returns 0, or 1 if a part failed. Raises `CondenseError` if `out` holds anything that no demo wrote.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise CondenseError(f"--out {folder} is a file; give the name of a folder for the demo")
    with only_one(folder, "demo") as claim:
        _clear(folder, spare=claim.lock)
        records = run_grid(load_grid(GRID), folder, origin="demo", executor=here, progress=progress)
        _draw_sets(folder)
        claim.check()
    _print(build_table(records), folder)
    return exit_code(records)


def _clear(folder: Path, spare: Path) -> None:
    """Remove an earlier demo's files but for our lock, and mark the folder as the demo's."""
    try:
        files = [path for path in sorted(folder.rglob("*")) if not path.is_dir() and path != spare]
        _refuse_foreign(folder, [path.relative_to(folder).as_posix() for path in files])
        for path in folder.iterdir():
            if path not in (spare, folder / _MARKER):  # a kill in between leaves a folder that is known again
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (folder / _MARKER).write_text("condense demo replaces this folder\n", encoding="utf-8")
    except OSError as error:
        raise CondenseError(
            f"cannot write to --out {folder}: {error.strerror or error}; give another folder"
        ) from error


def _refuse_foreign(folder: Path, files: list[str]) -> None:
    marked = (folder / _MARKER).exists()
    foreign = [name for name in files if not (marked and any(fnmatch(name, own) for own in _OWN))]
    if foreign:
        raise CondenseError(f"--out {folder} holds files that are not of a demo ({foreign[0]}); give another folder")


def _draw_sets(folder: Path) -> None:
    (folder / "images").mkdir(exist_ok=True)
    for path in sorted((folder / "sets").glob("*.h5")):
        with atomic_write(folder / "images" / f"{path.stem}.png") as temporary:
            SyntheticSet.load(path).grid().save(temporary, format="PNG")


def _print(table: Table, folder: Path) -> None:
    console = Console()
    for column in table.columns:
        scores = [(row, table.scores[row, column]) for row in table.rows if (row, column) in table.scores]
        shown = RichTable(
            title=f"test accuracy on digits, protocol {heading(column, table)}",
            caption="ipc: images per class; seconds: to make one set",
        )
        for name in ("ipc", "method", "accuracy, %", "sets x networks", "bytes", "seconds"):
            shown.add_column(name, justify="left" if name == "method" else "right")
        for index, (row, score) in enumerate(scores):
            if row.size != scores[index - 1][0].size:
                shown.add_section()
            networks = len(score.records[0].accuracies)
            shown.add_row(
                row.size.short,
                row.method,
                percent(score.spread.mean, score.spread.std),
                f"{len(score.records)} x {networks}",
                f"{score.records[0].bytes:,}",
                f"{score.making_seconds:.2f}",
            )
        console.print(shown)
    for record in table.full.values():
        mean = percent(record.mean or 0.0, record.std)
        answer(f"for reference, all {record.images:,} training images: {mean} %")
    answer(f"sets, pictures, plot and results are in {folder}; the page that shows them is {page_path(folder)}")
