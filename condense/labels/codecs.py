"""Codecs: how the logits that a teacher gave a view are kept in fewer bytes, and what is read of them.

A codec turns the logits of an image into a row of numbers of one type, and a row back into logits.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from condense.runtime.errors import CondenseError, unknown_name

CODECS = ("dense", "topk:K", "int8", "int4", "distance")
_HEADER = 2 * np.dtype(np.float16).itemsize  # of a row of whole numbers: its lowest logit, and a step
_FARTHEST = 10.0
_LEAST = 2.0**-24  # the smallest probability that half precision tells from none


class Codec(ABC):
    """Logits of K classes as rows of `width(K)` numbers of the type `dtype`.

    `temperature` is the only one that what is decoded may be trained on at; None where any may be.
    """

    dtype: ClassVar[np.dtype]
    temperature: ClassVar[float | None] = None

    @property
    @abstractmethod
    def name(self) -> str:
        """What files and commands call it."""

    @abstractmethod
    def width(self, classes: int) -> int:
        """Numbers of a row; raises `CondenseError` where it cannot be for so many classes."""

    @abstractmethod
    def encode(self, logits: Tensor) -> np.ndarray:
        """Rows [n, width] of logits float32 [n, K]; raises `CondenseError` for those that it cannot hold."""

    @abstractmethod
    def decode(self, rows: np.ndarray, classes: int) -> Tensor:
        """Logits float32 [n, K] of rows [n, width]; not numbers where a row is `nothing`."""

    @abstractmethod
    def nothing(self, classes: int) -> np.ndarray:
        """The row of an image that has no label, [width]."""

    def encode_some(self, logits: Tensor, known: Tensor) -> np.ndarray:
        """As `encode`, with nothing where `known` (bool [n]) is false."""
        rows = self.encode(torch.where(known[:, None], logits, 0.0))
        rows[~known.numpy()] = self.nothing(logits.shape[1])
        return rows


@dataclass(frozen=True)
class Dense(Codec):
    """Every number in half precision: within 2^-11 of what it was."""

    dtype = np.dtype(np.float16)

    @property
    def name(self) -> str:
        """Nothing is left out."""
        return "dense"

    def width(self, classes: int) -> int:
        """A number for each class."""
        return classes

    def encode(self, logits: Tensor) -> np.ndarray:
        """Rounded."""
        return _halved(logits)

    def decode(self, rows: np.ndarray, classes: int) -> Tensor:
        """As they are."""
        return torch.from_numpy(rows.astype(np.float32))

    def nothing(self, classes: int) -> np.ndarray:
        """No number for any class."""
        return np.full(self.width(classes), np.nan, self.dtype)


@dataclass(frozen=True)
class WholeNumbers(Codec):
    """Every logit as lowest + step q, with a whole number q of `bits` bits, and lowest and step for each row.

    The lowest is rounded down to half precision and the step (highest - lowest) / (2^bits - 1) up, so that all logits
    are within half a step of what they were. A row has the two, then the numbers; of four bits, two in a byte.

    >>> rows = WholeNumbers(8).encode(torch.tensor([[0.0, 1.0, 2.0]]))
    >>> rows.shape, WholeNumbers(8).decode(rows, 3).round(decimals=2)
    ((1, 7), tensor([[0., 1., 2.]]))
    """

    bits: int

    dtype = np.dtype(np.uint8)

    @property
    def name(self) -> str:
        """By its bits."""
        return f"int{self.bits}"

    def width(self, classes: int) -> int:
        """Four bytes, and one for each class or for two of them."""
        return _HEADER + -(-classes * self.bits // 8)

    def encode(self, logits: Tensor) -> np.ndarray:
        """To the nearest step."""
        most, values = 2**self.bits - 1, logits.double().numpy()
        lowest = _rounded(values.min(1), -np.inf)
        step = _rounded((values.max(1) - lowest) / most, np.inf)
        places = np.divide(values - lowest[:, None], step[:, None], where=step[:, None] > 0, out=np.zeros_like(values))
        numbers = np.rint(places).clip(0, most).astype(np.uint8)  # [n, K]
        if self.bits == 4:
            numbers = np.pad(numbers, ((0, 0), (0, numbers.shape[1] % 2)))
            numbers = numbers[:, ::2] << 4 | numbers[:, 1::2]
        return np.concatenate([np.stack([lowest, step], 1).astype(np.float16).view(np.uint8), numbers], 1)

    def decode(self, rows: np.ndarray, classes: int) -> Tensor:
        """By the lowest and the step of each row."""
        rows = np.ascontiguousarray(rows)
        head, numbers = rows[:, :_HEADER].copy().view(np.float16).astype(np.float32), rows[:, _HEADER:]
        if self.bits == 4:
            numbers = np.stack([numbers >> 4, numbers & 15], 2).reshape(len(rows), -1)[:, :classes]
        return torch.from_numpy(head[:, :1] + head[:, 1:] * numbers.astype(np.float32))

    def nothing(self, classes: int) -> np.ndarray:
        """No number for the lowest."""
        head = np.array([np.nan, 0], np.float16).view(np.uint8)
        return np.pad(head, (0, self.width(classes) - _HEADER))


@dataclass(frozen=True)
class Largest(Codec):
    """The `count` largest probabilities of softmax(z), with their classes; the rest of 1 is shared by the others.

    What FKD calls marginal smoothing (Shen & Xing, ECCV 2022). Classes are stored beside the probabilities in 16 bits
    each (released code has both in half precision, where classes beyond 2,048 are rounded to others). What is decoded
    are logs of probabilities at temperature 1: another temperature cannot be taken of what was left out.

    >>> rows = Largest(1).encode(torch.tensor([[0.0, 100.0, 0.0]]))
    >>> torch.softmax(Largest(1).decode(rows, 3), 1).round(decimals=4)
    tensor([[0., 1., 0.]])
    """

    count: int

    dtype = np.dtype(np.uint16)
    temperature = 1.0

    @property
    def name(self) -> str:
        """By their number."""
        return f"topk:{self.count}"

    def width(self, classes: int) -> int:
        """Two numbers for each that is kept."""
        if self.count > classes or classes > 2**16:
            raise CondenseError(f"codec {self.name} keeps {self.count} of {classes} classes; give at most {classes}")
        return 2 * self.count

    def encode(self, logits: Tensor) -> np.ndarray:
        """The largest first."""
        self.width(logits.shape[1])
        values, places = torch.softmax(logits.double(), 1).topk(self.count, 1)
        return np.concatenate(
            [places.numpy().astype(np.uint16), values.numpy().astype(np.float16).view(np.uint16)], axis=1
        )

    def decode(self, rows: np.ndarray, classes: int) -> Tensor:
        """Logs of probabilities that sum to 1."""
        places = torch.from_numpy(rows[:, : self.count].astype(np.int64))
        if len(places) and int(places.max()) >= classes:
            raise CondenseError(f"its labels name class {int(places.max())} of {classes}; make it again")
        kept = torch.from_numpy(np.ascontiguousarray(rows[:, self.count :]).view(np.float16).astype(np.float32))
        rest = (1 - kept.sum(1, keepdim=True)).clamp_min(0) / max(1, classes - self.count)
        filled = rest.expand(-1, classes).clone().scatter_(1, places, kept).clamp_min(_LEAST)
        return (filled / filled.sum(1, keepdim=True)).log()

    def nothing(self, classes: int) -> np.ndarray:
        """No number for any probability."""
        none = np.full(self.count, np.nan, np.float16).view(np.uint16)
        return np.concatenate([np.zeros(self.count, np.uint16), none])


@dataclass(frozen=True)
class Distances(Dense):
    """Two numbers of a distribution p: -log p of the class of an image, and of the one that it is mixed with.

    They are cut off at 10, which half precision holds well and no probability that matters is beyond. They are kept in
    the place of logits; all other classes are lost (the distance-based representation of NRR-DD, arXiv 2503.18267).
    """

    temperature = 1.0

    @property
    def name(self) -> str:
        """What they are."""
        return "distance"

    def width(self, classes: int) -> int:
        """Two."""
        return 2


def distances(logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """-log softmax(z) of two classes (int64 [n] each), at most 10: float32 [n, 2] of logits [n, K].

    >>> distances(torch.tensor([[0.0, 0.0], [99.0, 0.0]]), torch.tensor([0, 0]), torch.tensor([1, 1]))
    tensor([[ 0.6931,  0.6931],
            [-0.0000, 10.0000]])
    """
    far = -torch.log_softmax(logits.double(), 1)
    both = torch.stack([first, second], 1)
    return far.gather(1, both).clamp_max(_FARTHEST).float()


DENSE, DISTANCES = Dense(), Distances()


def codec_named(name: str) -> Codec:
    """The codec that a command or a file names; raises `CondenseError` for none.

    >>> codec_named("topk:5"), codec_named("int4")
    (Largest(count=5), WholeNumbers(bits=4))
    """
    if name == DENSE.name:
        return DENSE
    if name == DISTANCES.name:
        return DISTANCES
    if name in ("int8", "int4"):
        return WholeNumbers(int(name.removeprefix("int")))
    match = re.fullmatch(r"topk:([1-9]\d{0,4})", name)
    if match is None:
        raise unknown_name("codec", name, CODECS)
    return Largest(int(match[1]))


def _halved(logits: Tensor) -> np.ndarray:
    half = logits.to(torch.float16)
    if not torch.isfinite(half).all():
        raise CondenseError("the teacher gives logits beyond 65,504, or none at all, for some views; give another one")
    return half.numpy()


def _rounded(values: np.ndarray, towards: float) -> np.ndarray:
    """To the next number of half precision in a direction, as float64; raises `CondenseError` beyond its range."""
    half = _halved(torch.from_numpy(values))
    beyond = half < values if towards > 0 else half > values
    return np.where(beyond, np.nextafter(half, np.float16(towards)), half).astype(np.float64)
