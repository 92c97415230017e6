"""The units in which images are learned: those of the teachers' normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.teachers.committee import Committee


def units(committee: Committee, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, float32 [C, 1, 1], by the weights of the teachers."""
    weights = torch.tensor(committee.weights, dtype=torch.float64)[:, None]
    manifests = [member.manifest for member in committee.members]
    means = torch.tensor([manifest.mean for manifest in manifests], dtype=torch.float64)  # (members, C)
    deviations = torch.tensor([manifest.std for manifest in manifests], dtype=torch.float64)
    mean, std = ((weights * values).sum(0)[:, None, None].float().to(device) for values in (means, deviations))
    return mean, std
