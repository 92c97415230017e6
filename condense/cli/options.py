"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from condense.runtime.progress import say
from condense.runtime.validation import Closed

if TYPE_CHECKING:
    from condense.data import RealData

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes(given: Any) -> Any:
    """A number of bytes from text like 8GB.

    >>> _bytes("1.5 MB")
    1500000
    """
    match = re.fullmatch(r"([0-9.]+)\s*([KMGT]B|)", str(given).strip().upper())
    if not match:
        raise ValueError("must be a size like 500MB or 8GB")
    return int(float(match[1]) * _UNITS[match[2]])


def _size(given: Any) -> Any:
    """Pixels of both sides from N, or height and width from HxW.

    >>> _size("32"), _size("48x64")
    (32, (48, 64))
    """
    match = re.fullmatch(r"([1-9][0-9]*)(?:x([1-9][0-9]*))?", str(given).strip().lower())
    if not match:
        raise ValueError("must be N or HxW in pixels, for example 32 or 48x64")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])


class WindowBounds(NamedTuple):
    """The values that become black and white."""

    low: float
    high: float


class SourceOptions(Closed):
    """How real data is found and read."""

    image_size: Annotated[int | tuple[int, int] | None, BeforeValidator(_size)] = Field(
        None, description="resize images to N or HxW pixels"
    )
    mirror: bool | None = Field(None, description="whether a mirror image keeps its class [a property of the data]")
    memory_limit: Annotated[int | None, BeforeValidator(_bytes)] = Field(
        None, description="stream from disk what decodes to more, for example 8GB [4GB]"
    )
    data_root: Path | None = Field(None, description="where data sets by name are kept [$CONDENSE_DATA]")
    download: bool = Field(False, description="download a data set by name that is not there")
    group_by_folder: bool = Field(
        False, description="where a test split is made of class folders, keep each of their sub-folders on one side"
    )
    labels: Path | None = Field(
        None,
        description="for a folder of images: a CSV of file_name, label, perhaps split; none: read no labels",
    )
    classes: str | None = Field(
        None, description="those to read, in this order: a,b,c, a file with one a line, or a subset such as imagefruit"
    )
    skip_broken: bool = Field(False, description="leave out images that cannot be decoded")
    window: WindowBounds | None = Field(
        None, description="of images with more than 8 bits: the values that become black and white"
    )


class DataOptions(SourceOptions):
    """How real data is found, read and preprocessed."""

    normalization: str | None = Field(
        None, description="computed, zca, none or the name of a known set [published constants, else computed]"
    )


def load(source: str, options: SourceOptions) -> RealData:
    """The data set `source` with these options; what is worth knowing about it goes to standard error.

    It is left as it is where its preprocessing is no option.
    """
    from condense.data import load_data

    fields = {name: getattr(options, name) for name in SourceOptions.model_fields}
    fields["normalization"] = getattr(options, "normalization", "none")
    data = load_data(source, **{name: value for name, value in fields.items() if value is not None})
    for note in data.notes:
        say(f"note: {note}")
    return data


def open_fields(model: type[Closed], default: Callable[[FieldInfo], str]) -> dict[str, Any]:
    """The fields of `model` as options for `create_model` that may be left out; `default` says what holds then.

    The word `none` switches off what can be none.
    """
    found: dict[str, Any] = {}
    annotated: Any = Annotated  # types made at run time are beyond a type checker
    for name, field in model.model_fields.items():
        words = [BeforeValidator(_none)] if type(None) in get_args(field.annotation) else []
        kind = annotated[(field.annotation, *field.metadata, *words, None)] | None
        found[name] = (kind, Field(None, description=f"{field.description} [{default(field)}]"))
    return found


def _none(given: Any) -> Any:
    return None if given == "none" else given
