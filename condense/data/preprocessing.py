"""From pixels in [0, 1] to what networks see, and back: nothing, channel normalisation or ZCA whitening.

A `Preprocessing` is a frozen value. Files store its `kind` and its arrays, so images made in the preprocessed space can
be shown, exported and compared without the data they were made from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError, unknown_name


class Preprocessing(ABC):
    """An invertible, serialisable map of images; `kind` names it in files."""

    kind: ClassVar[str]

    @abstractmethod
    def apply(self, images: Tensor) -> Tensor:
        """Preprocess images [N, C, H, W], floating point in [0, 1]; the dtype and device stay."""

    @abstractmethod
    def invert(self, images: Tensor) -> Tensor:
        """Undo `apply`, up to rounding; preprocessed [N, C, H, W] to about [0, 1], not clamped."""

    @abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """The numbers that `preprocessing_from_arrays` needs beside `kind`."""

    @abstractmethod
    def equals(self, other: Preprocessing) -> bool:
        """Whether `other` is the same map, up to the rounding of fits on different machines."""


@dataclass(frozen=True)
class None_(Preprocessing):  # noqa: N801 (None is taken)
    """Images stay in [0, 1].

    >>> None_().apply(torch.ones(1, 1, 2, 2)).sum().item()
    4.0
    """

    kind: ClassVar[str] = "none"

    def apply(self, images: Tensor) -> Tensor:
        """Return `images`."""
        return images

    def invert(self, images: Tensor) -> Tensor:
        """Return `images`."""
        return images

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Nothing to store."""
        return {}

    def equals(self, other: Preprocessing) -> bool:
        """Whether `other` also leaves images alone."""
        return isinstance(other, None_)


@dataclass(frozen=True)
class Normalization(Preprocessing):
    """`(image - mean) / std` per channel, with `mean` and `std` in units of [0, 1] pixels.

    Raises `CondenseError` if their lengths differ or a `std` is not positive.

    >>> normalization = Normalization(mean=(0.5,), std=(0.25,))
    >>> normalization.apply(torch.ones(1, 1, 1, 1)).item()
    2.0
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: ClassVar[str] = "normalize"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise CondenseError(
                f"normalisation needs a mean and a positive std per channel, but got mean {self.mean}, std {self.std}"
            )

    def apply(self, images: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation; [N, C, H, W] with this many channels."""
        mean, std = self._like(images)
        return (images - mean) / std

    def invert(self, images: Tensor) -> Tensor:
        """Multiply by the standard deviation and add the mean."""
        mean, std = self._like(images)
        return images * std + mean

    def _like(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[1] != len(self.mean):  # one channel would broadcast over three without a word
            raise CondenseError(
                f"the normalisation has {len(self.mean)} channel(s) but the images have {images.shape[1]}; "
                "use images and preprocessing of the same data set"
            )
        return images.new_tensor(self.mean).view(-1, 1, 1), images.new_tensor(self.std).view(-1, 1, 1)  # [C, 1, 1]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """`mean` and `std`, float64 [C]."""
        return {"mean": np.array(self.mean, np.float64), "std": np.array(self.std, np.float64)}

    def equals(self, other: Preprocessing) -> bool:
        """Whether `other` has the same mean and standard deviation to six digits."""
        return (
            isinstance(other, Normalization)
            and len(other.mean) == len(self.mean)
            and np.allclose(other.mean, self.mean, rtol=1e-6, atol=1e-7)
            and np.allclose(other.std, self.std, rtol=1e-6, atol=1e-7)
        )


@dataclass(frozen=True, eq=False)
class Whitening(Preprocessing):
    """ZCA whitening: `(image - mean) @ matrix` over flattened images, transformed by kornia's `linear_transform`.

    `mean` is float32 [d] with d = C·H·W, `matrix` float32 [d, d], symmetric: `U diag((S + eps)^-1/2) U^T` of the
    covariance `U diag(S) U^T` of training images in [0, 1] (Krizhevsky 2009; `eps` 0.1 is the field's choice since MTT,
    CVPR 2022). Fitted by `condense.data.fitting.fit_whitening`.
    """

    mean: Tensor
    matrix: Tensor
    eps: float = 0.1
    kind: ClassVar[str] = "zca"

    def __post_init__(self) -> None:
        size = self.mean.numel()
        if self.mean.shape != (size,) or self.matrix.shape != (size, size):
            raise CondenseError(
                f"whitening needs a mean [d] and a matrix [d, d], but got {list(self.mean.shape)} and "
                f"{list(self.matrix.shape)}"
            )

    def apply(self, images: Tensor) -> Tensor:
        """Whiten [N, C, H, W] in [0, 1]; the result has mean about 0 and variance at most 1 in every direction."""
        return self._transform(images, self.matrix, self.mean)

    def invert(self, images: Tensor) -> Tensor:
        """Colour whitened images again: `image @ matrix^-1 + mean`."""
        # kornia subtracts a mean before it multiplies; here it has to be added afterwards.
        centred = self._transform(images, self._inverse, torch.zeros_like(self.mean))
        return centred + self.mean.to(images).view(images.shape[1:])

    @cached_property
    def _inverse(self) -> Tensor:
        try:
            inverse: Tensor = torch.linalg.inv(self.matrix.double())
            return inverse.to(self.matrix)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise CondenseError("the whitening has no inverse; the file is damaged: make it again") from error

    def _transform(self, images: Tensor, matrix: Tensor, mean: Tensor) -> Tensor:
        from kornia.enhance import linear_transform  # here, because importing kornia takes a while

        values = images.shape[1:].numel()
        if values != self.mean.numel():
            raise CondenseError(
                f"the whitening was fitted on images of {self.mean.numel()} values but these have {values}; "
                "use images and preprocessing of the same data set"
            )
        return linear_transform(images, matrix.to(images), mean.to(images)[None])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """`mean` float32 [d], `matrix` float32 [d, d] and `eps` float64 []."""
        return {"mean": self.mean.numpy(), "matrix": self.matrix.numpy(), "eps": np.array(self.eps, np.float64)}

    def equals(self, other: Preprocessing) -> bool:
        """Whether `other` whitens alike, to four digits (decompositions round differently on other processors)."""
        return (
            isinstance(other, Whitening)
            and other.eps == self.eps
            and other.mean.shape == self.mean.shape
            and torch.allclose(other.mean, self.mean, rtol=1e-4, atol=1e-5)
            and torch.allclose(other.matrix, self.matrix, rtol=1e-4, atol=1e-4)
        )


def preprocessing_from_arrays(kind: str, arrays: Mapping[str, np.ndarray]) -> Preprocessing:
    """The preprocessing that a file stored as `kind` and `to_arrays()`.

    Raises `CondenseError` for a kind that this version does not know and for arrays that are missing or others.

    >>> preprocessing_from_arrays("normalize", {"mean": np.array([0.5]), "std": np.array([0.25])})
    Normalization(mean=(0.5,), std=(0.25,))
    """
    try:
        if kind == None_.kind:
            return None_()
        if kind == Normalization.kind:
            mean, std = (_numbers(arrays, key, np.float64).reshape(-1).tolist() for key in ("mean", "std"))
            return Normalization(tuple(mean), tuple(std))
        if kind == Whitening.kind:
            offset, matrix = (torch.from_numpy(_numbers(arrays, key, np.float32)) for key in ("mean", "matrix"))
            return Whitening(offset, matrix, float(_numbers(arrays, "eps", np.float64).item()))
    except KeyError as error:
        raise CondenseError(
            f"the preprocessing {kind!r} lacks its {error}; the file is damaged: make it again"
        ) from error
    except (TypeError, ValueError) as error:
        if isinstance(error, CondenseError):
            raise
        raise CondenseError(
            f"the preprocessing {kind!r} has something else for its numbers; the file is damaged: make it again"
        ) from error
    raise unknown_name("preprocessing", kind, [None_.kind, Normalization.kind, Whitening.kind])


def _numbers(arrays: Mapping[str, np.ndarray], key: str, dtype: type[np.floating]) -> np.ndarray:
    """A copy of finite numbers; raises `ValueError` for others and for what is none."""
    values = np.array(arrays[key], dtype)
    if arrays[key].dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ValueError(key)
    return values
