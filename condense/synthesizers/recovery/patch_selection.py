"""RDED: nothing is learned; patches of real images that teachers find easiest, put together to mosaics.

Sun et al., "On the Diversity and Realism of Distilled Dataset", CVPR 2024, and the released code: of `patch_images`
random images of a class each gives its easiest of `patch_crops` crops; of these the ipc x factor^2 easiest are taken.
Cell k, row by row, of image i is patch k * ipc + i. Mosaics are stored, and trained on, as they are.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from condense.data import TrainingData
from condense.data.budget import Budget
from condense.methods.slices.sliced import Sliced, SlicedSettings, stored_pixels
from condense.synthesizers.recovery.patches import Difficulty, cells, chosen_patches, laid_patches


class PatchSettings(SlicedSettings):
    """Settings of `rded`."""

    factor: int | None = Field(
        None,
        ge=1,
        le=8,
        description="patches on a side of an image; none: 1 below 128 pixels, else 2",
    )
    patch_images: int = Field(
        300, ge=1, description="real images of a class that patches are taken from, or as many as needed"
    )
    patch_crops: int = Field(5, ge=1, description="crops of each, of which teachers choose one")
    patch_difficulty: Difficulty = Field("easy", description="which of the ranked patches are taken")


class PatchSelection(Sliced[PatchSettings]):
    """The mosaics of one class."""

    def result(self) -> dict[str, Tensor]:
        """Choose the patches of the class, cut them and lay them."""
        job, settings, label = self.job, self.settings, int(self.slice.labels[0])
        factor, size = cells(settings.factor, job.data.info.image_shape)
        chosen = chosen_patches(
            job,
            label,
            count=job.ipc * factor**2,
            difficulty=settings.patch_difficulty,
            images=settings.patch_images,
            crops=settings.patch_crops,
            size=size,
        )
        images = [laid_patches(job, chosen, place, size) for place in self.slice.places.tolist()]
        return {"images": stored_pixels(torch.stack(images), settings.float_pixels)}

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: PatchSettings) -> None:
        """Cells must have pixels."""
        super().check(data, budget, settings)
        cells(settings.factor, data.info.image_shape)
