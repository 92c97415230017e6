"""Random subsets: the baseline that every method has to beat."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field

from condense.data import TrainingData
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.labels import HardLabels
from condense.methods.interface import MethodSettings, Product
from condense.runtime.seeds import generator
from condense.selection.base import Choice, Group, Selector, check_mosaics
from condense.sets.tiles import Tiles


class RandomSettings(MethodSettings):
    """Settings of `random`."""

    factor: int | None = Field(
        None,
        ge=2,
        le=8,
        description="store mosaics of factor x factor images, enlarged when the set is loaded: the baseline of methods "
        "that learn such; default: images as they are",
    )


class Random(Selector[RandomSettings]):
    """Images of each group drawn uniformly without replacement; every seed is a new draw.

    With a `factor` the budget counts mosaics, and as many bytes are stored as by methods that learn mosaics: float32,
    preprocessed, images made smaller bilinearly. The images of each mosaic are in the JSON beside the file.
    """

    def choose(self) -> Choice:
        """Draw."""
        drawn = [
            sample(group.members, group.count, generator(self.job.seed, "random subset", group.name))
            for group in self.groups()
        ]
        return Choice(torch.cat(drawn))

    def groups(self) -> list[Group]:
        """With as many images as the mosaics hold."""
        return [replace(group, count=group.count * (self.settings.factor or 1) ** 2) for group in super().groups()]

    def product(self, chosen: Choice) -> Product:
        """The images, or mosaics of them."""
        factor, data = self.settings.factor, self.data
        if factor is None:
            return super().product(chosen)
        sources = chosen.indices.view(-1, factor**2)  # (mosaics, factor^2)
        decoder = Tiles(factor)
        return Product(
            stored=decoder.arrange(data.images(sources.T.flatten()), "bilinear"),
            labels=HardLabels(data.labels[sources[:, 0]]),
            settings=self.settings,
            space="preprocessed",
            decoder=decoder,
            facts={"sources": sources.tolist()},
        )

    @classmethod
    def keeps_images(cls, settings: RandomSettings) -> bool:
        """Unless they are made smaller."""
        return settings.factor is None

    @classmethod
    def check(cls, data: TrainingData, budget: Budget, settings: RandomSettings) -> None:
        """Every class must have enough images for its mosaics, and these enough pixels."""
        super().check(data, budget, settings)
        if settings.factor is None:
            return
        Tiles(settings.factor).tile_size(*data.info.image_shape[1:])  # refuses a factor that is too large
        check_mosaics(data, budget, settings.factor)
