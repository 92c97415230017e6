"""Choosing and fitting the preprocessing of a data set on its training pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from condense.data.catalogue import DATA_SETS, published_constants
from condense.data.info import DataInfo
from condense.data.preprocessing import None_, Normalization, Preprocessing, Whitening
from condense.data.sources import PixelSource
from condense.data.survey import Survey
from condense.runtime.errors import CondenseError


def choose_preprocessing(
    normalization: str | None, default: Preprocessing | None, train: PixelSource, surveyed: Survey, memory_limit: int
) -> Preprocessing:
    """The preprocessing called `normalization` for these training pixels.

    None means `default` (of a known set or a packed file) or else `computed`. Raises `CondenseError` for an unknown
    name, published constants with another number of channels, and a whitening matrix above `memory_limit` bytes.
    """
    if normalization is None:
        if default is None:
            return fit_normalization(surveyed)
        if not isinstance(default, Whitening) or default.mean.numel() == math.prod(train.image_shape):
            return default
        normalization = "zca"  # a packed whitening whose images were resized: fitted again
    if normalization == "none":
        return None_()
    if normalization == "computed":
        return fit_normalization(surveyed)
    if normalization == "zca":
        return fit_whitening(train, memory_limit=memory_limit)
    constants = published_constants(normalization)
    channels = train.image_shape[0]
    if len(constants.mean) != channels:
        raise CondenseError(
            f"--normalization {normalization} is for {len(constants.mean)}-channel images but these have {channels}; "
            "give computed, zca, none or a set with as many channels"
        )
    return Normalization(constants.mean, constants.std)


def normalization_name(preprocessing: Preprocessing) -> str:
    """The value of `--normalization` that makes this preprocessing from the same images.

    >>> normalization_name(Normalization((0.1307,), (0.3081,)))
    'mnist'
    """
    if not isinstance(preprocessing, Normalization):
        return preprocessing.kind
    for name in ("imagenet", *(entry.name for entry in DATA_SETS if entry.constants)):
        constants = published_constants(name)
        if (constants.mean, constants.std) == (preprocessing.mean, preprocessing.std):
            return name
    return "computed"


def data_options(info: DataInfo) -> dict[str, Any]:
    """The options of a command that load such data again, by name; the data goes by its base name."""
    return {
        "data": info.name,
        "image_size": "x".join(str(side) for side in info.image_shape[1:]),
        "normalization": normalization_name(info.preprocessing),
        "mirror": info.mirror,
    }


def fit_normalization(surveyed: Survey) -> Normalization:
    """Mean and population standard deviation per channel over all training pixels in [0, 1].

    A channel of one value only keeps its scale (`std` 1).
    """
    values = np.arange(256) / 255
    weights = surveyed.histogram / surveyed.histogram.sum(axis=1, keepdims=True)  # [C, 256]
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1))
    return Normalization(tuple(mean.tolist()), tuple(np.where(std > 1e-12, std, 1.0).tolist()))


def fit_whitening(source: PixelSource, *, eps: float = 0.1, memory_limit: int = 4 * 2**30) -> Whitening:
    """The ZCA whitening of all images in [0, 1]: what kornia's `ZCAWhitening(eps=0.1)` fits, in pieces and in float64.

    kornia needs all images as one float tensor; here the second moments are summed over chunks. They are sums of
    integers below 2^53, so neither the chunks nor the threads change them. Raises `CondenseError` if the d x d matrix
    exceeds `memory_limit` bytes.
    """
    size = math.prod(source.image_shape)
    if 8 * size**2 > memory_limit:
        raise CondenseError(
            f"--normalization zca of images with {size} values needs a matrix of {8 * size**2 / 1e9:.1f} GB, above the "
            f"memory limit of {memory_limit / 1e9:.1f} GB; give computed, a smaller --image-size or a larger "
            "--memory-limit"
        )
    total = torch.zeros(size, dtype=torch.float64)
    moments = torch.zeros(size, size, dtype=torch.float64)
    for chunk in source.chunks():
        values = chunk.flatten(1).to(torch.float64)  # [n, d]
        total += values.sum(0)
        moments.addmm_(values.T, values)
    count = len(source)
    mean = total / count
    covariance = (moments - count * torch.outer(mean, mean)) / ((count - 1) * 255**2)
    variances, directions = torch.linalg.eigh(covariance)
    scales = (variances.clamp(min=0) + eps).rsqrt()
    matrix = (directions * scales) @ directions.T
    return Whitening((mean / 255).float(), matrix.float(), eps)
