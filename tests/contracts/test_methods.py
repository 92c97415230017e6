"""What every registered method must do, whatever it is."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import condense
from buffers import ExpertBuffer, record_experts
from condense.augmentation.dsa import Augmentation
from condense.data.budget import Budget
from condense.evaluation.protocols import PROTOCOLS
from condense.methods.registry import methods
from condense.methods.slices.sliced import Sliced
from condense.methods.slices.storing import slices_path
from condense.runtime.errors import CondenseError
from condense.runtime.registry import load_object
from condense.sets.synthetic_set import SyntheticSet
from condense.synthesizers.base import Synthesizer
from condense.synthesizers.recovery.base import Recovery

NAMES = methods().names()
MAKERS = {name: load_object(methods().find(name).target) for name in NAMES}
LEARNED = [name for name, maker in MAKERS.items() if issubclass(maker, Synthesizer)]
SLICED = [name for name, maker in MAKERS.items() if issubclass(maker, Sliced)]
RECOVERED = [name for name, maker in MAKERS.items() if issubclass(maker, Recovery)]
FEWER = ["infer"]  # stores fewer images than were asked for, and what is added to them in their bytes
QUICKER = {"rcig": {"network": "convnet-d1-w2", "inner_steps": 2}}  # takes many products with Jacobians
SHAPES = [(1, 8, 8), (3, 12, 8)]  # one and three channels, square and not


def shape_id(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


one_shape = pytest.mark.parametrize("data", SHAPES[1:], indirect=True, ids=shape_id)  # where shapes do not matter


@pytest.fixture(scope="module")
def options(data, untrained_teacher, tmp_path_factory):
    """What makes any method quick on this data, with experts and a teacher for those that need them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("experts") / "buffer"
        record_experts(data, "convnet-d2-w4", experts=2, epochs=3, out=folder)
    buffer = ExpertBuffer.open(folder)

    teacher = untrained_teacher(data.info, "convnet-d2-w4-bn")

    def of(method: str) -> dict:
        entry = methods().find(method)
        needed = ({"buffer": buffer} if entry.experts else {}) | ({"teacher": teacher} if entry.teacher else {})
        return small_options(method) | needed

    return of


def small_options(method: str) -> dict:
    """Settings that make any method quick, as far as it has them."""
    fields = load_object(methods().find(method).target).Settings.model_fields
    quick = {
        "network": "convnet-d2-w4",
        "features": "random",
        "real_batch": 4,
        "iterations": 2,
        "networks": 2,
        "network_epochs": 1,
        "network_images": 8,
        "network_steps": 1,
        "network_batch": 8,
        "frequencies": 8,
        "inner_steps": 4,
        "max_start": 2,
        "skip_above": 1e9,
        "slice_size": 2,
        "patch_images": 4,
        "patch_crops": 2,
        "epochs": 1,
        "trainings": 1,
        "most_updates": 2,
        "rate_updates": 4,  # so that a rate that falls does not follow the length of a run
        "solver": "cg",  # searches for no rates
    }
    return {name: value for name, value in (quick | QUICKER.get(method, {})).items() if name in fields}


@pytest.fixture(scope="module", params=SHAPES, ids=shape_id)
def data(request, tmp_path_factory):
    channels, height, width = request.param
    draws = np.random.default_rng(0)
    shape = (height, width) if channels == 1 else (height, width, channels)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    labels = np.arange(30) % 3
    images = draws.integers(0, 256, (30, *shape), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return condense.load_data(path)


@pytest.mark.parametrize("method", NAMES)
def test_a_set_has_the_right_form_and_survives_storage(method: str, options, data, tmp_path: Path):
    out = tmp_path / "set.h5"
    made = condense.distill(method, data, ipc=2, seed=1, out=out, **options(method))
    count = 3 * made.ipc
    assert made.stored.shape == (count, *data.image_shape)
    assert made.stored_labels.classes.tolist() == [label for label in range(3) for _ in range(made.ipc)]
    assert made.images.shape == (len(made), *data.image_shape)
    assert made.labels.tolist() == made.stored_labels.classes.tolist() * (len(made) // count)
    assert torch.isfinite(made.images).all()
    assert made.bytes >= made.stored.numel()
    if method in FEWER:
        assert made.ipc < 2
        assert made.bytes - made.stored_labels.bytes <= 6 * made.stored[0].numel() * made.stored.element_size()
    else:
        assert made.ipc == 2
    read = SyntheticSet.load(out)
    assert torch.equal(read.images, made.images)
    assert torch.equal(read.labels, made.labels)
    assert read.provenance["configuration"]["method"] == method
    assert read.protocol == methods().find(method).protocol
    assert read.protocol is None or read.protocol in PROTOCOLS.names()
    settings = read.provenance["configuration"]["settings"]
    augmented = method in LEARNED and settings.get("augmentation", "none") != "none"
    assert (read.augmentation is not None) == augmented
    if read.augmentation is not None:
        strategy = Augmentation.from_dict(read.augmentation)
        assert strategy == Augmentation.named(
            settings["augmentation"], mirror=data.mirror, align_corners=bool(methods().find(method).experts)
        )
    assert out.with_suffix(".json").exists()


@pytest.mark.parametrize("method", NAMES)
def test_the_same_request_gives_the_same_file_and_no_global_randomness(method: str, options, data, tmp_path: Path):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    paths = [tmp_path / "one" / "set.h5", tmp_path / "two" / "set.h5"]
    for path in paths:
        condense.distill(method, data, ipc=2 if method in FEWER else 1, seed=3, out=path, **options(method))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize("method", LEARNED)
def test_images_move_in_half_precision_nearly_as_in_full(method: str, options, data):
    """Inner networks compute in bfloat16, images stay float32; one update in 8 bits of mantissa is not far off."""
    chosen = options(method) | {"iterations": 1}
    start, *ends = (
        condense.distill(method, data, ipc=1, seed=2, precision=precision, **chosen | changes).stored
        for precision, changes in (("float32", {"image_lr": 1e-12}), ("float32", {}), ("bfloat16", {}))
    )
    full, half = (end - start for end in ends)
    assert half.dtype == torch.float32
    assert 0 < full.norm() < torch.inf
    assert torch.nn.functional.cosine_similarity(full.flatten(), half.flatten(), dim=0) > 0.5


@pytest.mark.parametrize("method", LEARNED)
def test_the_average_of_images_lies_between_their_start_and_their_end(method: str, options, data):
    chosen = options(method) | {"iterations": 1}
    start, end, average = (
        condense.distill(method, data, ipc=1, **chosen | changes).stored
        for changes in ({"image_lr": 1e-12, "image_average": None}, {"image_average": None}, {"image_average": 0.25})
    )
    free = (end != 0) & (end != 1)  # of images that are stored in [0, 1], those that did not leave it
    torch.testing.assert_close(average[free], (0.25 * start + 0.75 * end)[free], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", LEARNED)
def test_every_start_and_representative_batches_go_together(method: str, options, data, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path / "cache"))
    chosen = options(method) | {"iterations": 1}
    settings = load_object(methods().find(method).target).Settings
    if "real_batches" in settings.model_fields:
        chosen["real_batches"] = "representative"
    out = tmp_path / "set.h5"
    starts = ["real", "noise", "kmeans", "herding", "tiles", str(out)]
    for number, start in enumerate(starts):
        made = condense.distill(
            method,
            data,
            ipc=2,
            initialization=start,
            out=tmp_path / f"{number}.h5" if start == str(out) else out,
            overwrite=True,
            **chosen,
        )
        assert torch.isfinite(made.images).all()
    settings = made.provenance["configuration"]["settings"]
    assert settings["initialization"] == "set.h5"  # a base name, never a path
    assert str(tmp_path) not in made.provenance["command"]


@pytest.mark.parametrize("method", NAMES)
def test_wrong_requests_are_refused_before_anything_is_written(method: str, options, data, tmp_path: Path):
    for ipc in (0, -1):
        with pytest.raises(CondenseError, match=rf"--ipc {ipc}: should be greater than or equal to 1"):
            condense.distill(method, data, ipc=ipc, out=tmp_path / "set.h5", **options(method))
    with pytest.raises(CondenseError, match=r"--ipc 1 and --fraction 0\.5 are two sizes; give one of them"):
        condense.distill(method, data, ipc=1, fraction=0.5, **options(method))
    with pytest.raises(CondenseError, match="a set needs a size; give --ipc N images per class, or --fraction F"):
        condense.distill(method, data, **options(method))
    with pytest.raises(CondenseError, match="unknown option --imge-lr"):
        condense.distill(method, data, ipc=1, out=tmp_path / "set.h5", **options(method), imge_lr=1)
    assert list(tmp_path.iterdir()) == []


@one_shape
@pytest.mark.parametrize("method", LEARNED)
def test_interrupted_and_continued_equals_uninterrupted(
    method: str, options, data, tmp_path: Path, monkeypatch, capsys
):
    """In the middle of a network's life, where it is trained between matches before and after, and on to the next."""
    maker = load_object(methods().find(method).target)
    chosen = options(method)
    if "matching_steps" in maker.Settings.model_fields:
        chosen |= {"iterations": 5, "matching_steps": 4, "inner_epochs": 2, "network_lr": 0.1}
    if "solver" in maker.Settings.model_fields:
        chosen |= {"solver": "adam"}  # which keeps the rates that it found
    condense.distill(method, data, ipc=1, out=tmp_path / "whole.h5", **chosen)
    step, half = maker.step, chosen["iterations"] // 2

    def stop_halfway(self, iteration: int):
        if iteration == half:
            raise InterruptedError
        return step(self, iteration)

    monkeypatch.setattr("condense.methods.checkpoints.MOST_SECONDS_LOST", 0.0)
    monkeypatch.setattr("condense.methods.checkpoints.LARGEST_COST", 1e9)
    monkeypatch.setattr(maker, "step", stop_halfway)
    with pytest.raises(InterruptedError):
        condense.distill(method, data, ipc=1, out=tmp_path / "pieces.h5", **chosen)
    monkeypatch.setattr(maker, "step", step)
    condense.distill(method, data, ipc=1, out=tmp_path / "pieces.h5", **chosen)
    assert f"going on at iteration {half}" in capsys.readouterr().err
    assert (tmp_path / "pieces.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@one_shape
@pytest.mark.parametrize("method", LEARNED)
def test_sets_that_are_kept_on_the_way_are_those_of_shorter_runs(
    method: str, options, data, tmp_path: Path, monkeypatch
):
    """Their bytes too, also where the run was interrupted; what is kept does not change the run."""
    maker = load_object(methods().find(method).target)
    chosen = options(method) | {"iterations": 5, "image_average": 0.5}
    for name, more in (("short", {"iterations": 2}), ("middle", {"iterations": 4}), ("plain", {})):
        condense.distill(method, data, ipc=1, out=tmp_path / f"{name}.h5", **chosen | more)
    step, expected = maker.step, [(tmp_path / f"{name}.h5").read_bytes() for name in ("short", "middle", "plain")]

    def stop(self, iteration: int):
        if iteration == 3:
            raise InterruptedError
        return step(self, iteration)

    monkeypatch.setattr("condense.methods.checkpoints.MOST_SECONDS_LOST", 0.0)
    monkeypatch.setattr("condense.methods.checkpoints.LARGEST_COST", 1e9)
    monkeypatch.setattr(maker, "step", stop)
    out = tmp_path / "kept" / "set.h5"
    with pytest.raises(InterruptedError):
        condense.distill(method, data, ipc=1, out=out, keep_every=2, **chosen)
    assert (out.parent / "set-000002.h5").read_bytes() == expected[0]
    monkeypatch.setattr(maker, "step", step)
    condense.distill(method, data, ipc=1, out=out, keep_every=2, **chosen)
    paths = [out.with_name(name) for name in ("set-000002.h5", "set-000004.h5", "set.h5")]
    assert [path.read_bytes() for path in paths] == expected
    assert sorted(out.parent.glob("*.h5")) == sorted(paths)
    configurations = [SyntheticSet.load(path).provenance["configuration"] for path in paths]
    assert [configuration["settings"]["iterations"] for configuration in configurations] == [2, 4, 5]


@one_shape
@pytest.mark.parametrize("method", SLICED)
def test_a_run_that_is_interrupted_in_a_slice_equals_one_that_is_not(
    method: str, options, data, tmp_path: Path, monkeypatch, capsys
):
    """In its second update, where slices have updates, else where the slice is made; the slices before it stay."""
    maker = MAKERS[method]
    place, chosen = ("step" if method in RECOVERED else "result"), options(method) | {"slice_size": 4}
    original = getattr(maker, place)

    def stop(self, *iteration: int):
        if self.slice.number == 1 and iteration in [(), (1,)]:
            raise InterruptedError
        return original(self, *iteration)

    monkeypatch.setattr("condense.methods.checkpoints.MOST_SECONDS_LOST", 0.0)
    monkeypatch.setattr("condense.methods.checkpoints.LARGEST_COST", 1e9)
    condense.distill(method, data, ipc=3, out=tmp_path / "whole.h5", **chosen)
    monkeypatch.setattr(maker, place, stop)
    with pytest.raises(InterruptedError):
        condense.distill(method, data, ipc=3, out=tmp_path / "pieces.h5", **chosen)
    assert [path.name for path in slices_path(tmp_path / "pieces.h5").glob("*.h5")] == ["slice-00000.h5"]
    monkeypatch.setattr(maker, place, original)
    condense.distill(method, data, ipc=3, out=tmp_path / "pieces.h5", **chosen)
    said = capsys.readouterr().err
    assert "going on: 1 of " in said
    assert ("going on at iteration 1" in said) == (method in RECOVERED)
    assert (tmp_path / "pieces.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not slices_path(tmp_path / "pieces.h5").exists()


@pytest.mark.parametrize("method", RECOVERED)
def test_recovery_goes_down_what_it_descends_from_every_start(method: str, options, data):
    chosen = options(method) | {"iterations": 20, "slice_size": 3, "crop": None, "flip": False, "shift": 0}
    allowed = get_args(MAKERS[method].Settings.model_fields["initialization"].annotation)
    for start in allowed:
        made = condense.distill(method, data, ipc=2, initialization=start, **chosen)
        assert made.metrics["loss"][-1] < made.metrics["loss"][0]
        assert made.metrics.keys() == {"loss", "classes", "statistics"}
    for start in {"noise", "real", "patches"} - {*allowed}:
        with pytest.raises(CondenseError, match=f"--initialization '{start}': should be "):
            condense.distill(method, data, ipc=2, initialization=start, **chosen)


@pytest.mark.parametrize("method", RECOVERED)
def test_teachers_in_half_precision_think_nearly_the_same(method: str, options, data):
    if MAKERS[method].only_float32:
        with pytest.raises(CondenseError, match=f"{method} computes in float32 only"):
            condense.distill(method, data, ipc=2, precision="bfloat16", **options(method))
        return
    full, half = (
        condense.distill(method, data, ipc=2, precision=precision, **options(method)).metrics
        for precision in ("float32", "bfloat16")
    )
    for name, series in full.items():
        assert half[name][0].item() == pytest.approx(series[0].item(), rel=0.03)


@pytest.mark.parametrize("method", NAMES)
def test_test_data_is_refused_by_type(method: str, options, data):
    from condense.methods.interface import Job

    with pytest.raises(TypeError, match="TrainingData"):
        Job(data.test, Budget(ipc=1), 0, torch.device("cpu"))
