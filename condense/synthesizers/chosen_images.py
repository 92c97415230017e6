"""Real images that experts choose for a synthesizer to start from: those they know, or those that represent a class."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.data.sampling import repeated
from condense.methods.interface import Job
from condense.runtime.seeds import derive_seed, generator
from condense.selection.kmeans import nearest_to_centres
from condense.synthesizers.expert_opinions import ExpertOpinions

_ASKED_AT_ONCE = 64  # images of a class, in random order, until enough are classified rightly


def chosen_images(name: str, job: Job, opinions: ExpertOpinions) -> Tensor:
    """Float32 [C*ipc, c, h, w], preprocessed, class by class.

    - `correct`: images that an expert classifies rightly (DATM: Guo et al., ICLR 2024).
    - `representative`: the images nearest to the centres of k-means on an expert's logits (AST: Shen et al., 2023).

    A class with fewer images gives each of them several times.
    """
    choose = {"correct": _correct, "representative": _representative}[name]
    chosen = [repeated(choose(job, label, opinions), job.ipc) for label in range(len(job.data.info.classes))]
    return job.data.images(torch.cat(chosen))


def _correct(job: Job, label: int, opinions: ExpertOpinions) -> Tensor:
    """The first images of a class, in random order, that expert 0 classifies rightly; then those of the next one.

    Where all experts together find too few, the first of the others follow.
    """
    members = job.data.class_indices(label)
    order = members[torch.randperm(len(members), generator=generator(job.seed, "initial images", label))].tolist()
    wanted, found = min(job.ipc, len(members)), list[int]()
    for expert in range(opinions.experts):
        for part in torch.tensor(_without(order, found)).split(_ASKED_AT_ONCE):
            if len(found) >= wanted:
                return torch.tensor(found[:wanted])
            right = opinions.logits(job.data.images(part), expert).argmax(1) == label
            found += part[right].tolist()
    return torch.tensor((found + _without(order, found))[:wanted])


def _without(order: list[int], found: list[int]) -> list[int]:
    known = set(found)
    return [index for index in order if index not in known]


def _representative(job: Job, label: int, opinions: ExpertOpinions) -> Tensor:
    """One image for each of as many clusters as there are images per class, by one expert for all classes.

    The released code has ten clusters, whatever the number of images.
    """
    expert = int(torch.randint(opinions.experts, (1,), generator=generator(job.seed, "representing expert")))
    members = job.data.class_indices(label)
    logits = opinions.logits(job.data.images(members), expert)
    seed = derive_seed(job.seed, "representative images", label)
    return members[nearest_to_centres(logits, min(job.ipc, len(members)), seed)]
