"""Evaluation protocols: frozen rules with a hash. Accuracies are comparable within one hash and network only.

This module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field

from condense.runtime.errors import CondenseError
from condense.runtime.registry import Registry
from condense.runtime.validation import Closed
from condense.training.rule import TrainingRule


class StaticLabels(Closed):
    """One stored soft label for each image: its own, else the averaged logits of networks trained on the real data."""

    networks: int = Field(ge=1, description="networks whose logits are averaged, each of the protocol's kind")
    training: TrainingRule = Field(description="how they are trained, on all real training images")
    corrected: bool = Field(
        default=False, description="logits that are largest for another class become 1 for the image's class and 0 else"
    )
    hard_epochs: int = Field(default=0, ge=0, description="last epochs, which train on class indices instead")


class TeacherLabels(Closed):
    """Soft labels, one for each image or one for each view: a set's own, else those of the teacher that is given.

    A set's own labels are trained on as they are: with the views, mixing, temperature and loss that they were made for,
    which results tell. What else stands here is for the labels of a teacher that is given; they are KL labels, and
    those of views are asked for in training, of the views and the mixing of the protocol's rule.
    """

    per: Literal["image", "view"]
    temperature: float = Field(default=20.0, gt=0, description="of both softmaxes")
    batch_norm: Literal["running", "batch"] = Field(
        default="running", description="per view: whose statistics the teacher's BatchNorm takes"
    )
    bn_groups: int = Field(
        default=1, ge=1, le=2, description="per view: parts of a batch that the teacher is asked about"
    )


class Protocol(Closed):
    """How a set is evaluated: the network, its training, the labels.

    `network` says what a network's name leaves open (never the depth: that follows the image size). Hard labels are the
    class index of an image, never the argmax of its soft label; regression labels are those that were learned with a
    set, else class indices as centred one-hot vectors, and are predicted by their squared error. Accuracy is read after
    the last update.
    """

    name: str
    network: str
    rule: TrainingRule
    labels: Literal["hard", "regression"] | StaticLabels | TeacherLabels = "hard"
    weighted: bool = Field(
        default=False, description="images count by the weights that a set has; otherwise they all count alike"
    )
    learned_lr: bool = Field(
        default=False, description="train at the learning rate that was learned with a set, if there is one"
    )
    mirrored: bool = Field(
        default=False, description="train on mirror images too, where the set was learned with them beside its images"
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
            mode="json",
            include={"network", "rule", "labels", "weighted", "learned_lr", "mirrored"},
            exclude_defaults=True,
        )
        text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def lasting(self, updates: int) -> Protocol:
        """The same with so many updates.

        Raises `CondenseError` where epochs are counted, and for fewer updates than the warm-up and one more.
        """
        if self.rule.updates is None:
            counting = ", ".join(entry.name for entry in PROTOCOLS if entry.rule.updates is not None)
            raise CondenseError(f"protocol {self.name} counts epochs, not updates; those that do: {counting}")
        if updates <= self.rule.warmup:
            raise CondenseError(
                f"{updates} updates are too few: protocol {self.name} needs {self.rule.warmup + 1} or more"
            )
        rule = self.rule.model_copy(update={"updates": updates, "more_updates": None})
        name = self.name if rule == self.rule else f"{self.name}, {updates:,} updates"
        return self.model_copy(update={"name": name, "rule": rule})


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
_IDC = TrainingRule(
    lr=0.01,
    weight_decay=5e-4,
    batch_size=64,
    epochs=1000,
    schedule="two-drops",
    augmentation="dsa-flip-color-first",
    cutmix=0.5,
)
_NCFM = TrainingRule(
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.01,
    batch_size=128,
    epochs=2000,
    schedule="fifths",
    augmentation="dsa-flip-color-first",
    cutmix=0.5,
)
# FRePo's evaluation (Zhou, Nezhadarya & Ba, NeurIPS 2022, released code) in fewer updates and smaller batches, with the
# augmentation of all desk protocols in the place of its own, and batches in random order.
_REGRESSION = TrainingRule(
    optimizer="adam",
    lr=3e-4,
    batch_size=100,
    updates=1000,
    more_updates=(50, 2000),
    warmup=500,
    schedule="cosine",
    last_rate=0.01,
    augmentation="dsa",
)
_FREPO = TrainingRule(
    optimizer="adam",
    lr=3e-4,
    batch_size=500,
    updates=1000,
    more_updates=(10, 2000, 100, 20_000, 200, 5000, 500, 10_000, 1000, 40_000),
    warmup=500,
    schedule="cosine",
    last_rate=0.01,
    shuffled=False,
    augmentation="mild",
)
# That of RCIG (Loo et al., ICML 2023, released code): of the two that it runs the one without augmentation, and only as
# long as its rate falls. It counts images without mirror images: 1,000 updates for 10, and batches of all up to 256.
_RCIG = _FREPO.model_copy(
    update={"lr": 1e-4, "batch_size": 256, "more_updates": (20, 2000), "shuffled": True, "augmentation": None}
)
_FRACTION = TrainingRule(lr=0.05, weight_decay=5e-4, batch_size=128, updates=800, schedule="cosine", augmentation="dsa")
_FULL = TrainingRule(lr=0.05, weight_decay=5e-4, batch_size=128, epochs=20, schedule="cosine", augmentation="dsa")


# one rule for hard, static and view labels, so that a row of three columns tells what labels are worth
_DESK_SOFT = TrainingRule(
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.01,
    batch_size=50,
    epochs=300,
    schedule="cosine",
    augmentation="crop-flip",
)

# The students of SRe2L (Yin et al., NeurIPS 2023) on CIFAR, of RDED (Sun et al., CVPR 2024) at 10 images of each of 10
# classes, and of the Rethinking benchmark on ImageNet: by their released code, but read after the last epoch. That of
# SRe2L decays all parameters, the others neither norms nor biases.
_SRE2L = TrainingRule(
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.01,
    batch_size=128,
    epochs=400,
    schedule="cosine",
    augmentation="crop-flip",
    mixup=0.8,
)
_RETHINK = TrainingRule(
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.01,
    decayed="weights",
    batch_size=128,
    epochs=300,
    schedule="cosine",
    augmentation="resized-crop-flip",
)
_RDED = _RETHINK.model_copy(
    update={"batch_size": 50, "stretch": 2.0, "augmentation": "mosaic-crop-flip", "cutmix": 1.0}
)

_STATIC = StaticLabels(networks=3, training=_FULL.model_copy(update={"epochs": 5}))
_NCFM_TEACHER = StaticLabels(
    networks=1,
    training=_IDC.model_copy(update={"batch_size": 128, "epochs": 60, "augmentation": "color-crop"}),
    corrected=True,
    hard_epochs=101,  # of 2,000: the released code has soft labels while epoch < 2000 - 100, counted from 1
)


def full(beside: str | Protocol) -> Protocol:
    """The protocol of the reference line, which trains on all real images, beside the protocol of a column.

    It is the column's own where that counts updates of class indices, which are as many for all data as for a part of
    it. Raises `CondenseError` for an unknown name.

    >>> full("dsa").network, full("fraction").hash == PROTOCOLS.find("fraction").hash
    ('convnet-w128-in', True)
    """
    column = PROTOCOLS.find(beside) if isinstance(beside, str) else beside
    if column.rule.updates is not None and column.labels == "hard":
        return column.model_copy(update={"networks": 1, "reference": True, "weighted": False})
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


def _desk_soft(name: str, labels: Literal["hard"] | TeacherLabels, summary: str, *, batch_size: int = 50) -> Protocol:
    """A column of the desk for what a teacher's labels are worth: three networks with BatchNorm."""
    rule = _DESK_SOFT.model_copy(update={"batch_size": batch_size})
    return Protocol(name=name, network="convnet-w64-bn", rule=rule, labels=labels, networks=3, summary=summary)


def _decoupled(name: str, rule: TrainingRule, labels: Literal["hard"] | TeacherLabels, summary: str) -> Protocol:
    """A protocol of papers that recover or choose images with a teacher: three networks with BatchNorm."""
    return Protocol(name=name, network="resnet18-bn", rule=rule, labels=labels, networks=3, summary=summary)


def _published(
    name: str,
    rule: TrainingRule,
    summary: str,
    *,
    network: str = "convnet-w128-in",
    labels: Literal["hard", "regression"] | StaticLabels = "hard",
    learned_lr: bool = False,
    mirrored: bool = False,
) -> Protocol:
    """A protocol of papers: five networks."""
    return Protocol(
        name=name,
        network=network,
        rule=rule,
        labels=labels,
        learned_lr=learned_lr,
        mirrored=mirrored,
        networks=5,
        summary=summary,
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
            name="desk-plain",
            network="convnet-w64-in",
            rule=_DESK.model_copy(update={"augmentation": None}),
            networks=3,
            summary="as desk without augmentation: beside it, what a set is worth without (augmentation-robust score)",
        ),
        Protocol(
            name="desk-static",
            network="convnet-w64-in",
            rule=_DESK,
            labels=_STATIC,
            networks=3,
            summary="as desk with one stored soft label an image, else the averaged logits of 3 trained networks",
        ),
        Protocol(
            name="desk-regression",
            network="convnet-w64-nonorm",
            rule=_REGRESSION,
            labels="regression",
            networks=3,
            summary="squared error of learned values, else of centred one-hot ones: 1,000 or 2,000 updates of Adam",
        ),
        Protocol(
            name="fraction",
            network="convnet-w64-in",
            rule=_FRACTION,
            networks=3,
            summary="800 updates of SGD in batches of 128 with DSA, whatever the size: for parts of the data",
        ),
        Protocol(
            name="fraction-weighted",
            network="convnet-w64-in",
            rule=_FRACTION,
            weighted=True,
            networks=3,
            summary="as fraction, but images count by the weights that they were chosen with",
        ),
        _desk_soft("desk-soft-hard", "hard", "300 epochs of AdamW in batches of 50, crops and flips, class indices"),
        _desk_soft(
            "desk-soft-static",
            TeacherLabels(per="image"),
            "as desk-soft-hard with one soft label an image, a teacher's where the set has none",
        ),
        _desk_soft(
            "desk-soft",
            TeacherLabels(per="view"),
            "as desk-soft-hard with a soft label for each view, a teacher's where the set has none",
        ),
        _desk_soft(
            "desk-soft-16",
            TeacherLabels(per="view", batch_norm="batch", bn_groups=2),
            "as desk-soft in batches of 16: for labels by the statistics of a batch",
            batch_size=16,
        ),
        _published("dc", _DC, "gradient matching's own: 300 epochs of SGD without augmentation"),
        _published(
            "dc-mnist",
            _DC.model_copy(update={"epochs": 1000, "augmentation": "dc-crop-scale-rotate"}),
            "as dc for MNIST: 1,000 epochs, each image cropped, scaled or rotated",
        ),
        _published(
            "dc-bn",
            _DC.model_copy(update={"epochs": 1000, "augmentation": "dc-crop-noise"}),
            "as dc for networks with BatchNorm: 1,000 epochs, each image cropped or with a little noise",
            network="convnet-w128-bn",
        ),
        _published("dsa", _DSA, "what most published tables use: 1,000 epochs of SGD with DSA"),
        _published(
            "fyi",
            _DSA.model_copy(update={"augmentation": "dsa-flip-first"}),
            "as dsa, with a flip before the operation of DSA: for sets made with a flip closure, and for their rivals",
        ),
        _published(
            "datadam",
            _DSA.model_copy(update={"batch_size": 64, "epochs": 1800}),
            "attention matching's own: as dsa, 1,800 epochs in batches of 64",
        ),
        _published(
            "idc",
            _IDC,
            "multi-formation's own: 1,000 epochs in batches of 64 with two drops, flip, color and one of crop, scale, "
            "rotation; CutMix on half of the batches",
        ),
        _published(
            "idc-mnist",
            _IDC.model_copy(update={"cutmix": 0.0}),
            "as idc without CutMix: for mosaics of MNIST",
        ),
        _published(
            "ncfm",
            _NCFM,
            "characteristic function matching's own: 2,000 epochs of AdamW, halved at each fifth, augmented as in idc",
        ),
        _published(
            "ncfm-soft",
            _NCFM,
            "as ncfm, with the logits of a network trained on the real data but in the last 101 epochs",
            labels=_NCFM_TEACHER,
        ),
        _published(
            "ncfm-tiny-10",
            _NCFM.model_copy(update={"epochs": 300}),
            "as ncfm in 300 epochs: for Tiny-ImageNet at 10 images per class",
        ),
        _published(
            "ncfm-tiny-50",
            _NCFM.model_copy(update={"epochs": 40}),
            "as ncfm in 40 epochs: for Tiny-ImageNet at 50 images per class",
        ),
        _published(
            "regression",
            _FREPO,
            "FRePo's own: squared error of learned values, else of centred one-hot ones, by Adam; no norm",
            network="conv-w128-nonorm",
            labels="regression",
        ),
        _published(
            "rcig",
            _RCIG,
            "RCIG's own without augmentation: as regression, 1,000 or 2,000 updates, with mirror images of the set",
            network="conv-w128-nonorm",
            labels="regression",
            mirrored=True,
        ),
        _published(
            "mtt",
            _MTT,
            "trajectory matching's own: as dsa, at the learning rate that was learned with the set",
            learned_lr=True,
        ),
        _decoupled(
            "sre2l-soft",
            _SRE2L,
            TeacherLabels(per="view", temperature=30.0),
            "SRe2L's own on CIFAR: 400 epochs of AdamW in ResNet-18, crops, flips and mixup, a label for each view",
        ),
        _decoupled(
            "rded-soft",
            _RDED,
            TeacherLabels(per="view"),
            "RDED's own: 300 epochs to half the rate, shuffled cells, crops, flips and CutMix, a label for each view",
        ),
        _decoupled(
            "rethink-hard",
            _RETHINK,
            "hard",
            "the Rethinking benchmark's: 300 epochs of AdamW in ResNet-18, resized crops and flips, class indices",
        ),
        _decoupled(
            "rethink-soft",
            _RETHINK.model_copy(update={"cutmix": 1.0}),
            TeacherLabels(per="view"),
            "as rethink-hard with CutMix and a soft label for each view",
        ),
        _published(
            "mtt-soft",
            _MTT,
            "as mtt, with stored soft labels as desk-static has them: for TESLA's assigned labels",
            labels=_STATIC,
            learned_lr=True,
        ),
        _published(
            "datm-soft",
            _MTT.model_copy(update={"batch_size": 128}),
            "as mtt in batches of 128, with stored soft labels as desk-static has them",
            labels=_STATIC,
            learned_lr=True,
        ),
        _full("convnet-w64-in"),
    ),
)
