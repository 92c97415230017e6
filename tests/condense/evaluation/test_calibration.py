"""The calibration error against its definition."""

import pytest
import torch

from condense.evaluation.calibration import calibration_error


def by_definition(probabilities: torch.Tensor, labels: torch.Tensor, bins: int) -> float:
    total = 0.0
    for number in range(bins):
        inside = [
            row
            for row, each in enumerate(probabilities.max(1).values.tolist())
            if number / bins < each <= (number + 1) / bins
        ]
        if inside:
            sure = sum(float(probabilities[row].max()) for row in inside) / len(inside)
            right = sum(int(probabilities[row].argmax() == labels[row]) for row in inside) / len(inside)
            total += len(inside) / len(labels) * abs(sure - right)
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_against_its_definition(bins: int):
    draws = torch.Generator().manual_seed(bins)
    probabilities = torch.softmax(3 * torch.randn(200, 4, generator=draws, dtype=torch.float64), 1)
    labels = torch.randint(4, (200,), generator=draws)
    assert calibration_error(probabilities, labels, bins) == pytest.approx(by_definition(probabilities, labels, bins))


def test_a_network_that_is_right_as_often_as_it_is_sure_has_none():
    probabilities = torch.tensor([[0.75, 0.25]]).repeat(4, 1)
    assert calibration_error(probabilities, torch.tensor([0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(torch.eye(3), torch.arange(3)) == 0
    assert calibration_error(torch.eye(3), torch.tensor([1, 2, 0])) == 1
