"""Replay: the views of a set's images with their labels, for training loops of one's own.

    dataset, sampler = synthetic.replay()
    loader = DataLoader(dataset, batch_size=50, sampler=sampler, num_workers=2, persistent_workers=True)
    for epoch in range(300):
        for images, targets in loader:
            loss = dataset.loss(network(images), targets)

The sampler carries the epoch in what it asks for, so that workers, which live on with the data set that they began
with, show the right views. Where labels are of whole batches (`dataset.by_batch`), these have the size that the labels
were made for: `DataLoader(dataset, batch_size=None, sampler=sampler)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from condense.labels.shown import ShownBatches, ShownImages
from condense.runtime.errors import CondenseError
from condense.runtime.seeds import generator
from condense.training.sources import Batch

Key = tuple[int, int]  # an epoch, and an image or a batch of it


class ReplayDataset(Dataset[tuple[Tensor, Tensor]]):
    """Views with their labels, by (epoch, image): a float32 image [C, H, W], and what its outputs are compared with.

    A view whose label was discarded has targets that are not numbers. Where `by_batch` is true, whole batches by
    (epoch, number): images [n, C, H, W] and as many targets. An item is the same bits in whatever process, order and
    batch it is asked for.
    """

    def __init__(self, source: ShownImages) -> None:
        self.source, self.by_batch = source, source.showing.by_batch
        self._epoch: tuple[int, list[Tensor]] | None = None  # the last one that batches were asked of, with all of them

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of `outputs` [n, K] and n targets: a mean over images; those whose target is not a number do not count."""
        known = ~targets.isnan().any(1)
        if not known.any():
            return 0 * outputs.sum()
        return self.source.objective.function(outputs[known], targets[known])

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """What is seen in an epoch of an image, or in a batch; what is asked for must be a key of the sampler."""
        if not isinstance(key, tuple):
            raise CondenseError("views are found by (epoch, image); give the sampler that came with them to DataLoader")
        epoch, number = key
        if not self.by_batch:
            images, targets = _with_targets(self._batches.batch(epoch, 0, torch.tensor([number])))
            return images[0], targets[0]
        if self._epoch is None or self._epoch[0] != epoch:
            batches = self._batches.batches(epoch)
            assert batches is not None, "labels of batches have batches"
            self._epoch = epoch, batches
        return _with_targets(self._batches.batch(epoch, number, self._epoch[1][number]))

    @cached_property
    def _batches(self) -> ShownBatches:
        return ShownBatches(self.source, torch.device("cpu"))


def _with_targets(batch: Batch) -> tuple[Tensor, Tensor]:
    targets, weights = batch.targets.values, batch.targets.weights
    return batch.images, targets if weights is None else torch.where(weights[:, None] > 0, targets, torch.nan)


class ReplaySampler(Sampler[Key]):
    """The keys of one epoch each time it is gone through: of epoch `epoch`, then of the next one, and so on.

    Images come in random order, by (`seed`, epoch), as in the trainings of `condense evaluate`; batches come in that of
    the labels.
    """

    def __init__(self, source: ShownImages, seed: int, epoch: int) -> None:
        self._source, self._seed, self._epoch = source, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        """Go on with this epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        images, size = len(self._source), self._source.showing.batch_size
        return images if size is None else -(-images // size)

    def __iter__(self) -> Iterator[Key]:
        epoch = self._epoch  # taken when the first key is: a loader may make an iterator that it never uses
        self._epoch += 1
        if self._source.showing.by_batch:
            yield from ((epoch, number) for number in range(len(self)))
            return
        order = torch.randperm(len(self), generator=generator(self._seed, "order", epoch))
        yield from ((epoch, number) for number in order.tolist())
