"""The names of augmentations, for settings and rules: this module does not import torch."""

from __future__ import annotations

from typing import Literal

MatchingAugmentation = Literal["dsa", "dsa-flip-first", "dsa-flip-color-first", "color-crop-cutout", "color-crop"]
ClassicAugmentation = Literal["dc-crop-scale-rotate", "dc-crop-noise"]  # one operation an image, not differentiable
MildAugmentation = Literal["mild"]  # one gentle operation a batch
# a view of each image (`augmentation.views`)
ViewAugmentation = Literal["crop-flip", "resized-crop-flip", "mosaic-crop-flip"]
