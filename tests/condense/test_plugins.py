"""A package of someone else adds a method through an entry point, without a change here."""

import os
import subprocess
import sys
from pathlib import Path

from condense.runtime.provenance import versions

METHOD = """
from condense.synthesizers.registry import Method

SHRINK = Method(
    name="shrink",
    target="shrinking.method:Shrink",
    summary="pull images towards zero",
    paper="an example",
    aliases=("s",),
)
"""

CODE = '''
from pydantic import Field
from condense.synthesizers.base import Synthesizer, SynthesizerSettings


class Settings(SynthesizerSettings):
    strength: float = Field(1.0, gt=0, description="how hard to pull")


class Shrink(Synthesizer):
    """Minimise the size of the images."""

    Settings = Settings

    def step(self, iteration):
        loss = self.settings.strength * self.images.square().mean()
        self.update(loss)
        return {"loss": loss.item()}
'''


def install(folder: Path, entry: str = "shrinking:SHRINK") -> dict[str, str]:
    """Lay the package out as pip would install it, and give the environment that finds it."""
    (folder / "shrinking").mkdir(parents=True)
    (folder / "shrinking" / "__init__.py").write_text(METHOD)
    (folder / "shrinking" / "method.py").write_text(CODE)
    metadata = folder / "shrinking-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shrinking\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[condense.synthesizers]\nshrink = {entry}\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def condense(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "condense", *words], env=environment, capture_output=True, text=True, check=False
    )


def test_an_installed_package_adds_a_method(tmp_path: Path):
    environment = install(tmp_path / "site")
    assert "pull images towards zero" in condense(environment, "methods").stdout
    helped = condense(environment, "distill", "shrink", "--help").stdout
    assert "--strength" in helped
    assert "--image-lr" in helped
    out = tmp_path / "set.h5"
    words = ["--data", "digits", "--ipc", "1", "--iterations", "3", "--strength", "5", "--out", str(out)]
    made = condense(environment, "distill", "s", *words)
    assert made.returncode == 0, made.stderr
    shown = condense(environment, "show", str(out)).stdout
    assert "shrink" in shown
    assert versions()["condense"] in shown


def test_an_entry_point_that_is_no_method_or_takes_a_name_is_refused(tmp_path: Path):
    wrong = condense(install(tmp_path / "wrong", "shrinking.method:Shrink"), "methods")
    assert wrong.returncode == 2
    assert "must be a condense Method" in wrong.stderr
    environment = install(tmp_path / "taken")
    package = tmp_path / "taken" / "shrinking" / "__init__.py"
    package.write_text(METHOD.replace('"shrink"', '"dm"', 1))
    taken = condense(environment, "methods")
    assert taken.returncode == 2
    assert "takes the name of another method" in taken.stderr
