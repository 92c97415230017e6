"""Files laid out as the reference projects write them, and files that must not be read."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from condense.data.info import DataInfo
from condense.data.preprocessing import Normalization
from condense.runtime.errors import CondenseError
from condense.sets.importing import import_reference
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
        import_reference(path, info, index)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_results_of_several_experiments(tmp_path: Path) -> None:
    path = results(tmp_path / "res_DM_pets_ConvNet_2ipc.pt")
    last, first = import_reference(path, INFO), import_reference(path, INFO, index=0)
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
    assert torch.equal(import_reference(other, INFO).images, images(2))


def test_results_in_the_format_before_zip_files(tmp_path: Path) -> None:
    path = tmp_path / "res.pt"
    content = {"data": [[images(), LABELS]], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert torch.equal(import_reference(path, INFO).images, images())


def test_best_images_with_their_neighbours(tmp_path: Path) -> None:
    synthetic = import_reference(best(tmp_path), INFO)
    assert torch.equal(synthetic.images, images())
    assert torch.equal(synthetic.labels, LABELS)
    assert synthetic.learned_lr == 0.013


def test_the_learned_rate_is_that_beside_the_images_or_that_given_or_none_with_a_note(tmp_path: Path, capsys) -> None:
    path = best(tmp_path)
    assert import_reference(path, INFO, learned_lr=0.02).learned_lr == 0.02
    assert capsys.readouterr().err == ""
    (tmp_path / "lr_best.pt").unlink()
    assert import_reference(path, INFO).learned_lr is None
    assert "lr_best.pt is not beside images_best.pt" in (said := capsys.readouterr().err)
    assert "--learned-lr gives one" in said
    assert import_reference(path, INFO, learned_lr=0.02).learned_lr == 0.02
    import_reference(results(tmp_path / "res.pt"), INFO)  # of the DC lineage, which learns none
    assert capsys.readouterr().err == ""


def test_averaged_images_have_their_own_neighbours(tmp_path: Path) -> None:
    """As FTD's code stores them."""
    best(tmp_path, LABELS.flip(0))
    for name, content in (("images", images(5)), ("labels", LABELS), ("lr", 0.3)):
        torch.save(content, tmp_path / f"ema_{name}_best.pt")
    averaged = import_reference(tmp_path / "ema_images_best.pt", INFO)
    assert torch.equal(averaged.images, images(5))
    assert torch.equal(averaged.labels, LABELS)
    assert averaged.learned_lr == 0.3


def test_images_without_labels_are_taken_class_by_class(tmp_path: Path, capsys) -> None:
    """As AST's code stores them."""
    path = best(tmp_path)
    (tmp_path / "labels_best.pt").unlink()
    assert torch.equal(import_reference(path, INFO).labels, LABELS)
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
    synthetic = import_reference(best(tmp_path, stored), INFO)
    assert synthetic.label_kind == "probabilities"
    torch.testing.assert_close(synthetic.probabilities, stored.float(), atol=5e-3, rtol=0)
    assert torch.equal(synthetic.targets, stored.float()) or dtype in (torch.float16, torch.bfloat16)
    assert (synthetic.targets.sum(1) - 1).abs().max() < 1e-6


def test_rows_that_are_no_distributions_are_logits(tmp_path: Path) -> None:
    probable = logits().softmax(1)
    for changed in (2 * probable, probable - 0.5, probable + 1e-3):
        assert import_reference(best(tmp_path, changed), INFO).label_kind == "logits"


def test_a_mixture_of_probabilities_and_logits_is_refused(tmp_path: Path) -> None:
    mixed = torch.cat([logits()[:2], logits()[2:].softmax(1)])
    assert "4 of its 6 soft labels are probabilities and the others are not" in refusal(best(tmp_path, mixed))


def test_soft_labels_stay_logits(tmp_path: Path) -> None:
    synthetic = import_reference(best(tmp_path, logits(), torch.tensor(0.02)), INFO)
    assert synthetic.label_kind == "logits"
    assert torch.equal(synthetic.targets, logits())
    assert torch.equal(synthetic.labels, LABELS)  # not the argmax
    assert synthetic.learned_lr == pytest.approx(0.02)


def test_an_imported_set_is_saved_like_any_other(tmp_path: Path) -> None:
    import_reference(best(tmp_path, logits()), INFO).save(tmp_path / "set.h5")
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
    import_reference(results(tmp_path / "res.pt"), INFO)
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
    for content in ({"images": images()}, [images(), LABELS], {"data": [images()]}, {"data": images()}, 3.0):
        torch.save(content, path)
        assert "in a form that can be imported" in refusal(path)
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


def test_attributes_of_a_parameter_hide_no_method(tmp_path: Path) -> None:
    path = best(tmp_path)
    torch.save(hidden_methods(images()), path)
    assert torch.equal(import_reference(path, INFO).images, images())


def test_an_image_that_is_stored_negated_arrives_as_it_is(tmp_path: Path) -> None:
    path = best(tmp_path)
    torch.save(torch.complex(images(), images()).conj().imag, path)
    assert torch.equal(import_reference(path, INFO).images, -images())


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
        import_reference(best(tmp_path, rate=torch.zeros(2)), INFO)
