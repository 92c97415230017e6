from __future__ import annotations

import numpy as np
import pytest
import torch
from kornia.enhance import ZCAWhitening

from condense.data.fitting import choose_preprocessing, fit_normalization, fit_whitening
from condense.data.preprocessing import None_, Normalization, Preprocessing, Whitening, preprocessing_from_arrays
from condense.data.sources import TensorPixels
from condense.data.survey import survey
from condense.runtime.errors import CondenseError


def pixels(count: int = 40, shape: tuple[int, int, int] = (3, 4, 5), seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    smooth = torch.randint(0, 256, (count, shape[0], 1, 1), generator=draws)
    return ((smooth + torch.randint(0, 256, (count, *shape), generator=draws)) // 2).to(torch.uint8)


def every_kind() -> list[Preprocessing]:
    source = TensorPixels(pixels())
    return [None_(), fit_normalization(survey(source)), fit_whitening(source)]


@pytest.mark.parametrize("preprocessing", every_kind(), ids=lambda value: value.kind)
class TestEveryKind:
    def test_invert_undoes_apply(self, preprocessing: Preprocessing) -> None:
        images = pixels(7, seed=1) / 255
        applied = preprocessing.apply(images)
        assert applied.dtype == torch.float32
        assert applied.shape == images.shape
        torch.testing.assert_close(preprocessing.invert(applied), images, atol=1e-5, rtol=0)

    def test_float64_stays_float64(self, preprocessing: Preprocessing) -> None:
        assert preprocessing.apply(pixels(2).double()).dtype == torch.float64

    def test_survives_storage(self, preprocessing: Preprocessing) -> None:
        again = preprocessing_from_arrays(preprocessing.kind, preprocessing.to_arrays())
        assert again.equals(preprocessing)
        assert preprocessing.equals(again)
        images = pixels(3) / 255
        assert torch.equal(again.apply(images), preprocessing.apply(images))

    def test_is_differentiable(self, preprocessing: Preprocessing) -> None:
        images = (pixels(2) / 255).requires_grad_()
        preprocessing.apply(images).square().sum().backward()
        assert images.grad is not None
        assert images.grad.abs().sum() > 0


def test_kinds_differ_from_each_other() -> None:
    kinds = every_kind()
    for first in kinds:
        assert [first.equals(second) for second in kinds] == [first is second for second in kinds]


def test_equals_sees_another_mean_matrix_and_eps() -> None:
    normalization = Normalization((0.1, 0.2), (1.0, 1.0))
    assert not normalization.equals(Normalization((0.1, 0.21), (1.0, 1.0)))
    assert not normalization.equals(Normalization((0.1,), (1.0,)))
    whitening = Whitening(torch.zeros(2), torch.eye(2))
    assert whitening.equals(Whitening(torch.zeros(2), torch.eye(2)))
    assert not whitening.equals(Whitening(torch.zeros(2), 1.01 * torch.eye(2)))
    assert not whitening.equals(Whitening(torch.zeros(2), torch.eye(2), eps=0.2))


def test_computed_normalization_is_that_of_numpy() -> None:
    values = pixels(33).numpy()
    fitted = fit_normalization(survey(TensorPixels(torch.from_numpy(values))))
    np.testing.assert_allclose(fitted.mean, (values / 255).mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, (values / 255).std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    values = pixels(9)
    values[:, 1] = 7
    fitted = fit_normalization(survey(TensorPixels(values)))
    assert fitted.std[1] == 1
    assert fitted.apply(values / 255).isfinite().all()


@pytest.mark.parametrize("count", [10, 200])  # fewer and more images than the 60 values of one
def test_whitening_is_that_of_kornia(count: int) -> None:
    values = pixels(count)
    images = values.double() / 255
    reference = ZCAWhitening(eps=0.1, compute_inv=True).fit(images)
    fitted = fit_whitening(TensorPixels(values))
    torch.testing.assert_close(fitted.matrix.double(), reference.transform_matrix, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fitted.apply(images), reference(images), atol=1e-5, rtol=1e-5)
    whitened = reference(images)
    torch.testing.assert_close(fitted.invert(whitened), reference.inverse_transform(whitened), atol=1e-5, rtol=1e-5)


def test_whitening_in_pieces_is_bit_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    values = pixels(100)
    whole = fit_whitening(TensorPixels(values))
    monkeypatch.setattr("condense.data.sources._CHUNK_BYTES", 7 * 60)
    assert len(list(TensorPixels(values).chunks())) == 15
    assert torch.equal(fit_whitening(TensorPixels(values)).matrix, whole.matrix)


def test_whitening_above_the_memory_limit_is_refused() -> None:
    with pytest.raises(CondenseError, match=r"60 values needs a matrix .* --image-size"):
        fit_whitening(TensorPixels(pixels()), memory_limit=1000)


def test_images_of_another_data_set_are_refused() -> None:
    with pytest.raises(CondenseError, match=r"1 channel\(s\) but the images have 3"):
        Normalization((0.5,), (0.5,)).apply(torch.zeros(2, 3, 4, 4))
    with pytest.raises(CondenseError, match="images of 4 values but these have 8"):
        Whitening(torch.zeros(4), torch.eye(4)).apply(torch.zeros(2, 2, 2, 2))


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(CondenseError, match="positive std"):
        Normalization((0.5,), (0.0,))
    with pytest.raises(CondenseError, match="positive std"):
        Normalization((0.5, 0.5), (1.0,))
    with pytest.raises(CondenseError, match=r"matrix \[d, d\]"):
        Whitening(torch.zeros(4), torch.eye(3))
    with pytest.raises(CondenseError, match="unknown preprocessing 'pca'"):
        preprocessing_from_arrays("pca", {})
    with pytest.raises(CondenseError, match="lacks its 'std'"):
        preprocessing_from_arrays("normalize", {"mean": np.zeros(1)})


def choose(normalization: str | None, default: Preprocessing | None, channels: int = 3) -> Preprocessing:
    source = TensorPixels(pixels(shape=(channels, 4, 5)))
    return choose_preprocessing(normalization, default, source, survey(source), 2**20)


def test_the_choice_by_name() -> None:
    own = Normalization((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert choose(None, own) is own
    assert choose(None, None).equals(choose("computed", own))
    assert choose("none", own).kind == "none"
    assert choose("zca", own).kind == "zca"
    assert choose("imagenet", own).equals(Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert choose("mnist", None, channels=1).equals(Normalization((0.1307,), (0.3081,)))


def test_a_stored_whitening_of_another_size_is_fitted_again() -> None:
    stored = Whitening(torch.zeros(4), torch.eye(4))
    chosen = choose(None, stored)
    assert isinstance(chosen, Whitening)
    assert chosen.mean.numel() == 60


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(CondenseError, match="cifar10 is for 3-channel images but these have 1"):
        choose("cifar10", None, channels=1)
    with pytest.raises(CondenseError, match="1-channel images but these have 3"):
        choose("mnist", None)
    with pytest.raises(CondenseError, match=r"unknown normalization 'cifer10'.*did you mean cifar10"):
        choose("cifer10", None)
    with pytest.raises(CondenseError, match="unknown normalization 'kmnist'"):  # known, but without constants
        choose("kmnist", None)
