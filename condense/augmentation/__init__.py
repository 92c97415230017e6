"""Augmentation as pure functions of images and draws: differentiable, classic (one operation an image), CutMix."""
