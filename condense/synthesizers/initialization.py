"""The images that a synthesizer starts from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from condense.data import TrainingData
from condense.data.sampling import random_indices
from condense.runtime.seeds import generator

Initialization = Literal["real", "noise"]


def initial_images(kind: Initialization, data: TrainingData, ipc: int, seed: int) -> Tensor:
    """Float32 [C*ipc, c, h, w] in preprocessed space, class by class.

    `real` draws images of each class without replacement; `noise` draws every value from N(0, 1). Raises
    `CondenseError` where a class has fewer than `ipc` images to draw.
    """
    if kind == "noise":
        shape = (len(data.info.classes) * ipc, *data.info.image_shape)
        return torch.randn(shape, generator=generator(seed, "initial images"))
    return data.images(random_indices(data, ipc, seed, "initial images"))
