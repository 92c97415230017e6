"""The oldest releases that pyproject.toml allows, as constraints for pip: `python .ci/oldest.py > oldest.txt`."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
    name, bound = re.fullmatch(r"([\w.-]+)(?:>=([\w.]+))?", requirement).groups()
    if bound:
        print(f"{name}=={bound}")
