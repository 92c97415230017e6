"""Static soft labels: one vector for each image, made once from the clean image and stored.

Averaging the logits of networks trained on the real data is how DATM (Guo et al., ICLR 2024) initialises its labels;
probabilities are their softmax. DATM leaves out the networks that take an image for another class, unless all do. For
an evaluation none is left out, so that a label says what networks see and not what its image was meant to be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.runtime.global_draws import drawing


def averaged_logits(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """The mean over `networks` of their logits [N, K] for `images` [N, C, H, W], without gradients.

    Networks and images are on one device; the networks should be in evaluation mode.

    >>> from condense.networks import build_network
    >>> networks = [build_network("mlp", (1, 2, 2), classes=3, seed=seed) for seed in range(2)]
    >>> averaged_logits(networks, torch.zeros(5, 1, 2, 2)).shape
    torch.Size([5, 3])
    """
    logits = []
    with torch.no_grad():
        for network in networks:
            with drawing(network, images):
                logits.append(network(images))
    return torch.stack(logits).mean(0)


def corrected_logits(logits: Tensor, classes: Tensor) -> Tensor:
    """Logits [N, K] where the largest is that of the image's class (int64 [N]); else 1 for the class and 0 for others.

    These replace wrong labels in the released code of NCFM (Wang et al., CVPR 2025). They are logits too, not
    probabilities: under a softmax the class then has e times the probability of each other one.

    >>> corrected_logits(torch.tensor([[5.0, 2.0], [5.0, 2.0]]), torch.tensor([0, 1])).tolist()
    [[5.0, 2.0], [0.0, 1.0]]
    """
    right = logits.argmax(1) == classes
    return torch.where(right[:, None], logits, F.one_hot(classes, logits.shape[1]).to(logits.dtype))
