"""What the images of a slice start from: noise, real images of their class, or patches of real images."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from condense.data.sampling import repeated, sample
from condense.methods.interface import Job
from condense.methods.slices.layouts import Slice
from condense.runtime.seeds import generator
from condense.synthesizers.recovery.patches import chosen_patches, cut
from condense.synthesizers.recovery.units import units

Start = Literal["noise", "real", "patches"]


def starting_pixels(start: Start, job: Job, part: Slice, settings: Any) -> Tensor:
    """The pixels that the images of a slice start from, float32 [n, C, H, W].

    - `noise`: N(0, 1) in units of the teachers' normalisation, so some leave [0, 1].
    - `real`: an image of the class for each place, drawn without replacement (again from the first where there are
      fewer).
    - `patches`: parts of real images that the teachers rank, of the settings' difficulty, enlarged to the whole image.
    """
    if start == "noise":
        return noise_pixels(job, part)
    chosen = list(zip(part.labels.tolist(), part.places.tolist()))
    if start == "real":
        indices = torch.stack([real_indices(job, label)[place] for label, place in chosen])
        return job.data.pixels(indices).float() / 255
    size = job.data.info.image_shape[1:]
    crops = []
    for label, place in chosen:
        patch = chosen_patches(
            job,
            label,
            count=job.ipc,
            difficulty=settings.patch_difficulty,
            images=settings.patch_images,
            crops=settings.patch_crops,
            size=size,
        )[place]
        crops.append((patch.index, patch.box))
    return cut(job.data, crops, size)


def noise_pixels(job: Job, part: Slice) -> Tensor:
    """mean + std z with z from N(0, 1), by the teachers' normalisation or, without one, by the data's.

    Data that is not normalised channel by channel has mean and standard deviation 1/2 here.
    """
    shape = (len(part), *job.data.info.image_shape)
    noise = torch.randn(shape, generator=generator(job.seed, "recovery noise", part.number))
    if job.teacher is not None:
        mean, std = units(job.teacher, torch.device("cpu"))
        return mean + std * noise
    arrays = job.data.info.preprocessing.to_arrays()
    channels = job.data.info.image_shape[0]
    if job.data.info.preprocessing.kind == "normalize":
        mean, std = (torch.from_numpy(arrays[name]).float().view(channels, 1, 1) for name in ("mean", "std"))
        return mean + std * noise
    return 0.5 + 0.5 * noise


def real_indices(job: Job, label: int) -> Tensor:
    """The training index of the real image of each place of a class; int64 [ipc]."""
    drawn = sample(job.data.class_indices(label), job.ipc, generator(job.seed, "initial images", label))
    return repeated(drawn, job.ipc)
