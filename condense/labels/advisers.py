"""What labels know of those who give them: teachers, which are made in a room above this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class Voter(Protocol):
    """The classifiers of a teacher, or of several, on a device."""

    def logits(self, pixels: Tensor, *, batch_norm: str = "running") -> Tensor:
        """The logits [n, K] of pixels [n, C, H, W] in [0, 1]."""


class Asking(Protocol):
    """Who can be asked about views: teachers, or a projector."""

    @property
    def name(self) -> str:
        """Who they are, for people."""

    def classifiers(self, device: torch.device) -> Voter:
        """Copies of them on a device."""


class Advisers(Asking, Protocol):
    """Teachers that can be asked: a `condense.teachers.Committee`."""

    @property
    def hash(self) -> str:
        """Who they are."""

    @property
    def bytes(self) -> int:
        """What they cost to keep."""

    def adapted(self, values: Tensor, rank: int, outputs: int) -> Asking:
        """A projector: the only one of them as an encoder that these values (float32 [P]) adapt."""


@dataclass(frozen=True)
class TeacherFacts:
    """What labels remember of their teacher, or of several: a name for people, the hash, and bytes."""

    name: str
    hash: str
    bytes: int

    @classmethod
    def of(cls, advisers: Advisers) -> Self:
        """Those of teachers."""
        return cls(advisers.name, advisers.hash, advisers.bytes)

    @property
    def described(self) -> str:
        """Name and hash, for people; the name of a single teacher ends with the beginning of its hash."""
        return self.name if self.name.endswith(self.hash[:8]) else f"{self.name} ({self.hash})"
