"""A package of someone else adds a method and a network through entry points, without a change here."""

import os
import subprocess
import sys
from pathlib import Path

from condense.runtime.provenance import versions

METHOD = """
from condense.methods.method import Method

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


class Shrink(Synthesizer[Settings]):
    """Minimise the size of the images."""

    def step(self, iteration):
        loss = self.settings.strength * self.images.square().mean()
        self.update(loss)
        return {"loss": loss.item()}
'''


NETWORK = """
from condense.networks import NetworkEntry

TINY = NetworkEntry(name="tiny", target="shrinking.network:Tiny", summary="one block and a learned gain")
"""

NETWORK_CODE = '''
import torch
from condense.networks import Network
from torch import nn


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(1))

    def initialize(self, source):
        nn.init.uniform_(self.gain, 0.5, 1.5, generator=source)

    def forward(self, images):
        return self.gain * images


class Tiny(Network):
    """A convolution, a gain and pooling."""

    def __init__(self, image_shape, classes):
        layers = nn.Sequential(nn.Conv2d(image_shape[0], 4, 3, padding=1), nn.ReLU(), Gain(), nn.AvgPool2d(2))
        super().__init__(layers, image_shape, classes)
'''


OTHERS = """
from condense.networks import NetworkEntry

NETWORKS = [
    NetworkEntry(name=name, target=f"others:{name.capitalize()}", summary=name)
    for name in ("prelu", "drop", "tokens", "plain")
]
PRELU, DROP, TOKENS, PLAIN = NETWORKS
"""

OTHERS_CODE = """
import torch
from condense.networks import Network
from torch import nn


def convolution(image_shape, *layers):
    return nn.Sequential(nn.Conv2d(image_shape[0], 8, 3, padding=1), *layers, nn.AvgPool2d(4))


class Prelu(Network):
    def __init__(self, image_shape, classes):
        super().__init__(convolution(image_shape, nn.PReLU()), image_shape, classes)


class Drop(Network):
    def __init__(self, image_shape, classes):
        super().__init__(convolution(image_shape, nn.ReLU(inplace=True), nn.Dropout(0.5)), image_shape, classes)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.patches, self.token = nn.Conv2d(channels, 16, 4, 4), nn.Parameter(torch.zeros(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.block(torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1))[:, 0]


class Tokens(Network):
    def __init__(self, image_shape, classes):
        super().__init__(Block(image_shape[0]), image_shape, classes)


class Plain(nn.Module):
    def __init__(self, image_shape, classes):
        super().__init__()
        pixels = image_shape[1] * image_shape[2]
        layers = nn.Conv2d(image_shape[0], 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * pixels, classes)
        self.net = nn.Sequential(*layers)

    def forward(self, images):
        return self.net(images)
"""


def install_networks(folder: Path) -> dict[str, str]:
    """A package of networks of layers that condense does not know, and of ordinary modules."""
    metadata = folder / "others-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "others.py").write_text(OTHERS_CODE)
    (folder / "others_entries.py").write_text(OTHERS)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    points = "".join(f"{name} = others_entries:{name.upper()}\n" for name in ("prelu", "drop", "tokens", "plain"))
    (metadata / "entry_points.txt").write_text(f"[condense.networks]\n{points}")
    return {**os.environ, "PYTHONPATH": str(folder)}


def install(folder: Path, entry: str = "shrinking:SHRINK") -> dict[str, str]:
    """Lay the package out as pip would install it, and give the environment that finds it."""
    (folder / "shrinking").mkdir(parents=True)
    (folder / "shrinking" / "__init__.py").write_text(METHOD)
    (folder / "shrinking" / "method.py").write_text(CODE)
    (folder / "shrinking" / "networks.py").write_text(NETWORK)
    (folder / "shrinking" / "network.py").write_text(NETWORK_CODE)
    metadata = folder / "shrinking-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shrinking\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[condense.synthesizers]\nshrink = {entry}\n[condense.networks]\ntiny = shrinking.networks:TINY\n"
    )
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


def test_an_installed_package_adds_a_network(tmp_path: Path):
    """Sets are made with it and scored by it, and the built-in ones are still there."""
    environment = install(tmp_path / "site")
    assert "one block and a learned gain" in condense(environment, "networks").stdout
    out = tmp_path / "set.h5"
    words = ["--data", "digits", "--ipc", "1", "--iterations", "2", "--real-batch", "8", "--network", "tiny"]
    made = condense(environment, "distill", "dm", *words, "--out", str(out))
    assert made.returncode == 0, made.stderr
    scored = condense(environment, "evaluate", str(out), "--nets", "tiny,mlp", "--protocol", "demo", "--runs", "1")
    assert [line.split(":")[0] for line in scored.stdout.splitlines()] == ["tiny", "mlp"], scored.stderr


USE = """
import condense

data = condense.load_data("digits")
made = condense.distill("random", data, 1)
for _ in range(2):
    result = condense.evaluate(made, data, nets=["prelu", "drop", "tokens", "plain"], runs=1, protocol="demo")
    print(*(f"{each.network} {each.mean:.6f}" for each in result.results))
for method, network in (("dm", "plain"), ("dc", "tokens"), ("dc", "drop"), ("dsa", "prelu")):
    made = condense.distill(method, data, 1, network=network, iterations=1, real_batch=4)
    print(method, network, bool(made.images.isfinite().all()))
"""


def test_networks_of_any_layers_and_ordinary_modules_are_used(tmp_path: Path):
    """In one process, as each takes a while to start: scores of one seed are equal, dropout or not."""
    environment = install_networks(tmp_path / "site")
    ran = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, check=False)
    first, again, *made = ran.stdout.splitlines() or [ran.stderr, ""]
    assert first.split()[::2] == ["prelu", "drop", "tokens", "plain"], ran.stderr
    assert first == again
    assert made == ["dm plain True", "dc tokens True", "dc drop True", "dsa prelu True"], ran.stderr


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
