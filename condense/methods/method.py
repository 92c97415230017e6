"""What a registry line says of a method. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """What lists and the command line know of a method before its code is imported.

    `target` is `module:class` of a `Synthesizer` or a `Selector`, or of a `GraphMaker`; `modality` is what it is for,
    `images`, `graphs` or `nodes` of one graph (names are of one method in each); `labels` is the kind of labels its
    sets carry (hard or soft); `needs` names what it needs besides training data, `experts` the kind of experts if it
    matches trajectories (an `--optimizer` of `condense experts`), `label_experts` whether others may say what its
    images are, `teacher` whether it asks trained networks (condense teachers); `nested` tells, of methods that choose
    real images, whether the first k of a class are their choice for k; `protocol` is the one of its paper, if condense
    has it, and `soft_protocol` that for its sets with soft labels, where it makes both; `revision` goes up when its
    results change.
    """

    name: str
    target: str
    summary: str
    paper: str
    aliases: tuple[str, ...] = ()
    modality: str = "images"
    labels: str = "hard"
    needs: str = "nothing"
    experts: str = ""
    label_experts: bool = False
    teacher: bool = False
    nested: bool = True
    protocol: str | None = None
    soft_protocol: str | None = None
    revision: int = 1
