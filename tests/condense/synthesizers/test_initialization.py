"""What images start from, representative real batches, and sets of many images per class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

import condense
from condense.augmentation.dsa import augment
from condense.data import TrainingData
from condense.data.budget import Budget
from condense.matching import attention
from condense.methods.interface import Job
from condense.methods.registry import methods
from condense.networks import build_network
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.runtime.seeds import derive_seed
from condense.sets.spaces import SPACES
from condense.sets.tiles import Tiles
from condense.synthesizers.initialization import initial_images

CPU = torch.device("cpu")
NETWORK = "convnet-d2-w4-in"
QUICK = {"network": NETWORK, "real_batch": 4, "iterations": 1}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def digits():
    return condense.load_data("digits")


@pytest.fixture(scope="module")
def grouped_file(tmp_path_factory) -> Path:
    """Three classes of 24 images in four clearly different groups of six, in mixed order; no two images alike."""
    draws = np.random.default_rng(0)
    labels, groups = np.repeat(np.arange(3), 24), np.tile(np.arange(4), 18)
    patterns = np.zeros((4, 8, 8))
    patterns[0, :4, :4] = patterns[1, :4, 4:] = patterns[2, 4:, :4] = patterns[3, 4:, 4:] = 200
    images = (patterns[groups] + draws.integers(0, 40, (72, 8, 8))).astype(np.uint8)
    path = tmp_path_factory.mktemp("data") / "grouped.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images[::8], test_labels=labels[::8])
    return path


@pytest.fixture(scope="module")
def grouped(grouped_file: Path):
    return condense.load_data(grouped_file)


def start(name: str, data: TrainingData, ipc: int = 2, **options) -> Tensor:
    return initial_images(name, Job(data, Budget(ipc=ipc), 0, CPU), network=NETWORK, **options)[0]


def real_number(image: Tensor, data: TrainingData, label: int) -> int:
    """Which image of the class this is, in preprocessed space or in [0, 1]."""
    members = data.class_indices(label)
    for images in (data.images(members), data.pixels(members).float() / 255):
        same = (images == image).flatten(1).all(1).nonzero().flatten().tolist()
        if same:
            return int(members[same[0]])
    raise AssertionError(f"no real image of class {label}")


@pytest.mark.parametrize("space", ["preprocessed", "unit"])
@pytest.mark.parametrize("name", ["real", "tiles", "kmeans", "herding"])
def test_without_a_decoder_images_start_from_different_real_ones(grouped, name: str, space: str):
    images = start(name, grouped.train, 3, space=SPACES[space])
    assert images.shape == (9, 1, 8, 8)
    numbers = {real_number(images[row], grouped.train, row // 3) for row in range(9)}
    assert len(numbers) == 9
    assert (images.min() >= 0) == (space == "unit")


def test_noise_is_normal_and_in_the_unit_space_clamped(digits):
    images = start("noise", digits.train, 20)
    assert images.shape == (200, 1, 8, 8)
    assert abs(images.mean().item()) < 0.03
    assert abs(images.std().item() - 1) < 0.03
    unit = start("noise", digits.train, 20, space=SPACES["unit"])
    torch.testing.assert_close(unit, (images / 4 + 0.5).clamp(0, 1))
    assert unit.min() == 0
    assert unit.max() == 1
    assert not torch.equal(images[:20], images[20:40])


def group_of(image: Tensor) -> int:
    """Which quarter is the brightest."""
    return int(image[0].unflatten(0, (2, 4)).unflatten(2, (2, 4)).mean((1, 3)).argmax())


def test_kmeans_takes_one_image_of_each_cluster(grouped):
    images = start("kmeans", grouped.train, 4)
    assert [sorted(group_of(image) for image in images[4 * k : 4 * k + 4]) for k in range(3)] == [[0, 1, 2, 3]] * 3


def test_kmeans_fills_tiles_with_as_many_clusters(grouped):
    decoder = Tiles(2)
    mosaics = start("kmeans", grouped.train, 1, space=SPACES["unit"], decoder=decoder)
    for label in range(3):
        decoded = decoder.decode(mosaics[label : label + 1], fill=0.5)
        assert sorted(group_of(image) for image in decoded) == [0, 1, 2, 3]


def test_herding_is_that_of_the_method(digits):
    """Greedily towards the class mean, by the features that are cached for every method."""
    chosen = condense.distill("herding", digits, 3, network=NETWORK)
    images, seconds = initial_images("herding", Job(digits.train, Budget(ipc=3), 0, CPU), network=NETWORK)
    torch.testing.assert_close(images, chosen.images)
    assert seconds > 0  # found in the cache, and counted


@pytest.mark.parametrize("sampling", ["nearest", "bilinear"])
def test_tiles_are_real_images_made_smaller_in_the_order_of_decoding(digits, sampling: str):
    mosaics = start("tiles", digits.train, 2, space=SPACES["unit"], decoder=Tiles(2), sampling=sampling)
    corners = {} if sampling == "nearest" else {"align_corners": False}
    for label in range(10):
        real = digits.train.pixels(digits.train.class_indices(label)).float() / 255
        small = F.interpolate(real, size=(4, 4), mode=sampling, **corners)
        used = set()
        for image in mosaics[2 * label : 2 * label + 2]:
            for row in (0, 4):
                for column in (0, 4):
                    distances = (small - image[:, row : row + 4, column : column + 4]).abs().flatten(1).amax(1)
                    assert distances.min() < 1e-6
                    used.add(int(distances.argmin()))
        assert len(used) == 8


def test_real_images_with_a_decoder_stay_whole(digits):
    mosaics = start("real", digits.train, 2, space=SPACES["unit"], decoder=Tiles(2))
    assert len({real_number(mosaics[row], digits.train, row // 2) for row in range(20)}) == 20


def stored_start(method: str, data, path: Path, ipc: int = 2, **options) -> Tensor:
    maker = load_object(methods().find(method).target)
    settings = maker.Settings(network=NETWORK, initialization=str(path), **options)
    return maker(Job(data.train, Budget(ipc=ipc), 0, CPU), settings).images.detach()


def test_a_file_gives_its_stored_images(grouped, tmp_path: Path):
    made = condense.distill("dm", grouped, 2, out=tmp_path / "dm.h5", **QUICK)
    assert torch.equal(stored_start("dm", grouped, tmp_path / "dm.h5"), made.stored)
    mosaics = condense.distill("idc", grouped, 2, out=tmp_path / "idc.h5", network_images=8, **QUICK)
    assert torch.equal(stored_start("idc", grouped, tmp_path / "idc.h5"), mosaics.stored)
    assert torch.equal(stored_start("ncfm", grouped, tmp_path / "idc.h5", networks=1, network_epochs=1), mosaics.stored)


def test_a_file_of_another_space_is_converted(grouped, tmp_path: Path):
    """Pixels, preprocessed images and those in [0, 1] start a run as the same pictures."""
    chosen = condense.distill("random", grouped, 2, out=tmp_path / "pixels.h5")
    assert chosen.stored.dtype == torch.uint8
    torch.testing.assert_close(stored_start("dm", grouped, tmp_path / "pixels.h5"), chosen.images)
    scaled = chosen.stored.float() / 255
    torch.testing.assert_close(stored_start("idc", grouped, tmp_path / "pixels.h5", factor=1), scaled)
    learned = condense.distill("dm", grouped, 2, out=tmp_path / "dm.h5", image_lr=5.0, **QUICK)
    found = stored_start("idc", grouped, tmp_path / "dm.h5", factor=1)
    torch.testing.assert_close(found, learned.plain_images.clamp(0, 1))
    mosaics = condense.distill("idc", grouped, 2, out=tmp_path / "idc.h5", network_images=8, **QUICK)
    (mean,), (std,) = grouped.preprocessing.mean, grouped.preprocessing.std
    torch.testing.assert_close(stored_start("idm", grouped, tmp_path / "idc.h5"), (mosaics.stored - mean) / std)


def test_a_file_of_another_preprocessing_starts_as_the_same_pictures(grouped, grouped_file: Path, tmp_path: Path):
    made = condense.distill("dm", grouped, 2, out=tmp_path / "dm.h5", **QUICK)
    plain = condense.load_data(grouped_file, normalization="none")
    assert plain.fingerprint == grouped.fingerprint
    torch.testing.assert_close(stored_start("dm", plain, tmp_path / "dm.h5"), made.plain_images)


def test_a_file_in_another_order_is_sorted_by_class(grouped, tmp_path: Path):
    made = condense.distill("dm", grouped, 2, **QUICK)
    order = torch.tensor([4, 0, 2, 1, 5, 3])
    mixed = dataclasses.replace(made, stored=made.stored[order], stored_labels=made.stored_labels.at(order))
    mixed.save(tmp_path / "mixed.h5")
    found = stored_start("dm", grouped, tmp_path / "mixed.h5")
    assert torch.equal(found, made.stored)


def test_a_run_that_starts_from_a_file_tells_nobodys_folders(grouped, tmp_path: Path):
    folder = tmp_path / "somebody's folder"
    folder.mkdir()
    condense.distill("dm", grouped, 2, out=folder / "start.h5", **QUICK)
    made = condense.distill(
        "dm", grouped, 2, initialization=str(folder / "start.h5"), out=tmp_path / "set.h5", image_lr=0.1, **QUICK
    )
    configuration = made.provenance["configuration"]
    assert configuration["settings"]["initialization"] == "start.h5"
    assert "--initialization start.h5" in made.provenance["command"]
    for content in ((tmp_path / "set.h5").read_bytes(), (tmp_path / "set.json").read_bytes()):
        assert b"somebody" not in content
        assert str(tmp_path).encode() not in content
    with h5py.File(tmp_path / "set.h5") as file:
        assert "start.h5" in file.attrs["provenance"].decode()
    # the images that it started from decide the result, the file's name does not
    condense.distill("dm", grouped, 2, seed=1, out=folder / "start.h5", overwrite=True, **QUICK)
    other = condense.distill("dm", grouped, 2, initialization=str(folder / "start.h5"), image_lr=0.1, **QUICK)
    assert other.provenance["configuration"]["initial images"] != configuration["initial images"]


def refused(data, match: str, ipc: int = 2, method: str = "dm", **options) -> None:
    with pytest.raises(CondenseError, match=match) as error:
        condense.distill(method, data, ipc, **QUICK | options)
    assert "\n" not in str(error.value)


def test_starts_that_do_not_fit_are_refused_in_one_line(grouped, digits, tmp_path: Path):
    here = tmp_path / "set.h5"
    condense.distill("dm", grouped, 2, out=here, **QUICK)
    refused(grouped, "real, noise, kmeans, herding, tiles, .* or the .h5 file", initialization="nose")
    refused(grouped, r"absent\.h5", initialization=str(tmp_path / "absent.h5"))
    (tmp_path / "text.h5").write_text("no set")
    refused(grouped, r"text\.h5 is not an HDF5 file", initialization=str(tmp_path / "text.h5"))
    cut = here.read_bytes()
    (tmp_path / "cut.h5").write_bytes(cut[: len(cut) // 2])
    refused(grouped, r"cut\.h5 is damaged or cut short", initialization=str(tmp_path / "cut.h5"))
    refused(grouped, "has 2 of images per class, not 3; give --ipc as it has", 3, initialization=str(here))
    refused(digits, "the set has 3 classes but digits has 10", initialization=str(here))
    refused(grouped, "stores whole images; give a set with the --factor", method="idm", initialization=str(here))
    mosaics = tmp_path / "idm.h5"
    condense.distill("idm", grouped, 2, out=mosaics, network_steps=1, network_batch=8, **QUICK)
    refused(grouped, "stores 2 x 2 tiles; give a set with the --factor", initialization=str(mosaics))
    refused(grouped, "stores 2 x 2 tiles", method="idm", factor=3, initialization=str(mosaics))


@pytest.fixture(scope="module")
def lopsided(grouped):
    """The last class of `grouped` has five training images left."""
    keep = torch.cat(
        [grouped.train.class_indices(0), grouped.train.class_indices(1), grouped.train.class_indices(2)[:5]]
    )
    return dataclasses.replace(grouped, train=grouped.train.subset(keep))


@pytest.mark.parametrize("name", ["real", "tiles", "kmeans", "herding"])
def test_a_class_with_too_few_images_starts_several_from_one(lopsided, name: str, capsys):
    """All five images of the last class, the same order again and its first two: 12 images start from them."""
    own = lopsided.train.images(lopsided.train.class_indices(2))
    images = start(name, lopsided.train, 12)[24:]
    same = torch.cdist(images.flatten(1), own.flatten(1)) < 1e-4  # (12, 5)
    assert same.sum(1).tolist() == [1] * 12
    places = same.int().argmax(1).tolist()
    assert sorted(places[:5]) == list(range(5))
    assert places == (places[:5] * 3)[:12]
    made = condense.distill("dm", lopsided, 12, initialization=name, **QUICK)
    assert made.class_counts == (12, 12, 12)
    said = "12 images per class start from 5 training images of class '2', so several start from the same one"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("method", ["idc", "idm", "ncfm"])
def test_a_class_with_too_few_images_for_its_tiles(lopsided, method: str, capsys):
    options = QUICK | {"initialization": "tiles", "factor": 2}
    options |= {"idc": {"matching_steps": 1, "network_images": 8}, "idm": {"network_steps": 1, "network_batch": 8}}.get(
        method, {}
    )
    made = condense.distill(method, lopsided, 3, **options)
    assert made.images.isfinite().all()
    said = capsys.readouterr().err
    assert "3 images per class with 4 tiles in each start from 5 training images of class '2'" in said
    condense.distill(method, lopsided, 1, **options)
    assert "start from 5" not in capsys.readouterr().err  # four tiles


@pytest.mark.parametrize("method", ["dm", "idm", "ncfm"])
def test_images_that_are_learned_come_in_whole_numbers_per_class(grouped, method: str):
    with pytest.raises(CondenseError, match=r"whole numbers per class: give --ipc N instead of --fraction 0\.5"):
        condense.distill(method, grouped, fraction=0.5, **QUICK)


def test_the_classes_of_a_file_may_have_different_numbers_of_images_only_to_be_refused(grouped, tmp_path: Path):
    made = condense.distill("dm", grouped, 2, **QUICK)
    dataclasses.replace(made, stored_labels=torch.tensor([0, 0, 0, 1, 1, 2])).save(tmp_path / "uneven.h5")
    refused(grouped, "has different numbers of images per class, not 2", initialization=str(tmp_path / "uneven.h5"))


def synthesizer(method: str, data: TrainingData, ipc: int = 1, **settings):
    maker = load_object(methods().find(method).target)
    return maker(Job(data, Budget(ipc=ipc), 0, CPU), maker.Settings(**{"network": NETWORK, "real_batch": 4} | settings))


def test_representatives_are_the_images_nearest_to_the_centres_of_their_class(grouped):
    """Against scikit-learn on the features of the network at hand; groups are clear, so all starts agree."""
    made = synthesizer("dm", grouped.train, real_batches="representative")
    made.step(0)
    network = build_network(NETWORK, (1, 8, 8), 3, derive_seed(0, "network", 0))
    for label in range(3):
        members = grouped.train.class_indices(label)
        features = network.embed(grouped.train.images(members)).detach()
        centres = KMeans(4, n_init=10, random_state=0).fit(features.numpy()).cluster_centers_
        nearest = {int(members[((features - torch.from_numpy(centre)) ** 2).sum(1).argmin()]) for centre in centres}
        assert set(made.real_batch(0, label).tolist()) == nearest
        assert len(nearest) == 4
        assert sorted(group_of(image) for image in grouped.train.images(made.real_batch(0, label))) == [0, 1, 2, 3]


@pytest.mark.parametrize(("asked", "interval"), [(None, 10), (3, 3)])
def test_representatives_are_kept_for_an_interval(digits, asked: int | None, interval: int):
    made = synthesizer("dm", digits.train, real_batches="representative", representative_interval=asked)
    batches = []
    for iteration in range(2 * interval + 1):
        made.step(iteration)
        batches.append(made.real_batches(iteration).tolist())
    changes = [number for number in range(1, len(batches)) if batches[number] != batches[number - 1]]
    assert changes == [interval, 2 * interval]
    plain = synthesizer("dm", digits.train)
    assert plain.real_batches(0).tolist() != plain.real_batches(1).tolist()


@pytest.mark.parametrize("method", ["dm", "idc"])
def test_a_run_with_representatives_goes_on_exactly(digits, method: str):
    """In the middle of an interval, where the network that chose them is gone."""
    more = {"matching_steps": 2, "network_images": 8} if method == "idc" else {}
    settings = {"real_batches": "representative", "representative_interval": 4} | more
    whole = synthesizer(method, digits.train, **settings)
    for iteration in range(3):
        whole.step(iteration)
    state = {name: value.clone() for name, value in whole.state().items()}
    resumed = synthesizer(method, digits.train, **settings)
    resumed.load_state(state)
    assert resumed.real_batches(3).tolist() == whole.real_batches(3).tolist()
    for iteration in range(3, 6):
        assert whole.step(iteration) == resumed.step(iteration)
    assert torch.equal(whole.images, resumed.images)


def test_small_classes_are_represented_by_all_their_images(grouped):
    made = synthesizer("dm", grouped.train, real_batches="representative", real_batch=100)
    made.step(0)
    for label in range(3):
        assert sorted(made.real_batch(0, label).tolist()) == grouped.train.class_indices(label).tolist()


def naive_loss(method: str, network: torch.nn.Module, real: Tensor, synthetic: Tensor, ipc: int) -> Tensor:
    """Everything in one forward, class means by reshaping: [10, ipc, ...]."""

    def read(images: Tensor, count: int) -> list[Tensor]:
        maps, features = network.activations(images)
        rows = [features] if method == "dm" else [*(attention(values, 1.0) for values in maps[:-1]), features]
        return [values.view(10, count, -1).mean(1) for values in rows]

    distances = [((left.detach() - right) ** 2).sum() for left, right in zip(read(real, 4), read(synthetic, ipc))]
    if method == "dm":
        return distances[0]
    return 100 * sum(distances[:-1]) + 100 * 0.01 * distances[-1]


@pytest.mark.parametrize("network", ["convnet-d2-w4-in", "convnet-d2-w4-bn"])
@pytest.mark.parametrize("method", ["dm", "datadam"])
@pytest.mark.parametrize("ipc", [1, 40])
def test_groups_of_classes_have_the_gradient_of_one_big_batch(digits, method: str, network: str, ipc: int):
    """At 40 images per class in several groups; BatchNorm sees all 400 images in one forward."""
    power = {"power": 1.0} if method == "datadam" else {}  # of the reference above
    made = synthesizer(method, digits.train, ipc, network=network, image_momentum=0.0, image_lr=1.0, **power)
    images = made.images.detach().clone().requires_grad_()
    plain = build_network(network, (1, 8, 8), 10, derive_seed(0, "network", 0))
    draws, indices = made.class_draws(0), made.real_batches(0)
    real = augment(made.augmentation, digits.train.images(indices), draws.expand(digits.train.labels[indices]))
    synthetic = augment(made.augmentation, images, draws.expand(torch.arange(10).repeat_interleave(ipc)))
    loss = naive_loss(method, plain, real, synthetic, ipc)
    (gradient,) = torch.autograd.grad(loss, images)

    forwards = []
    convolutions = [part for part in made.network.modules() if isinstance(part, torch.nn.Conv2d)]
    convolutions[0].register_forward_pre_hook(
        lambda part, inputs: forwards.append(len(inputs[0])) if inputs[0].requires_grad else None
    )
    assert made.step(0)["loss"] == pytest.approx(loss.item(), rel=1e-4)
    torch.testing.assert_close(images.detach() - made.images.detach(), gradient, rtol=1e-3, atol=1e-5)
    assert sum(forwards) == 10 * ipc
    if ipc == 1 or network.endswith("bn"):
        assert len(forwards) == 1
    else:
        assert max(forwards) <= 160  # a few classes at once
