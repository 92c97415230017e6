"""Cells: one set made by one method, or the full data, scored by one network under one protocol."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from benchmarks.described import LabelDescription, TeacherDescription, in_words
from benchmarks.grid import DataEntry
from benchmarks.teachers import TeacherEntry
from condense.data.budget import Budget
from condense.evaluation.protocols import PROTOCOLS, Protocol
from condense.graphs.methods.budget import GraphBudget
from condense.graphs.protocols import PROTOCOLS as GRAPH_PROTOCOLS
from condense.graphs.protocols import GraphProtocol
from condense.methods.registry import is_baseline
from condense.runtime.validation import Closed

CHOOSER = "chooser"  # among the settings of a baseline: all that decides which images are chosen for it
FULL = "full"  # how tables and files call the reference line of the full data


_OF_EVERY_IMAGE = (
    "name",
    "fingerprint",
    "image_shape",
    "mirror",
    "preprocessing",
    "image_size",
    "normalization",
)


class DataDescription(Closed):
    """Which real data, without the place where it lies; fields that are for images are None for graphs."""

    name: str
    fingerprint: str
    modality: str = "images"
    image_shape: tuple[int, int, int] | None = None
    mirror: bool | None = None
    preprocessing: str | None = None
    image_size: int | tuple[int, int] | None = None  # this and the next as the grid gives them
    normalization: str | None = None
    reading: dict[str, Any] = {}  # noqa: RUF012  (of graphs: the options, but for what is usual, that read them so)
    validation: bool = False  # of graphs: scores are on validation graphs or nodes, for tuning
    classes: tuple[str, ...] | None = None  # that were chosen; None for all
    holdout: float | None = None  # fraction of the training images that the test images are, for tuning

    @model_serializer(mode="wrap")
    def _without_what_is_usual(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        if self.modality == "images":
            unusual = {name for name in ("classes", "holdout") if fields[name] is not None}
            return {name: fields[name] for name in fields if name in (*_OF_EVERY_IMAGE, *unusual)}
        usual = {"image_shape", "mirror", "preprocessing", "image_size", "normalization", "classes", "holdout"}
        usual |= {name for name in ("reading", "validation") if not fields[name]}
        return {name: value for name, value in fields.items() if name not in usual}

    @property
    def label(self) -> str:
        """What tables call it: its name and what the grid changed about it."""
        changes = ["{1}x{2}".format(*self.image_shape)] if self.image_size is not None and self.image_shape else []
        changes += [self.normalization] if self.normalization else []
        changes += [_shortened(self.classes)] if self.classes else []
        changes += [f"({self.holdout:.0%} of the training images held out)"] if self.holdout else []
        changes += [f"{name} {value}" for name, value in self.reading.items()]
        changes += ["(validation)"] if self.validation else []
        return " ".join([self.name, *changes])


def _shortened(classes: tuple[str, ...]) -> str:
    """Some names of classes, for labels.

    >>> _shortened(("cat", "dog")), _shortened(("a", "b", "c", "d"))
    ('(cat, dog)', '(a, b and 2 more)')
    """
    named = classes if len(classes) <= 3 else (f"{classes[0]}, {classes[1]} and {len(classes) - 2} more",)
    return f"({', '.join(named)})"


def _in_words(value: Any) -> str:
    """The value of an option; of several by their names, as of what chooses.

    >>> _in_words({"network": "convnet", "epochs": 5})
    'network convnet, epochs 5'
    """
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


class SetDescription(Closed):
    """What decides a synthetic set, or a training-time baseline, data aside.

    `settings` is complete; `recipe`, `options` and `iterations` are what the grid says, for labels. `plan` is what the
    grid asks of precision and compilation. A file that images start from goes by its base name and by the digest of
    its images. What is not asked for is left out of the identity.
    """

    method: str
    revision: int
    settings: dict[str, Any]
    recipe: str | None
    options: dict[str, Any]
    iterations: int | None
    minutes: float | None
    ipc: int | None = None  # one of this and the next two; of graphs perhaps none
    fraction: float | None = None
    bytes: int | None = None
    balanced: bool = True
    seed: int
    plan: dict[str, Any] = {}  # noqa: RUF012  (pydantic copies defaults)
    experts: dict[str, Any] | None = None  # how those are recorded that the method matches
    teachers: tuple[TeacherDescription, ...] = ()  # those that it asks
    initial_images: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked_for(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        optional = ("plan", "experts", "teachers", "initial_images", "ipc", "fraction", "bytes")
        usual = {name for name in optional if not fields[name]} | ({"balanced"} if self.balanced else set())
        return {name: value for name, value in fields.items() if name not in usual}

    @property
    def is_baseline(self) -> bool:
        """Whether it is a training-time baseline, for which no set is made."""
        return is_baseline(self.method)

    @property
    def size(self) -> Budget:
        """How large it is: of images their number; of graphs perhaps its bytes, or what the method finds."""
        if self.ipc is None and self.fraction is None:
            return GraphBudget(ipc=None, fraction=None, bytes=self.bytes, balanced=True)
        return Budget(ipc=self.ipc, fraction=self.fraction, balanced=self.balanced)

    @property
    def parts(self) -> tuple[str, ...]:
        """What the grid says about the method beside its name and its budget; empty for the published settings.

        Later revisions of a method say so: what an earlier one made is never in the same row.
        """
        said = [f"revision {self.revision}"] if self.revision > 1 else []
        said += [] if self.balanced else ["of any class"]
        said += [f"recipe {self.recipe}"] if self.recipe else []
        said += [f"{name} {_in_words(value)}" for name, value in self.options.items()]
        said += [f"{name} {value}" for name, value in self.plan.items()]
        if self.experts is not None:
            said.append("{experts} {optimizer} experts of {epochs} epochs".format(**self.experts))
            said += [f"{name} {value}" for name, value in self.experts.get("options", {}).items()]
        if self.teachers:
            said.append(f"teacher {in_words(self.teachers)}")
        return tuple(said)

    @property
    def budget(self) -> tuple[str, ...]:
        """The iterations and minutes that the grid gives; empty if it gives none."""
        said = [f"{self.iterations} iterations"] if self.iterations is not None else []
        said += [f"{self.minutes:g} minutes"] if self.minutes is not None else []
        return tuple(said)

    @property
    def details(self) -> str:
        """Parts and budget in words."""
        return ", ".join(self.parts + self.budget)

    @property
    def label(self) -> str:
        """The method with its details: what tells it from every other entry of its grid."""
        return f"{self.method} ({self.details})" if self.details else self.method


class ColumnDescription(Closed):
    """One protocol and one network; `net` as the grid names it, `network` in full."""

    protocol: str
    protocol_hash: str
    net: str
    network: str
    beside: str | None = None  # of the full data: the protocol of the rows that it is a reference for
    labels: LabelDescription | None = None  # that sets are given first; None: those that they have
    updates: int | None = None  # other than the protocol's

    @model_serializer(mode="wrap")
    def _without_what_is_usual(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if name not in ("labels", "updates") or value is not None}

    @property
    def rule(self) -> Protocol | GraphProtocol:
        """The protocol of the rows, for so many updates."""
        if self.protocol in GRAPH_PROTOCOLS.names():
            return GRAPH_PROTOCOLS.find(self.protocol)
        protocol = PROTOCOLS.find(self.beside or self.protocol)
        return protocol if self.updates is None else protocol.lasting(self.updates)

    @property
    def label_words(self) -> str:
        """The labels that sets are given, for people; empty where they keep theirs."""
        if self.labels is None:
            return ""
        by = f" of {in_words(self.labels.teachers)}" if self.labels.teachers else ""
        return f"{self.labels.words}{by}"


class Cell(Closed):
    """Everything that decides one score; `made` is None for the full data.

    `network_seeds` is a number of networks of seed 0, or a seed for each network.
    """

    data: DataDescription
    made: SetDescription | None
    column: ColumnDescription
    network_seeds: int | tuple[int, ...]

    @property
    def has_set(self) -> bool:
        """Whether a set is made for it, and not all of the data or a training-time baseline trained on."""
        return self.made is not None and not self.made.is_baseline

    @property
    def key(self) -> str:
        """The digest of the cell's whole configuration."""
        return _digest(_identity(self.model_dump(mode="json")))

    @property
    def file_name(self) -> str:
        """The name of the cell's record: readable, and different for different cells."""
        return f"{_slug(self._what, self.column.beside or self.column.protocol, self.column.net)}-{self.key[:12]}.json"

    @property
    def set_name(self) -> str:
        """The name of the file of the set: the same for all cells that score this set."""
        identity = self.model_dump(mode="json", include={"data", "made"})
        return f"{_slug(self._what)}-{_digest(_identity(identity))[:12]}.h5"

    @property
    def labelled_name(self) -> str:
        """The name of the file of the set with the labels of the column."""
        identity = self.model_dump(mode="json", include={"data", "made"})
        assert self.column.labels is not None, "other sets keep their labels"
        labels = _digest([_identity(identity), self.column.labels.model_dump(mode="json")])[:12]
        return f"{self.set_name.removesuffix('.h5')}-labels-{labels}.h5"

    @property
    def title(self) -> str:
        """What progress bars and lists of failures call the cell."""
        protocol = self.column.rule.name
        if self.made is None:
            words = f"{self.column.protocol} {self.column.net} beside {protocol}"
            return f"{self.data.label}, full data, {words}"
        column = " ".join(filter(None, [protocol, self.column.net, self.column.label_words]))
        return f"{self.data.label}, {self.made.size}, {self.made.label}, seed {self.made.seed}, {column}"

    @property
    def _what(self) -> str:
        if self.made is None:
            return f"{self.data.name} {FULL}"
        size = "".join(f"{name}{value:g}" for name, value in self.made.size.recorded.items() if name != "balanced")
        size = size.replace("fraction", "fraction ")
        return f"{self.data.name} {size} {self.made.method} seed{self.made.seed}"


def _identity(configuration: dict[str, Any]) -> dict[str, Any]:
    """The configuration without settings that are off, so that a new one that is off by default changes no identity."""
    made = configuration["made"]
    if made is None:
        return configuration
    on = {name: value for name, value in made["settings"].items() if value is not False and value is not None}
    return configuration | {"made": made | {"settings": on}}


def _digest(configuration: Any) -> str:
    canonical = json.dumps(configuration, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _slug(*words: str) -> str:
    """A file name of lower-case letters, digits and dashes.

    >>> _slug("digits ipc10 dm seed0", "demo")
    'digits-ipc10-dm-seed0-demo'
    """
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


class CellJob(Closed):
    """A cell with what it takes to compute it: the grid's data entry, which says where the data lies, the recipe, the
    path of the set that images start from, if they start from one, the grid's teachers, and the path of an encoder."""

    cell: Cell
    source: DataEntry
    recipe: str | None = None
    initial_set: str | None = None
    teachers: dict[str, TeacherEntry] = {}  # noqa: RUF012  (pydantic copies defaults)
    encoder: str | None = None
