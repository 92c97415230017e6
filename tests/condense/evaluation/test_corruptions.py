"""Corruptions: frozen, the same for every network, harder with every level, and asked for by the caller."""

import pytest
import torch

import condense
from condense.cli.main import main
from condense.evaluation import corruptions
from condense.evaluation.corruptions import CORRUPTIONS, Corruption, corrupted, corruptions_hash
from condense.evaluation.protocols import PROTOCOLS

QUICK = PROTOCOLS.find("fraction").lasting(60)


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


def photos(count: int = 8, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    """Smooth images with edges, in [0.1, 0.9]."""
    down, across = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    waves = [
        0.5 + 0.4 * torch.sin((1 + k) * down + across * (k % 3)).sign() * torch.cos(across + k) for k in range(count)
    ]
    return torch.stack(waves)[:, None].repeat(1, channels, 1, 1)


def test_there_are_ten_and_they_are_frozen():
    """If this fails, numbers on corrupted images no longer compare with those of before."""
    assert len({each.name for each in CORRUPTIONS}) == 10
    assert corruptions_hash() == HASH


HASH = "c1595a7eb10f"


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 24, 40)])
def test_every_level_changes_images_more_than_the_one_before(corruption: Corruption, shape):
    images = photos(8, *shape)
    changes = []
    for level in corruption.levels:
        made, again = (corruption.apply(images, level, torch.Generator().manual_seed(0)) for _ in range(2))
        assert made.shape == images.shape
        assert torch.isfinite(made).all()
        assert torch.equal(made, again)
        changes.append(float((made.clamp(0, 1) - images).abs().mean()))
    assert changes[0] <= changes[1] <= changes[2]
    assert 0 < changes[2] < 0.5


def test_some_by_hand():
    images = photos(2)
    still = torch.Generator()
    by_name = {each.name: each.apply for each in CORRUPTIONS}
    torch.testing.assert_close(by_name["brightness"](images, 0.05, still), images + 0.05)
    torch.testing.assert_close(by_name["gamma"](images, 2.0, still), images**2)
    mean = images.mean((1, 2, 3), keepdim=True)
    grey = torch.full((1, 3, 4, 4), 0.25)
    torch.testing.assert_close(by_name["contrast"](images, 0.5, still), mean + 0.5 * (images - mean))
    torch.testing.assert_close(by_name["gaussian-blur"](grey, 1.0, still), grey)
    torch.testing.assert_close(
        by_name["pixelate"](images, 2.0, still)[:, :, ::2, ::2], images.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    )
    spoiled = by_name["salt-and-pepper"](images, 0.5, torch.Generator().manual_seed(0))
    changed = (spoiled != images).any(1)
    assert 0.4 < changed.float().mean() < 0.6
    assert torch.isin(spoiled, torch.cat([images.flatten(), torch.tensor([0.0, 1.0])])).all()


def test_the_same_thousand_test_images_preprocessed(digits, monkeypatch):
    monkeypatch.setattr(corruptions, "IMAGES", 50)
    (nothing,) = (Corruption("nothing", (0.0, 0.0, 0.0), lambda images, level, draws: images),)
    made = corrupted(digits.test, nothing, 0)
    assert len(made) == 50
    every = digits.test.images(torch.arange(len(digits.test)))
    found = [int((every == image).flatten(1).all(1).nonzero()[0]) for image in made.images(torch.arange(50))]
    assert found == sorted(set(found))
    assert torch.equal(made.labels, digits.test.labels[torch.tensor(found)])


def test_they_are_scored_where_they_are_asked_for(digits, tmp_path, capsys):
    plain = condense.evaluate(digits.train, digits, ["mlp"], 2, QUICK).results[0]
    assert plain.corrupted == {}
    assert plain.corrupted_mean is plain.corruptions_hash is None
    assert 0 < plain.calibration_error < 0.5
    result = condense.evaluate(digits.train, digits, ["mlp"], 2, QUICK, corruptions=True).results[0]
    assert result.accuracies == plain.accuracies
    assert list(result.corrupted) == [each.name for each in CORRUPTIONS]
    assert 0.2 < result.corrupted_mean < result.mean
    assert result.corruptions_hash == corruptions_hash()
    out = tmp_path / "set.h5"
    condense.distill("random", digits, 5, out=out)
    assert main(["evaluate", str(out), "--corruptions", "--protocol", "demo", "--nets", "mlp", "--runs", "1"]) == 0
    assert "% on corrupted images" in capsys.readouterr().out
