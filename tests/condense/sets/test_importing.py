"""Files laid out as the reference projects write them, and files that must not be read."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.data.preprocessing import None_, Normalization
from condense.runtime.errors import CondenseError
from condense.sets.importing import import_synthetic
from condense.sets.synthetic_set import SyntheticSet

INFO = DataInfo("pets", ("cat", "cow", "dog"), (1, 8, 8), True, "ab" * 16, Normalization((0.4,), (0.3,)))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def images(seed: int = 0) -> Tensor:
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def logits() -> Tensor:
    """As learned soft labels are: mostly, but not always, largest at the image's class."""
    values = 4 * torch.eye(3)[LABELS] + torch.randn(6, 3, generator=torch.Generator().manual_seed(9))
    values[1] = torch.tensor([0.0, 0.0, 2.0])
    return values


def results(path: Path, experiments: int = 3, **changes: Any) -> Path:
    """A `res_*.pt`; accuracies are numpy's numbers, as `np.mean` leaves them."""
    accuracies = {"ConvNet": [np.float64(0.51), np.float32(0.5), np.int64(1), 0.49]}
    data = [[images(seed), LABELS] for seed in range(experiments)]
    torch.save({"data": data, "accs_all_exps": accuracies, **changes}, path)
    return path


def best(folder: Path, labels: Tensor = LABELS, rate: object = 0.013) -> Path:
    torch.save(images().requires_grad_(), folder / "images_best.pt")
    torch.save(labels, folder / "labels_best.pt")
    torch.save(rate, folder / "lr_best.pt")
    return folder / "images_best.pt"


def refusal(path: Path, info: DataInfo = INFO, index: int = -1) -> str:
    with pytest.raises(CondenseError) as caught:
        import_synthetic(path, info, index=index)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_results_of_several_experiments(tmp_path: Path) -> None:
    path = results(tmp_path / "res_DM_pets_ConvNet_2ipc.pt")
    last, first = import_synthetic(path, INFO), import_synthetic(path, INFO, index=0)
    assert torch.equal(last.images, images(2))
    assert torch.equal(first.images, images(0))
    assert last.label_kind == "hard"
    assert last.ipc == 2
    assert last.provenance["imported from"] == "res_DM_pets_ConvNet_2ipc.pt"
    assert last.provenance["experiment"] == 2
    assert str(tmp_path) not in str(last.provenance)


@pytest.mark.parametrize("numpy_name", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_accuracies_pickled_by_old_and_new_numpy(tmp_path: Path, numpy_name: bytes) -> None:
    written, other = results(tmp_path / "res.pt"), tmp_path / "res_other.pt"
    replaced = 0
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            renamed = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            renamed = renamed.replace(b"numpy.core.multiarray", numpy_name)
            replaced += renamed.count(numpy_name)
            target.writestr(name, renamed)
    assert replaced
    assert torch.equal(import_synthetic(other, INFO).images, images(2))


def test_results_in_the_format_before_zip_files(tmp_path: Path) -> None:
    path = tmp_path / "res.pt"
    content = {"data": [[images(), LABELS]], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert torch.equal(import_synthetic(path, INFO).images, images())


def test_best_images_with_their_neighbours(tmp_path: Path) -> None:
    synthetic = import_synthetic(best(tmp_path), INFO)
    assert torch.equal(synthetic.images, images())
    assert torch.equal(synthetic.labels, LABELS)
    assert synthetic.learned_lr == 0.013


def test_the_learned_rate_is_that_beside_the_images_or_that_given_or_none_with_a_note(tmp_path: Path, capsys) -> None:
    path = best(tmp_path)
    assert import_synthetic(path, INFO, learned_lr=0.02).learned_lr == 0.02
    assert capsys.readouterr().err == ""
    (tmp_path / "lr_best.pt").unlink()
    assert import_synthetic(path, INFO).learned_lr is None
    assert "lr_best.pt is not beside images_best.pt" in (said := capsys.readouterr().err)
    assert "--learned-lr gives one" in said
    assert import_synthetic(path, INFO, learned_lr=0.02).learned_lr == 0.02
    import_synthetic(results(tmp_path / "res.pt"), INFO)  # of the DC lineage, which learns none
    assert import_synthetic(tmp_path / "res.pt", INFO, learned_lr=0.02).learned_lr == 0.02
    assert capsys.readouterr().err == ""


def test_averaged_images_have_their_own_neighbours(tmp_path: Path) -> None:
    """As FTD's code stores them."""
    best(tmp_path, LABELS.flip(0))
    for name, content in (("images", images(5)), ("labels", LABELS), ("lr", 0.3)):
        torch.save(content, tmp_path / f"ema_{name}_best.pt")
    averaged = import_synthetic(tmp_path / "ema_images_best.pt", INFO)
    assert torch.equal(averaged.images, images(5))
    assert torch.equal(averaged.labels, LABELS)
    assert averaged.learned_lr == 0.3


def test_images_without_labels_are_taken_class_by_class(tmp_path: Path, capsys) -> None:
    """As AST's code stores them."""
    path = best(tmp_path)
    (tmp_path / "labels_best.pt").unlink()
    assert torch.equal(import_synthetic(path, INFO).labels, LABELS)
    assert "labels_best.pt is not beside images_best.pt" in capsys.readouterr().err
    torch.save(images()[:5], path)
    assert "5 images cannot be the same number for each of 3 classes" in refusal(path)


def test_images_whose_whitening_is_undone_are_refused(tmp_path: Path) -> None:
    torch.save(images(), tmp_path / "images_zca_best.pt")
    assert "no longer whitened" in (said := refusal(tmp_path / "images_zca_best.pt"))
    assert said.endswith("give images_best.pt")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_stay_probabilities(tmp_path: Path, dtype: torch.dtype) -> None:
    """As TESLA's code stores them; a softmax of them would nearly be uniform."""
    stored = logits().softmax(1).to(dtype)
    synthetic = import_synthetic(best(tmp_path, stored), INFO)
    assert synthetic.label_kind == "probabilities"
    torch.testing.assert_close(synthetic.probabilities, stored.float(), atol=5e-3, rtol=0)
    assert torch.equal(synthetic.targets, stored.float()) or dtype in (torch.float16, torch.bfloat16)
    assert (synthetic.targets.sum(1) - 1).abs().max() < 1e-6


def test_rows_that_are_no_distributions_are_logits(tmp_path: Path) -> None:
    probable = logits().softmax(1)
    for changed in (2 * probable, probable - 0.5, probable + 1e-3):
        assert import_synthetic(best(tmp_path, changed), INFO).label_kind == "logits"


def test_a_mixture_of_probabilities_and_logits_is_refused(tmp_path: Path) -> None:
    mixed = torch.cat([logits()[:2], logits()[2:].softmax(1)])
    assert "4 of its 6 soft labels are probabilities and the others are not" in refusal(best(tmp_path, mixed))


def test_soft_labels_stay_logits(tmp_path: Path) -> None:
    synthetic = import_synthetic(best(tmp_path, logits(), torch.tensor(0.02)), INFO)
    assert synthetic.label_kind == "logits"
    assert torch.equal(synthetic.targets, logits())
    assert torch.equal(synthetic.labels, LABELS)  # not the argmax
    assert synthetic.learned_lr == pytest.approx(0.02)


def test_an_imported_set_is_saved_like_any_other(tmp_path: Path) -> None:
    import_synthetic(best(tmp_path, logits()), INFO).save(tmp_path / "set.h5")
    assert torch.equal(SyntheticSet.load(tmp_path / "set.h5").targets, logits())


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path: Path, zipped: bool) -> None:
    path, proof = tmp_path / "res.pt", tmp_path / "proof"
    content = {"data": [[images(), LABELS]], "accs_all_exps": Malicious(f"touch {proof}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert "could run code ('posix.system')" in refusal(path)
    assert not proof.exists()
    torch.load(path, weights_only=False)  # the file is as bad as it should be
    assert proof.exists()


def test_the_allowance_for_numpy_ends_with_the_import(tmp_path: Path) -> None:
    before = set(map(str, torch.serialization.get_safe_globals()))
    import_synthetic(results(tmp_path / "res.pt"), INFO)
    assert set(map(str, torch.serialization.get_safe_globals())) == before


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.pt")
    assert "directory" in refusal(tmp_path)
    whole = results(tmp_path / "res.pt").read_bytes()
    for name, content in {"empty": b"", "text": b"hello world\n" * 9, "cut": whole[:-200], "start": whole[:40]}.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
        assert "damaged" in refusal(tmp_path / f"{name}.pt")


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "res.pt"
    for content, described in (
        ({"images": images()}, "a dict of images"),
        ({"state_dict": {}, 7: 4, (1, 2): 3}, "a dict of state_dict"),
        ([images(), LABELS, 0.1], "a list of 3"),
        ({"data": [images()]}, "a dict of data"),
        (3.0, "a float"),
    ):
        torch.save(content, path)
        assert f"{described} is not in a form that can be imported; give a res_*.pt" in refusal(path)
    torch.save({"data": []}, path)
    assert "0 experiment(s)" in refusal(path)
    assert "no experiment 3" in refusal(results(path), index=3)
    torch.save({"data": [["images", LABELS]]}, path)
    assert "images are no tensor" in refusal(path)
    torch.save({"data": [[LABELS, LABELS]]}, path)
    assert "not floating-point numbers [N, C, H, W]" in refusal(path)
    torch.save({"data": [[images(), [0, 0, 1, 1, 2, 2]]]}, path)
    assert "labels are no tensor" in refusal(path)


def test_one_tensor_must_be_called_images(tmp_path: Path) -> None:
    best(tmp_path).rename(tmp_path / "pictures.pt")
    assert "no `images` in its name" in refusal(tmp_path / "pictures.pt")


def hidden_methods(values: Tensor) -> Tensor:
    """A parameter with attributes that are called like methods of tensors."""
    parameter = torch.nn.Parameter(values)
    for name in ("is_floating_point", "float", "detach", "numel", "clone", "untyped_storage"):
        setattr(parameter, name, 3)
    return parameter


SPOILT = {
    "stride of nothing": (lambda: torch.zeros(1).expand(6, 1, 8, 8), "384 numbers of which the file has 1"),
    "stride of nothing, gigabytes": (lambda: torch.zeros(1).expand(10**6, 1, 1000, 1000), "of which the file has 1"),
    "overlapping": (lambda: torch.zeros(70).as_strided((6, 1, 8, 8), (1, 1, 1, 1)), "of which the file has 70"),
    "meta": (lambda: torch.empty(10**9, 1, 8, 8, device="meta"), "meta device"),
    "nested": (lambda: torch.nested.nested_tensor([torch.zeros(1, 8, 8), torch.zeros(1, 8, 4)]), "nested"),
    "sparse": (lambda: images().to_sparse(), "sparse"),
    "quantised": (lambda: torch.quantize_per_tensor(images(), 0.1, 0, torch.qint8), "qint8"),
    "complex": (lambda: torch.complex(images(), images()), "complex64"),
    "8 bits": (lambda: images().to(torch.float8_e4m3fn), "float8"),
    "bits": (lambda: torch.empty(6, dtype=torch.bits8), "bits8"),
    "not finite": (lambda: images() / 0, "not finite"),
    "empty": (lambda: images()[:0], "N > 0"),
    "one number": (lambda: torch.tensor(-1.0), "shape []"),
    "number": (lambda: 10**400, ""),
    "none": (lambda: None, ""),
}


@pytest.mark.filterwarnings("ignore")  # torch warns of prototypes
@pytest.mark.parametrize("kind", SPOILT)
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    """As images, as labels of either form, as a rate."""
    make, said = SPOILT[kind]
    value = make()
    for place in ("images", "labels", "lr"):
        path = best(tmp_path)
        torch.save(value, tmp_path / f"{place}_best.pt")
        message = refusal(path)
        assert place != "images" or said in message
    for pair in ([value, LABELS], [images(), value]):
        refusal(results(tmp_path / "res.pt", data=[pair]))
    refusal(results(tmp_path / "res.pt", data=value))
    for content in ([value, LABELS], (images(), value), {"x": value, "y": LABELS}, {"x": images(), "y": value}):
        torch.save(content, tmp_path / "data.pt")
        refusal(tmp_path / "data.pt")
    torch.save({"x": images(), "y": LABELS, "lr": value}, tmp_path / "data.pt")
    if kind != "none":
        refusal(tmp_path / "data.pt")


def test_attributes_of_a_parameter_hide_no_method(tmp_path: Path) -> None:
    path = best(tmp_path)
    torch.save(hidden_methods(images()), path)
    assert torch.equal(import_synthetic(path, INFO).images, images())


def test_an_image_that_is_stored_negated_arrives_as_it_is(tmp_path: Path) -> None:
    path = best(tmp_path)
    torch.save(torch.complex(images(), images()).conj().imag, path)
    assert torch.equal(import_synthetic(path, INFO).images, -images())


def test_archives_that_unpack_to_more_than_they_are_are_refused(tmp_path: Path) -> None:
    path = best(tmp_path)
    torch.save(torch.zeros(6, 1, 8, 800), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    (tmp_path / "packed").rename(path)
    assert "declares" in refusal(path)


def test_a_file_before_zip_that_declares_gigabytes_is_refused(tmp_path: Path) -> None:
    path = best(tmp_path)
    torch.save(torch.zeros(300, 1, 1, 1), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    size = b"M" + (300).to_bytes(2, "little")
    assert size in whole
    for numbers in (2**30, 2**31 - 1):
        path.write_bytes(whole.replace(size, b"J" + numbers.to_bytes(4, "little")))
        refusal(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = best(tmp_path)
    (tmp_path / "labels_best.pt").unlink()
    os.mkfifo(tmp_path / "labels_best.pt")
    assert "no regular file" in refusal(path)


def test_structures_that_hold_themselves_are_refused(tmp_path: Path) -> None:
    path, ring, dictionary = tmp_path / "res.pt", [], {}
    ring.append(ring)
    dictionary["data"] = dictionary
    for content in (ring, dictionary, {"data": ring}, {"data": [[ring, ring]]}):
        torch.save(content, path)
        refusal(path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (LABELS + 1, "labels run from 1 to 3"),
        (LABELS[:5], "as many labels, not 5"),
        (torch.zeros(6, 4), "soft labels [N, 3]"),
        (LABELS.float(), "integers [N]"),
        (logits()[:5], "cannot be the same number"),
        (logits()[:, [1, 2, 0]], "with its classes in this order"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: Tensor, said: str) -> None:
    assert said in refusal(best(tmp_path, labels))


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = results(tmp_path / "res.pt")
    color = DataInfo("pets", INFO.classes, (3, 8, 8), True, "ab" * 16, Normalization((0.4,) * 3, (0.3,) * 3))
    assert "[6, 1, 8, 8]" in refusal(path, color)
    broken = results(tmp_path / "res_broken.pt", data=[[images() / 0, LABELS]])
    assert "not finite" in refusal(broken)


def test_a_learning_rate_must_be_a_positive_number(tmp_path: Path) -> None:
    assert "learned_lr -0.1" in refusal(best(tmp_path, rate=-0.1))
    with pytest.raises(CondenseError, match=r"lr_best\.pt is no learning rate"):
        import_synthetic(best(tmp_path, rate=torch.zeros(2)), INFO)


def pictures() -> Tensor:
    """Images in [0, 1]."""
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("pair", [list, tuple])
def test_images_and_labels_alone(tmp_path: Path, pair: type) -> None:
    """As IDC's and NCFM's code stores them."""
    torch.save(pair([images().requires_grad_().detach().cpu(), LABELS.flip(0)]), tmp_path / "data.pt")
    synthetic = import_synthetic(tmp_path / "data.pt", INFO)
    assert torch.equal(synthetic.images, images())
    assert torch.equal(synthetic.labels, LABELS.flip(0))
    assert synthetic.learned_lr is None
    assert synthetic.provenance["imported from"] == "data.pt"
    assert import_synthetic(tmp_path / "data.pt", INFO, learned_lr=0.5).learned_lr == 0.5


def test_mosaics_are_decoded_before_they_are_normalised(tmp_path: Path) -> None:
    """IDC's and NCFM's images, which an optimiser has taken a little out of [0, 1]."""
    stored = pictures()
    stored[0, 0, 0, :2] = torch.tensor([-0.3, 1.2])
    torch.save([stored, LABELS], tmp_path / "data.pt")
    synthetic = import_synthetic(tmp_path / "data.pt", INFO, space="unit", factor=2)
    assert torch.equal(synthetic.stored, stored)
    assert len(synthetic) == 24
    decoded = torch.nn.Upsample(size=8, mode="bilinear")(stored[:, :, :4, :4])  # as IDC enlarges the first tiles
    torch.testing.assert_close(synthetic.images[:6], (decoded - 0.4) / 0.3)
    assert torch.equal(synthetic.labels, LABELS.repeat(4))
    assert import_synthetic(results(tmp_path / "res.pt"), INFO, factor=2).space == "preprocessed"  # as IDM's are
    for factor in (-1, 0, 1, 9, 10**30):
        with pytest.raises(CondenseError, match="factor"):
            import_synthetic(tmp_path / "data.pt", INFO, factor=factor)


def test_pictures_that_are_taken_for_preprocessed_images_are_worth_a_word(tmp_path: Path, capsys) -> None:
    torch.save([pictures(), LABELS], tmp_path / "data.pt")
    assert torch.equal(import_synthetic(tmp_path / "data.pt", INFO).images, pictures())
    assert "--space unit" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1
    import_synthetic(tmp_path / "data.pt", INFO, space="preprocessed")
    plain = DataInfo("pets", INFO.classes, (1, 8, 8), True, "ab" * 16, None_())
    import_synthetic(tmp_path / "data.pt", plain)
    synthetic = import_synthetic(tmp_path / "data.pt", INFO, space="unit")
    torch.testing.assert_close(synthetic.images, (pictures() - 0.4) / 0.3)
    torch.save([Normalization((0.4,), (0.3,)).apply(pictures()), LABELS], tmp_path / "data.pt")
    import_synthetic(tmp_path / "data.pt", INFO)
    assert capsys.readouterr().err == ""


def test_images_far_from_pictures_are_no_pictures(tmp_path: Path) -> None:
    for wrong in (3 * images(), 255 * pictures()):
        torch.save([wrong, LABELS], tmp_path / "data.pt")
        with pytest.raises(CondenseError, match=r"values from .* leave it out"):
            import_synthetic(tmp_path / "data.pt", INFO, space="unit")


@pytest.mark.parametrize("space", [None, "unit", "preprocessed"])
def test_pixels_stay_pixels(tmp_path: Path, space: Any, capsys) -> None:
    pixels = (255 * pictures()).to(torch.uint8)
    torch.save({"images": pixels, "labels": LABELS}, tmp_path / "data.pt")
    synthetic = import_synthetic(tmp_path / "data.pt", INFO, space=space)
    assert synthetic.space == "pixels"
    assert torch.equal(synthetic.stored, pixels)
    torch.testing.assert_close(synthetic.images, (pixels / 255 - 0.4) / 0.3)
    mosaics = import_synthetic(tmp_path / "data.pt", INFO, space=space, factor=2)
    torch.testing.assert_close(mosaics.stored, pixels / 255)
    assert len(mosaics) == 24
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("names", "rate"),
    [
        (("images", "labels", "lr"), 0.02),
        (("x", "y", "syn_lr"), torch.tensor(0.02)),
        (("X", "Y", "LR"), torch.tensor([0.02], requires_grad=True)),
        (("data", "targets", "lr"), np.float64(0.02)),
        (("data", "targets", "lr"), np.float32(0.02)),
        (("image_syn", "label_syn", "syn_lr"), np.array(0.02)),
    ],
)
@pytest.mark.parametrize("numpy", [False, True])
def test_dicts_with_the_usual_names(tmp_path: Path, names: tuple[str, str, str], rate: Any, numpy: bool) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])  # as a shuffled DataLoader gives them
    content: dict[str, Any] = {"epoch": 3, "args": {"ipc": 2}, names[0]: images()[order], names[1]: LABELS[order]}
    if numpy:
        content |= {name: content[name].numpy() for name in names[:2]}
    torch.save(content, tmp_path / "set.pt")
    assert import_synthetic(tmp_path / "set.pt", INFO, learned_lr=0.5).learned_lr == 0.5
    assert import_synthetic(tmp_path / "set.pt", INFO).learned_lr is None
    torch.save({**content, names[2]: rate}, tmp_path / "set.pt")
    synthetic = import_synthetic(tmp_path / "set.pt", INFO)
    assert torch.equal(synthetic.images, images()[order])
    assert torch.equal(synthetic.labels, LABELS[order])
    assert synthetic.learned_lr == pytest.approx(0.02)
    assert import_synthetic(tmp_path / "set.pt", INFO, learned_lr=0.5).learned_lr == 0.5


@pytest.mark.parametrize("numpy_name", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "u1"])
def test_arrays_pickled_by_old_and_new_numpy(tmp_path: Path, numpy_name: bytes, dtype: str) -> None:
    array = (200 * pictures()).numpy().astype(dtype)
    content = {"images": np.asfortranarray(array), "labels": LABELS.numpy().astype(">i4"), "acc": np.float64(0.5)}
    torch.save(content, tmp_path / "written.pt")
    path = tmp_path / "set.pt"
    with zipfile.ZipFile(tmp_path / "written.pt") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            text = source.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(name, text.replace(b"numpy.core.multiarray", numpy_name))
    synthetic = import_synthetic(path, INFO)
    assert torch.equal(synthetic.stored.double(), torch.from_numpy(array.astype("f8")))
    assert torch.equal(synthetic.labels, LABELS)


class Declared:
    """An array whose pickle declares another state than numpy would."""

    def __init__(self, array: np.ndarray, *changes: Any) -> None:
        self.array, self.changes = array, changes

    def __reduce__(self) -> Any:
        make, arguments, state = self.array.__reduce__()
        changed = tuple(after if after is not None else before for before, after in zip(state, self.changes))
        return make, arguments, (*changed, *state[len(changed) :])


@pytest.mark.parametrize(
    "changes",
    [
        (None, (6, 1, 800, 800)),
        (None, (10**12, 1, 8, 8)),
        (None, (-6, 1, 8, 8)),
        (None, "six"),
        (None, None, np.dtype("f8")),
        (None, None, np.dtype(object)),
        (None, None, np.dtype("M8[s]")),
        (None, None, np.dtype([("a", "f4")])),
        (None, None, np.dtype("c8")),
        (None, None, 3),
        (None, None, None, None, b""),
        (None, None, None, None, [1.0] * 384),
        (None, None, None, None, 10**9),
    ],
)
def test_arrays_that_are_not_what_they_declare_are_refused(tmp_path: Path, changes: tuple[Any, ...]) -> None:
    array = images().numpy()
    torch.save({"images": Declared(array), "labels": LABELS}, tmp_path / "set.pt")
    assert torch.equal(import_synthetic(tmp_path / "set.pt", INFO).images, images())
    torch.save({"images": Declared(array, *changes), "labels": LABELS}, tmp_path / "set.pt")
    refusal(tmp_path / "set.pt")


def test_what_a_file_of_pickle_is_stored_again_as(tmp_path: Path) -> None:
    """As IDM's code stores its best images; pickle alone keeps tensors in a way that could run code."""
    path = tmp_path / "acc_0.45.pkl"
    path.write_bytes(pickle.dumps((images(), LABELS)))
    assert "store what is in it with torch.save" in refusal(path)


def test_soft_labels_beside_class_indices_may_lie_in_any_order(tmp_path: Path) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = {"images": images()[order], "labels": LABELS[order], "targets": logits()[order]}
    swapped = {"images": images()[order], "labels": logits()[order], "targets": LABELS[order]}
    for content in (shuffled, swapped):
        torch.save(content, tmp_path / "set.pt")
        synthetic = import_synthetic(tmp_path / "set.pt", INFO)
        assert torch.equal(synthetic.labels, LABELS[order])
        assert torch.equal(synthetic.targets, logits()[order])
    torch.save({**shuffled, "targets": LABELS}, tmp_path / "set.pt")
    assert "its targets have shape [6]" in refusal(tmp_path / "set.pt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8, torch.bool])
def test_one_hot_labels_are_class_indices(tmp_path: Path, dtype: torch.dtype) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for labels in (torch.eye(3)[LABELS[order]].to(dtype), LABELS[order][:, None]):
        torch.save([images()[order], labels], tmp_path / "data.pt")
        synthetic = import_synthetic(tmp_path / "data.pt", INFO)
        assert synthetic.label_kind == "hard"
        assert torch.equal(synthetic.labels, LABELS[order])


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_with_channels_first_or_last(tmp_path: Path, channels: int) -> None:
    info = DataInfo("pets", INFO.classes, (channels, 8, 8), True, "ab" * 16, None_())
    first = torch.randn(6, channels, 8, 8, generator=torch.Generator().manual_seed(1)).numpy()
    layouts = [first, first.transpose(0, 2, 3, 1)] + ([first[:, 0]] if channels == 1 else [])
    for save, array in zip((np.savez, np.savez_compressed, np.savez), layouts):
        save(tmp_path / "set.npz", X=array, y=LABELS.numpy(), note=np.array(["text"]), lr=0.02)
        synthetic = import_synthetic(tmp_path / "set.npz", info)
        assert torch.equal(synthetic.images, torch.from_numpy(first))
        assert torch.equal(synthetic.labels, LABELS)
        assert synthetic.learned_lr == 0.02
        assert import_synthetic(tmp_path / "set.npz", info, learned_lr=0.5).learned_lr == 0.5
        torch.save([torch.from_numpy(array.copy()), LABELS], tmp_path / "set.pt")
        assert torch.equal(import_synthetic(tmp_path / "set.pt", info).images, torch.from_numpy(first))


def test_npz_with_soft_labels_and_pictures(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=pictures().numpy(), labels=logits().softmax(1).numpy())
    synthetic = import_synthetic(tmp_path / "set.npz", INFO, space="unit")
    assert synthetic.space == "unit"
    assert synthetic.label_kind == "probabilities"
    assert torch.equal(synthetic.labels, LABELS)


def test_npz_that_must_not_be_read(tmp_path: Path) -> None:
    path, labels = tmp_path / "set.npz", LABELS.numpy()
    np.savez(path, train_images=labels, test_images=labels)
    assert "an .npz of train_images, test_images is not in a form that can be imported" in refusal(path)
    np.savez(path, images=images().numpy(), labels=np.array([Malicious(f"touch {tmp_path / 'proof'}")] * 6))
    assert "its labels cannot be read: it has Python objects" in refusal(path)
    assert not (tmp_path / "proof").exists()
    for wrong in (np.array(list("catcow")), np.zeros(6, np.complex64), labels.astype("M8[s]")):
        np.savez(path, images=images().numpy(), labels=wrong)
        assert "its labels are an array of" in refusal(path)
    np.savez(path, images=images().numpy(), labels=labels)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(6, 1, 8, 8)", b"(6, 1, 8,80)"))
    assert "its images cannot be read" in refusal(path)
    for content in (b"", b"hello", whole[:300], whole[:-30]):
        path.write_bytes(content)
        assert "damaged or no .npz" in refusal(path)
    assert "No such file" in refusal(tmp_path / "missing.npz")


def test_npz_that_declares_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("condense.runtime.numpy_files.MOST_BYTES", 10**6)
    np.savez_compressed(tmp_path / "set.npz", images=np.zeros((6, 1, 800, 800), np.float32), labels=LABELS.numpy())
    assert "15,360,000 bytes, and at most 1,000,000 are read" in refusal(tmp_path / "set.npz")
