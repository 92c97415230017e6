"""A folder, a zip or a tar of text files, which are looked at where they lie: nothing is unpacked to the disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from condense.runtime.errors import CondenseError
from condense.runtime.inputs import regular_file
from condense.runtime.limits import refuse_limits

MOST_BYTES = 512 * 2**20  # of one text, unpacked: the edges of the largest TU set are 365 MB
_MOST_FILES = 100_000
_WANTED = "a folder, a .zip or a .tar of a data set of graphs"


class Files:
    """The files of a source by their path in it; `part` is a folder within it, of which alone is spoken.

    Links, devices and names that lead out of the source are as if they were not there. Raises `CondenseError` for what
    cannot be opened.
    """

    def __init__(self, path: Path, part: str = "") -> None:
        self.path = path
        self._open: Callable[[str], IO[bytes]]
        if path.is_dir():
            found = _in_folder(path)
            self._open = lambda name: (path / name).open("rb")
        elif path.suffix.lower() == ".zip":
            found = self._in_archive(_names_in_zip)
            self._open = lambda name: io.BytesIO(_from_zip(path, name))
        elif path.suffix.lower() == ".tar":
            found = self._in_archive(_names_in_tar)
            self._open = lambda name: io.BytesIO(_from_tar(path, name))
        else:
            raise CondenseError(f"{path} is no data set of graphs that is known; give {_WANTED}, or an .npz")
        inside = [name for name in found if PurePosixPath(name).is_relative_to(part)] if part else found
        if not inside:
            folders = sorted({name.split("/")[0] for name in found if "/" in name})
            raise CondenseError(f"{path} has no folder {part!r}; it has {', '.join(folders[:8]) or 'no files'}")
        self.names = tuple(sorted(inside))

    @property
    def label(self) -> str:
        """The name of the source, for sentences about it."""
        return self.path.name

    def one(self, ending: str) -> str | None:
        """The only file whose path ends so; None without, and an error where there are several."""
        found = [name for name in self.names if name.endswith(ending)]
        if len(found) > 1:
            folders = ", ".join(name.removesuffix(ending).rstrip("/") or "." for name in found[:8])
            raise CondenseError(f"{self.label} has several data sets ({folders}); name one: {self.path}#FOLDER")
        return found[0] if found else None

    def read(self, name: str) -> bytes:
        """The bytes of a file, unpacked if it is a .gz; raises `CondenseError` for more than are read, and damage."""
        try:
            if self.path.is_dir():
                regular_file(self.path / name, _WANTED)
            with self._open(name) as file:
                stream: IO[bytes] = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file  # type: ignore[assignment]
                content = stream.read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, RuntimeError) as error:
            refuse_limits(error)
            raise CondenseError(f"{name} of {self.label} cannot be read: it is damaged; get it again") from error
        if len(content) > MOST_BYTES:
            raise CondenseError(f"{name} of {self.label} has more than {MOST_BYTES:,} bytes, which is too much to read")
        return content

    def integers(self, name: str, columns: int | None = None) -> np.ndarray:
        """Whole numbers of a text, int64 [rows, columns]; commas or spaces stand between them."""
        return self._numbers(name, np.int64, columns)

    def reals(self, name: str, columns: int | None = None) -> np.ndarray:
        """Real numbers of a text, float64 [rows, columns]; commas or spaces stand between them."""
        return self._numbers(name, np.float64, columns)

    def _numbers(self, name: str, dtype: type, columns: int | None) -> np.ndarray:
        content = self.read(name).replace(b",", b" ")
        kind = "whole numbers" if dtype is np.int64 else "numbers"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                values: np.ndarray = np.loadtxt(io.BytesIO(content), dtype, comments=None, ndmin=2)
        except (ValueError, OverflowError, UserWarning, DeprecationWarning) as error:
            refuse_limits(error)
            reason = " ".join(str(error).split())[:120]
            raise CondenseError(f"{name} of {self.label} is no table of {kind} ({reason}); correct it") from error
        if columns is not None and values.shape[1] != columns:
            raise CondenseError(
                f"{name} of {self.label} has {values.shape[1]} numbers a line, not {columns}; correct it"
            )
        return values

    def _in_archive(self, names: Callable[[Path], list[str]]) -> list[str]:
        regular_file(self.path, _WANTED)
        try:
            found = names(self.path)
        except Exception as error:  # over foreign bytes zipfile and tarfile raise nearly anything
            refuse_limits(error)
            raise CondenseError(f"{self.path} is damaged, or no {self.path.suffix}; get it again") from error
        if len(found) > _MOST_FILES:
            raise CondenseError(f"{self.path} holds {len(found):,} files, and at most {_MOST_FILES:,} are looked at")
        return [name for name in found if not name.startswith("/") and ".." not in PurePosixPath(name).parts]


def _in_folder(path: Path) -> list[str]:
    """Files down to two folders deep, which is as far as any known form goes."""
    found = [file for pattern in ("*", "*/*", "*/*/*") for file in path.glob(pattern) if file.is_file()]
    return [file.relative_to(path).as_posix() for file in found[:_MOST_FILES]]


def _names_in_zip(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [entry.filename for entry in archive.infolist() if not entry.is_dir()]


def _names_in_tar(path: Path) -> list[str]:
    with tarfile.open(path, "r:") as archive:
        return [entry.name for entry in archive if entry.isfile()]


def _from_zip(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        return file.read(MOST_BYTES + 1)


def _from_tar(path: Path, name: str) -> bytes:
    with tarfile.open(path, "r:") as archive:
        file = archive.extractfile(name)
        assert file is not None, "only regular files are among the names"
        with file:
            return file.read(MOST_BYTES + 1)
