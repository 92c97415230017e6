"""Greedy maximisation of submodular functions against the functions themselves, all rows tried at each choice."""

import pytest
import torch

from condense.selection import last_layer
from condense.selection.facility_location import facilities
from condense.selection.graph_cut import cut
from condense.selection.last_layer import LastLayerGradients


def gradients_of(rows: int, seed: int = 0, classes: int = 4, width: int = 5) -> LastLayerGradients:
    draws = torch.Generator().manual_seed(seed)
    errors = torch.randn(rows, classes, generator=draws, dtype=torch.float64)
    return LastLayerGradients(errors, torch.randn(rows, width, generator=draws, dtype=torch.float64))


def whole(gradients: LastLayerGradients) -> torch.Tensor:
    return gradients.similarities(torch.arange(len(gradients)))


def naive_facilities(kernel: torch.Tensor, count: int) -> tuple[list[int], list[float]]:
    """Every gain at every choice, by the same sum in the same order as in the lazy algorithm."""
    nearest, chosen, gains = torch.zeros(len(kernel), dtype=torch.float64), [], []
    for _ in range(count):
        each = [float((row - nearest).clamp_min(0).sum()) for row in kernel]
        best = max((row for row in range(len(kernel)) if row not in chosen), key=lambda row: (each[row], -row))
        chosen.append(best)
        gains.append(each[best])
        nearest = torch.maximum(nearest, kernel[best])
    return chosen, gains


@pytest.mark.parametrize("seed", range(5))
def test_lazy_facilities_are_those_of_the_naive_algorithm(seed: int):
    kernel = whole(gradients_of(40, seed))
    rows, gains = facilities(lambda asked: kernel[asked], 40, 40)
    assert (rows.tolist(), gains.tolist()) == naive_facilities(kernel, 40)


@pytest.mark.parametrize("seed", range(5))
def test_of_equal_gains_the_first_row_is_chosen(seed: int):
    """Similarities of three values only, each row twice: nearly every choice is between equal gains."""
    part = torch.randint(3, (15, 15), generator=torch.Generator().manual_seed(seed)).double()
    kernel = torch.maximum(part, part.T).repeat(2, 2)
    rows, gains = facilities(lambda asked: kernel[asked], 30, 30)
    assert (rows.tolist(), gains.tolist()) == naive_facilities(kernel, 30)
    assert sorted(rows.tolist()) == list(range(30))


def test_gains_of_facilities_sum_to_the_function():
    kernel = whole(gradients_of(30, 7))
    rows, gains = facilities(lambda asked: kernel[asked], 30, 6)
    for count in range(1, 7):
        torch.testing.assert_close(gains[:count].sum(), kernel[:, rows[:count]].max(1).values.sum())


def test_a_kernel_that_is_too_large_to_be_kept_gives_the_same_facilities_and_few_rows_are_computed(monkeypatch):
    monkeypatch.setattr(last_layer, "_MOST_HELD", 100)
    gradients, asked = gradients_of(200, 3), []

    def kernel(rows: torch.Tensor) -> torch.Tensor:
        asked.extend(rows.tolist())
        return gradients.similarities(rows)

    rows, gains = facilities(kernel, 200, 30)
    expected, worth = naive_facilities(whole(gradients), 30)
    assert rows.tolist() == expected
    torch.testing.assert_close(gains, torch.tensor(worth, dtype=torch.float64))
    assert len(asked) < 200 * 30 / 3  # a third of what the naive algorithm computes


def cut_of(kernel: torch.Tensor, chosen: list[int]) -> float:
    """The similarities between rows in the set and rows outside."""
    outside = [row for row in range(len(kernel)) if row not in chosen]
    return float(kernel[chosen][:, outside].sum())


@pytest.mark.parametrize("count", [1, 6, 25])
def test_incremental_gains_are_those_of_the_cut(count: int):
    """Choice by choice, over all rows that are left: the gain less s_xx is what the function rises by."""
    gradients = gradients_of(25, 1)
    kernel = whole(gradients)
    rows, gains = cut(gradients, count)
    for place, (row, gain) in enumerate(zip(rows.tolist(), gains.tolist(), strict=True)):
        before = rows[:place].tolist()
        rises = {
            x: cut_of(kernel, [*before, x]) - cut_of(kernel, before) + float(kernel[x, x])
            for x in range(25)
            if x not in before
        }
        assert gain == pytest.approx(rises[row], abs=1e-10)
        assert rises[row] == pytest.approx(max(rises.values()), abs=1e-10)
    assert len(set(rows.tolist())) == count


def test_a_cut_of_duplicates_and_of_one_row():
    twice = gradients_of(8, 2).at(torch.arange(8).repeat(2))
    rows, gains = cut(twice, 16)
    assert sorted(rows.tolist()) == list(range(16))
    assert torch.isfinite(gains).all()
    rows, gains = cut(gradients_of(1), 1)
    assert (rows.tolist(), gains.tolist()) == ([0], pytest.approx([1.0]))


def test_a_smaller_choice_is_the_beginning_of_a_larger_one():
    gradients = gradients_of(50, 4)
    for choose in (cut, lambda given, count: facilities(given.similarities, len(given), count)):
        small, large = choose(gradients, 5), choose(gradients, 20)
        for part, more in zip(small, large, strict=True):
            assert torch.equal(part, more[:5])


def test_facilities_cover_groups_and_a_cut_prefers_the_larger_one():
    """Ten gradients in one direction and four in another: both are covered at once; a cut takes the many first."""
    errors = torch.tensor([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 4, dtype=torch.float64)
    gradients = LastLayerGradients(errors, torch.zeros(14, 1, dtype=torch.float64))
    first, second = facilities(gradients.similarities, 14, 2)[0].tolist()
    assert (first < 10, second < 10) == (True, False)
    assert [row < 10 for row in cut(gradients, 5)[0].tolist()] == [True, True, True, True, False]


def test_apricot_chooses_the_same():
    apricot = pytest.importorskip("apricot", reason="apricot-select is not installed")
    gradients = gradients_of(60)
    kernel = whole(gradients)
    kernel = (kernel + kernel.T) / 2
    for kind, (rows, gains), less in [
        (apricot.FacilityLocationSelection, facilities(lambda asked: kernel[asked], 60, 12), 0),
        (apricot.GraphCutSelection, cut(gradients, 12), 1),  # s_xx
    ]:
        theirs = kind(12, metric="precomputed", optimizer="naive").fit(kernel.numpy())
        assert theirs.ranking.tolist() == rows.tolist()
        torch.testing.assert_close(torch.from_numpy(theirs.gains), gains - less)


def test_submodlib_chooses_the_same():
    submodlib = pytest.importorskip("submodlib", reason="submodlib is not installed")
    gradients = gradients_of(60)
    kernel = whole(gradients)
    kernel = (kernel + kernel.T) / 2
    likes = {"n": 60, "mode": "dense", "separate_rep": False}
    stops = {"stopIfZeroGain": False, "stopIfNegativeGain": False, "verbose": False, "show_progress": False}
    for function, (rows, gains), less in [
        (submodlib.FacilityLocationFunction(sijs=kernel.numpy(), **likes), facilities(lambda r: kernel[r], 60, 12), 0),
        (submodlib.GraphCutFunction(ggsijs=kernel.numpy(), lambdaVal=1.0, **likes), cut(gradients, 12), 1),  # s_xx
    ]:
        theirs = function.maximize(budget=12, optimizer="NaiveGreedy", **stops)
        assert [row for row, _ in theirs] == rows.tolist()
        assert [gain for _, gain in theirs] == pytest.approx((gains - less).tolist(), abs=1e-4)  # theirs are float32
