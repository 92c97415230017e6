"""Calibration: whether a network is right as often as it is sure."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """The expected calibration error, from 0 to 1: sum_b n_b / N |accuracy_b - confidence_b|.

    An image's confidence is its largest probability; bin b holds those of ((b - 1) / bins, b / bins]. `probabilities`
    [N, K] sum to 1, `labels` int64 [N]. (Naeini, Cooper & Hauskrecht, AAAI 2015; 15 bins as in Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017.)

    >>> calibration_error(torch.tensor([[0.75, 0.25], [0.25, 0.75]]), torch.tensor([0, 0]))  # right half of the time
    0.25
    """
    confidence, answers = probabilities.double().max(1)
    right = (answers == labels).double()
    places = (confidence * bins).ceil().long().clamp(1, bins) - 1  # (N)
    surplus = torch.zeros(bins, dtype=torch.float64).index_add_(0, places, confidence - right)
    return float(surplus.abs().sum() / len(labels))
