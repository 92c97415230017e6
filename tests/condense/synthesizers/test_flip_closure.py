"""The flip closure in every method that takes it.

Whole updates with it are in the tests of dc and dsa, of idc, of idm and of ncfm, beside those without.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import condense
from condense.augmentation.dsa import Augmentation, augment, draw_per_class
from condense.data.budget import Budget
from condense.data.sampling import sample
from condense.methods.interface import Job
from condense.methods.registry import methods
from condense.networks import build_network
from condense.runtime.registry import load_object
from condense.runtime.seeds import derive_seed, generator

CPU = torch.device("cpu")
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


def naive_features(method: str, network: torch.nn.Module, images: Tensor) -> list[Tensor]:
    """What is averaged over a class: rows of features; for datadam where the first block looks, too."""
    features = network.features(images).flatten(1)
    if method == "dm":
        return [features]
    block = network.features[0]
    where = block.activation(block.norm(block.convolution(images))).abs().sum(1).flatten(1)
    return [10 * where / where.norm(dim=1, keepdim=True), features]  # 100 times the squared distance; features 0.01


SAYS = {
    "dm": [({}, False), ({"flip_closure": True}, True)],
    "idc": [({}, False), ({"flip_closure": True}, True)],
    "frepo": [({}, True), ({"flips": False}, False)],
    "rcig": [({}, True), ({"flips": False}, False)],
}


@pytest.mark.parametrize("method", list(SAYS))
def test_sets_say_whether_mirror_images_took_part(photographs, method: str):
    own = {"frepo": {"network": "conv-d2-w2-nonorm"}, "rcig": {"network": "conv-d2-w2-nonorm", "inner_steps": 2}}
    for given, expected in SAYS[method]:
        made = condense.distill(method, photographs, 1, iterations=1, **QUICK | own.get(method, {}) | given)
        assert made.mirrored is expected


@pytest.mark.parametrize(("method", "given"), [("dm", {"flip_closure": True}), ("frepo", {"flips": True})])
def test_mirror_images_of_another_class_are_pointed_out(capsys, method: str, given: dict):
    digits = condense.load_data("digits")
    maker = load_object(methods().find(method).target)
    for settings, said in ((given, True), ({}, False)):
        maker.check(digits.train, Budget(ipc=1), maker.Settings(**settings))
        assert ("mirror images of digits are of no class or another one" in capsys.readouterr().err) is said


@pytest.mark.parametrize("method", ["dm", "datadam"])
def test_class_means_are_those_of_images_and_their_mirror_images(photographs, method: str):
    """Closed by hand before the augmentation; real batches are not."""
    maker = load_object(methods().find(method).target)
    settings = QUICK | {"image_lr": 1.0, "image_momentum": 0.0, "flip_closure": True}
    settings |= {"power": 1.0} if method == "datadam" else {}  # of the reference above
    made = maker(Job(photographs.train, Budget(ipc=2), 0, CPU), maker.Settings(**settings))
    images = made.images.detach().clone().requires_grad_()
    network = build_network("convnet-d2-w4-in", (3, 8, 8), 3, derive_seed(0, "network", 0))
    strategy, loss = Augmentation.dsa(mirror=True), torch.zeros(())
    draws = draw_per_class(strategy, (3, 8, 8), 3, generator(0, "augmentation", 0))
    for label in range(3):
        indices = sample(photographs.train.class_indices(label), 4, generator(0, "real batch", 0, label))
        synthetic = images[2 * label : 2 * label + 2]
        batches = photographs.train.images(indices), torch.cat([synthetic, synthetic.flip(3)])
        row = draws.expand(torch.tensor([label]))
        sides = [naive_features(method, network, augment(strategy, batch, row)) for batch in batches]
        for left, right in zip(*sides, strict=True):
            loss = loss + ((left.mean(0).detach() - right.mean(0)) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, images)
    assert made.step(0)["loss"] == pytest.approx(loss.item(), rel=1e-4)
    moved = made.images.detach() - images.detach()
    assert (moved + gradient).norm() < 1e-3 * gradient.norm()


@pytest.mark.parametrize("method", ["idc", "idm", "ncfm"])
def test_decoded_images_are_closed_after_decoding(photographs, method: str):
    maker = load_object(methods().find(method).target)
    known = {name: value for name, value in DECODED.items() if name in maker.Settings.model_fields}
    settings = maker.Settings(**QUICK, **known, iterations=1, flip_closure=True)
    made = maker(Job(photographs.train, Budget(ipc=1), 0, CPU), settings)
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
    assert "to learn beside them may harm" in capsys.readouterr().err
