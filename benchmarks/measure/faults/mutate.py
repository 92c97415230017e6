"""Damage and malice: functions of (file, draws) that change a file in place and say how."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutation = Callable[[Path, random.Random], str]
CANARY = b"nobody may read these bytes " * 64
_ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    1e308,
    float("nan"),
    "",
    "x" * 10_000,
    "\x1b[31mred\x07",
    [],
    {},
    [[]],
    {"a": {}},
)


def damage_bytes(path: Path, draws: random.Random) -> str:
    """One of the things that disks, cables and editors do to bytes."""
    content = bytearray(path.read_bytes())
    length = len(content)
    start, span = draws.randrange(length), draws.choice((1, 2, 8, 64, 512))
    what = draws.choice(("flip", "byte", "cut", "grow", "zeros", "ones", "remove", "repeat", "number", "swap"))
    if what == "flip":
        content[start] ^= 1 << draws.randrange(8)
    elif what == "byte":
        content[start] = draws.randrange(256)
    elif what == "cut":
        del content[start:]
    elif what == "grow":
        content += draws.randbytes(span)
    elif what in ("zeros", "ones"):
        end = min(length, start + span)
        content[start:end] = (b"\0" if what == "zeros" else b"\xff") * (end - start)
    elif what == "remove":
        del content[start : start + span]
    elif what == "repeat":
        content[start:start] = content[start : start + span]
    elif what == "number":  # sizes and offsets are such
        number = draws.choice((0, 1, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**64 - 1))
        content[start : start + 8] = struct.pack(draws.choice("<>") + "Q", number)
    else:
        other = draws.randrange(length)
        content[start], content[other] = content[other], content[start]
    path.write_bytes(content)
    return f"bytes: {what} at {start} of {length}"


def damage_hdf5(path: Path, draws: random.Random) -> str:
    """What a hand that knows HDF5 can do to a file."""
    try:
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            name = draws.choice(sorted(names))
            what = draws.choice(sorted(_HDF5))
            _HDF5[what](file, name, path, draws)
    except Exception as error:  # HDF5 refuses some of it: then the file is as far as it got
        return f"hdf5: half done ({type(error).__name__})"
    return f"hdf5: {what} of {name}"


def _soft_link(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    del file[name]
    file[name] = h5py.SoftLink(draws.choice([f"/{name}", "/", "/labels", "/nothing"]))


def _external_link(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(draws.choice([str(canary(path)), path.name, "/dev/zero", "nothing.h5"]), f"/{name}")


def _external_storage(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    shape, dtype = _shape_of(file, name)
    del file[name]
    source = draws.choice([str(canary(path)), "/dev/zero", "/proc/self/environ"])
    size = int(np.prod(shape)) * dtype.itemsize
    file.create_dataset(name, shape, dtype, external=[(source, 0, max(1, size))])


def _virtual(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    shape, dtype = _shape_of(file, name)
    del file[name]
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(draws.choice([".", path.name, str(canary(path))]), name, shape)
    file.create_virtual_dataset(name, layout)


def _huge(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    shape, dtype = _shape_of(file, name)
    del file[name]
    first = draws.choice((2**28, 2**31, 2**40))
    file.create_dataset(
        name, (first, *shape[1:]), dtype, chunks=(1, *shape[1:]), compression=draws.choice(("gzip", None))
    )


def _other_type(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    shape, _ = _shape_of(file, name)
    del file[name]
    dtype: Any = draws.choice(("f8", "c16", "S3", "V7", "i1", "u8", "f2", h5py.string_dtype(), h5py.ref_dtype))
    file.create_dataset(name, draws.choice((shape, (), (0,), (*shape, 2))), dtype)


def _other_attribute(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    owner = draws.choice([file, file[name]])
    names = sorted(owner.attrs) or ["format"]
    value = draws.choice([-1, 2**62, float("nan"), "", "\x1b[31m", "x" * 60_000, np.zeros((3, 3)), h5py.Empty("f4")])
    owner.attrs[draws.choice(names)] = value


def _no_attribute(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    owner = draws.choice([file, file[name]])
    if owner.attrs:
        del owner.attrs[draws.choice(sorted(owner.attrs))]


def _gone(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    del file[name]


def _group_instead(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    del file[name]
    file.create_group(name)


def _circle(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    file.require_group("circle")["again"] = file["/"]


def _many(file: h5py.File, name: str, path: Path, draws: random.Random) -> None:
    for number in range(3000):
        file.create_group(f"more/{number}")


_HDF5: dict[str, Callable[[h5py.File, str, Path, random.Random], None]] = {
    "a soft link instead": _soft_link,
    "an external link instead": _external_link,
    "external storage": _external_storage,
    "a virtual data set": _virtual,
    "a huge shape": _huge,
    "another type": _other_type,
    "another attribute": _other_attribute,
    "an attribute less": _no_attribute,
    "removal": _gone,
    "a group instead": _group_instead,
    "a circle of groups beside": _circle,
    "thousands of groups beside": _many,
}


def _shape_of(file: h5py.File, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    item = file[name]
    return (item.shape, item.dtype) if isinstance(item, h5py.Dataset) else ((4,), np.dtype("f4"))


def canary(path: Path) -> Path:
    """A file beside `path` that no reader has any business with."""
    place = path.with_name("canary.bin")
    if not place.exists():
        place.write_bytes(CANARY)
    return place


def damage_json(path: Path, draws: random.Random) -> str:
    """Another value, a key less or more, or far too much, somewhere in a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    what = draws.choice(("value", "value", "value", "missing", "more", "deep", "large"))
    if what == "deep":
        path.write_text("[" * 200_000 + "]" * 200_000, encoding="utf-8")
    elif what == "large":
        path.write_text(json.dumps(content | {"more": ["x" * 100] * 200_000}), encoding="utf-8")
    else:
        content = _changed(content, what, draws)
        path.write_text(json.dumps(content), encoding="utf-8")
    return f"json: {what}"


def _changed(content: Any, what: str, draws: random.Random) -> Any:
    """`content` with one change, at a random depth."""
    if not isinstance(content, dict | list) or not content or draws.random() < 0.2:
        return draws.choice(_ODD_VALUES)
    if isinstance(content, list):
        place = draws.randrange(len(content))
        return [_changed(value, what, draws) if index == place else value for index, value in enumerate(content)]
    key = draws.choice(sorted(content))
    if isinstance(content[key], dict | list) and content[key] and draws.random() < 0.7:
        return content | {key: _changed(content[key], what, draws)}
    if what == "missing":
        return {name: value for name, value in content.items() if name != key}
    return content | {("unknown" if what == "more" else key): draws.choice(_ODD_VALUES)}


_YAML_PARTS = (
    "!!python/object/apply:os.system ['true']",
    "!!binary 'a'",
    "!!timestamp never",
    "!!set {a, b}",
    "!!int x",
    "!unknown {}",
    "[" * 5000 + "]" * 5000,
    "{a: " * 2000 + "1" + "}" * 2000,
    "{" + ", ".join(f"k{number}: 1" for number in range(20_000)) + "}",
    "[&a [x, x], &b [*a, *a, *a, *a, *a, *a, *a, *a], &c [*b, *b, *b, *b, *b, *b, *b, *b], [*c, *c, *c, *c, *c, *c]]",
    "&a [*a]",
    "9" * 5000,
    "1e99999",
    "0x" + "f" * 400,
    '"\\e[31m\\a"',
    "? [a, b]\n: c",
)


def damage_yaml(path: Path, draws: random.Random) -> str:
    """A part that YAML allows and nobody expects, in the place of some value or at the end."""
    text, part = path.read_text(encoding="utf-8"), draws.choice(_YAML_PARTS)
    places = [index for index, sign in enumerate(text) if sign == ":"]
    place = draws.choice([*places, len(text)])
    end = min((at for at in (text.find(sign, place) for sign in ",}\n") if at >= 0), default=len(text))
    path.write_text(text[: place + 1] + f" {part}" + text[end:], encoding="utf-8")
    return f"yaml: {part[:40]} at {place}"


def damage_safetensors(path: Path, draws: random.Random) -> str:
    """Another header before the same numbers."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    changed = json.dumps(_changed(header, draws.choice(("value", "missing", "more")), draws)).encode()
    path.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + size :])
    return "safetensors: another header"


_BY_KIND: dict[str, Mutation] = {
    "hdf5": damage_hdf5,
    "json": damage_json,
    "yaml": damage_yaml,
    "safetensors": damage_safetensors,
}


def mutate(path: Path, kind: str, draws: random.Random) -> str:
    """Change the file at random, half of the times with knowledge of its format; what was done."""
    if kind in _BY_KIND and draws.random() < 0.5:
        return _BY_KIND[kind](path, draws)
    return damage_bytes(path, draws)
