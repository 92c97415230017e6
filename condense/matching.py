"""The mathematics of matching: pure distances between what networks see in real and in synthetic images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

_ROW_EPSILON = 1e-6


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean feature vector of each class, float32 or wider.

    `features` is [N, D], `labels` int64 [N]; the result is [C, D]. A class without images has the mean zero.

    >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2)
    tensor([[2.],
            [5.]])
    """
    sums = features.new_zeros(classes, features.shape[1]).index_add(0, labels, features)  # (C, D)
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return sums / counts[:, None]


def match_means(real: Tensor, synthetic: Tensor) -> Tensor:
    """Distribution matching: the sum over classes of squared distances between class means.

    Both are [C, D]; L = sum_c |r_c - s_c|^2, summed over features and classes, nothing averaged, because the published
    learning rates are tied to this scale (Zhao & Bilen, WACV 2023, equation 4, and the released code).

    >>> match_means(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    tensor(4.)
    """
    return (real - synthetic).square().sum()


def attention(maps: Tensor, power: float) -> Tensor:
    """Where a layer looks: `maps` [N, C, H, W] to [N, H*W], each row sum_channels |f|^power, of Euclidean length 1.

    Rows without any activation stay zero. Sajedi et al., ICCV 2023 (DataDAM), section 3.2.

    >>> attention(torch.tensor([[[[3.0, 4.0]]]]), power=1)
    tensor([[0.6000, 0.8000]])
    """
    return functional.normalize(maps.abs().pow(power).sum(1).flatten(1), dim=1)


def match_gradients(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """Gradient matching: one minus the cosine of each output row, summed over rows and parameter tensors.

    Both hold the gradient of each parameter by its name. A tensor of two or more dimensions is a matrix with one row
    per output unit, [out, rest]; d = sum_rows (1 - <a, b> / (|a| |b| + 1e-6)). Tensors of one dimension (biases, norms)
    do not count (Zhao, Mopuri & Bilen, ICLR 2021, equation 9, and the released code, from which the 1e-6 is).

    >>> rows = {"weight": torch.eye(2), "bias": torch.ones(2)}
    >>> match_gradients(rows, {"weight": -torch.eye(2), "bias": torch.zeros(2)})
    tensor(4.0000)
    """
    distances = [_row_distances(value, synthetic[name]).sum() for name, value in real.items() if value.dim() > 1]
    return torch.stack(distances).sum()


def match_gradients_squared(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """The squared distance between two gradients, all parameters together: the alternative `mse` of gradient matching.

    >>> match_gradients_squared({"bias": torch.ones(2)}, {"bias": torch.zeros(2)})
    tensor(2.)
    """
    return (_vector(real) - _vector(synthetic, like=real)).square().sum()


def match_gradients_relative(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """|g_S - g_R|^2 / |g_R|^2, all parameters together: the squared distance, as a part of the real gradient's square.

    That of DosCond for graphs (Jin et al., KDD 2022, the released code; the paper leaves the distance open).

    >>> match_gradients_relative({"bias": torch.tensor([3.0, 4.0])}, {"bias": torch.zeros(2)})
    tensor(1.)
    """
    return match_gradients_squared(real, synthetic) / _vector(real).square().sum()


def match_gradients_cosine(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """One minus the cosine between two gradients, all parameters together: the alternative `cos`."""
    left, right = _vector(real), _vector(synthetic, like=real)
    cosine: Tensor = left @ right / (left.norm() * right.norm() + _ROW_EPSILON)
    return 1 - cosine


def match_convolutions_squared(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """The sum of squared differences of the gradients of convolution weights only: `l2` of IDC.

    Biases, norms and the classifier do not count (Kim et al., ICML 2022, section 4, and the released code).

    >>> weights = {"convolution": torch.ones(1, 1, 2, 2), "classifier": torch.ones(2, 2)}
    >>> match_convolutions_squared(weights, {name: -value for name, value in weights.items()})
    tensor(16.)
    """
    return torch.stack([(left - right).square().sum() for left, right in _convolutions(real, synthetic)]).sum()


def match_convolutions_absolute(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """As `match_convolutions_squared` with absolute differences: `l1` of IDC."""
    return torch.stack([(left - right).abs().sum() for left, right in _convolutions(real, synthetic)]).sum()


def _convolutions(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(value, right[name]) for name, value in left.items() if value.dim() == 4]


def characteristic_function(features: Tensor, frequencies: Tensor) -> Tensor:
    """The empirical characteristic function at each frequency t: mean_n exp(i <t, z_n>), real and imaginary.

    `features` is [N, D], `frequencies` [M, D]; the result is [2, M], float32 or wider: with many dimensions the values
    are small differences of large sums.

    >>> characteristic_function(torch.zeros(3, 2), torch.ones(1, 2)).flatten().tolist()
    [1.0, 0.0]
    """
    angles = frequencies @ features.T  # (M, N)
    return torch.stack([angles.cos().mean(1), angles.sin().mean(1)])


def match_characteristic_functions(
    real: Tensor, synthetic: Tensor, amplitude_weight: float = 0.5, phase_weight: float = 0.5
) -> Tensor:
    """NCFM: mean_t sqrt(alpha A + beta P) between two characteristic functions [2, M].

    A = (|r| - |s|)^2 is the difference in amplitude, P = 2 (|r| |s| - Re r Re s - Im r Im s) that in phase; with equal
    weights their sum is the squared distance |r - s|^2 (Wang et al., CVPR 2025, equation 6, and the released code, from
    which the 1e-12 below P is).

    >>> match_characteristic_functions(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]]))
    tensor(1.)
    """
    left, right = (torch.linalg.vector_norm(value, dim=0) for value in (real, synthetic))  # (M,) each
    amplitude = (left - right).square()
    phase = (2 * (left * right - (real * synthetic).sum(0))).clamp(min=1e-12)
    distances: Tensor = (amplitude_weight * amplitude + phase_weight * phase).sqrt()
    return distances.mean()


def match_statistics(
    batch: Sequence[tuple[Tensor, Tensor]],
    trained: Sequence[tuple[Tensor, Tensor]],
    *,
    first_weight: float = 10.0,
    variance_weight: float = 1.0,
) -> Tensor:
    """How far the inputs of BatchNorm layers are from what these kept of their training: sum_l w_l R_l.

    R_l = |m_l - M_l| + v |V_l - s_l| with the mean m_l and biased variance V_l of each channel over a batch, and the
    running mean M_l and variance s_l: plain norms, neither squared nor divided by the number of channels. w_0 is
    `first_weight`, all other weights are 1 (Yin et al., DeepInversion, CVPR 2020, in the form of the released code of
    SRe2L); v is `variance_weight` (DWA).

    >>> zero, one = torch.zeros(4), torch.ones(4)
    >>> match_statistics([(one, one), (zero, one)], [(zero, one), (zero, zero)])
    tensor(22.)
    """
    layers = [
        torch.linalg.vector_norm(mean - running_mean) + variance_weight * torch.linalg.vector_norm(variance - running)
        for (mean, variance), (running_mean, running) in zip(batch, trained, strict=True)
    ]
    distance: Tensor = first_weight * layers[0] + torch.stack(layers)[1:].sum()
    return distance


def _vector(gradient: Mapping[str, Tensor], like: Mapping[str, Tensor] | None = None) -> Tensor:
    """All values in one vector, in the order of the names of `like`."""
    return torch.cat([gradient[name].flatten() for name in like or gradient])


def _row_distances(left: Tensor, right: Tensor) -> Tensor:
    left, right = left.flatten(1), right.flatten(1)  # (out, rest)
    cosines: Tensor = (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1) + _ROW_EPSILON)
    return 1 - cosines
