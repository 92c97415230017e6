"""How condensed graphs are evaluated: frozen rules with a hash, as those of images. No torch is imported here."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field

from condense.runtime.registry import Registry
from condense.runtime.validation import Closed


class GraphProtocol(Closed):
    """How a set of graphs is evaluated: networks and their training by Adam, read after the last epoch.

    The learning rate falls to a tenth at half of the epochs. Networks for graphs have as many layers as the trees of a
    set have hops, else `layers`; no protocol has BatchNorm.
    """

    name: str
    of: Literal["graphs", "nodes"]
    nets: tuple[str, ...] = Field(description="networks that are trained unless the user says which")
    layers: int = Field(ge=1)
    width: int = Field(ge=1, description="of hidden layers; gat for nodes has eight heads of eight")
    epochs: int = Field(ge=1)
    batch_size: int | None = Field(default=None, ge=1, description="graphs in a batch; none: all nodes at once")
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    runs: int = Field(default=5, ge=1, description="networks trained of each kind unless the user says how many")
    summary: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """12 hex digits of the digest of everything that changes what an accuracy means.

        >>> PROTOCOLS.find("graph-desk").hash == PROTOCOLS.find("node-desk").hash
        False
        """
        covered = self.model_dump(mode="json", exclude={"name", "nets", "runs", "summary", "aliases"})
        text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


PROTOCOLS: Registry[GraphProtocol] = Registry(
    "graph protocol",
    (
        GraphProtocol(
            name="graph-desk",
            of="graphs",
            nets=("gcn", "gin", "gat", "sage"),
            layers=3,
            width=64,
            epochs=200,
            batch_size=128,
            lr=1e-3,
            weight_decay=5e-4,
            summary="200 epochs of Adam in batches of 128, mean readout; as many layers as trees of a set have hops",
        ),
        GraphProtocol(
            name="node-desk",
            of="nodes",
            nets=("gcn", "sgc"),
            layers=2,
            width=256,
            epochs=600,
            lr=0.01,
            weight_decay=5e-4,
            dropout=0.5,
            summary="600 steps of Adam on all nodes at once; gcn and sgc first, others show how a graph transfers",
        ),
    ),
)
