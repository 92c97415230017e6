"""The networks that label images which have no soft labels of their own, and where they are kept.

Averaging the logits of networks trained on the real data is how DATM (Guo et al., ICLR 2024) begins its labels. DATM
leaves out networks that take an image for another class, unless all do; for an evaluation none is left out, so that a
label says what networks see and not what its image was meant to be.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.compute.engine import Engine
from condense.data import TrainingData
from condense.evaluation.protocols import StaticLabels
from condense.labels import classified
from condense.networks import Network, canonical_name
from condense.runtime.progress import progress_bar
from condense.runtime.seeds import derive_seed
from condense.training.engines import training_engine
from condense.training.prediction import predict
from condense.training.records import Training, record_training
from condense.training.sources import ImageSource

_SEED = 0  # one for all: every set and every method gets its labels from the same networks


def static_logits(
    source: ImageSource,
    train: TrainingData,
    network: str,
    labels: StaticLabels,
    *,
    device: torch.device,
    progress: bool = False,
) -> Tensor:
    """Averaged logits [N, K] of the images of `source`, by networks trained on `train` (equally preprocessed).

    `network` may leave its depth open. The networks are kept in the cache folder and depend on the real data, the
    preprocessing and the rule only: sets of all methods and sizes share them.
    """
    networks = _label_networks(train, canonical_name(network, train.info.image_shape), labels, device, progress)
    return torch.stack([predict(network, source, device) for network in networks]).mean(0)


def corrected_logits(logits: Tensor, classes: Tensor) -> Tensor:
    """Logits [N, K] where the largest is that of the image's class (int64 [N]); else 1 for the class and 0 for others.

    These replace wrong labels in the released code of NCFM (Wang et al., CVPR 2025). They are logits too, not
    probabilities: under a softmax the class then has e times the probability of each other one.

    >>> corrected_logits(torch.tensor([[5.0, 2.0], [5.0, 2.0]]), torch.tensor([0, 1])).tolist()
    [[5.0, 2.0], [0.0, 1.0]]
    """
    right = logits.argmax(1) == classes
    return torch.where(right[:, None], logits, F.one_hot(classes, logits.shape[1]).to(logits.dtype))


def _label_networks(
    train: TrainingData, name: str, labels: StaticLabels, device: torch.device, progress: bool
) -> list[Network]:
    rule, networks = labels.training, list[Network]()

    @functools.cache
    def engine() -> Engine:
        count = labels.networks
        return training_engine(name, train.info, len(train), rule, networks=count, device=device, compile="auto")

    with progress_bar("label networks", labels.networks, enabled=progress) as bar:
        for index in range(labels.networks):
            seeds = (derive_seed(_SEED, f"label {purpose}", index) for purpose in ("network", "training"))
            training, source = Training(name, rule, *seeds), classified(train)
            record = record_training(source, training, device=device, engine=lambda _: engine(), progress=progress)
            networks.append(record.network)
            bar.update(index + 1)
    return networks
