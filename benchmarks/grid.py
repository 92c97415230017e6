"""A benchmark grid: which methods are compared on which data, under which protocols, from which seeds.

data: [digits, {name: photos/, image_size: 64}]
ipc: [1, 10]
methods:
  - {name: random, set_seeds: 5}
  - {name: dm, recipe: desk, iterations: 500, set_seeds: 3}
  - {name: dsa, recipe: desk, minutes: {1: 3, 10: 8}}
  - {name: idm, recipe: desk, iterations: 400, data: [digits]}
columns:
  - {protocol: desk, nets: [convnet, resnet18]}
network_seeds: 3
full: true
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from benchmarks.teachers import TeacherEntry, Weights
from buffers.rules import expert_rule
from condense.data.budget import Budget
from condense.graphs.methods.budget import GraphBudget
from condense.networks.pools import network_names
from condense.recipes.yaml12 import load_yaml
from condense.runtime.errors import CondenseError, near_names
from condense.runtime.validation import Closed, validated

_MOST_SEEDS = 1000


def _seeds(given: Any) -> tuple[int, ...]:
    """The seeds that a count or a list stands for.

    >>> _seeds(3), _seeds([7, 5])
    ((0, 1, 2), (7, 5))
    """
    seeds = range(min(given, _MOST_SEEDS + 1)) if type(given) is int else given
    whole = isinstance(seeds, list | tuple | range) and all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds)
    if not whole or not 1 <= len(seeds) <= _MOST_SEEDS or len(set(seeds)) < len(seeds):
        raise ValueError(f"must be how many seeds, from 1 to {_MOST_SEEDS}, or a list of different seeds of at least 0")
    return tuple(seeds)


def _image_size(given: Any) -> Any:
    sides = given if isinstance(given, list | tuple) and len(given) == 2 else [given]
    if given is not None and not all(type(side) is int and side >= 1 for side in sides):
        raise ValueError("must be a number of pixels, at least 1, or [height, width]")
    return tuple(given) if isinstance(given, list) else given


def _seeds_or_count(given: Any) -> Any:
    seeds = _seeds(given)
    return given if type(given) is int else seeds


Seeds = Annotated[tuple[int, ...], BeforeValidator(_seeds)]
SeedsOrCount = Annotated[int | tuple[int, ...], BeforeValidator(_seeds_or_count)]
ImageSize = Annotated[int | tuple[int, int] | None, BeforeValidator(_image_size)]


def _for_sizes(given: Any, allowed: tuple[type, ...], least: str) -> Any:
    """One number for all numbers of images per class, or one for each of them."""
    numbers = [*given.values()] if isinstance(given, dict) else [given]
    sizes = [*given] if isinstance(given, dict) else [1]
    if not all(type(number) in allowed and 0 < number < math.inf for number in numbers) or not sizes:
        raise ValueError(f"must be {least}, or such a number for each number of images per class: {{1: 3, 10: 8}}")
    if not all(type(ipc) is int and ipc >= 1 for ipc in sizes):
        raise ValueError("must be given for numbers of images per class, as in {1: 3, 10: 8}")
    return given


def _iterations(given: Any) -> Any:
    return given if given is None else _for_sizes(given, (int,), "a whole number of at least 1")


def _minutes(given: Any) -> Any:
    return given if given is None else _for_sizes(given, (int, float), "greater than 0")


Iterations = Annotated[int | dict[int, int] | None, BeforeValidator(_iterations)]
Minutes = Annotated[float | dict[int, float] | None, BeforeValidator(_minutes)]


class _WithOptions(Closed):
    """An entry with fields of its own beside the `options` of what it calls."""

    @field_validator("options", check_fields=False)
    @classmethod
    def _fields_are_given_beside(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in cls.model_fields:
                raise ValueError(f"{name} is no option, but a field of its own; give it beside options")
        return options


class DataEntry(Closed):
    """A data set by name or path, with the options of `condense.load_data`, or of `load_graphs` where it has graphs."""

    name: str = Field(min_length=1, description="a known name, or a path seen from the current folder")
    image_size: ImageSize = Field(None, description="pixels of both sides, or [height, width]")
    normalization: str | None = Field(None, description="computed, zca, none or a known set; default: the data's own")
    mirror: bool | None = Field(None, description="may images be mirrored; default: the data's own")
    labels: str | None = Field(None, description="for a folder of images: a CSV of file names and labels")
    classes: list[str] | str | None = Field(
        None, description="those to read, in this order; a file, or a subset's name"
    )
    group_by_folder: bool = Field(False, strict=True, description="of a made test split: keep sub-folders on one side")
    skip_broken: bool = Field(False, strict=True, description="leave out images that cannot be decoded")
    window: tuple[float, float] | None = Field(None, description="of images with more than 8 bits: black and white")
    holdout: Annotated[float, Field(gt=0, lt=1, strict=True)] | None = Field(
        None, description="for tuning: score on this fraction of the training images, which methods do not see then"
    )
    validation: bool = Field(False, strict=True, description="of graphs, for tuning: score on the validation part")
    fold: Annotated[int, Field(ge=1, strict=True)] = Field(1, description="of graphs in GIN's text form: the test part")
    degrees: Literal["exact", "log2"] = Field("exact", description="of graphs whose nodes have nothing but degrees")
    setting: Literal["transductive", "inductive"] = Field("transductive", description="of one graph with nodes")

    @property
    def base_name(self) -> str:
        """The name without the place, as reports have it: of `FILE.tar#FOLDER` that of the folder."""
        path, _, folder = self.name.partition("#")
        return Path(folder or path).stem


class ExpertsEntry(_WithOptions):
    """Experts that are recorded before the first set that needs them, as `condense experts` does it."""

    net: str = Field("convnet-w64", description="their network")
    experts: Annotated[int, Field(ge=1, strict=True)] = Field(10, description="how many")
    epochs: Annotated[int, Field(ge=1, strict=True)] = Field(8, description="of each")
    optimizer: Literal["sgd", "flat", "smooth"] = Field("sgd", description="how they are trained")
    seed: Annotated[int, Field(ge=0, strict=True)] = Field(0, description="of everything random in them")
    options: dict[str, Any] = Field({}, description="values of their training other than the published ones")

    @model_validator(mode="after")
    def _options_are_of_their_kind(self) -> ExpertsEntry:
        expert_rule(self.optimizer, **self.options)
        return self

    @model_serializer(mode="wrap")
    def _without_no_options(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if name != "options" or value}


class MethodEntry(_WithOptions):
    """A method with its settings and budget, and how many sets it makes."""

    name: str = Field(description="name of a method")
    recipe: str | None = Field(None, description="name or YAML file of a recipe; default: the published settings")
    options: dict[str, Any] = Field({}, description="settings that replace those of the recipe")
    iterations: Iterations = Field(
        None, description="updates of the images, one number for all or one for each number of images per class"
    )
    minutes: Minutes = Field(
        None, description="time after which a set is done, one for all or one for each number of images per class"
    )
    precision: Literal["float32", "bfloat16"] | None = Field(None, description="default: as the machine has it")
    compile: Literal["on", "off"] | None = Field(None, description="default: where it saves time")
    experts: ExpertsEntry | None = Field(None, description="for methods that match trajectories")
    teacher: Weights | None = Field(
        None, description="for methods that ask teachers: a name in the grid, or several names with their weights"
    )
    data: list[str] | None = Field(
        None, min_length=1, description="only for the data sets of these names; default: all"
    )
    ipc: list[int] | None = Field(
        None, min_length=1, description="only for these numbers of images per class; default: all sizes"
    )
    balanced: bool = Field(True, strict=True, description="real images are chosen of every class, or else of all")
    sized: bool = Field(True, strict=True, description="of graphs: false for a method that finds its size itself")
    set_seeds: Seeds = Field((0,), description="one set for each seed: how many seeds, or a list of them")

    def length_at(self, ipc: int | None) -> tuple[int | None, float | None]:
        """The iterations and the minutes of a set of so many images per class, or of a fraction (None).

        Raises `CondenseError` if either is given for other numbers only.
        """
        return _at(self.iterations, ipc, "iterations"), _at(self.minutes, ipc, "minutes")

    def takes(self, size: Budget | GraphBudget) -> bool:
        """Whether sets of this size of the grid are made."""
        if isinstance(size, GraphBudget) and not size.given:
            return not self.sized
        return self.sized and (self.ipc is None or size.ipc in self.ipc)

    def is_for(self, data: DataEntry) -> bool:
        """Whether sets of this data are made; data goes by its base name here, as in reports."""
        return self.data is None or data.base_name in self.data


def _at(given: Any, ipc: int | None, name: str) -> Any:
    if not isinstance(given, dict):
        return given
    if ipc not in given:
        size, way_out = ("a fraction", "give one number for all sizes") if ipc is None else (ipc, "add it")
        raise CondenseError(f"{name} are given for {sorted(given)} images per class, not for {size}; {way_out}")
    return given[ipc]


class LabelsEntry(_WithOptions):
    """Labels that a teacher gives every set of a column before it is scored, as `condense relabel` does it."""

    labels: str = Field(description="which ones, as `condense relabel` calls them")
    teacher: Weights | None = Field(
        None, description="its name in the grid, or those of several with their weights; none for class indices"
    )
    encoder: str | None = Field(
        None, description="of a projector: the file of a teacher of such images, seen from the current folder"
    )
    options: dict[str, Any] = Field({}, description="of `condense relabel`, other than the usual ones")


class ColumnEntry(Closed):
    """One protocol, and the networks that are trained under it."""

    protocol: str = Field(description="name of a protocol")
    nets: list[str] = Field(
        ["convnet"],
        min_length=1,
        description="networks, or pools of them; what a name leaves open the protocol fills in",
    )
    labels: LabelsEntry | None = Field(None, description="given to sets first; default: those that they have")
    methods: list[str] | None = Field(None, min_length=1, description="only for sets of these methods; default: all")
    updates: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        None, description="for protocols that count updates: so many; default: the protocol's"
    )

    @field_validator("nets")
    @classmethod
    def _pools_are_their_networks(cls, nets: list[str]) -> list[str]:
        return network_names(nets)


class Grid(Closed):
    """Everything that a benchmark compares."""

    data: list[DataEntry] = Field(min_length=1)
    ipc: list[Annotated[int, Field(ge=1, strict=True)]] = Field([], description="images per class")
    fraction: list[Annotated[float, Field(gt=0, le=1, strict=True)]] = Field(
        [], description="parts of the training images, for methods that choose real ones"
    )
    bytes: list[Annotated[int, Field(ge=1, strict=True)]] = Field([], description="of graphs: what sets may take")
    methods: list[MethodEntry] = Field(min_length=1)
    columns: list[ColumnEntry] = Field(min_length=1)
    teachers: dict[str, TeacherEntry] = Field({}, description="by the names that methods and columns call them")
    network_seeds: SeedsOrCount | None = Field(
        None,
        description="networks trained on each set: how many (of seed 0, as `condense evaluate --runs` trains them), "
        "or a list of seeds for one network each; default: the protocol's number",
    )
    full: bool = Field(False, strict=True, description="also train on the full data, as a reference line")

    @model_validator(mode="after")
    def _some_size(self) -> Grid:
        if not self.ipc and not self.fraction and not self.bytes and any(method.sized for method in self.methods):
            raise ValueError("a grid needs sizes of sets: ipc: [1, 10], or fraction: [0.01, 0.1]")
        return self

    def sizes(self, modality: str) -> list[Budget]:
        """The sizes of sets of such data, in order; for graphs the last one is that of methods which find their own."""
        asked: list[dict[str, Any]] = [{"ipc": ipc} for ipc in self.ipc]
        asked += [{"fraction": fraction} for fraction in self.fraction]
        if modality == "images":
            return [Budget(**size) for size in asked]
        return [GraphBudget(**size) for size in [*asked, *({"bytes": size} for size in self.bytes), {}]]

    @field_validator("data", mode="before")
    @classmethod
    def _names_alone(cls, entries: Any) -> Any:
        if not isinstance(entries, list):
            return entries
        return [{"name": entry} if isinstance(entry, str) else entry for entry in entries]


_ENTRIES: Mapping[str, type[Closed]] = {"data": DataEntry, "methods": MethodEntry, "columns": ColumnEntry}


def parse_grid(content: Any, origin: str) -> Grid:
    """The grid described by `content`, as read from YAML; `origin` names it in errors.

    Raises `CondenseError` with the place, what was given and what is allowed.
    """
    if not isinstance(content, dict):
        raise CondenseError(f"{origin} must be a mapping with the fields {', '.join(Grid.model_fields)}")
    for field, model in _ENTRIES.items():
        entries = content.get(field)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            _check_entry(entry, model, f"{origin}: {field}.{index}")
    grid = validated(Grid, content, origin=f"{origin}: ")
    _refuse_repetition(grid, origin)
    _refuse_what_no_entry_has(grid, origin)
    return grid


def _check_entry(entry: Any, model: type[Closed], place: str) -> None:
    """Entries are checked one by one first, so that near names are those of the entry's own fields."""
    if isinstance(entry, dict):
        validated(model, entry, origin=f"{place}: ")
    elif not (model is DataEntry and isinstance(entry, str)):
        raise CondenseError(f"{place} {entry!r}: must be a mapping with the fields {', '.join(model.model_fields)}")


def _refuse_repetition(grid: Grid, origin: str) -> None:
    lists: dict[str, list[Any]] = {
        "data": [entry.model_dump() for entry in grid.data],
        "ipc": grid.ipc,
        "fraction": grid.fraction,
        "bytes": grid.bytes,
        "methods": [entry.model_dump(exclude={"set_seeds"}) for entry in grid.methods],
        "columns": [
            f"{column.protocol} with {net}"
            + (f" and {column.labels}" if column.labels else "")
            + (f" for {column.updates} updates" if column.updates else "")
            for column in grid.columns
            for net in column.nets
        ],
    }
    for place, values in lists.items():
        for index, value in enumerate(values):
            if value in values[:index]:
                shown = value["name"] if isinstance(value, dict) else value
                raise CondenseError(f"{origin}: {place}: {shown} is given twice; give it once")


def _refuse_what_no_entry_has(grid: Grid, origin: str) -> None:
    names = [entry.base_name for entry in grid.data]
    for index, method in enumerate(grid.methods):
        for name in method.data or []:
            if name not in names:
                raise CondenseError(
                    f"{origin}: methods.{index}: data: {name} is none of the grid's ({', '.join(names)})"
                    + near_names(name, names)
                )
        for size in method.ipc or []:
            if size not in grid.ipc:
                raise CondenseError(f"{origin}: methods.{index}: ipc: {size} is none of the grid's ({grid.ipc})")


def load_grid(path: str | Path) -> Grid:
    """The grid in a YAML file (YAML 1.2: `on` is a word, `1e-4` a number); raises `CondenseError` if it is wrong."""
    return parse_grid(load_yaml(path), Path(path).name)
