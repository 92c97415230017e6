"""Interpolated labels: images and logits are mixed by one draw, and compared by KL."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import condense
from condense.labels import InterpolatedLabels
from condense.labels.plain import PlainImages
from condense.runtime.errors import CondenseError
from condense.training.rule import TrainingRule
from condense.training.sources import Batch, Tensors, TrainingSource

CPU = torch.device("cpu")
RULE = TrainingRule(lr=0.1, batch_size=4, epochs=2, augmentation="crop-flip")
IMAGES = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LOGITS = torch.randn(12, 10, generator=torch.Generator().manual_seed(1))
LABELS = InterpolatedLabels(LOGITS, torch.arange(12) % 10)


@pytest.fixture(scope="module")
def info():
    return replace(condense.load_data("digits").info, mirror=True)


def source_of(info, weights: torch.Tensor | None = None) -> TrainingSource:
    return LABELS.source(Tensors(IMAGES), PlainImages(12, lambda ids: IMAGES[ids]), info, weights=weights)


def batches(info, rule: TrainingRule = RULE, seed: int = 0, weights: torch.Tensor | None = None) -> list[Batch]:
    presented = source_of(info, weights).presented(rule, seed, CPU)
    return [presented.batch(epoch, number, torch.arange(4)) for epoch in range(2) for number in range(2)]


def test_logits_are_mixed_in_the_shares_of_the_images(info) -> None:
    """What is seen of each image without mixing, mixed here by the share and partner that the logits tell."""
    alone = LABELS.at(torch.arange(12))
    views = super(InterpolatedLabels, alone).source(Tensors(IMAGES), PlainImages(12, lambda ids: IMAGES[ids]), info)
    plain = views.presented(RULE, 0, CPU)
    shares = []
    for place, batch in enumerate(batches(info)):
        seen = plain.batch(place // 2, place % 2, torch.arange(4)).images
        for row in range(4):
            fits = []
            for partner in range(4):
                difference = LOGITS[row] - LOGITS[partner]
                rest = batch.targets.values[row] - LOGITS[partner]
                share = (rest @ difference / (difference @ difference)).item() if partner != row else 1.0
                mixed = share * LOGITS[row] + (1 - share) * LOGITS[partner]
                if torch.allclose(mixed, batch.targets.values[row], atol=1e-5):
                    fits.append((partner, share))
            partner, share = fits[0]  # one that is its own partner has a share of 1 with any
            torch.testing.assert_close(batch.images[row], share * seen[row] + (1 - share) * seen[partner])
            shares.append(round(share, 4))
    assert all(0 < share <= 1 for share in shares)
    assert len({share for share in shares if share < 1}) == 4  # one a batch, another in each


def test_the_loss_is_kl_at_temperature_30(info) -> None:
    outputs = torch.randn(4, 10, generator=torch.Generator().manual_seed(2))
    targets = batches(info)[0].targets
    expected = torch.nn.KLDivLoss(reduction="batchmean")(
        (outputs / 30).log_softmax(1), (targets.values / 30).softmax(1)
    )
    torch.testing.assert_close(targets.loss(outputs, targets.values), expected)


def test_draws_are_those_of_the_training_and_one_for_each_batch(info) -> None:
    first, again, other = batches(info), batches(info), batches(info, seed=1)
    for one, same, different in zip(first, again, other):
        assert torch.equal(one.targets.values, same.targets.values)
        assert not torch.equal(one.targets.values, different.targets.values)
    assert not torch.equal(first[0].targets.values, first[1].targets.values)


def test_a_mixed_image_counts_as_its_parts_do(info) -> None:
    weighted = batches(info, weights=torch.arange(12.0))
    for one, plain in zip(weighted, batches(info)):
        torch.testing.assert_close(one.images, plain.images)
        assert one.targets.weights is not None
        assert one.targets.weights.sum().item() == pytest.approx(0 + 1 + 2 + 3)  # partners are a permutation


def test_rules_and_losses_that_mix_otherwise_are_refused(info) -> None:
    with pytest.raises(CondenseError, match="those of mixup; choose a protocol without CutMix"):
        batches(info, RULE.model_copy(update={"cutmix": 0.5}))
    with pytest.raises(CondenseError, match="interpolated labels are mixed as logits"):
        InterpolatedLabels(LOGITS, loss="cross-entropy")


def test_they_tell_what_they_are() -> None:
    assert LABELS.attributes == {"temperature": 30.0}
    assert LABELS.describe() == "one soft label per image (interpolated, kl, temperature 30)"
    assert torch.equal(LABELS.likeliest, LOGITS.argmax(1))
    assert LABELS.probabilities is None
