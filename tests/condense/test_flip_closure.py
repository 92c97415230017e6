"""The flip closure in every method that takes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import condense

QUICK = {"network": "convnet-d2-w4", "real_batch": 4}
DECODED = {"network_images": 8, "networks": 1, "network_epochs": 1, "frequencies": 8, "network_batch": 8}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Noise that may be mirrored."""
    draws = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    labels = np.arange(24) % 3
    images = draws.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path, mirror=True)


@pytest.mark.parametrize("method", ["dm", "dc", "dsa", "datadam"])
def test_a_set_closed_by_hand_has_the_gradient_of_the_closure(photographs, method: str):
    """One update of [x, flip x], each half by itself, adds up to the update of x under the closure."""
    from condense.making import Job
    from condense.runtime.registry import load_object
    from condense.synthesizers.registry import methods

    maker = load_object(methods().find(method).target)
    job = Job(photographs.train, 1, 0, torch.device("cpu"))
    common = QUICK | {"iterations": 1, "augmentation": "none", "image_momentum": 0.0, "initialization": "real"}
    made = maker(job, maker.Settings(**common, flip_closure=True))
    start = made.images.detach().clone()
    loss = made.step(0)["loss"]
    moved = made.images.detach() - start

    by_hand = maker(Job(photographs.train, 2, 0, torch.device("cpu")), maker.Settings(**common))
    with torch.no_grad():  # class by class: an image, its mirror image
        by_hand.images.copy_(torch.stack([start, start.flip(-1)], 1).flatten(0, 1))
    before = by_hand.images.detach().clone()
    assert by_hand.step(0)["loss"] == pytest.approx(loss, rel=1e-5)
    halves = (by_hand.images.detach() - before).view(3, 2, *start.shape[1:])
    torch.testing.assert_close(moved, halves[:, 0] + halves[:, 1].flip(-1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["idc", "idm", "ncfm"])
def test_decoded_images_are_closed_after_decoding(photographs, method: str):
    from condense.making import Job
    from condense.runtime.registry import load_object
    from condense.synthesizers.registry import methods

    maker = load_object(methods().find(method).target)
    known = {name: value for name, value in DECODED.items() if name in maker.Settings.model_fields}
    settings = maker.Settings(**QUICK, **known, iterations=1, flip_closure=True)
    made = maker(Job(photographs.train, 1, 0, torch.device("cpu")), settings)
    images, labels = made.presented(made.images, made.labels)
    assert len(images) == len(labels) == 3 * 4 * 2
    torch.testing.assert_close(images[12:], images[:12].flip(-1))
    assert torch.isfinite(torch.tensor(list(made.advance(0).values()))).all()


@pytest.mark.parametrize("method", ["dm", "dc", "dsa", "datadam"])
def test_it_goes_with_every_augmentation_and_with_inner_training(photographs, method: str):
    inner = {"matching_steps": 2} if method in ("dc", "dsa") else {}
    for augmentation in ("dsa", "dsa-flip-first", "none"):
        made = condense.distill(
            method, photographs, 2, iterations=2, flip_closure=True, augmentation=augmentation, **QUICK, **inner
        )
        assert made.stored.shape == (6, 3, 8, 8)  # stored and evaluated without mirror images
        assert torch.isfinite(made.stored).all()


def test_digits_are_warned_of(capsys):
    condense.distill("dm", condense.load_data("digits"), 1, iterations=1, flip_closure=True, **QUICK)
    assert "flip closure may harm" in capsys.readouterr().err
