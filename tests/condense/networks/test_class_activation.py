"""Where networks look: Grad-CAM against its definition, and on images whose answer is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from condense.networks import build_network
from condense.networks.class_activation import class_activation, last_maps
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator


class Averaged(nn.Module):
    """Maps, their mean over pixels, a linear layer: where Grad-CAM is the class activation map of Zhou et al."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.classifier = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.maps(images).relu().mean((2, 3)))


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "images"))


def test_it_is_the_weighted_sum_of_maps_of_a_network_that_averages_them():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Averaged()
    images, labels = drawn(5, 2, 8, 12), torch.tensor([0, 1, 2, 0, 1])
    found = class_activation(network, images, labels, "maps")
    maps = network.maps(images).detach()
    for image, label in enumerate(labels.tolist()):
        slopes = torch.zeros(4)
        for channel in range(4):  # the mean over pixels of the gradient of the logit by a map before its relu
            slopes[channel] = network.classifier.weight[label, channel] * (maps[image, channel] > 0).float().mean()
        activation = (slopes[:, None, None] * maps[image]).sum(0).relu().detach()
        large = F.interpolate(activation[None, None], (8, 12), mode="bilinear", align_corners=False)[0, 0]
        expected = (large - large.min()) / (large.max() - large.min()).clamp_min(1e-30)
        torch.testing.assert_close(found[image], expected, atol=1e-5, rtol=1e-4)
    assert found.shape == (5, 8, 12)
    assert all(value.grad is None for value in network.parameters())


@pytest.mark.parametrize("name", ["convnet-d2-w8-bn", "resnet10-bn", "vgg11-bn", "torchvision:shufflenet_v2_x0_5"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 48)])
def test_networks_of_all_kinds_have_last_maps(name: str, shape: tuple[int, int, int]):
    if name.startswith("torchvision") and shape[0] == 1:
        pytest.skip("takes three channels")
    network = build_network(name, shape, 4, seed=0).eval()
    layer = last_maps(network, shape)
    found = class_activation(network, drawn(3, *shape), torch.tensor([0, 3, 1]), layer)
    assert found.shape == (3, *shape[1:])
    assert found.min() >= 0
    assert found.max() <= 1
    for image in found:
        assert image.max() == 0 or (image.min(), image.max()) == (0, 1)


def test_it_does_not_depend_on_the_images_beside():
    network = build_network("convnet-d2-w8-bn", (3, 16, 16), 4, seed=0).eval()
    layer, images, labels = last_maps(network, (3, 16, 16)), drawn(4, 3, 16, 16), torch.arange(4)
    together = class_activation(network, images, labels, layer)
    alone = class_activation(network, images[2:3], labels[2:3], layer)
    torch.testing.assert_close(together[2:3], alone, atol=1e-5, rtol=1e-4)


def test_where_nothing_speaks_for_the_class_all_is_zero():
    network = Averaged()
    with torch.no_grad():
        network.maps.weight.abs_()
        network.maps.bias.abs_()
        network.classifier.weight.copy_(-network.classifier.weight.abs())
    assert not class_activation(network, drawn(2, 2, 8, 8).abs(), torch.tensor([0, 1]), "maps").any()


def test_a_network_without_maps_is_refused():
    with pytest.raises(CondenseError, match="has no maps to see where it looks; give a convolutional network"):
        last_maps(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8))
