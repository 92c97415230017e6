"""One HTML file with everything in it: templates, style, script and plotly; counted, and made to fit."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from benchmarks.page.galleries import Gallery
from condense.runtime.files import write_text
from condense.runtime.printing import printable
from condense.runtime.progress import say

LIMIT = 20_000_000  # bytes of a page
_FOLDER = Path(__file__).parent


def write_html(
    path: Path,
    template: str,
    values: Mapping[str, Any],
    script: Mapping[str, Any],
    galleries: Sequence[Gallery],
    limit: int | None = None,
) -> None:
    """Write a page made of a template, its values, what its script draws, and galleries.

    The largest galleries are left out until the page has at most `limit` bytes: the page says which, and so do lines on
    standard error. Raises `CondenseError` where the page cannot be written.
    """
    kept, left_out = list(galleries), list[Gallery]()
    limit = LIMIT if limit is None else limit
    while len(page := rendered(template, values, script, kept, left_out).encode()) > limit and kept:
        excess = len(page) - limit
        for gallery in sorted(kept, key=lambda each: -each.size):
            if excess <= 0:
                break
            kept.remove(gallery)
            left_out.append(gallery)
            excess -= gallery.size
    for gallery in left_out:
        say(f"{path} would have more than {_size(limit)}: without the pictures of {gallery.title} ({gallery.group})")
    if len(page) > limit:
        say(f"{path} has {_size(len(page))}: there are too many records for one page")
    write_text(path, page.decode())


def _size(count: int) -> str:
    return f"{count / 1e6:g} MB"


def rendered(
    template: str,
    values: Mapping[str, Any],
    script: Mapping[str, Any],
    galleries: Sequence[Gallery],
    left_out: Sequence[Gallery] = (),
) -> str:
    """The page as text. Its browser is told to run these scripts and no others, and to ask for nothing."""
    scripts = [get_plotlyjs(), _read("page.js")] if script.get("charts") else [_read("page.js")]
    content = dict(script) | {"galleries": [_for_script(gallery) for gallery in galleries]}
    page = _environment().get_template(template)
    return page.render(
        **values,
        galleries=galleries,
        left_out=left_out,
        content=content,
        style=Markup(_read("page.css")),
        scripts=[Markup(each) for each in scripts],
        policy=_policy(scripts),
    )


def _for_script(gallery: Gallery) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(gallery).items() if name not in ("sprite", "real")}
    sprites = {"sprite": gallery.sprite, "real": gallery.real}
    return fields | {
        name: sprite and {"url": sprite.url, "tile": sprite.tile, "columns": sprite.columns, "counts": sprite.counts}
        for name, sprite in sprites.items()
    }


def _policy(scripts: Sequence[str]) -> str:
    """What the page may do: nothing that a name in a record could ask for. Plotly compiles its shaders' code."""
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("benchmarks.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["verbatim"] = lambda text: Markup(escape(text))
    return environment


def _visible(value: Any) -> Any:
    """Names without letters that nobody sees, which could turn the direction of a line or be no text at all."""
    return printable(value) if type(value) is str else value
