"""The labels of a teacher that is given to an evaluation, for images that have no such labels of their own."""

from __future__ import annotations

from typing import cast, get_args

import torch
from torch import Tensor

from condense.augmentation.names import ViewAugmentation
from condense.augmentation.views import ViewRule
from condense.data.info import DataInfo
from condense.evaluation.protocols import TeacherLabels
from condense.labels import Labels, LogitLabels, OnlineLabels
from condense.labels.advisers import TeacherFacts
from condense.labels.objectives import Objective
from condense.labels.plain import PlainImages
from condense.labels.showing import MIXUP_ALPHA, Showing, colour_beyond
from condense.runtime.errors import CondenseError
from condense.runtime.validation import validated
from condense.teachers.asking import clean_logits
from condense.teachers.committee import Committee
from condense.training.rule import TrainingRule

_SEED = 0  # of the views: one for all networks, as for labels that are stored


def teacher_labels(
    teacher: Committee,
    plain: PlainImages,
    info: DataInfo,
    classes: Tensor | None,
    rule: TrainingRule,
    asked: TeacherLabels,
    device: torch.device,
) -> Labels:
    """Soft labels as a protocol asks for them: logits of the images as they are, or online ones of its rule's views."""
    facts, objective = TeacherFacts.of(teacher), Objective("kl", asked.temperature)
    if asked.per == "image":
        logits = clean_logits(plain, teacher.classifiers(device), device)
        return LogitLabels(logits, classes, asked.temperature, objective.loss, teacher=facts.described)
    if asked.batch_norm == "batch":
        teacher.check_statistics("a protocol with the statistics of batches")
    showing = _showing(rule, asked, info)
    showing.check(len(plain))
    return OnlineLabels(showing, objective, facts, plain.digest, len(plain), classes)


def _showing(rule: TrainingRule, asked: TeacherLabels, info: DataInfo) -> Showing:
    """What a rule shows, in every epoch anew; raises `CondenseError` for a rule whose images cannot be shown."""
    name = rule.augmentation
    views = ViewRule(crop="none", flip=False)
    if name in get_args(ViewAugmentation):
        views = ViewRule.named(cast(ViewAugmentation, name), info)
    elif name is not None:
        raise CondenseError(f"labels of views have no augmentation {name}; give one of {get_args(ViewAugmentation)}")
    if rule.cutmix not in (0, 1) or rule.mixup not in (0, MIXUP_ALPHA):
        raise CondenseError(
            f"labels of views are of images that are all mixed: give cutmix 1 (not {rule.cutmix:g}) or mixup "
            f"{MIXUP_ALPHA:g} (not {rule.mixup:g}), or neither"
        )
    mixed = bool(rule.cutmix or rule.mixup)
    return validated(
        Showing,
        {
            "seed": _SEED,
            "rule": views,
            "fill": colour_beyond(info),
            "mix": "cutmix" if rule.cutmix else "mixup" if rule.mixup else "none",
            "batch_size": rule.batch_size if mixed or asked.batch_norm == "batch" else None,
            "batch_norm": asked.batch_norm,
            "bn_groups": asked.bn_groups,
        },
    )
