"""The factors of last-layer gradients against the gradients themselves, which automatic differentiation gives."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import condense
from condense.data.budget import Budget
from condense.methods.interface import Job
from condense.selection import last_layer
from condense.selection.evidence import Evidence, EvidenceSettings
from condense.selection.last_layer import LastLayerGradients, held, last_layer_gradients

ROWS, CLASSES, WIDTH = 23, 4, 6


def by_autograd(weight: torch.Tensor, bias: torch.Tensor, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The gradient of each row's cross-entropy in [weight, bias] of a linear layer, row after row; [n, K, D + 1]."""
    layer = torch.cat([weight, bias[:, None]], 1).requires_grad_()
    losses = [
        F.cross_entropy((layer[:, :-1] @ row + layer[:, -1])[None], label[None])
        for row, label in zip(features, labels, strict=True)
    ]
    return torch.stack([torch.autograd.grad(loss, layer)[0] for loss in losses])


@pytest.fixture(scope="module")
def both() -> tuple[LastLayerGradients, torch.Tensor]:
    """Gradients by their factors, and the same in full, [n, K, D + 1]."""
    draws = torch.Generator().manual_seed(0)
    weight, bias, features = (
        torch.randn(*shape, generator=draws, dtype=torch.float64)
        for shape in [(CLASSES, WIDTH), (CLASSES,), (ROWS, WIDTH)]
    )
    labels = torch.randint(CLASSES, (ROWS,), generator=draws)
    errors = torch.softmax(features @ weight.T + bias, 1) - F.one_hot(labels, CLASSES)
    return LastLayerGradients(errors, features), by_autograd(weight, bias, features, labels)


ASKED = torch.tensor([3, 0, 22, 3])


def test_inner_products_and_norms(both):
    gradients, full = both
    flat = full.flatten(1)
    torch.testing.assert_close(gradients.inner_products(ASKED), flat[ASKED] @ flat.T)
    torch.testing.assert_close(gradients.norms, flat.norm(dim=1))
    torch.testing.assert_close(gradients.at(ASKED).norms, flat[ASKED].norm(dim=1))


def test_similarities_and_distances(both):
    gradients, full = both
    flat = full.flatten(1)
    cosines = F.cosine_similarity(flat[ASKED, None], flat[None], dim=2)
    torch.testing.assert_close(gradients.similarities(ASKED), 0.5 + 0.5 * cosines)
    apart = (flat[ASKED, None] - flat[None]).norm(dim=2)
    torch.testing.assert_close(gradients.distances(ASKED), apart, atol=1e-6, rtol=1e-9)


def test_weighted_sums_and_products_with_a_matrix(both):
    gradients, full = both
    weights = torch.linspace(-1, 2, ROWS, dtype=torch.float64)
    torch.testing.assert_close(gradients.total(weights), (weights[:, None, None] * full).sum(0))
    torch.testing.assert_close(gradients.mean, full.mean(0))
    torch.testing.assert_close(gradients.along(full[5] + full[7]), (full * (full[5] + full[7])).sum((1, 2)))


def test_a_gradient_of_zero_is_half_similar_to_all():
    gradients = LastLayerGradients(torch.tensor([[0.0, 0.0], [1.0, -1.0], [1e-30, -1e-30]]), torch.ones(3, 2))
    expected = torch.tensor([[0.5, 0.5, 0.5], [0.5, 1.0, 1.0], [0.5, 1.0, 1.0]])
    torch.testing.assert_close(gradients.similarities(torch.arange(3)), expected)


def test_similarities_stay_between_zero_and_one():
    errors = torch.randn(
        40, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )  # parallel to each other
    similarities = LastLayerGradients(errors, torch.ones(40, 3, dtype=torch.float64)).similarities(torch.arange(40))
    assert similarities.min() >= 0
    assert similarities.max() <= 1


@pytest.mark.parametrize(("most", "calls"), [(10, 3), (4, 2)])
def test_a_kernel_is_computed_once_if_it_is_small(monkeypatch, most: int, calls: int):
    """Five rows, two at once: kept in three parts, or else computed for each of the two questions."""
    monkeypatch.setattr(last_layer, "_MOST_HELD", most)
    monkeypatch.setattr(last_layer, "ROWS_AT_ONCE", 2)
    matrix, asked = torch.arange(25, dtype=torch.float64).view(5, 5), []

    def kernel(rows: torch.Tensor) -> torch.Tensor:
        asked.append(rows.tolist())
        return matrix[rows]

    kept = held(kernel, 5)
    for rows in (torch.tensor([4, 1]), torch.tensor([0])):
        assert torch.equal(kept(rows), matrix[rows])
    assert len(asked) == calls


def test_they_are_the_gradients_of_the_classifier_of_the_trained_network(tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CACHE", str(tmp_path))
    data = condense.load_data("digits").train
    job = Job(data, Budget(ipc=1), 0, torch.device("cpu"))
    evidence = Evidence(job, EvidenceSettings(network="convnet-d1-w8", epochs=1))
    members = torch.tensor([5, 700, 1200])
    gradients = last_layer_gradients(evidence, members)
    assert gradients.errors.dtype == gradients.features.dtype == torch.float64
    classifier = evidence.network.classifier
    for row, index in enumerate(members):
        loss = F.cross_entropy(evidence.network(data.images(index[None])), data.labels[index[None]])
        weight, bias = torch.autograd.grad(loss, [classifier.weight, classifier.bias])
        one = torch.zeros(3, dtype=torch.float64)
        one[row] = 1
        expected = torch.cat([weight, bias[:, None]], 1).double()
        torch.testing.assert_close(gradients.total(one), expected, atol=1e-5, rtol=1e-3)


def test_errors_of_images_that_the_network_is_sure_of_keep_their_direction():
    class Told(Evidence):
        def __init__(self) -> None:
            self.labels = torch.tensor([0])

        def training(self, index: int = 0) -> SimpleNamespace:
            return SimpleNamespace(logits=torch.tensor([[[20.0, 0.0, 1.0]]]))

        def features(self, training: int = 0) -> torch.Tensor:
            return torch.ones(1, 2)

    errors = last_layer_gradients(Told(), torch.tensor([0])).errors[0]
    others = torch.tensor([0.0, 1.0], dtype=torch.float64).sub(20).exp()
    torch.testing.assert_close(errors, torch.cat([-others.sum()[None], others]), rtol=1e-6, atol=0)
