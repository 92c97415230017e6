"""Evaluation protocols: frozen rules with a hash. Accuracies are comparable within one hash and network only.

This module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field

from condense.runtime.registry import Registry
from condense.runtime.validation import Closed
from condense.training_rule import TrainingRule


class StaticLabels(Closed):
    """One stored soft label for each image: its own, else the averaged logits of networks trained on the real data."""

    networks: int = Field(ge=1, description="networks whose logits are averaged, each of the protocol's kind")
    training: TrainingRule = Field(description="how they are trained, on all real training images")


class Protocol(Closed):
    """How a set is evaluated: the network, its training, the labels.

    `network` says what a network's name leaves open (never the depth: that follows the image size). Hard labels are the
    class index of an image, never the argmax of its soft label. Accuracy is read after the last epoch.
    """

    name: str
    network: str
    rule: TrainingRule
    labels: Literal["hard"] | StaticLabels = "hard"
    learned_lr: bool = Field(
        default=False, description="train at the learning rate that was learned with a set, if there is one"
    )
    networks: int = Field(ge=1, description="networks trained unless the user says how many")
    summary: str = ""
    reference: bool = Field(default=False, description="a line for all real training images, never a row for sets")
    aliases: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """12 hex digits of the digest of network rule, training rule and labels.

        It depends neither on the name nor on the number of networks, nor on what a data set makes of the rule (depth,
        flips). Fields at their default are left out: see `TrainingRule`.
        """
        covered = self.model_dump(
            mode="json", include={"network", "rule", "labels", "learned_lr"}, exclude_defaults=True
        )
        text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


_DC = TrainingRule(
    lr=0.01,
    weight_decay=5e-4,
    batch_size=256,
    epochs=300,
    extra_epoch=True,
    schedule="drop",
    restart_optimizer=True,
)
_DSA = _DC.model_copy(update={"epochs": 1000, "augmentation": "dsa"})
_MTT = _DSA.model_copy(update={"align_corners": True})
_DESK = _DSA.model_copy(update={"epochs": 300})
_FULL = TrainingRule(lr=0.05, weight_decay=5e-4, batch_size=128, epochs=20, schedule="cosine", augmentation="dsa")


_STATIC = StaticLabels(networks=3, training=_FULL.model_copy(update={"epochs": 5}))


def full(beside: str | Protocol) -> Protocol:
    """The protocol of the reference line, which trains on all real images, beside the protocol of a column.

    Raises `CondenseError` for an unknown name.

    >>> full("dsa").network
    'convnet-w128-in'
    """
    column = PROTOCOLS.find(beside) if isinstance(beside, str) else beside
    return _full(column.network)


def _full(network: str) -> Protocol:
    return Protocol(
        name="full",
        network=network,
        rule=_FULL,
        networks=1,
        reference=True,
        summary="reference line on all real training images, with the network of the column beside it",
    )


_DESK_PROTOCOL = Protocol(
    name="desk",
    network="convnet-w64-in",
    rule=_DESK,
    networks=3,
    summary="as dsa in 300 epochs, half as wide: minutes on a laptop",
)

PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    (
        Protocol(
            name="demo",
            network="convnet-w32-in",
            rule=_DSA.model_copy(update={"epochs": 100}),
            networks=3,
            summary="as desk in 100 epochs, a quarter as wide as dsa: seconds",
        ),
        _DESK_PROTOCOL,
        Protocol(
            name="desk-static",
            network="convnet-w64-in",
            rule=_DESK,
            labels=_STATIC,
            networks=3,
            summary="as desk with one stored soft label an image, else the averaged logits of 3 trained networks",
        ),
        Protocol(
            name="dc",
            network="convnet-w128-in",
            rule=_DC,
            networks=5,
            summary="gradient matching's own: 300 epochs of SGD without augmentation",
        ),
        Protocol(
            name="dsa",
            network="convnet-w128-in",
            rule=_DSA,
            networks=5,
            summary="what most published tables use: 1,000 epochs of SGD with DSA",
        ),
        Protocol(
            name="mtt",
            network="convnet-w128-in",
            rule=_MTT,
            learned_lr=True,
            networks=5,
            summary="trajectory matching's own: as dsa, at the learning rate that was learned with the set",
        ),
        Protocol(
            name="mtt-soft",
            network="convnet-w128-in",
            rule=_MTT,
            labels=_STATIC,
            learned_lr=True,
            networks=5,
            summary="as mtt, with stored soft labels as desk-static has them: for TESLA's assigned labels",
        ),
        Protocol(
            name="datm-soft",
            network="convnet-w128-in",
            rule=_MTT.model_copy(update={"batch_size": 128}),
            labels=_STATIC,
            learned_lr=True,
            networks=5,
            summary="as mtt in batches of 128, with stored soft labels as desk-static has them",
        ),
        _full("convnet-w64-in"),
    ),
)
