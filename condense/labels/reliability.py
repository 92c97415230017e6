"""Which of a teacher's labels of views are believed: FerKD, Shen, "FerKD: Surgical Label Adaptation", ICCV 2023.

A crop may show nothing of its class; what a teacher says of it is then of no use. The paper's thresholds were not
found in its code: `low` is the user's to choose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_SMOOTHING = 0.1  # of the hard label that replaces one


def unreliable(logits: Tensor, classes: Tensor, low: float) -> Tensor:
    """Where the probability of the image's class is below `low`: bool [n], of logits [n, K] and classes int64 [n].

    >>> unreliable(torch.tensor([[0.0, 0.0], [5.0, 0.0]]), torch.tensor([1, 1]), 0.15)
    tensor([False,  True])
    """
    return torch.softmax(logits.double(), 1).gather(1, classes[:, None])[:, 0] < low


def softened(classes: Tensor, outputs: int) -> Tensor:
    """Class indices int64 [n] as logits [n, K] of smoothed labels at temperature 1: 0.9 of the class, 0.1 of all alike.

    >>> torch.softmax(softened(torch.tensor([1]), 4), 1)
    tensor([[0.0250, 0.9250, 0.0250, 0.0250]])
    """
    shares = (1 - _SMOOTHING) * F.one_hot(classes, outputs).float() + _SMOOTHING / outputs
    return shares.log()


@dataclass
class Calibration:
    """What becomes of labels that are not believed: `softened` to a smoothed hard label, or `discarded`.

    It counts how many of how many that were.
    """

    low: float
    instead: Literal["softened", "discarded"]
    classes: Tensor
    found: int = field(default=0, init=False)
    asked: int = field(default=0, init=False)

    def applied(self, logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The logits [n, K] of the images `ids` (int64 [n]) as they are to be kept, and whether: bool [n]."""
        classes = self.classes[ids]
        weak = unreliable(logits, classes, self.low)
        self.found, self.asked = self.found + int(weak.sum()), self.asked + len(ids)
        if self.instead == "discarded":
            return logits, ~weak
        replaced = torch.where(weak[:, None], softened(classes, logits.shape[1]).to(logits), logits)
        return replaced, torch.ones_like(weak)

    def describe(self) -> str:
        """What was done, for people."""
        part = self.found / max(1, self.asked)
        return f"{self.found:,} of {self.asked:,} labels of views ({part:.1%}) were {self.instead}"
