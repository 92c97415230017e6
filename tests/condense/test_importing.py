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
from condense.importing import import_reference
from condense.runtime.errors import CondenseError
from condense.synthetic_set import SyntheticSet

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
    (tmp_path / "lr_best.pt").unlink()
    assert import_reference(tmp_path / "images_best.pt", INFO).learned_lr is None


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
    assert "no floating-point tensor" in refusal(path)
    torch.save({"data": [[images(), [0, 0, 1, 1, 2, 2]]]}, path)
    assert "labels are no tensor" in refusal(path)


def test_one_tensor_needs_its_neighbour(tmp_path: Path) -> None:
    path = best(tmp_path)
    (tmp_path / "labels_best.pt").rename(tmp_path / "pictures.pt")
    with pytest.raises(CondenseError, match=r"labels_best\.pt: No such file"):
        import_reference(path, INFO)
    assert "does not begin with images" in refusal(tmp_path / "pictures.pt")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (LABELS + 1, "labels run from 1 to 3"),
        (LABELS[:5], r"[6]"),
        (torch.zeros(6, 4), "logits [N, 3]"),
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
